"""Scores on inner folds: refitted by hand, blind to what is tested, no trouble to the rest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    roc_auc_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from featurebench.evaluation import (
    InnerFolds,
    Views,
    cross_validate,
    make_folds,
    make_inner_folds,
    score_inside,
)
from featurebench.heads import Fold, LogisticProbe, make_head
from featurebench.metrics import METRICS
from featurebench.splits import SplitPlan

if TYPE_CHECKING:
    from featurebench.results import RunResult

    Codes = npt.NDArray[np.int64]

CLASSES = ("benign", "malignant")
CS = [1e-3, 1e-1]


class Cohort:
    """Ninety-six tiles of sixteen patients, of whom some have tiles of both classes."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.patients = np.repeat(np.arange(16), 6)
        self.y = (self.patients % 2).astype(np.int64)
        self.y[::13] = 1 - self.y[::13]
        self.X = rng.normal(size=(96, 8)).astype(np.float32)
        self.X[:, 1] += 1.5 * self.y
        self.X += 0.5 * rng.normal(size=(16, 8)).astype(np.float32)[self.patients]
        self.plan = SplitPlan.draw(self.y, self.patients, folds=4, repeats=2, seed=0)

    def inside(self, plan: SplitPlan | None = None, *, tune: bool = True) -> list[InnerFolds]:
        return make_inner_folds(plan or self.plan, self.y, self.patients, tune=tune)

    def run(self, head: Any, plan: SplitPlan | None = None, **settings: Any) -> RunResult:
        given: dict[str, Any] = {
            "classes": CLASSES,
            "groups": self.patients,
            "validate": True,
        } | settings
        return cross_validate(head, self.X, self.y, plan or self.plan, **given)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return Cohort()


def holdout(cohort: Cohort) -> SplitPlan:
    return SplitPlan.holdout(cohort.y, cohort.patients, fractions=(0.5, 0.25, 0.25), seed=0)


def assert_scores(
    entry: dict[str, Any], y_true: Codes, y_prob: npt.NDArray[Any], parts: list[Codes]
) -> None:
    """Hold one entry against scikit-learn's metrics: pooled, but ranks within inner folds."""
    rows = np.concatenate(parts)
    called = y_prob[rows].argmax(axis=1)
    expected = {
        "accuracy": accuracy_score(y_true[rows], called),
        "balanced_accuracy": balanced_accuracy_score(y_true[rows], called),
        "f1": f1_score(y_true[rows], called, average="macro"),
        "roc_auc": np.mean([roc_auc_score(y_true[part], y_prob[part, 1]) for part in parts]),
        "log_loss": log_loss(y_true[rows], y_prob[rows]),
        "brier": brier_score_loss(y_true[rows], y_prob[rows, 1]),
    }
    assert set(entry["scores"]) == set(METRICS)
    assert (entry["n"], entry["folds"]) == (len(rows), len(parts))
    for name, value in expected.items():
        # Rounding can turn a pair of tiles round, of hundreds in an inner fold.
        tolerance = 5e-3 if name == "roc_auc" else 2e-4
        assert entry["scores"][name] == pytest.approx(value, abs=tolerance), name


class TestFolds:
    @pytest.mark.parametrize("tune", [True, False])
    def test_nothing_tested_is_inside_and_no_patient_is_torn(
        self, cohort: Cohort, tune: bool
    ) -> None:
        inside = cohort.inside(tune=tune)
        assert len(inside) == 8
        for split, each in zip(cohort.plan.splits(), inside, strict=True):
            held_back = np.concatenate([fold.test for fold in each.folds])
            np.testing.assert_array_equal(np.sort(held_back), split.train)
            for fold in each.folds:
                used = np.concatenate([fold.train, fold.test])
                assert not set(used) & set(split.test)
                np.testing.assert_array_equal(np.sort(used), split.train)
                assert not set(cohort.patients[fold.train]) & set(cohort.patients[fold.test])
                assert bool(fold.inner) == tune
                for train, validation in fold.inner:
                    assert set(train) | set(validation) <= set(fold.train)
                    assert not set(cohort.patients[train]) & set(cohort.patients[validation])

    def test_they_are_those_that_heads_are_tuned_on(self, cohort: Cohort) -> None:
        folds = make_folds(cohort.plan, cohort.y, cohort.patients)
        for tune in (True, False):
            for fold, each in zip(folds, cohort.inside(tune=tune), strict=True):
                assert len(each.folds) == len(fold.inner) == 3
                for (train, validation), own in zip(fold.inner, each.folds, strict=True):
                    np.testing.assert_array_equal(own.train, train)
                    np.testing.assert_array_equal(own.test, validation)

    def test_in_a_hold_out_the_validation_part_is_scored(self, cohort: Cohort) -> None:
        plan = holdout(cohort)
        ((split,), (each,)) = list(plan.splits()), cohort.inside(plan)
        (fold,) = each.folds
        np.testing.assert_array_equal(fold.train, split.train)
        np.testing.assert_array_equal(fold.test, split.validation)
        assert len(fold.inner) == 3

    def test_too_few_groups_leave_a_reason(self) -> None:
        patients = np.repeat(np.arange(4), 3)
        y = (patients % 2).astype(np.int64)
        plan = SplitPlan.draw(y, patients, folds=2)
        inside = make_inner_folds(plan, y, patients, tune=True)
        assert [each.folds for each in inside] == [(), ()]
        assert all("patients are too few for inner folds" in each.reason for each in inside)


