"""A search finds what scikit-learn finds with a dense grid or a `GridSearchCV`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from featurebench.heads.discriminant import LdaProbe
from featurebench.heads.features import make_features, parse_features
from featurebench.heads.folds import Fold, predict_one_by_one
from featurebench.heads.neighbours import KnnProbe
from featurebench.heads.ridge import RidgeProbe
from featurebench.heads.search import SearchedHead

if TYPE_CHECKING:
    from pathlib import Path

Data = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
Cv = list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 40)
    X = rng.normal(size=(120, 12)).astype(np.float32)
    X[:, :3] += np.eye(3, dtype=np.float32)[y]
    return X, y


@pytest.fixture(scope="module")
def cv(data: Data) -> Cv:
    return list(KFold(4, shuffle=True, random_state=0).split(data[0]))


def without_seconds(choices: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in choices.items() if key != "seconds"}


class Featured(ClassifierMixin, BaseEstimator):
    def __init__(self, features: object = ("l2",), C: float = 1.0) -> None:
        self.features = features
        self.C = C

    def fit(self, X: npt.NDArray[Any], y: npt.NDArray[Any]) -> Featured:
        steps = make_features(parse_features(self.features))
        self.model_ = make_pipeline(steps, LogisticRegression(C=self.C)).fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X: npt.NDArray[Any]) -> Any:
        return self.model_.predict_proba(X)


@pytest.mark.parametrize("method", ["tpe", "random"])
def test_finds_the_optimum_of_a_dense_grid(method: Any, data: Data, cv: Cv) -> None:
    X, y = data
    poor = LogisticRegression(C=1e-5)
    space = {"C": {"low": 1e-5, "high": 1e3, "log": True}}
    choices = SearchedHead(poor, space, method=method, trials=25, cv=cv).fit(X, y).choices_
    losses = [
        -cross_val_score(LogisticRegression(C=C), X, y, cv=cv, scoring="neg_log_loss").mean()
        for C in np.logspace(-5, 3, 40)
    ]
    assert choices["default_log_loss"] == pytest.approx(losses[0], rel=1e-4)
    gained = choices["default_log_loss"] - choices["inner_log_loss"]
    assert gained > 0.95 * (losses[0] - min(losses))
    assert choices["inner_log_loss"] > min(losses) - 1e-3


def test_grid_equals_scikit_learns(data: Data, cv: Cv) -> None:
    X, y = data[0].astype(np.float64), data[1]
    grid = {"C": [1e-3, 1e-2, 1e-1, 10.0], "fit_intercept": [True, False], "tol": [1e-4, 1e-6]}
    head = SearchedHead(
        LogisticRegression(), grid, method="grid", trials=None, pruning=False, cv=cv
    ).fit(X, y)
    search = GridSearchCV(LogisticRegression(), grid, cv=cv, scoring="neg_log_loss").fit(X, y)
    assert head.choices_["params"] == search.best_params_
    assert head.choices_["inner_log_loss"] == pytest.approx(-search.best_score_, rel=1e-12)
    # The default configuration, C = 1, is none of the grid's.
    assert head.choices_["trials"] == 16 + 1
    assert head.choices_["untried"] == 0
    np.testing.assert_array_equal(head.predict_proba(X), search.predict_proba(X))
    np.testing.assert_array_equal(head.predict(X), search.predict(X))


@pytest.mark.parametrize("method", ["tpe", "random", "grid"])
def test_equal_seeds_give_equal_choices(method: Any, data: Data, cv: Cv) -> None:
    forest = RandomForestClassifier(5, random_state=0)
    space: dict[str, Any] = {
        "max_features": ["sqrt", "log2", 0.5],
        "min_samples_leaf": {"low": 1, "high": 20, "log": True},
    }
    if method == "grid":
        space["min_samples_leaf"] = [1, 5, 20]
    head = SearchedHead(forest, space, method=method, trials=14, random_state=3, cv=cv)
    first = head.fit(*data)
    again = clone(head).set_params(space=dict(reversed(space.items()))).fit(*data)
    assert without_seconds(first.choices_) == without_seconds(again.choices_)
    np.testing.assert_array_equal(first.predict_proba(data[0]), again.predict_proba(data[0]))


def test_choices_can_be_written_as_json(data: Data, cv: Cv) -> None:
    space = {"features": [["standardise"], [{"pca": 2}], ("l2", "pca:4")], "C": [1e-3, 1.0]}
    head = SearchedHead(Featured(), space, trials=8, cv=cv).fit(*data)
    assert json.loads(json.dumps(head.choices_)) == head.choices_
    assert set(head.choices_["params"]) == {"features", "C"}
    expected = SearchedHead(Featured(), {**space, "features": [["standardise"]]}, cv=cv).fit(*data)
    assert head.choices_["inner_log_loss"] <= expected.choices_["inner_log_loss"] + 1e-9


def test_names_as_labels_and_a_class_that_an_inner_fold_lacks(data: Data) -> None:
    X, y = data
    names = np.array(["a", "b", "c"])[y]
    lacking = (np.flatnonzero(y != 0)[::2], np.flatnonzero(y == 1)[1::2])
    cv = [lacking, (np.arange(0, 120, 2), np.arange(1, 120, 2))]
    head = SearchedHead(LogisticRegression(), {"C": [0.1, 1.0]}, trials=3, cv=cv).fit(X, names)
    assert list(head.classes_) == ["a", "b", "c"]
    assert set(head.predict(X)) <= {"a", "b", "c"}
    losses = []
    for train, held_out in cv:
        inner = LogisticRegression(C=head.choices_["params"]["C"]).fit(X[train], names[train])
        p = inner.predict_proba(X[held_out])
        losses.append(sklearn_log_loss(names[held_out], p, labels=inner.classes_))
    expected = np.mean(losses)
    assert head.choices_["inner_log_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_class_that_only_the_validation_rows_have_is_no_surprise(data: Data) -> None:
    X, y = data
    lacking = (np.flatnonzero(y != 0), np.flatnonzero(y == 0))
    head = SearchedHead(LogisticRegression(), {"C": [0.1]}, trials=1, cv=[lacking]).fit(X, y)
    assert head.choices_["inner_log_loss"] == pytest.approx(-np.log(1e-7))


def test_a_memory_map_of_half_precision(data: Data, cv: Cv, tmp_path: Path) -> None:
    X, y = data
    np.save(tmp_path / "X.npy", X.astype(np.float16))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    head = SearchedHead(GaussianNB(), {"var_smoothing": [1e-9, 1e-1]}, trials=2, cv=cv)
    p = head.fit(mapped, y).predict_proba(mapped)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)


def test_folds_give_it_their_inner_folds(data: Data) -> None:
    X, y = data
    folds = [
        Fold(train, test, tuple((train[a], train[b]) for a, b in KFold(3).split(train)))
        for train, test in KFold(2, shuffle=True, random_state=0).split(X)
    ]
    head = SearchedHead(LogisticRegression(), {"C": [1e-2, 1.0]}, method="grid", trials=None)
    done = list(predict_one_by_one(head, X, y, folds, n_classes=3))
    for fold, found in zip(folds, done, strict=True):
        alone = clone(head).set_params(cv=list(KFold(3).split(fold.train)))
        alone.fit(X[fold.train], y[fold.train])
        np.testing.assert_allclose(found.y_prob, alone.predict_proba(X[fold.test]), atol=1e-6)
        assert without_seconds(dict(found.choices)) == without_seconds(alone.choices_)


@pytest.mark.parametrize("head", [RidgeProbe([1.0, 100.0]), LdaProbe([0.1, 0.9]), KnnProbe([5, 9])])
def test_a_head_that_chooses_by_itself_may_be_searched(head: Any, data: Data, cv: Cv) -> None:
    space = {"features": [["standardise"], ["standardise", "pca:6"]]}
    choices = SearchedHead(head, space, trials=3, cv=cv).fit(*data).choices_
    assert choices["failed"] == 0
    assert len(choices["estimator"]) == 1


def test_a_pipelines_parameters_go_by_their_path(data: Data, cv: Cv) -> None:
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=1e-4))
    space = {"logisticregression__C": {"low": 1e-4, "high": 1.0, "log": True}}
    choices = SearchedHead(pipeline, space, trials=6, cv=cv).fit(*data).choices_
    assert choices["inner_log_loss"] < choices["default_log_loss"]
