"""Cheap classifiers on stored embeddings: ordinary scikit-learn estimators, made by name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurebench.heads.catalogue import HEADS, make_head
    from featurebench.heads.features import make_features, parse_features
    from featurebench.heads.folds import (
        Fold,
        FoldPrediction,
        ManyFoldHead,
        needs_inner_folds,
        predict_one_by_one,
    )
    from featurebench.heads.logistic import LogisticProbe
    from featurebench.heads.search import DEFAULT_SPACES, SearchedHead, SearchPlan

# each head brings a library of its own along
_HOMES = {
    "DEFAULT_SPACES": "search",
    "HEADS": "catalogue",
    "Fold": "folds",
    "FoldPrediction": "folds",
    "LogisticProbe": "logistic",
    "ManyFoldHead": "folds",
    "SearchPlan": "search",
    "SearchedHead": "search",
    "make_features": "features",
    "make_head": "catalogue",
    "needs_inner_folds": "folds",
    "parse_features": "features",
    "predict_one_by_one": "folds",
}

__all__ = [
    "DEFAULT_SPACES",
    "HEADS",
    "Fold",
    "FoldPrediction",
    "LogisticProbe",
    "ManyFoldHead",
    "SearchPlan",
    "SearchedHead",
    "make_features",
    "make_head",
    "needs_inner_folds",
    "parse_features",
    "predict_one_by_one",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the module that holds ``name`` when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return __all__
