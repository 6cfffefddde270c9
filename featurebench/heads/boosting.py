"""LightGBMProbe and XGBoostProbe: boosted trees for wide embeddings, stopped on inner folds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.heads.delegated import DelegatedClassifier
from featurebench.heads.stopping import EarlyStoppedClassifier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lightgbm import Booster
    from xgboost import XGBClassifier

    from featurebench.heads.folds import Array, Rows
    from featurebench.heads.stepped import ClassWeight, Model
    from featurebench.heads.stopping import Table


class BoostedTrees(DelegatedClassifier, EarlyStoppedClassifier):
    """Boosted trees; bin edges, too, come from the rows boosted, never from those watched."""

    _rounds = "n_estimators"
    _patience = "early_stopping_rounds"

    colsample_bytree: float | str

    def _column_share(self, n_columns: int) -> float:
        if self.colsample_bytree == "auto":
            return float(np.clip(64 / n_columns, 0.1, 1))
        return float(self.colsample_bytree)


class LightGBMProbe(BoostedTrees):
    """LightGBM with few columns to a tree.

    Any parameter of `lightgbm.LGBMClassifier` may be given, and ``max_bin``, ``extra_trees``,
    ``path_smooth`` and ``feature_fraction_bynode`` of LightGBM's own.

    Parameters
    ----------
    n_estimators
        Rounds, each with one tree to a class (one for two classes); the most where boosting
        stops early.
    learning_rate, num_leaves, min_child_samples
        As in LightGBM.
    colsample_bytree
        Share of columns that each tree draws. ``"auto"``: 64 of them, but a tenth at least.
    early_stopping_rounds
        Rounds without a lower log loss on the validation rows of the first inner fold after which
        boosting stops; None boosts ``n_estimators`` rounds and needs no inner folds.
    refit
        Whether all rows are boosted again with the rounds found; else the model of the inner
        training rows is kept.
    features
        Feature steps, fitted on the boosted rows; see `featurebench.heads.features`.
    class_weight
        As in scikit-learn: None, ``"balanced"`` or a weight of each label.
    cv
        Inner folds as ``(train, validation)`` row arrays into the rows given to `fit`.
    device
        ``cpu``, or ``gpu`` or ``cuda`` where LightGBM was built for it.
    random_state
        Seed of the drawn columns and rows.
    n_jobs
        Threads; they do not change the result.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    choices_ : dict
        ``n_estimators``, the rounds found, where boosting stops early.

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.arange(40.0)[:, None], ["a"] * 20 + ["b"] * 20
    >>> LightGBMProbe(early_stopping_rounds=None).fit(X, y).predict([[39.0]])
    array(['b'], dtype='<U1')
    """

    _withheld = frozenset({"objective"})

    def __init__(
        self,
        *,
        n_estimators: int = 300,
        learning_rate: float = 0.1,
        num_leaves: int = 15,
        min_child_samples: int = 10,
        colsample_bytree: float | str = "auto",
        early_stopping_rounds: int | None = 20,
        refit: bool = True,
        features: object = (),
        class_weight: ClassWeight = None,
        cv: Sequence[tuple[Rows, Rows]] | None = None,
        device: str = "cpu",
        random_state: int | None = 0,
        n_jobs: int | None = 1,
        **params: Any,  # noqa: ANN401
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_child_samples = min_child_samples
        self.colsample_bytree = colsample_bytree
        self.early_stopping_rounds = early_stopping_rounds
        self.refit = refit
        self.features = features
        self.class_weight = class_weight
        self.cv = cv
        self.device = device
        self.random_state = random_state
        self.n_jobs = n_jobs
        self._store_delegated(params)

    @classmethod
    def _library_params(cls) -> Mapping[str, Any]:
        from lightgbm import LGBMClassifier

        beyond = {"max_bin": 255, "extra_trees": False, "path_smooth": 0.0}
        params: dict[str, Any] = LGBMClassifier().get_params()
        return {**params, **beyond, "feature_fraction_bynode": 1.0}

    def _train(self, table: Table, watched: Table | None, n_rounds: int) -> tuple[Model, int]:
        # LightGBM's own functions: its estimator takes validation rows by names that changed.
        import lightgbm
        from lightgbm.basic import LightGBMError

        params = self._booster_params(table)
        train = lightgbm.Dataset(table.X, table.codes, weight=table.weights, params=params)
        sets: list[lightgbm.Dataset] = []
        callbacks: list[Callable[..., Any]] = []
        if watched is not None and self.early_stopping_rounds is not None:
            sets = [train.create_valid(watched.X, watched.codes)]
            callbacks = [lightgbm.early_stopping(self.early_stopping_rounds, verbose=False)]
        try:
            booster = lightgbm.train(params, train, n_rounds, valid_sets=sets, callbacks=callbacks)
        except LightGBMError as error:
            if self.device == "cpu":
                raise
            reason = str(error).splitlines()[0]
            raise ValueError(f"LightGBM on device {self.device!r}: {reason} Use cpu") from error
        return _LightGBMModel(booster, self.n_jobs), booster.best_iteration or n_rounds

    def _booster_params(self, table: Table) -> dict[str, Any]:
        n_classes = int(table.codes.max()) + 1
        given = {key: value for key, value in self._delegated().items() if value is not None}
        given.pop("importance_type")
        if self.random_state is not None:
            given["random_state"] = self.random_state
        return {
            **given,
            **({"num_class": n_classes} if n_classes > 2 else {}),
            "objective": "multiclass" if n_classes > 2 else "binary",
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_child_samples": self.min_child_samples,
            "colsample_bytree": self._column_share(table.X.shape[1]),
            "device_type": self.device,
            "n_jobs": self.n_jobs or 0,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }


class XGBoostProbe(BoostedTrees):
    """XGBoost with few bins to a column and few columns to a tree.

    Any parameter of `xgboost.XGBClassifier` may be given. With as many columns as an embedding has,
    64 bins (6 bits) take a third of the time of 256 and lose little.

    Parameters
    ----------
    n_estimators
        Rounds, each with one tree to a class (one for two classes); the most where boosting
        stops early.
    learning_rate, max_depth, max_bin, subsample
        As in XGBoost.
    colsample_bytree
        Share of columns that each tree draws. ``"auto"``: 64 of them, but a tenth at least.
    early_stopping_rounds, refit, features, class_weight, cv
        As in `LightGBMProbe`.
    device
        ``cpu`` or ``cuda``.
    random_state
        Seed of the drawn columns and rows.
    n_jobs
        Threads; they do not change the result. More than there are idle cores is very slow.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    choices_ : dict
        ``n_estimators``, the rounds found, where boosting stops early.

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.arange(40.0)[:, None], ["a"] * 20 + ["b"] * 20
    >>> XGBoostProbe(early_stopping_rounds=None, gamma=0.1).fit(X, y).predict([[39.0]])
    array(['b'], dtype='<U1')
    """

    _withheld = frozenset(
        {"objective", "eval_metric", "callbacks", "verbosity", "enable_categorical", "missing"}
    )

    def __init__(
        self,
        *,
        n_estimators: int = 300,
        learning_rate: float = 0.1,
        max_depth: int = 4,
        max_bin: int = 64,
        subsample: float = 0.8,
        colsample_bytree: float | str = "auto",
        early_stopping_rounds: int | None = 20,
        refit: bool = True,
        features: object = (),
        class_weight: ClassWeight = None,
        cv: Sequence[tuple[Rows, Rows]] | None = None,
        device: str = "cpu",
        random_state: int | None = 0,
        n_jobs: int | None = 1,
        **params: Any,  # noqa: ANN401
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.max_depth = max_depth
        self.max_bin = max_bin
        self.subsample = subsample
        self.colsample_bytree = colsample_bytree
        self.early_stopping_rounds = early_stopping_rounds
        self.refit = refit
        self.features = features
        self.class_weight = class_weight
        self.cv = cv
        self.device = device
        self.random_state = random_state
        self.n_jobs = n_jobs
        self._store_delegated(params)

    @classmethod
    def _library_params(cls) -> Mapping[str, Any]:
        from xgboost import XGBClassifier

        params: dict[str, Any] = XGBClassifier(tree_method="hist").get_params()
        return params

    def _train(self, table: Table, watched: Table | None, n_rounds: int) -> tuple[Model, int]:
        model = self._make_model(table, n_rounds, stop=watched is not None)
        # The estimator bins the watched rows with the edges of the boosted ones.
        watch = None if watched is None else [(watched.X, watched.codes)]
        model.fit(table.X, table.codes, sample_weight=table.weights, eval_set=watch, verbose=False)
        used = json.loads(model.get_booster().save_config())["learner"]["generic_param"]["device"]
        if used.partition(":")[0] != self.device.partition(":")[0]:
            raise ValueError(f"XGBoost finds no device {self.device!r} here: use {used}")
        return model, n_rounds if watched is None else model.best_iteration + 1

    def _make_model(self, table: Table, n_rounds: int, *, stop: bool) -> XGBClassifier:
        from xgboost import XGBClassifier

        return XGBClassifier(
            **self._delegated(),
            n_estimators=n_rounds,
            learning_rate=self.learning_rate,
            max_depth=self.max_depth,
            max_bin=self.max_bin,
            subsample=self.subsample,
            colsample_bytree=self._column_share(table.X.shape[1]),
            early_stopping_rounds=self.early_stopping_rounds if stop else None,
            eval_metric="mlogloss" if table.codes.max() > 1 else "logloss",
            device=self.device,
            random_state=self.random_state,
            n_jobs=self.n_jobs,
            verbosity=0,
        )


@dataclass(frozen=True, eq=False)
class _LightGBMModel:
    booster: Booster
    n_jobs: int | None

    def predict_proba(self, X: Array) -> Array:
        p = np.asarray(self.booster.predict(X, num_threads=self.n_jobs or 0))
        return p if p.ndim == 2 else np.stack([1 - p, p], axis=1)
