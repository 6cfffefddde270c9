"""cross_validate: every tile is predicted by a model that never saw its patient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from featurebench.errors import ResultsError
from featurebench.evaluation import cross_validate
from featurebench.heads import Fold, FoldPrediction, LogisticProbe
from featurebench.splits import SplitPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    Codes = npt.NDArray[np.int64]

CLASSES = ("benign", "malignant")


class Cohort:
    """Forty tiles of ten patients; feature 0 tells the patient, feature 1 the class."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.patients = np.repeat(np.arange(10), 4)
        self.y = (self.patients % 2).astype(np.int64)
        self.X = rng.normal(size=(40, 5)).astype(np.float32)
        self.X[:, 0] = self.patients
        self.X[:, 1] += 3 * self.y
        self.plan = SplitPlan.draw(self.y, self.patients, folds=5, repeats=2, seed=0)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return Cohort()


class Spy(ClassifierMixin, BaseEstimator):
    """Remembers the patients of training, and refuses to meet one of them again."""

    def fit(self, X: npt.NDArray[Any], y: npt.NDArray[Any]) -> Spy:
        self.classes_ = np.unique(y)
        self.seen_ = set(X[:, 0].tolist())
        return self

    def predict_proba(self, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
        assert not self.seen_ & set(X[:, 0].tolist())
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


def test_no_patient_is_trained_on_and_tested(cohort: Cohort) -> None:
    ticks: list[int] = []
    run = cross_validate(
        Spy(), cohort.X, cohort.y, cohort.plan, classes=CLASSES, progress=ticks.append
    )
    assert run.y_prob.shape == (2, 40, 2)
    assert np.isfinite(run.y_prob).all()
    assert ticks == [1] * 10
    assert run.arm == "Spy"
    assert run.plan_id == cohort.plan.id


def test_equals_scikit_learns_out_of_fold_predictions(cohort: Cohort) -> None:
    head = KNeighborsClassifier(3)
    run = cross_validate(head, cohort.X, cohort.y, cohort.plan, classes=CLASSES)
    splits = list(cohort.plan)[:5]
    expected = cross_val_predict(head, cohort.X, cohort.y, cv=splits, method="predict_proba")
    np.testing.assert_allclose(run.y_prob[0], expected, atol=1e-6)


def test_scores_are_those_of_each_fold(cohort: Cohort) -> None:
    run = cross_validate(KNeighborsClassifier(3), cohort.X, cohort.y, cohort.plan, classes=CLASSES)
    for split in cohort.plan.splits():
        expected = balanced_accuracy_score(
            cohort.y[split.test], run.y_prob[split.repeat, split.test].argmax(axis=1)
        )
        got = [
            s.value
            for s in run.scores
            if (s.repeat, s.fold, s.metric) == (split.repeat, split.fold, "balanced_accuracy")
        ]
        assert got == [pytest.approx(expected)]


def test_inner_folds_are_grouped_and_inside_training(cohort: Cohort) -> None:
    seen: list[tuple[set[float], set[float]]] = []

    class Chooser(LogisticProbe):
        def predict_folds(
            self, X: npt.NDArray[Any], y: Codes, folds: Sequence[Fold], **settings: Any
        ) -> list[FoldPrediction]:
            for fold in folds:
                for train, test in fold.inner:
                    assert set(train) | set(test) <= set(fold.train)
                    seen.append((set(X[train, 0].tolist()), set(X[test, 0].tolist())))
            return super().predict_folds(X, y, folds, **settings)

    run = cross_validate(
        Chooser(Cs=[1e-2, 1.0]),
        cohort.X,
        cohort.y,
        cohort.plan,
        classes=CLASSES,
        groups=cohort.patients,
    )
    assert len(seen) == 30
    assert all(not train & test for train, test in seen)
    assert all(len(train | test) == 8 for train, test in seen)
    assert {fold["C"] for fold in run.details["folds"]} <= {1e-2, 1.0}


def test_hold_out_predicts_its_test_part_and_tunes_on_its_validation(cohort: Cohort) -> None:
    plan = SplitPlan.holdout(cohort.y, cohort.patients, fractions=(0.6, 0.2, 0.2), seed=0)
    run = cross_validate(LogisticProbe(Cs=[1e-2, 1.0]), cohort.X, cohort.y, plan, classes=CLASSES)
    tested = plan.test_fold[0] == 0
    assert np.isfinite(run.y_prob[0, tested]).all()
    assert np.isnan(run.y_prob[0, ~tested]).all()


def test_hold_out_fits_every_head_on_all_that_is_not_tested(cohort: Cohort) -> None:
    plan = SplitPlan.holdout(cohort.y, cohort.patients, fractions=(0.6, 0.2, 0.2), seed=0)
    run = cross_validate(KNeighborsClassifier(3), cohort.X, cohort.y, plan, classes=CLASSES)
    tested = plan.test_fold[0] == 0
    expected = KNeighborsClassifier(3).fit(cohort.X[~tested], cohort.y[~tested])
    np.testing.assert_allclose(
        run.y_prob[0, tested], expected.predict_proba(cohort.X[tested]), atol=1e-6
    )


def test_class_that_training_lacks_gets_no_probability(cohort: Cohort) -> None:
    y = cohort.y.copy()
    y[cohort.patients == 0] = 2
    run = cross_validate(
        KNeighborsClassifier(3), cohort.X, y, cohort.plan, classes=(*CLASSES, "rare")
    )
    rare = cohort.patients == 0
    np.testing.assert_array_equal(run.y_prob[:, rare, 2], 0)
    np.testing.assert_allclose(run.y_prob.sum(axis=2), 1, atol=1e-6)


def test_repeats_bit_for_bit(cohort: Cohort) -> None:
    runs = [
        cross_validate(
            LogisticProbe(Cs=[1e-2, 1.0]),
            cohort.X,
            cohort.y,
            cohort.plan,
            classes=CLASSES,
            groups=cohort.patients,
        )
        for _ in range(2)
    ]
    np.testing.assert_array_equal(runs[0].y_prob, runs[1].y_prob)


def test_rows_that_do_not_match_are_refused(cohort: Cohort) -> None:
    with pytest.raises(ResultsError, match="39 embeddings, 40 labels and a plan of 40 tiles"):
        cross_validate(Spy(), cohort.X[:-1], cohort.y, cohort.plan, classes=CLASSES)


def test_embedding_that_is_not_finite_is_refused(cohort: Cohort) -> None:
    X = cohort.X.copy()
    X[7, 2] = np.nan
    with pytest.raises(ResultsError, match="first: row 7"):
        cross_validate(Spy(), X, cohort.y, cohort.plan, classes=CLASSES)
