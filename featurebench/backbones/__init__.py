"""Frozen networks: any timm model by its name, its own preprocessing, its weights hashed."""

from featurebench.backbones.backbone import Backbone
from featurebench.backbones.network import create_network, state_sha256
from featurebench.backbones.preprocessing import make_transform
from featurebench.backbones.weights import PACKAGES

__all__ = ["PACKAGES", "Backbone", "create_network", "make_transform", "state_sha256"]
