"""`make_head`: one name per head, with defaults that hold for wide embeddings of few tiles."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from featurebench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sklearn.base import ClassifierMixin


def _logistic(seed: int, threads: int, **params: Any) -> ClassifierMixin:  # noqa: ANN401
    from featurebench.heads.logistic import LogisticProbe

    return _make("logistic", LogisticProbe, params)


def _knn(seed: int, threads: int, **params: Any) -> ClassifierMixin:  # noqa: ANN401
    from sklearn.neighbors import KNeighborsClassifier

    renamed = {"n_neighbors": params.pop("k", 20), "metric": "cosine", **params}
    return _make("knn", KNeighborsClassifier, renamed, n_jobs=threads)


def _xgboost(seed: int, threads: int, **params: Any) -> ClassifierMixin:  # noqa: ANN401
    from xgboost import XGBClassifier

    defaults = {
        "n_estimators": 200,
        "learning_rate": 0.1,
        "max_depth": 4,
        "max_bin": 64,
        "subsample": 0.8,
        "colsample_bytree": 0.1,
        "tree_method": "hist",
    }
    fixed = {"n_jobs": threads, "random_state": seed, "verbosity": 0}
    return _make("xgboost", XGBClassifier, {**defaults, **params}, **fixed)


def _lightgbm(seed: int, threads: int, **params: Any) -> ClassifierMixin:  # noqa: ANN401
    from lightgbm import LGBMClassifier

    defaults = {
        "n_estimators": 200,
        "learning_rate": 0.05,
        "num_leaves": 15,
        "min_child_samples": 10,
        "colsample_bytree": 0.1,
    }
    fixed = {"n_jobs": threads, "random_state": seed, "deterministic": True, "verbosity": -1}
    settings = {**defaults, **params}
    return _make("lightgbm", LGBMClassifier, settings, **fixed, force_row_wise=True)


def _dummy(seed: int, threads: int, **params: Any) -> ClassifierMixin:  # noqa: ANN401
    from sklearn.dummy import DummyClassifier

    return _make("dummy", DummyClassifier, {"strategy": "prior", **params}, random_state=seed)


def _make(
    head: str,
    estimator: Callable[..., ClassifierMixin],
    params: dict[str, Any],
    **fixed: Any,  # noqa: ANN401
) -> ClassifierMixin:
    """Refuse unknown parameters: the boosted trees would take a typo without a word."""
    known = estimator().get_params()
    for key in params:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
            raise ConfigError(f"head {head!r} has no parameter {key!r}: {hint}")
        if key in fixed:
            raise ConfigError(f"head {head!r}: {key!r} is set by featurebench; leave it out")
    return estimator(**params, **fixed)


HEADS: dict[str, Callable[..., ClassifierMixin]] = {
    "logistic": _logistic,
    "knn": _knn,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "dummy": _dummy,
}


def make_head(
    name: str,
    *,
    seed: int = 0,
    threads: int = 1,
    **params: Any,  # noqa: ANN401
) -> ClassifierMixin:
    """Make an unfitted scikit-learn classifier.

    Parameters
    ----------
    name
        ``logistic`` (`LogisticProbe`), ``knn`` (cosine, k = 20), ``xgboost``, ``lightgbm`` (both
        with sampled columns, since an embedding has about as many columns as there are tiles) or
        ``dummy`` (the prior of the training folds).
    seed
        Of the heads that draw random numbers.
    threads
        Processor threads of the heads that take a number.
    params
        Parameters of the underlying estimator; ``k`` is short for ``n_neighbors``.

    Raises
    ------
    ConfigError
        If the name or a parameter is unknown.

    Examples
    --------
    >>> make_head("knn", k=5).n_neighbors
    5
    """
    if name not in HEADS:
        near = difflib.get_close_matches(name, HEADS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"unknown head {name!r}: {hint}use one of {', '.join(HEADS)}")
    return HEADS[name](seed, threads, **params)
