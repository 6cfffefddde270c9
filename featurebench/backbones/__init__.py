"""Frozen networks: any timm model by its name, its own preprocessing, its weights hashed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurebench.backbones.backbone import HANDCRAFTED, Backbone
    from featurebench.backbones.frozen import ENGINES, PRECISIONS
    from featurebench.backbones.network import create_network, state_sha256
    from featurebench.backbones.preprocessing import Prepare, normalise
    from featurebench.backbones.taps import POOLS, stage_names
    from featurebench.backbones.weights import PACKAGES

# torch and timm take seconds to import, and handcrafted descriptors need neither
_HOMES = {
    "ENGINES": "frozen",
    "HANDCRAFTED": "backbone",
    "PACKAGES": "weights",
    "POOLS": "taps",
    "PRECISIONS": "frozen",
    "Backbone": "backbone",
    "Prepare": "preprocessing",
    "create_network": "network",
    "normalise": "preprocessing",
    "stage_names": "taps",
    "state_sha256": "network",
}

__all__ = [
    "ENGINES",
    "HANDCRAFTED",
    "PACKAGES",
    "POOLS",
    "PRECISIONS",
    "Backbone",
    "Prepare",
    "create_network",
    "normalise",
    "stage_names",
    "state_sha256",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the module that holds ``name`` when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return __all__
