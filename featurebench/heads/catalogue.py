"""make_head(): one name per head, with defaults that hold for wide embeddings of few tiles."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING, Any

from featurebench.errors import ConfigError
from featurebench.heads.features import parse_features

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

HEADS: dict[str, tuple[str, str]] = {
    "logistic": ("featurebench.heads.logistic", "LogisticProbe"),
    "ridge": ("featurebench.heads.ridge", "RidgeProbe"),
    "lda": ("featurebench.heads.discriminant", "LdaProbe"),
    "linear_svm": ("featurebench.heads.svm", "LinearSvmProbe"),
    "rbf_svm": ("featurebench.heads.svm", "RbfSvmProbe"),
    "knn": ("featurebench.heads.neighbours", "KnnProbe"),
    "centroid": ("featurebench.heads.centroid", "CentroidProbe"),
    "mlp": ("featurebench.heads.mlp", "MlpProbe"),
    "random_forest": ("featurebench.heads.forest", "ForestProbe"),
    "xgboost": ("featurebench.heads.boosting", "XGBoostProbe"),
    "lightgbm": ("featurebench.heads.boosting", "LightGBMProbe"),
    "dummy": ("sklearn.dummy", "DummyClassifier"),
}
_DEFAULTS: dict[str, dict[str, Any]] = {"dummy": {"strategy": "prior"}}
# Inner folds are drawn by whoever has the plan.
_NOT_GIVEN = ("cv",)


def make_head(
    name: str,
    *,
    seed: int = 0,
    threads: int = 1,
    device: str = "cpu",
    **params: Any,  # noqa: ANN401
) -> ClassifierMixin:
    """Make an unfitted scikit-learn classifier.

    Parameters
    ----------
    name
        ``logistic``, ``ridge``, ``lda``, ``linear_svm``, ``rbf_svm``, ``knn``, ``centroid``,
        ``mlp``, ``random_forest``, ``xgboost``, ``lightgbm`` or ``dummy`` (the class shares of the
        training fold).
    seed
        Of the heads that draw random numbers.
    threads
        Processor threads of the heads that take a number.
    device
        ``cpu`` or ``cuda``, of the heads that can use a GPU.
    params
        Parameters of the estimator; ``features`` are the feature steps of all but ``dummy``.

    Raises
    ------
    ConfigError
        If the name or a parameter is unknown, or a value is refused.

    Examples
    --------
    >>> make_head("knn", k=5).k
    5
    """
    if name not in HEADS:
        near = difflib.get_close_matches(name, HEADS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"unknown head {name!r}: {hint}use one of {', '.join(HEADS)}")
    module, cls = HEADS[name]
    estimator = getattr(import_module(module), cls)
    known = estimator().get_params(deep=False)
    ours = {"random_state": seed, "n_jobs": threads, "device": device}
    fixed = {key: value for key, value in ours.items() if key in known}
    _check(name, params, known, {*fixed, *_NOT_GIVEN})
    if "features" in params:
        params["features"] = parse_features(params["features"])
    head: ClassifierMixin = estimator(**(_DEFAULTS.get(name, {}) | params), **fixed)
    return head


def _check(head: str, params: dict[str, Any], known: dict[str, Any], fixed: set[str]) -> None:
    """Refuse unknown parameters: the boosted trees would take a typo without a word."""
    for key in params:
        if key in fixed:
            raise ConfigError(f"head {head!r}: {key!r} is set by featurebench; leave it out")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            choice = ", ".join(sorted(set(known) - fixed))
            hint = f"did you mean {near[0]!r}?" if near else f"it has {choice}"
            raise ConfigError(f"head {head!r} has no parameter {key!r}: {hint}")
