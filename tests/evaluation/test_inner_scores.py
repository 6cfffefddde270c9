"""Scores inside the folds: refitted by hand, blind to what is tested, no trouble to the rest."""

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
    InnerFold,
    Views,
    cross_validate,
    make_folds,
    make_inner_folds,
    score_inside,
)
from featurebench.heads import LogisticProbe, make_head
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

    def inside(self, plan: SplitPlan | None = None, *, tune: bool = True) -> list[InnerFold]:
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


def assert_scores(entry: dict[str, Any], y_true: Codes, y_prob: npt.NDArray[Any]) -> None:
    """Hold one entry against scikit-learn's metrics."""
    called = y_prob.argmax(axis=1)
    expected = {
        "accuracy": accuracy_score(y_true, called),
        "balanced_accuracy": balanced_accuracy_score(y_true, called),
        "f1": f1_score(y_true, called, average="macro"),
        "roc_auc": roc_auc_score(y_true, y_prob[:, 1]),
        "log_loss": log_loss(y_true, y_prob),
        "brier": brier_score_loss(y_true, y_prob[:, 1]),
    }
    assert set(entry["scores"]) == set(METRICS)
    assert entry["n"] == len(y_true)
    for name, value in expected.items():
        assert entry["scores"][name] == pytest.approx(value, abs=2e-4), name


class TestFolds:
    @pytest.mark.parametrize("tune", [True, False])
    def test_nothing_tested_is_inside_and_no_patient_is_torn(
        self, cohort: Cohort, tune: bool
    ) -> None:
        inside = cohort.inside(tune=tune)
        assert len(inside) == 8
        for split, each in zip(cohort.plan.splits(), inside, strict=True):
            fold = each.fold
            assert fold is not None
            used = np.concatenate([fold.train, fold.test])
            assert not set(used) & set(split.test)
            np.testing.assert_array_equal(np.sort(used), split.train)
            assert not set(cohort.patients[fold.train]) & set(cohort.patients[fold.test])
            assert bool(fold.inner) == tune
            for train, validation in fold.inner:
                assert set(train) | set(validation) <= set(fold.train)
                assert not set(cohort.patients[train]) & set(cohort.patients[validation])

    def test_they_are_the_first_that_heads_are_tuned_on(self, cohort: Cohort) -> None:
        folds = make_folds(cohort.plan, cohort.y, cohort.patients)
        for fold, tuned, plain in zip(
            folds, cohort.inside(), cohort.inside(tune=False), strict=True
        ):
            assert tuned.fold is not None
            assert plain.fold is not None
            for expected, of_tuned, of_plain in zip(
                fold.inner[0],
                (tuned.fold.train, tuned.fold.test),
                (plain.fold.train, plain.fold.test),
                strict=True,
            ):
                np.testing.assert_array_equal(of_tuned, expected)
                np.testing.assert_array_equal(of_plain, expected)

    def test_in_a_hold_out_the_validation_part_is_scored(self, cohort: Cohort) -> None:
        plan = holdout(cohort)
        ((split,), (each,)) = list(plan.splits()), cohort.inside(plan)
        assert each.fold is not None
        np.testing.assert_array_equal(each.fold.train, split.train)
        np.testing.assert_array_equal(each.fold.test, split.validation)
        assert len(each.fold.inner) == 3

    def test_too_few_groups_leave_a_reason(self) -> None:
        patients = np.repeat(np.arange(4), 3)
        y = (patients % 2).astype(np.int64)
        plan = SplitPlan.draw(y, patients, folds=2)
        inside = make_inner_folds(plan, y, patients, tune=True)
        assert [each.fold for each in inside] == [None, None]
        assert all("patients are too few for inner folds" in each.reason for each in inside)


class TestScores:
    def test_equal_a_refit_by_hand(self, cohort: Cohort) -> None:
        """Another library, another loop: tune on the inner-inner folds, refit, score."""
        run = cohort.run(LogisticProbe(Cs=CS))
        places = [(entry["repeat"], entry["fold"]) for entry in run.details["inner"]]
        assert places == [(r, f) for r in range(2) for f in range(4)]
        for entry, each in zip(run.details["inner"], cohort.inside(), strict=True):
            fold = each.fold
            assert fold is not None
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
            y_prob = found.predict_proba(cohort.X[fold.test])
            assert_scores(entry, cohort.y[fold.test], y_prob)

    def test_in_a_hold_out_they_are_those_of_the_validation_part(self, cohort: Cohort) -> None:
        plan = holdout(cohort)
        (split,) = plan.splits()
        assert split.validation is not None
        run = cohort.run(LogisticProbe(C=0.1), plan)
        (entry,) = run.details["inner"]
        y_prob = fit(cohort, 0.1, split.train).predict_proba(cohort.X[split.validation])
        assert_scores(entry, cohort.y[split.validation], y_prob)
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
        n_held_back = [len(e.fold.test) for e in cohort.inside(tune=False) if e.fold is not None]
        assert [entry["n"] for entry in run.details["inner"]] == n_held_back

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
        one_class = InnerFold(make_folds(plan, y, patients, tune=False)[0])
        assert one_class.fold is not None
        y[one_class.fold.test] = 0
        (score,) = score_inside(LogisticProbe(C=1.0), X, y, [one_class], n_classes=2)
        assert score.scores["roc_auc"] is None
        assert score.scores["accuracy"] is not None


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
        assert validated.cost.trials == 2 * plain.cost.trials > 0


def fit(cohort: Cohort, C: float, rows: Codes) -> Any:
    """Fit scikit-learn's own logistic regression to standardised features."""
    solver = LogisticRegression(C=C, tol=1e-8, max_iter=5000)
    return make_pipeline(StandardScaler(), solver).fit(cohort.X[rows], cohort.y[rows])
