"""DEFAULT_SPACES: where to search each head when the experiment does not say."""

from __future__ import annotations

from typing import Any

# Heads that choose their penalty by a path of their own are left the choice of features.
_FEATURES: list[list[str]] = [["standardise"], ["l2", "standardise"], ["standardise", "pca:64"]]


def _log(low: float, high: float) -> dict[str, Any]:
    return {"low": low, "high": high, "log": True}


DEFAULT_SPACES: dict[str, dict[str, Any]] = {
    "logistic": {"features": _FEATURES},
    "ridge": {"features": _FEATURES},
    "lda": {"features": _FEATURES, "shrinkage": ["auto", 0.01, 0.1, 0.3, 0.6, 0.9]},
    "knn": {
        "k": _log(3, 100),
        "metric": ["cosine", "euclidean"],
        "weights": ["uniform", "distance"],
    },
    # Wide embeddings are separated without error from a small C on, and then only time grows.
    "linear_svm": {"C": _log(1e-5, 0.1)},
    # gamma round 1 / n_features, for 10 to some thousand features of variance 1.
    "rbf_svm": {"C": _log(0.1, 100.0), "gamma": _log(1e-5, 0.1)},
    "mlp": {
        "hidden": [[64], [128], [256], [512], [256, 64]],
        "dropout": {"low": 0.0, "high": 0.6},
        "lr": _log(1e-4, 1e-2),
        "weight_decay": _log(1e-5, 0.1),
    },
    "random_forest": {
        "max_features": ["sqrt", "log2", 0.1, 0.3],
        "min_samples_leaf": _log(1, 20),
        "n_estimators": {"low": 100, "high": 500, "step": 100},
    },
    "xgboost": {
        "max_depth": {"low": 2, "high": 8},
        "learning_rate": _log(0.01, 0.3),
        "min_child_weight": _log(1.0, 20.0),
        "subsample": {"low": 0.5, "high": 1.0},
        # An embedding has many alike columns; a tree loses little by seeing few of them.
        "colsample_bytree": _log(0.05, 1.0),
        "reg_lambda": _log(0.01, 100.0),
    },
    "lightgbm": {
        "num_leaves": _log(4, 63),
        "learning_rate": _log(0.01, 0.3),
        "min_child_samples": _log(5, 100),
        "colsample_bytree": _log(0.05, 1.0),
        "reg_lambda": _log(0.001, 100.0),
    },
}
