"""Augmentation of whole batches on any device: turned, zoomed, restained, tinted, mixed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurebench.finetuning.augmentation.mixing import mix
    from featurebench.finetuning.augmentation.pipeline import augment
    from featurebench.finetuning.augmentation.settings import Augmentation

__all__ = ["Augmentation", "augment", "mix"]

# Loaded on first use: settings are read where torch is not to be loaded.
_HOMES = {"Augmentation": "settings", "augment": "pipeline", "mix": "mixing"}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
