"""Handcrafted descriptors: colour and texture as pathology pipelines measured them by formula."""

from featurebench.backbones.handcrafted.descriptors import GROUPS, MIN_SIDE, Descriptors

__all__ = ["GROUPS", "MIN_SIDE", "Descriptors"]
