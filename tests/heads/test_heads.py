"""Every head keeps scikit-learn's contract; the linear probe solves scikit-learn's problem."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from featurebench.errors import ConfigError
from featurebench.heads import HEADS, LogisticProbe, make_head

Data = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 40)
    X = rng.normal(size=(120, 12)).astype(np.float32)
    X[:, :3] += 1.5 * np.eye(3)[y]
    return X, y


def make(name: str, X: npt.NDArray[np.float32], seed: int = 0) -> object:
    head = make_head(name, seed=seed)
    if "cv" in head.get_params(deep=False):
        head.set_params(cv=list(KFold(3, shuffle=True, random_state=0).split(X)))
    return head


@pytest.mark.parametrize("name", HEADS)
def test_contract(name: str, data: Data) -> None:
    X, y = data
    head = clone(make(name, X))
    fitted = head.fit(X, y)
    np.testing.assert_array_equal(fitted.classes_, [0, 1, 2])
    p = fitted.predict_proba(X)
    assert p.shape == (120, 3)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(clone(make(name, X)).fit(X, y).predict_proba(X), p)


@pytest.mark.parametrize("name", sorted(set(HEADS) - {"dummy"}))
def test_learns_what_is_there(name: str, data: Data) -> None:
    X, y = data
    order = np.random.default_rng(1).permutation(len(y))
    train, test = order[:80], order[80:]
    fitted = make(name, X[train]).fit(X[train], y[train])  # type: ignore[attr-defined]
    assert (fitted.predict(X[test]) == y[test]).mean() > 0.6


def test_dummy_gives_the_prior(data: Data) -> None:
    X, y = data
    p = make_head("dummy").fit(X[:60], y[:60]).predict_proba(X[:2])
    np.testing.assert_allclose(p, [[40 / 60, 20 / 60]] * 2)


def test_probe_equals_a_grid_search_over_a_pipeline(data: Data) -> None:
    X, y = data
    X = X.astype(np.float64)
    cv = list(KFold(4, shuffle=True, random_state=1).split(X))
    Cs = [1e-3, 1e-2, 1e-1, 1.0]
    probe = LogisticProbe(Cs, cv, tol=1e-8).fit(X, y)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(tol=1e-8, max_iter=5000)),
        {"logisticregression__C": Cs},
        cv=cv,
        scoring="neg_log_loss",
    ).fit(X, y)
    assert search.best_params_["logisticregression__C"] == probe.C_
    np.testing.assert_allclose(
        -search.cv_results_["mean_test_score"], probe.inner_log_loss_, rtol=1e-5
    )
    np.testing.assert_allclose(probe.predict_proba(X), search.predict_proba(X), atol=1e-5)


def test_probe_takes_names_as_labels(data: Data) -> None:
    X, y = data
    names = np.array(["a", "b", "c"])[y]
    fitted = LogisticProbe(Cs=[0.1]).fit(X, names)
    assert list(fitted.classes_) == ["a", "b", "c"]
    assert set(fitted.predict(X)) <= {"a", "b", "c"}
    assert np.isnan(fitted.inner_log_loss_).all()


def test_probe_survives_a_class_that_an_inner_fold_lacks(data: Data) -> None:
    X, y = data
    without = np.flatnonzero(y != 2)
    cv = [(without[::2], np.flatnonzero(y == 2)), (np.arange(0, 120, 2), np.arange(1, 120, 2))]
    fitted = LogisticProbe(Cs=[1e-3, 1e-1], cv=cv).fit(X, y)
    assert np.isfinite(fitted.inner_log_loss_).all()
    assert fitted.predict_proba(X).shape == (120, 3)


def test_probe_refuses_to_choose_without_folds(data: Data) -> None:
    X, y = data
    with pytest.raises(ValueError, match="cv is None"):
        LogisticProbe().fit(X, y)


def test_probe_standardises_within_inner_folds(data: Data) -> None:
    """A held-out row of absurd size must not reach the inner training rows through the scaler."""
    X, y = data
    cv = [(np.arange(60, 120), np.arange(0, 60)), (np.arange(0, 60), np.arange(60, 120))]
    y = np.tile([0, 1, 2], 40)
    wild = X.copy()
    wild[:60] *= 1e3
    calm = LogisticProbe(Cs=[1e-2, 1.0], cv=cv[:1]).fit(X, y)
    shifted = LogisticProbe(Cs=[1e-2, 1.0], cv=cv[:1]).fit(wild, y)
    inner = LogisticRegression(C=1e-2, tol=1e-4, max_iter=2000).fit(
        StandardScaler().fit_transform(X[60:]), y[60:]
    )
    p = inner.predict_proba(StandardScaler().fit(X[60:]).transform(wild[:60]))
    expected = -np.log(np.maximum(p[np.arange(60), y[:60]], 1e-7)).mean()
    assert shifted.inner_log_loss_[0] == pytest.approx(expected, rel=1e-2)
    assert shifted.inner_log_loss_[0] > calm.inner_log_loss_[0]


def test_names_and_parameters_are_checked() -> None:
    with pytest.raises(ConfigError, match="did you mean 'logistic'"):
        make_head("logisitc")
    with pytest.raises(
        ConfigError, match="head 'knn' has no parameter 'neighbours': did you mean 'n_neighbors'"
    ):
        make_head("knn", neighbours=3)
    with pytest.raises(ConfigError, match="no parameter 'max_dept': did you mean 'max_depth'"):
        make_head("xgboost", max_dept=3)
    with pytest.raises(ConfigError, match="no parameter 'num_leafs'"):
        make_head("lightgbm", num_leafs=3)


def test_what_featurebench_sets_is_not_to_be_set() -> None:
    with pytest.raises(ConfigError, match="'n_jobs' is set by featurebench"):
        make_head("xgboost", n_jobs=8)


def test_parameters_override_defaults() -> None:
    assert make_head("xgboost", max_depth=2, threads=2).get_params()["max_depth"] == 2
    assert make_head("lightgbm", num_leaves=4, seed=5).get_params()["random_state"] == 5
    assert make_head("knn").metric == "cosine"
