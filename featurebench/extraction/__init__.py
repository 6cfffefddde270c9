"""The resumable embedding loop: tiles through frozen networks into a feature store."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurebench.extraction.loop import extract
    from featurebench.extraction.pace import bound_by
    from featurebench.extraction.settings import EmbeddingReport, ExtractionReport, Settings

# processes that read tiles need neither the store nor torch, which take seconds to import
_HOMES = {
    "EmbeddingReport": "settings",
    "ExtractionReport": "settings",
    "Settings": "settings",
    "bound_by": "pace",
    "extract": "loop",
}

__all__ = ["EmbeddingReport", "ExtractionReport", "Settings", "bound_by", "extract"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the module that holds ``name`` when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return __all__
