"""The feature store: one folder per data set, one matrix per embedding, readable by AnnData."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurebench.store.claims import Claims
    from featurebench.store.encoding import storable_rows
    from featurebench.store.spec import Block, EmbeddingSpec, Problem, Refusal
    from featurebench.store.status import EmbeddingStatus
    from featurebench.store.store import FeatureStore

# zarr and pandas cost half a second to import, and most callers need a spec only
_HOMES = {
    "Block": "spec",
    "Claims": "claims",
    "EmbeddingSpec": "spec",
    "EmbeddingStatus": "status",
    "FeatureStore": "store",
    "Problem": "spec",
    "Refusal": "spec",
    "storable_rows": "encoding",
}

__all__ = [
    "Block",
    "Claims",
    "EmbeddingSpec",
    "EmbeddingStatus",
    "FeatureStore",
    "Problem",
    "Refusal",
    "storable_rows",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the module that holds ``name`` when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return __all__