class TestScores:
    def test_equal_a_refit_by_hand(self, cohort: Cohort) -> None:
        """Another library, another loop: tune on the inner-inner folds, refit, score."""
        run = cohort.run(LogisticProbe(Cs=CS))
        places = [(entry["repeat"], entry["fold"]) for entry in run.details["inner"]]
        assert places == [(r, f) for r in range(2) for f in range(4)]
        for entry, each in zip(run.details["inner"], cohort.inside(), strict=True):
            y_prob = np.full((96, 2), np.nan, dtype=np.float32)
            for fold in each.folds:
                losses = [
                    np.mean(
                        [
                            log_loss(cohort.y[b], fit(cohort, C, a).predict_proba(cohort.X[b]))
                            for a, b in fold.inner
                        ]
                    )
                    for C in CS
                ]
                found = fit(cohort, CS[int(np.argmin(losses))], fold.train)
                y_prob[fold.test] = found.predict_proba(cohort.X[fold.test])
            assert_scores(entry, cohort.y, y_prob, [fold.test for fold in each.folds])

    def test_in_a_hold_out_they_are_those_of_the_validation_part(self, cohort: Cohort) -> None:
        plan = holdout(cohort)
        (split,) = plan.splits()
        assert split.validation is not None
        run = cohort.run(LogisticProbe(C=0.1), plan)
        (entry,) = run.details["inner"]
        y_prob = fit(cohort, 0.1, split.train).predict_proba(cohort.X)
        assert_scores(entry, cohort.y, y_prob, [split.validation])
        tested = fit(cohort, 0.1, np.union1d(split.train, split.validation))
        expected = tested.predict_proba(cohort.X[split.test])
        np.testing.assert_allclose(run.y_prob[0, split.test], expected, atol=2e-3)

    def test_labels_of_tested_tiles_do_not_touch_them(self, cohort: Cohort) -> None:
        plan = SplitPlan.draw(cohort.y, cohort.patients, folds=4, seed=0)
        first = next(plan.splits())
        y = cohort.y.copy()
        y[first.test] = 1 - y[first.test]
        X = cohort.X.copy()
        X[first.test] += 100
        honest, poisoned = (
            cross_validate(
                make_head("ridge"),
                *data,
                plan,
                classes=CLASSES,
                groups=cohort.patients,
                validate=True,
            )
            for data in ((cohort.X, cohort.y), (X, y))
        )
        before, after = honest.details["inner"], poisoned.details["inner"]
        assert after[0]["scores"] == pytest.approx(before[0]["scores"], abs=1e-5)
        assert after[1]["scores"] != before[1]["scores"]

    def test_augmented_views_stay_on_the_side_of_their_tile(self, cohort: Cohort) -> None:
        class Spy(ClassifierMixin, BaseEstimator):
            def fit(self, X: npt.NDArray[Any], y: npt.NDArray[Any]) -> Spy:
                self.classes_, self.seen_ = np.unique(y), set(X[:, 0].tolist())
                return self

            def predict_proba(self, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
                assert not self.seen_ & set(X[:, 0].tolist())
                return np.full((len(X), 2), 0.5)

        X = cohort.patients[:, None].astype(np.float32)
        run = cross_validate(
            Spy(),
            X,
            cohort.y,
            cohort.plan,
            classes=CLASSES,
            groups=cohort.patients,
            views=Views([X]),
            validate=True,
        )
        n_train = [len(split.train) for split in cohort.plan.splits()]
        assert [entry["n"] for entry in run.details["inner"]] == n_train

    def test_undefined_is_null_and_folds_that_cannot_be_drawn_too(self) -> None:
        patients = np.repeat(np.arange(4), 3)
        y = (patients % 2).astype(np.int64)
        X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
        plan = SplitPlan.draw(y, patients, folds=2)
        given: dict[str, Any] = {"classes": CLASSES, "groups": patients, "validate": True}
        run = cross_validate(LogisticProbe(C=1.0), X, y, plan, **given)
        assert np.isfinite(run.y_prob).all()
        for entry in run.details["inner"]:
            assert (entry["n"], set(entry["scores"].values())) == (0, {None})
            assert "too few" in entry["reason"]
        (fold, *_) = make_folds(plan, y, patients, tune=False)
        y[fold.test] = 0
        one_class = InnerFolds((fold,))
        (score,) = score_inside(LogisticProbe(C=1.0), X, y, [one_class], n_classes=2)
        assert score.scores["roc_auc"] is None
        assert score.scores["accuracy"] is not None


class Constant(ClassifierMixin, BaseEstimator):
    """Always calls the first class, and ranks tiles by their first feature."""

    def fit(self, X: npt.NDArray[Any], y: npt.NDArray[Any]) -> Constant:
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
        first = 0.5 + X[:, :1] / 10
        others = np.repeat((1 - first) / (len(self.classes_) - 1), len(self.classes_) - 1, axis=1)
        return np.hstack([first, others])


class TestRareClasses:
    """Three classes of ten, five and two patients: some inner folds lack the rarest."""

    patients = np.repeat(np.arange(17), 4)
    y = np.repeat(np.array([0] * 10 + [1] * 5 + [2] * 2), 4).astype(np.int64)
    X = np.linspace(-1, 1, 68, dtype=np.float32)[:, None]

    def score(self, *folds: tuple[list[int], list[int]]) -> dict[str, float | None]:
        """Score the constant on inner folds given by the patients trained on and held back."""
        rows = [
            tuple(np.flatnonzero(np.isin(self.patients, side)) for side in sides) for sides in folds
        ]
        inside = InnerFolds(tuple(Fold(train, test) for train, test in rows))
        (found,) = score_inside(Constant(), self.X, self.y, [inside], n_classes=3)
        return dict(found.scores)

    def test_an_inner_fold_without_a_class_does_not_raise_chance(self) -> None:
        lacks = ([0, 1, 10, 11, 15], [2, 3, 12, 13])
        holds = ([2, 3, 12, 13, 16], [0, 1, 10, 11, 15])
        alone = self.score(lacks)["balanced_accuracy"]
        assert alone == pytest.approx(1 / 2)
        assert self.score(lacks, holds)["balanced_accuracy"] == pytest.approx(1 / 3)
        assert np.mean([1 / 2, 1 / 3]) > 1 / 3

    def test_inner_folds_of_other_sizes_count_by_their_tiles(self) -> None:
        small, large = ([0, 10, 15], [1, 11, 16]), ([1, 11, 16], [*range(2, 10), 12, 15])
        found = self.score(small, large)
        assert found["accuracy"] == pytest.approx((1 + 8) / (3 + 10))

    def test_ranks_are_averaged_over_the_inner_folds_that_hold_all_classes(self) -> None:
        lacks = ([0, 1, 10, 11, 15], [2, 3, 12, 13])
        holds = ([2, 3, 12, 13, 16], [0, 1, 10, 11, 15])
        assert self.score(lacks)["roc_auc"] is None
        assert self.score(lacks, holds)["roc_auc"] == self.score(holds)["roc_auc"] is not None

    def test_a_class_of_one_training_patient_is_held_back_nowhere_for_any_head(self) -> None:
        plan = SplitPlan.draw(self.y, self.patients, folds=2, seed=0)
        run, other = (
            cross_validate(
                head,
                self.X,
                self.y,
                plan,
                classes=("a", "b", "c"),
                groups=self.patients,
                validate=True,
            )
            for head in (Constant(), make_head("ridge"))
        )
        for split, entry, also in zip(
            plan.splits(), run.details["inner"], other.details["inner"], strict=True
        ):
            held_back = int((self.y[split.train] != 2).sum())
            assert entry["n"] == also["n"] == held_back
            assert entry["scores"]["balanced_accuracy"] == pytest.approx(1 / 2)


class TestTheRest:
    @pytest.mark.parametrize(
        ("head", "params"),
        [
            ("logistic", {"Cs": CS}),
            ("ridge", {}),
            ("knn", {}),
            ("lda", {}),
            ("centroid", {}),
            ("random_forest", {"n_estimators": 5}),
            ("lightgbm", {"n_estimators": 5}),
            ("dummy", {}),
        ],
    )
    def test_predictions_are_the_same_to_the_last_bit(
        self, cohort: Cohort, head: str, params: dict[str, Any]
    ) -> None:
        made = make_head(head, **params)
        plain, validated = (cohort.run(clone(made), validate=on) for on in (False, True))
        np.testing.assert_array_equal(validated.y_prob, plain.y_prob)
        assert validated.scores == plain.scores
        assert validated.details["folds"] == plain.details["folds"]
        assert validated.run_id == plain.run_id
        assert "inner" not in plain.details
        assert len(validated.details["inner"]) == 8
        assert json.loads(json.dumps(validated.details, allow_nan=False)) == validated.details

    def test_trials_of_a_search_inside_are_counted(self, cohort: Cohort) -> None:
        from featurebench.heads import SearchedHead

        head = SearchedHead(make_head("knn"), {"k": [1, 5]}, method="grid", trials=None)
        plain, validated = (cohort.run(clone(head), validate=on) for on in (False, True))
        assert validated.cost.trials == (1 + 3) * plain.cost.trials > 0


def fit(cohort: Cohort, C: float, rows: Codes) -> Any:
    """Fit scikit-learn's own logistic regression to standardised features."""
    solver = LogisticRegression(C=C, tol=1e-8, max_iter=5000)
    return make_pipeline(StandardScaler(), solver).fit(cohort.X[rows], cohort.y[rows])
