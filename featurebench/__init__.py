"""Measure whether a frozen network with a cheap head is enough or fine-tuning is needed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featurebench.backbones import Backbone
    from featurebench.comparison import Comparison, compare
    from featurebench.evaluation import cross_validate
    from featurebench.experiment import run
    from featurebench.extraction import extract
    from featurebench.finetuning import Recipe, fine_tune
    from featurebench.heads import make_head
    from featurebench.results import ResultsTable, RunResult
    from featurebench.splits import SplitPlan
    from featurebench.store import EmbeddingSpec, FeatureStore
    from featurebench.tiles import TileManifest

__version__ = "0.1.0"

__all__ = [
    "Backbone",
    "Comparison",
    "EmbeddingSpec",
    "FeatureStore",
    "Recipe",
    "ResultsTable",
    "RunResult",
    "SplitPlan",
    "TileManifest",
    "compare",
    "cross_validate",
    "extract",
    "fine_tune",
    "make_head",
    "run",
]

_HOME = {
    "Backbone": "backbones",
    "Comparison": "comparison",
    "EmbeddingSpec": "store",
    "FeatureStore": "store",
    "Recipe": "finetuning",
    "ResultsTable": "results",
    "RunResult": "results",
    "SplitPlan": "splits",
    "TileManifest": "tiles",
    "compare": "comparison",
    "cross_validate": "evaluation",
    "extract": "extraction",
    "fine_tune": "finetuning",
    "make_head": "heads",
    "run": "experiment",
}


def __getattr__(name: str) -> object:
    """Load a public name's module on first use (PEP 562), so that importing costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted([*globals(), *__all__])
