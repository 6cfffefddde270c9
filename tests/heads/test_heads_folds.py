"""Folds: what a head is asked to do, and the plain way to do it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from featurebench.evaluation import cross_validate
from featurebench.heads import (
    Fold,
    FoldPrediction,
    ManyFoldHead,
    make_head,
    needs_inner_folds,
    predict_one_by_one,
)
from featurebench.heads.folds import choices_of, relative_inner, take_rows
from featurebench.splits import SplitPlan

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]


class Spy(ClassifierMixin, BaseEstimator):
    """Remembers what it was given; gives the class shares."""

    fits: list[tuple[Floats, Ints, object]]

    def __init__(self, cv: object = None, log: list[Any] | None = None) -> None:
        self.cv = cv
        self.log = log

    def __sklearn_clone__(self) -> Spy:
        return Spy(self.cv, self.log)

    def fit(self, X: Floats, y: Ints) -> Spy:
        assert self.log is not None
        self.log.append((X, y, self.cv))
        self.classes_, counts = np.unique(y, return_counts=True)
        self.shares_ = counts / counts.sum()
        self.choices_ = {"n_rows": len(y)}
        return self

    def predict_proba(self, X: Floats) -> Floats:
        assert len(X)
        return np.tile(self.shares_, (len(X), 1))


@pytest.fixture
def table() -> tuple[Floats, Ints]:
    X = np.arange(60, dtype=np.float16).reshape(30, 2)
    return X, np.arange(30) % 3


def test_rows_and_inner_rows_are_those_of_the_fold(table: tuple[Floats, Ints]) -> None:
    X, y = table
    train = np.array([20, 3, 7, 11, 4, 29])
    fold = Fold(train, np.array([0, 1]), ((train[[4, 0, 2]], train[[5, 1]]),))
    log: list[Any] = []
    (found,) = predict_one_by_one(Spy(log=log), X, y, [fold], n_classes=3)
    ((rows, codes, cv),) = log
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, X[train])
    np.testing.assert_array_equal(codes, y[train])
    np.testing.assert_array_equal(cv[0][0], [4, 0, 2])
    np.testing.assert_array_equal(cv[0][1], [5, 1])
    assert found.y_prob.dtype == np.float32
    np.testing.assert_allclose(found.y_prob, np.tile(np.bincount(y[train]) / 6, (2, 1)), atol=1e-7)
    assert found.choices == {"n_rows": 6}


def test_inner_rows_point_to_the_same_rows() -> None:
    rng = np.random.default_rng(0)
    train = rng.permutation(100)[:40]
    inner = tuple((train[a], train[b]) for a, b in KFold(3).split(train))
    relative = relative_inner(Fold(train, train[:0], inner))
    for (a, b), (c, d) in zip(inner, relative, strict=True):
        np.testing.assert_array_equal(train[c], a)
        np.testing.assert_array_equal(train[d], b)


def test_an_inner_row_outside_the_fold_is_an_error() -> None:
    fold = Fold(np.arange(5), np.arange(5, 8), ((np.arange(4), np.array([6])),))
    with pytest.raises(KeyError, match="6"):
        relative_inner(fold)


def test_absent_classes_and_empty_tests(table: tuple[Floats, Ints]) -> None:
    X, y = table
    train = np.flatnonzero(y != 1)
    folds = [Fold(train, np.arange(3)), Fold(np.arange(30), np.arange(0))]
    found = list(predict_one_by_one(Spy(log=[]), X, y, folds, n_classes=4))
    np.testing.assert_array_equal(found[0].y_prob, np.tile([0.5, 0, 0.5, 0], (3, 1)))
    assert found[1].y_prob.shape == (0, 4)


def test_folds_are_fitted_one_at_a_time(table: tuple[Floats, Ints]) -> None:
    X, y = table
    log: list[Any] = []
    folds = [Fold(np.arange(20), np.arange(20, 30))] * 3
    predictions = predict_one_by_one(Spy(log=log), X, y, folds, n_classes=3)
    assert not log
    next(predictions)
    assert len(log) == 1


def test_the_head_itself_stays_unfitted(table: tuple[Floats, Ints]) -> None:
    X, y = table
    head = LogisticRegression()
    list(predict_one_by_one(head, X, y, [Fold(np.arange(20), np.arange(20, 30))], n_classes=3))
    assert not hasattr(head, "classes_")


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (LogisticRegression(), False),
        (Spy(), True),
        (make_head("logistic"), True),
        (make_head("logistic", C=1.0), False),
        (make_head("logistic", Cs=[1.0]), False),
        (make_head("logistic", C="dK/100"), False),
        (make_head("ridge", alphas=[1.0]), True),
        (make_head("lda"), False),
        (make_head("lda", shrinkage=[0.1, 0.9]), True),
        (make_head("knn"), False),
        (make_head("knn", k=[3, 5]), True),
        (make_head("centroid"), True),
        (make_head("centroid", temperature=1.0), False),
        (make_head("linear_svm"), True),
        (make_head("mlp"), True),
        (make_head("mlp", patience=None), False),
        (make_head("xgboost"), True),
        (make_head("lightgbm", early_stopping_rounds=None), False),
        (make_head("random_forest"), False),
        (make_head("dummy"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_who_needs_inner_folds(head: Any, expected: bool) -> None:
    assert needs_inner_folds(head) is expected


def test_who_shares_work_between_folds() -> None:
    assert isinstance(make_head("logistic"), ManyFoldHead)
    assert not isinstance(make_head("mlp"), ManyFoldHead)
    assert not isinstance(LogisticRegression(), ManyFoldHead)


def test_rows_are_copied(table: tuple[Floats, Ints]) -> None:
    X = table[0].astype(np.float32)
    rows = take_rows(X, np.arange(30))
    rows[:] = -1
    assert X.min() == 0


def test_choices_are_a_copy(table: tuple[Floats, Ints]) -> None:
    X, y = table
    spy = Spy(log=[]).fit(X, y)
    choices_of(spy)["n_rows"] = 0
    assert spy.choices_ == {"n_rows": 30}
    assert choices_of(LogisticRegression()) == {}
    assert FoldPrediction(np.zeros((0, 2), dtype=np.float32)).choices == {}


@pytest.mark.parametrize(
    "head",
    [
        GaussianNB(),
        make_pipeline(StandardScaler(), GaussianNB()),
        make_pipeline(FunctionTransformer(np.abs), make_head("lda")),
        make_pipeline(StandardScaler(), make_head("knn", k=3)),
    ],
    ids=["own", "pipeline", "around a head", "around a many-fold head"],
)
def test_a_classifier_of_ones_own(head: Any) -> None:
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(72) % 3)
    X = (rng.normal(size=(72, 6)) + y[:, None]).astype(np.float32)
    patients = np.arange(72) // 4
    plan = SplitPlan.draw(y, patients, folds=3, repeats=2, seed=0)
    run = cross_validate(head, X, y, plan, classes=("a", "b", "c"), groups=patients)
    for split in plan.splits():
        expected = clone(head).fit(X[split.train], y[split.train]).predict_proba(X[split.test])
        np.testing.assert_allclose(run.y_prob[split.repeat, split.test], expected, atol=1e-6)
