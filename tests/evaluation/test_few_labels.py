"""Few labels: nested subsets of whole patients or single tiles, the same ones for every arm."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from featurebench.errors import ConfigError, ResultsError
from featurebench.evaluation import (
    FewLabels,
    Subsets,
    Views,
    draw_subsets,
    few_label_curve,
    make_folds,
)
from featurebench.evaluation.few_labels import KINDS, Subset, curves, without_tuning
from featurebench.evaluation.few_labels.orders import ORDERS
from featurebench.heads import LogisticProbe, SearchedHead, make_head, needs_inner_folds
from featurebench.splits import SplitPlan

if TYPE_CHECKING:
    from featurebench.results import LearningCurve

Codes = npt.NDArray[np.int64]
CLASSES = ("benign", "borderline", "malignant")
ALL = FewLabels(patients=[3, 6, 12], tiles=[3, 10, 60], shots=[1, 4], patient_shots=[2, 5], draws=3)


class Cohort:
    """Patients of three unequally frequent classes, 3 to 8 tiles each; feature 0 is the row."""

    def __init__(self, n_patients: int = 30, mixed: bool = False) -> None:
        rng = np.random.default_rng(1)
        self.patients = np.repeat(np.arange(n_patients), rng.integers(3, 9, n_patients))
        of_patient = np.array([0, 0, 0, 1, 2, 0, 1, 0, 2, 0])[np.arange(n_patients) % 10]
        self.y = of_patient[self.patients].astype(np.int64)
        if mixed:
            self.y = rng.integers(0, 3, len(self.patients))
        n = len(self.y)
        effects = rng.normal(size=(n_patients, 8))[self.patients]
        self.X = (np.eye(8)[self.y] * 3 + effects + rng.normal(size=(n, 8))).astype(np.float32)
        self.X = np.column_stack([np.arange(n), self.X]).astype(np.float32)
        self.plan = SplitPlan.draw(self.y, self.patients, folds=3, repeats=2, seed=0)

    def subsets(self, few: FewLabels = ALL, **options: Any) -> Subsets:
        return draw_subsets(self.y, self.plan, few, groups=self.patients, **options)

    def curve(self, head: ClassifierMixin, subsets: Subsets, **options: Any) -> LearningCurve:
        return few_label_curve(head, self.X[:, 1:], self.y, subsets, classes=CLASSES, **options)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return Cohort()


@pytest.fixture(scope="module")
def subsets(cohort: Cohort) -> Subsets:
    return cohort.subsets()


def by_draw(subsets: Subsets) -> dict[tuple[str, int, int, int], list[Subset]]:
    groups = defaultdict(list)
    for each in subsets:
        groups[each.kind, each.repeat, each.fold, each.draw].append(each)
    return groups


def rows_of(subsets: Subsets) -> dict[tuple[str, int, int, int, int], list[int]]:
    return {(s.kind, s.size, s.repeat, s.fold, s.draw): s.rows.tolist() for s in subsets}


class TestSubsets:
    def test_training_rows_are_distinct_and_of_the_folds_training_side(
        self, cohort: Cohort, subsets: Subsets
    ) -> None:
        splits = {(s.repeat, s.fold): s for s in cohort.plan.splits()}
        assert len(subsets) == 10 * 3 * 6
        for each in subsets:
            split = splits[each.repeat, each.fold]
            np.testing.assert_array_equal(each.test, split.test)
            assert (np.diff(each.train) > 0).all()
            assert set(each.train) <= set(split.train)
            assert not set(cohort.patients[each.train]) & set(cohort.patients[each.test])

    def test_smaller_ones_lie_in_larger_ones(self, subsets: Subsets) -> None:
        for members in by_draw(subsets).values():
            sizes = [each.size for each in members]
            assert sizes == sorted(sizes)
            for small, large in pairwise(members):
                assert set(small.train) < set(large.train)

    def test_patients_come_whole_and_in_the_proportions_of_the_classes(
        self, cohort: Cohort, subsets: Subsets
    ) -> None:
        whole = np.bincount(cohort.patients)
        seen = np.zeros(3)
        for each in (s for s in subsets if s.kind == "patients"):
            used, counts = np.unique(cohort.patients[each.train], return_counts=True)
            assert len(used) == each.size == each.n_patients
            np.testing.assert_array_equal(counts, whole[used])
            labels = np.array([cohort.y[cohort.patients == p][0] for p in used])
            of_class = np.bincount(labels, minlength=3)
            assert of_class.min() >= 1
            if each.size == 12:
                seen += of_class
        # Of all patients 60 %, 20 % and 20 %; the training sides differ from that by one or two.
        np.testing.assert_allclose(seen / seen.sum(), [0.6, 0.2, 0.2], atol=0.04)

    def test_tiles_are_in_the_proportions_of_the_classes(
        self, cohort: Cohort, subsets: Subsets
    ) -> None:
        sides = {(s.repeat, s.fold): cohort.y[s.train] for s in cohort.plan.splits()}
        for each in (s for s in subsets if s.kind == "tiles"):
            counts = np.bincount(cohort.y[each.train], minlength=3)
            share = np.bincount(sides[each.repeat, each.fold]) / len(sides[each.repeat, each.fold])
            assert counts.sum() == each.size
            assert counts.min() >= 1
            assert np.abs(counts - each.size * share).max() < 1.5

    def test_shots_are_as_many_of_every_class(self, cohort: Cohort, subsets: Subsets) -> None:
        shots = [s for s in subsets if s.kind.endswith("shots")]
        assert len(shots) == 4 * 3 * 6
        for each in shots:
            counts = np.bincount(cohort.y[each.train], minlength=3)
            assert counts.tolist() == [each.size] * 3

    def test_patient_shots_are_of_different_patients_as_far_as_there_are(
        self, cohort: Cohort, subsets: Subsets
    ) -> None:
        splits = {(s.repeat, s.fold): s.train for s in cohort.plan.splits()}
        for each in (s for s in subsets if s.kind == "patient_shots"):
            side = splits[each.repeat, each.fold]
            for k in range(3):
                n_all = len(np.unique(cohort.patients[side[cohort.y[side] == k]]))
                train = each.train[cohort.y[each.train] == k]
                n_used = len(np.unique(cohort.patients[train]))
                assert n_used == min(each.size, n_all)

    def test_every_tile_and_patient_has_its_chance(self, cohort: Cohort) -> None:
        few = FewLabels(patients=[6], tiles=[30], shots=[4], patient_shots=[4], draws=60)
        hits = {kind: np.zeros(len(cohort.y)) for kind in KINDS}
        for each in cohort.subsets(few, tune=False):
            hits[each.kind][each.train] += 1
        for kind in KINDS:
            assert hits[kind].min() > 0, kind
        # Within a class every tile is drawn equally often: 60 draws of 4 folds that train on it.
        spread = hits["tiles"][cohort.y == 0]
        assert spread.std() < 2 * np.sqrt(spread.mean())

    def test_seeds_repeat_and_other_sizes_kinds_and_draws_change_nothing(
        self, cohort: Cohort, subsets: Subsets
    ) -> None:
        expected = rows_of(subsets)
        assert rows_of(cohort.subsets()) == expected
        fewer = cohort.subsets(FewLabels(tiles=[10], patient_shots=[2], draws=1), tune=False)
        assert len(fewer) == 12
        assert all(rows == expected[key] for key, rows in rows_of(fewer).items())
        other = rows_of(cohort.subsets(FewLabels(patients=[6], tiles=[10], draws=3, seed=1)))
        assert all(rows != expected[key] for key, rows in other.items())

    def test_draws_folds_and_repeats_differ(self, subsets: Subsets) -> None:
        for kind, size in (("patients", 6), ("tiles", 10), ("shots", 4), ("patient_shots", 5)):
            drawn = [tuple(s.train) for s in subsets if (s.kind, s.size) == (kind, size)]
            assert len(set(drawn)) == len(drawn) == 18

    def test_sizes_that_a_side_does_not_hold_are_left_out_on_all(self, cohort: Cohort) -> None:
        sides = [len(np.unique(cohort.patients[s.train])) for s in cohort.plan.splits()]
        few = FewLabels(patients=[2, 6, 400], tiles=[2, 9999], shots=[999], draws=1)
        subsets = cohort.subsets(few)
        assert {(s.kind, s.size) for s in subsets} == {("patients", 6)}
        reasons = {(each.kind, each.size): each.reason for each in subsets.left_out}
        assert reasons["patients", 400] == f"the smallest training side has {min(sides)} patients"
        assert reasons["patients", 2] == "to have every class, a draw took 3 patients"
        assert reasons["tiles", 2] == "to have every class, a draw took 3 tiles"
        assert reasons["shots", 999].endswith("tiles of every class")
        assert len(reasons) == 5
        assert subsets.full_patients == np.mean(sides)

    def test_a_whole_training_side_is_the_largest_size(self) -> None:
        cohort = Cohort()
        side = next(iter(cohort.plan.splits()))
        order = ORDERS["patients"](
            cohort.y[side.train],
            np.unique(cohort.patients[side.train], return_inverse=True)[1],
            np.random.default_rng(0),
        )
        assert order.ends[-1] == len(side.train)
        assert sorted(order.rows) == list(range(len(side.train)))

    def test_patients_of_several_classes_count_for_all_of_them(self) -> None:
        cohort = Cohort(mixed=True)
        subsets = cohort.subsets(FewLabels(patients=[3, 8], draws=4))
        assert not subsets.left_out
        for each in subsets:
            assert set(cohort.y[each.train]) == {0, 1, 2}
            assert len(set(cohort.patients[each.train])) == each.size

    def test_hold_out_draws_from_training_and_validation(self, cohort: Cohort) -> None:
        plan = SplitPlan.holdout(cohort.y, cohort.patients, seed=0)
        few = FewLabels(patients=[20], draws=3)
        subsets = draw_subsets(cohort.y, plan, few, groups=cohort.patients)
        (split,) = plan.splits()
        assert split.validation is not None
        used = set(np.concatenate([each.train for each in subsets]))
        assert used & set(split.validation)
        assert not used & set(split.test)

    def test_patients_need_not_be_the_groups(self, cohort: Cohort) -> None:
        sites = cohort.patients // 2
        subsets = draw_subsets(
            cohort.y,
            SplitPlan.draw(cohort.y, sites, folds=3),
            FewLabels(patients=[12], draws=2),
            groups=sites,
            patients=cohort.patients.astype(str),
        )
        for each in subsets:
            assert len(set(cohort.patients[each.train])) == 12
            assert each.level == "groups"
            for train, test in each.as_fold(tune=True).inner:
                assert not set(sites[train]) & set(sites[test])

    def test_tiles_can_be_counted_without_patients(self, cohort: Cohort) -> None:
        plan = SplitPlan.draw(cohort.y, folds=3)
        subsets = draw_subsets(cohort.y, plan, FewLabels(tiles=[20], shots=[2], draws=1))
        assert {each.n_patients for each in subsets} == {None}
        assert {each.level for each in subsets} == {"tiles"}
        with pytest.raises(ConfigError, match="patients are to be counted"):
            draw_subsets(cohort.y, plan, FewLabels(patient_shots=[2]))


class TestInnerFolds:
    def test_are_inside_training_and_keep_patients_together(
        self, cohort: Cohort, subsets: Subsets
    ) -> None:
        large = [s for s in subsets if (s.kind, s.size) in {("patients", 12), ("tiles", 60)}]
        for each in large:
            assert each.level == "groups"
            fold = each.as_fold(tune=True)
            assert 2 <= len(fold.inner) <= 3
            for train, test in fold.inner:
                assert sorted([*train, *test]) == fold.train.tolist()
                assert not set(cohort.patients[train]) & set(cohort.patients[test])
                assert set(cohort.y[train]) == {0, 1, 2}

    def test_fall_back_to_tiles_and_then_to_none(self, cohort: Cohort, subsets: Subsets) -> None:
        levels = {(s.kind, s.size): s.level for s in subsets}
        assert levels["patients", 3] == "tiles"
        assert levels["shots", 1] == levels["tiles", 3] == ""
        for each in subsets:
            fold = each.as_fold(tune=True)
            assert bool(fold.inner) == bool(each.level)
            if fold.inner:
                tested = np.concatenate([test for _, test in fold.inner])
                assert len(set(cohort.y[tested])) > 1
            assert each.as_fold(tune=False).inner == ()


class Recorder(ClassifierMixin, BaseEstimator):
    """Keeps the rows that it is fitted on, by feature 0."""

    seen: list[list[int]]

    def fit(self, X: npt.NDArray[Any], y: npt.NDArray[Any]) -> Recorder:
        self.classes_ = np.unique(y)
        self.seen.append(X[:, 0].astype(int).tolist())
        return self

    def predict_proba(self, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


class First(Recorder):
    seen: list[list[int]] = []  # noqa: RUF012


class Second(Recorder):
    seen: list[list[int]] = []  # noqa: RUF012


class TestCurve:
    def test_all_heads_are_fitted_on_the_same_rows(self, cohort: Cohort, subsets: Subsets) -> None:
        for head in (First(), Second()):
            few_label_curve(head, cohort.X, cohort.y, subsets, classes=CLASSES)
        assert First.seen == Second.seen == [each.train.tolist() for each in subsets]

    def test_equals_scikit_learn_on_each_subset(self, cohort: Cohort, subsets: Subsets) -> None:
        head = KNeighborsClassifier(3)
        curve = cohort.curve(head, subsets)
        X, y = cohort.X[:, 1:], cohort.y
        for point, each in zip(curve.points, subsets, strict=True):
            p = head.fit(X[each.train], y[each.train]).predict_proba(X[each.test])
            called, truth = p.argmax(axis=1), y[each.test]
            assert point.values["balanced_accuracy"] == pytest.approx(
                balanced_accuracy_score(truth, called)
            )
            assert point.values["roc_auc"] == pytest.approx(
                roc_auc_score(truth, p, multi_class="ovr"), abs=1e-6
            )
            assert (point.n_tiles, point.n_patients) == (
                len(each.train),
                len(set(cohort.patients[each.train])),
            )
            assert point.inner == ""

    def test_logistic_equals_scikit_learn_on_each_subset(
        self, cohort: Cohort, subsets: Subsets
    ) -> None:
        curve = cohort.curve(LogisticProbe(C=0.5), subsets)
        X, y = cohort.X[:, 1:], cohort.y
        reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, tol=1e-9))
        for point, each in zip(curve.points, subsets, strict=True):
            p = reference.fit(X[each.train], y[each.train]).predict_proba(X[each.test])
            assert point.values["log_loss"] == pytest.approx(log_loss(y[each.test], p), rel=1e-3)

    def test_tuned_logistic_equals_fitting_each_subset_alone(self, cohort: Cohort) -> None:
        subsets = cohort.subsets(FewLabels(patients=[6], tiles=[3, 40], draws=1))
        curve = cohort.curve(LogisticProbe(Cs=(1e-2, 1e-1, 1.0)), subsets)
        X, y = cohort.X[:, 1:], cohort.y
        for point, each in zip(curve.points, subsets, strict=True):
            place = {row: i for i, row in enumerate(each.train.tolist())}
            cv = [
                (np.array([place[row] for row in a]), np.array([place[row] for row in b]))
                for a, b in each.as_fold(tune=True).inner
            ]
            alone = LogisticProbe(Cs=(1e-2, 1e-1, 1.0), cv=cv)
            if not cv:
                alone = LogisticProbe(C="dK/100")
            p = alone.fit(X[each.train], y[each.train]).predict_proba(X[each.test])
            assert point.values["log_loss"] == pytest.approx(log_loss(y[each.test], p), rel=1e-3)
            assert point.inner == (each.level or "fixed")

    def test_repeats_bitwise(self, cohort: Cohort, subsets: Subsets) -> None:
        first, second = (cohort.curve(LogisticProbe(Cs=(0.01, 1.0)), subsets) for _ in range(2))
        assert first.points == second.points
        assert first.curve_id == second.curve_id

    def test_chunks_change_nothing_but_rounding(
        self, cohort: Cohort, subsets: Subsets, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        head = make_head("logistic", Cs=[0.01, 1.0])
        whole = cohort.curve(head, subsets)
        ticks: list[int] = []
        monkeypatch.setattr(curves, "_CHUNK_BYTES", 7 * (4 * len(cohort.y) + 36 * 10 * 8 * 3))
        parts = cohort.curve(head, subsets, progress=ticks.append)
        assert sum(ticks) == len(subsets)
        for a, b in zip(whole.points, parts.points, strict=True):
            assert a.values["log_loss"] == pytest.approx(b.values["log_loss"], rel=1e-3)

    def test_scores_rise_with_labels_up_to_those_of_all(self, cohort: Cohort) -> None:
        few = FewLabels(patients=[3, 6, 12, 18], shots=[1, 2, 4, 8], draws=6)
        curve = cohort.curve(LogisticProbe(Cs=(0.01, 0.1, 1.0)), cohort.subsets(few))
        values: dict[str, list[float]] = defaultdict(list)
        for each in curve.by_size("balanced_accuracy"):
            values[each.kind].append(each.value)
            assert each.spread_low <= each.value <= each.spread_high
            assert each.n_draws == 12
            assert each.n_fits == 36
        assert {kind: len(v) for kind, v in values.items()} == {"patients": 4, "shots": 4}
        for rising in values.values():
            assert all(b > a - 0.01 for a, b in pairwise(rising))
            assert rising[-1] > rising[0] + 0.05

    def test_settings_and_sizes_are_recorded(self, cohort: Cohort, subsets: Subsets) -> None:
        curve = cohort.curve(
            KNeighborsClassifier(1),
            subsets,
            arm="net+knn",
            embedding="net",
            head_name="knn",
            params={"k": 1},
            fingerprint="f",
            seed=4,
            metrics=("accuracy",),
        )
        assert (curve.arm, curve.embedding, curve.head) == ("net+knn", "net", "knn")
        assert curve.plan_id == cohort.plan.id
        assert curve.settings["patients"] == [3, 6, 12]
        assert curve.settings["draws"] == 3
        sides = [fold.train for fold in make_folds(cohort.plan, cohort.y, tune=False)]
        assert curve.full_tiles == np.mean([len(side) for side in sides])
        assert set(curve.points[0].values) == {"accuracy"}
        assert curve.cost.wall_s > 0
        assert curve.cost.trials == 0

    def test_views_are_trained_on_and_averaged(self, cohort: Cohort, subsets: Subsets) -> None:
        # A view that is the tile itself leaves the nearest neighbour where it was.
        views = Views([cohort.X[:, 1:]])
        plain, doubled = (
            cohort.curve(make_head("knn", k=1), subsets, views=each) for each in (None, views)
        )
        assert [p.values["balanced_accuracy"] for p in plain.points] == [
            p.values["balanced_accuracy"] for p in doubled.points
        ]

    def test_other_tiles_and_subsets_without_inner_folds_are_refused(self, cohort: Cohort) -> None:
        untuned = cohort.subsets(FewLabels(shots=[2]), tune=False)
        with pytest.raises(ResultsError, match="tune=True"):
            cohort.curve(make_head("ridge"), untuned)
        with pytest.raises(ResultsError, match="same tile"):
            few_label_curve(make_head("knn"), cohort.X[1:], cohort.y, untuned, classes=CLASSES)


SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [8], "max_epochs": 3, "patience": 2},
    "random_forest": {"n_estimators": 5},
    "xgboost": {"n_estimators": 4},
    "lightgbm": {"n_estimators": 4},
    "logistic": {"Cs": [0.01, 1.0]},
    "knn": {"k": [1, 5]},
    "linear_svm": {"C": [0.1, 1.0]},
    "lda": {"shrinkage": [0.1, 0.9]},
}
HELD_OUT_ONLY = {"ridge", "linear_svm", "rbf_svm"}


@pytest.mark.parametrize(
    "name",
    [
        "logistic", "ridge", "lda", "linear_svm", "rbf_svm", "knn", "centroid", "mlp",
        "random_forest", "xgboost", "lightgbm", "dummy",
    ],
)  # fmt: skip
def test_every_head_does_with_the_smallest_sets_or_says_why_not(name: str, cohort: Cohort) -> None:
    for library in {"mlp": ["torch"], "xgboost": ["xgboost"], "lightgbm": ["lightgbm"]}.get(
        name, []
    ):
        pytest.importorskip(library)
    few = FewLabels(patients=[3, 8], tiles=[3, 4], shots=[1, 2], patient_shots=[2], draws=1)
    subsets = cohort.subsets(few)
    head = make_head(name, **SMALL.get(name, {}))
    ticks: list[int] = []
    curve = cohort.curve(head, subsets, progress=ticks.append)
    assert sum(ticks) == len(subsets)
    assert all(np.isfinite(list(point.values.values())).all() for point in curve.points)
    sizes = {(p.kind, p.size): p.inner for p in curve.points}
    if name in HELD_OUT_ONLY:
        assert {("shots", 1), ("tiles", 3), ("tiles", 4)} == {
            (each.kind, each.size) for each in curve.left_out
        }
        assert "6 of 6 training sets are too small" in curve.left_out[0].reason
        assert ("shots", 1) not in sizes
    else:
        assert not curve.left_out
        assert sizes["shots", 1] == ("fixed" if needs_inner_folds(head) else "")
    if needs_inner_folds(head):
        assert sizes["patients", 8] == "groups"
    assert len(curve.points) == 6 * len(sizes)


class TestWithoutTuning:
    def test_gives_a_clone_that_chooses_nothing(self) -> None:
        head = make_head("logistic", class_weight="balanced")
        fixed = without_tuning(head)
        assert isinstance(fixed, LogisticProbe)
        assert (fixed.C, fixed.class_weight, head.C) == ("dK/100", "balanced", None)
        assert not needs_inner_folds(fixed)

    def test_looks_through_a_search(self) -> None:
        fixed = without_tuning(SearchedHead(make_head("mlp"), {"lr": [1e-4, 1e-3]}))
        assert fixed is not None
        assert not needs_inner_folds(fixed)
        assert without_tuning(SearchedHead(make_head("ridge"), {"rule": ["best"]})) is None

    def test_leaves_alone_what_chooses_nothing(self) -> None:
        head = KNeighborsClassifier()
        assert without_tuning(head) is head


class TestSettings:
    def test_sizes_are_sorted_and_json_ready(self) -> None:
        few = FewLabels(tiles=[20, 5, 5], patients=np.arange(1, 3).tolist(), draws=2)
        assert few.tiles == (5, 20)
        assert few.as_json()["tiles"] == [5, 20]
        assert few.by_patient
        assert not FewLabels(shots=[1]).by_patient

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({}, "give sizes"),
            ({"tiles": [0]}, "tiles 0"),
            ({"shots": [2.5]}, "shots 2.5"),
            ({"shots": [True]}, "shots True"),
            ({"tiles": [5], "draws": 0}, "draws 0"),
            ({"tiles": [5], "inner": 1}, "inner 1"),
            ({"tiles": [5], "seed": -1}, "seed -1"),
        ],
    )
    def test_what_cannot_be_used_is_named(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            FewLabels(**settings)
