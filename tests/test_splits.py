"""Folds: grouped, stratified, reproducible; impossible ones refused with the numbers."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from featurebench.errors import SplitError
from featurebench.splits import TRAIN, VALIDATION, SplitPlan, inner_folds

if TYPE_CHECKING:
    from pathlib import Path

Ints = npt.NDArray[np.int64]


def cohort(
    n_patients: int, *, classes: int = 2, tiles: tuple[int, int] = (5, 40), seed: int = 0
) -> tuple[Ints, Ints]:
    """Labels and patients of tiles; one label per patient, numbers of tiles drawn evenly."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), rng.integers(*tiles, size=n_patients))
    return (patients % classes).astype(np.int64), patients.astype(np.int64)


def from_sets(sets: list[set[int]]) -> tuple[Ints, Ints]:
    """One tile per class of each group."""
    pairs = [(label, group) for group, labels in enumerate(sets) for label in sorted(labels)]
    table = np.array(pairs, dtype=np.int64)
    return table[:, 0], table[:, 1]


def groups_by_fold(plan: SplitPlan, patients: Ints) -> Ints:
    """Fold of every patient in every repeat, shape (n_repeats, n_patients)."""
    folds = np.empty((plan.n_repeats, patients.max() + 1), dtype=np.int64)
    folds[:, patients] = plan.test_fold
    return folds


def partition_of(folds: Ints) -> frozenset[frozenset[int]]:
    return frozenset(frozenset(np.flatnonzero(folds == fold).tolist()) for fold in np.unique(folds))


class TestDraw:
    def test_every_tile_is_tested_once_a_repeat_by_a_model_that_never_saw_its_patient(self) -> None:
        labels, patients = cohort(23, classes=3)
        plan = SplitPlan.draw(labels, patients, folds=4, repeats=3)
        tested = np.zeros((3, len(labels)), dtype=int)
        for split in plan.splits():
            tested[split.repeat, split.test] += 1
            assert not np.intersect1d(patients[split.train], patients[split.test]).size
            assert np.array_equal(np.sort(np.r_[split.train, split.test]), np.arange(len(labels)))
            assert split.validation is None
            assert split.train.dtype == split.test.dtype == np.int64
        assert (tested == 1).all()
        plan.check_no_leak(patients)

    @pytest.mark.parametrize("seed", range(10))
    def test_every_class_is_in_every_fold_however_uneven_the_patients(self, seed: int) -> None:
        # About every sixth of these cohorts gives StratifiedGroupKFold a fold without some class.
        sizes = (np.random.default_rng(seed).pareto(1.0, size=30) * 5 + 1).astype(int)
        patients = np.repeat(np.arange(30), sizes)
        labels = patients % 5
        plan = SplitPlan.draw(labels, patients, folds=5, repeats=3, seed=seed)
        assert all(len(np.unique(labels[test])) == 5 for _, test in plan)

    def test_as_many_patients_of_a_class_as_folds(self) -> None:
        patients = np.repeat(np.arange(12), 9)
        labels = (patients < 5).astype(int)
        for _, test in SplitPlan.draw(labels, patients, folds=5, repeats=10):
            assert len(np.unique(patients[test][labels[test] == 1])) == 1

    @pytest.mark.parametrize(("classes", "tolerance"), [(2, 0.05), (4, 0.30)])
    def test_class_proportions_and_numbers_of_patients_are_balanced(
        self, classes: int, tolerance: float
    ) -> None:
        labels, patients = cohort(40, classes=classes)
        plan = SplitPlan.draw(labels, patients, folds=5, repeats=5)
        whole = np.bincount(labels) / 5
        for _, test in plan:
            assert np.abs(np.bincount(labels[test]) / whole - 1).max() < tolerance
            assert 7 <= len(np.unique(patients[test])) <= 9

    def test_balance_is_no_worse_and_variety_greater_than_scikit_learns(self) -> None:
        labels, patients = cohort(40)
        plan = groups_by_fold(SplitPlan.draw(labels, patients, repeats=10), patients)
        reference = np.zeros_like(plan)
        for seed in range(10):
            splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
            for fold, (_, test) in enumerate(splitter.split(labels, labels, patients)):
                reference[seed, patients[test]] = fold

        def worst(folds: Ints) -> float:
            counts = [
                np.bincount(labels[row[patients] == fold], minlength=2)
                for row in folds
                for fold in range(5)
            ]
            return float(np.abs(np.array(counts) / (np.bincount(labels) / 5) - 1).max())

        def alike(folds: Ints) -> float:
            together = [row[:, None] == row for row in folds]
            return float(np.mean([(a & b).mean() for a, b in itertools.combinations(together, 2)]))

        assert worst(plan) <= worst(reference)
        assert alike(plan) < alike(reference)

    def test_repeats_are_different_partitions(self) -> None:
        labels, patients = cohort(12, tiles=(3, 30))
        plan = SplitPlan.draw(labels, patients, folds=3, repeats=20)
        partitions = {partition_of(row) for row in groups_by_fold(plan, patients)}
        assert len(partitions) == 20

    def test_a_long_plan_begins_like_a_short_one(self) -> None:
        labels, patients = cohort(30)
        long, short = (SplitPlan.draw(labels, patients, repeats=n, seed=7) for n in (6, 2))
        assert np.array_equal(long.test_fold[:2], short.test_fold)

    def test_seed_decides(self) -> None:
        labels, patients = cohort(30)
        ids = [SplitPlan.draw(labels, patients, seed=seed).id for seed in (0, 0, 1)]
        assert ids[0] == ids[1] != ids[2]

    def test_a_patients_fold_does_not_depend_on_the_order_of_rows(self) -> None:
        labels, patients = cohort(30)
        order = np.random.default_rng(3).permutation(len(labels))
        plan = SplitPlan.draw(labels, patients, repeats=2)
        shuffled = SplitPlan.draw(labels[order], patients[order], repeats=2)
        assert np.array_equal(plan.test_fold[:, order], shuffled.test_fold)

    def test_names_and_codes_give_the_same_folds(self) -> None:
        labels, patients = cohort(30)
        names = np.array(["benign", "malignant"], dtype=object)[labels]
        ids = np.array([f"patient {patient:03d}" for patient in patients], dtype=object)
        by_code, by_name = SplitPlan.draw(labels, patients), SplitPlan.draw(names, ids)
        assert np.array_equal(by_code.test_fold, by_name.test_fold)

    @pytest.mark.parametrize("sizes", [(100, 200), (7, 5), (33, 5)])
    def test_without_groups_it_is_plain_stratified_k_fold(self, sizes: tuple[int, int]) -> None:
        labels = np.repeat([0, 1], sizes)
        plan = SplitPlan.draw(labels, folds=5, repeats=3)
        assert plan.group is None
        for _, test in plan:
            expected = np.array(sizes) / 5
            assert (np.abs(np.bincount(labels[test]) - expected) < 1).all()
            assert abs(len(test) - len(labels) / 5) < 1

    @settings(max_examples=80, deadline=None)
    @given(
        st.lists(st.sets(st.integers(0, 2), min_size=1), min_size=3, max_size=7),
        st.integers(2, 3),
    )
    def test_refuses_only_what_no_search_can_find(self, sets: list[set[int]], folds: int) -> None:
        classes = set().union(*sets)
        if len(classes) < 2:
            return
        possible = any(
            all(
                set().union(*(s for s, fold in zip(sets, parts, strict=True) if fold == one))
                == classes
                for one in range(folds)
            )
            for parts in itertools.product(range(folds), repeat=len(sets))
        )
        labels, groups = from_sets(sets)
        try:
            plan = SplitPlan.draw(labels, groups, folds=folds)
        except SplitError:
            assert not possible
        else:
            assert all(set(labels[test].tolist()) == classes for _, test in plan)

    def test_ten_thousand_patients_and_a_million_tiles(self) -> None:
        rng = np.random.default_rng(0)
        patients = rng.integers(10_000, size=1_000_000)
        plan = SplitPlan.draw(patients % 3, patients, folds=5, repeats=10)
        assert plan.test_fold.shape == (10, 1_000_000)
        plan.check_no_leak(patients)
        sizes = np.bincount(plan.test_fold[0])
        assert sizes.max() - sizes.min() < 0.01 * sizes.mean()

    def test_scikit_learn_takes_it_as_cv(self) -> None:
        labels, patients = cohort(20)
        features = labels[:, None] + np.random.default_rng(0).normal(size=(len(labels), 2))
        plan = SplitPlan.draw(labels, patients)
        prob = cross_val_predict(
            LogisticRegression(), features, labels, cv=plan, method="predict_proba"
        )
        assert prob.shape == (len(labels), 2)


class TestRefusals:
    def test_class_in_fewer_patients_than_folds(self) -> None:
        labels = ["benign"] * 3 + ["malignant"] * 9
        message = (
            r'^class "benign" occurs in 3 patients; 5 folds need at least 5: '
            r"set splits\.folds to 3 or less$"
        )
        with pytest.raises(SplitError, match=message):
            SplitPlan.draw(labels, [f"p{i}" for i in range(12)], folds=5)

    def test_codes_are_named_and_a_class_without_tiles_counts(self) -> None:
        with pytest.raises(SplitError, match=r'"rare" occurs in 0 sites.*leave the class out'):
            SplitPlan.draw(
                [0, 0, 1, 1],
                list("abab"),
                folds=2,
                group_name="site",
                classes=("benign", "malignant", "rare"),
            )

    def test_one_patient_of_a_class(self) -> None:
        with pytest.raises(SplitError, match="occurs in 1 patient; 2 folds need"):
            SplitPlan.draw([0, 1, 1, 1], list("abcd"), folds=2)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"folds": 1}, "splits.folds is 1"),
            ({"repeats": 0}, "splits.repeats is 0"),
            ({"seed": -1}, "splits.seed is -1"),
            ({"groups": ["a", "b"]}, "patient_id has 2 values for 8 tiles"),
            ({"groups": ["a", "", None, "b", "c", "d", "e", "f"]}, r"2 tiles have no.*rows 1, 2\)"),
            ({"groups": [1.0, np.nan, 2, 3, 4, 5, 6, 7]}, r"1 tiles have no patient_id \(rows 1\)"),
            ({"groups": [" "] * 8}, r"8 tiles have no patient_id \(rows 0, 1, 2, 3, 4, \.\.\.\)"),
            ({"labels": [0] * 8}, "the tiles have 1 class"),
            ({"labels": [0, 5] * 4, "classes": ("a", "b")}, "run from 0 to 5; 2 classes"),
            ({"tile_ids": ["a"]}, "1 tile ids for 8 labels"),
            ({"tile_ids": ["a"] * 8}, "a tile_id occurs more than once"),
        ],
    )
    def test_unusable_arguments(self, arguments: dict[str, object], message: str) -> None:
        usual = {"labels": [0, 1] * 4, "groups": list("abcdefgh"), "folds": 2}
        with pytest.raises(SplitError, match=message):
            SplitPlan.draw(**{**usual, **arguments})  # type: ignore[arg-type]

    def test_enough_patients_of_each_class_but_no_partition(self) -> None:
        labels, groups = from_sets([{0, 1}, {1, 2}, {0, 2}])
        message = 'share 3 patients among 2 folds.*by class: "0" 2, "1" 2, "2" 2'
        with pytest.raises(SplitError, match=message):
            SplitPlan.draw(labels, groups, folds=2)

    @pytest.mark.parametrize("tiles", [1, 4])
    def test_more_repeats_than_there_are_partitions(self, tiles: int) -> None:
        labels = np.repeat([0, 0, 1, 1], tiles)
        groups = np.repeat(["a", "b", "c", "d"], tiles)
        assert SplitPlan.draw(labels, groups, folds=2, repeats=2).n_repeats == 2
        with pytest.raises(SplitError, match=r"only 2 different ways.*set it to 2 or less"):
            SplitPlan.draw(labels, groups, folds=2, repeats=3)

    def test_messages_name_no_patient(self) -> None:
        ids = [f"SECRET{i}" for i in range(6)]
        labels = [0, 0, 0, 1, 1, 1]
        plan = SplitPlan.draw(labels, folds=3)
        with pytest.raises(SplitError) as leak:
            plan.check_no_leak(["SECRET"] * 6)
        with pytest.raises(SplitError) as few:
            SplitPlan.draw(labels, ids, folds=4)
        assert "SECRET" not in str(leak.value) + str(few.value)


class TestLeak:
    def test_a_patient_in_two_folds_is_found_and_counted(self) -> None:
        plan = SplitPlan.draw([0, 0, 0, 1, 1, 1], folds=3)
        plan.check_no_leak(plan.test_fold[0])
        with pytest.raises(SplitError, match=r"1 sites \(6 tiles\) stand on both sides.*repeat 0"):
            plan.check_no_leak(np.zeros(6), group_name="site")

    def test_a_patient_in_train_and_validation_is_found(self) -> None:
        labels, patients = cohort(30)
        plan = SplitPlan.holdout(labels, patients)
        plan.check_no_leak(patients)
        first = next(plan.splits())
        assert first.validation is not None
        torn = patients.copy()
        torn[first.validation[0]] = patients[first.train[0]]
        with pytest.raises(SplitError, match=r"patients \(\d+ tiles\)"):
            plan.check_no_leak(torn)


class TestHoldout:
    @pytest.mark.parametrize("n_patients", [20, 60, 300])
    def test_fractions_are_met_and_every_class_is_everywhere(self, n_patients: int) -> None:
        labels, patients = cohort(n_patients, classes=3)
        plan = SplitPlan.holdout(labels, patients)
        assert plan.scheme == "holdout"
        assert (plan.n_repeats, plan.n_folds) == (1, 1)
        (split,) = plan.splits()
        assert split.validation is not None
        parts = (split.train, split.validation, split.test)
        for rows, fraction in zip(parts, (0.70, 0.15, 0.15), strict=True):
            assert set(labels[rows]) == {0, 1, 2}
            assert len(rows) / len(labels) == pytest.approx(fraction, abs=0.05)
        assert sum(map(len, parts)) == len(labels)
        plan.check_no_leak(patients)
        assert set(plan.test_fold[0, split.train]) == {TRAIN}
        assert set(plan.test_fold[0, split.validation]) == {VALIDATION}

    def test_without_groups_fractions_are_met_to_the_tile(self) -> None:
        (split,) = SplitPlan.holdout(np.repeat([0, 1], [400, 600])).splits()
        assert split.validation is not None
        assert [len(split.train), len(split.validation), len(split.test)] == [700, 150, 150]

    def test_three_tiles_of_a_class_go_one_to_each_part(self) -> None:
        labels = np.repeat([0, 1], [3, 97])
        (split,) = SplitPlan.holdout(labels).splits()
        assert split.validation is not None
        assert [(labels[rows] == 0).sum() for rows in split[2:] if rows is not None] == [1, 1, 1]

    def test_validation_may_be_nothing(self) -> None:
        labels, patients = cohort(20)
        (split,) = SplitPlan.holdout(labels, patients, fractions=(0.8, 0, 0.2)).splits()
        assert split.validation is None
        assert len(split.test) / len(labels) == pytest.approx(0.2, abs=0.05)

    @pytest.mark.parametrize(
        "fractions", [(0.7, 0.3), (0.7, 0.2, 0.2), (1.0, 0.0, 0.0), (1.2, -0.4, 0.2)]
    )
    def test_unusable_fractions(self, fractions: tuple[float, ...]) -> None:
        with pytest.raises(SplitError, match="three fractions"):
            SplitPlan.holdout([0, 1] * 10, fractions=fractions)

    def test_too_few_patients_of_a_class(self) -> None:
        with pytest.raises(SplitError, match='class "0" occurs in 2 patients; a hold-out in 3'):
            SplitPlan.holdout([0, 0, 1, 1, 1], list("abcde"))

    def test_enough_patients_but_no_way(self) -> None:
        labels, groups = from_sets([{0, 1}, {0, 1}, {0, 2}, {1, 2}, {2}])
        with pytest.raises(SplitError, match="5 patients among 3 parts"):
            SplitPlan.holdout(labels, groups)


class TestFile:
    @pytest.mark.parametrize("scheme", ["kfold", "holdout"])
    def test_round_trip(self, tmp_path: Path, scheme: str) -> None:
        labels, patients = cohort(20)
        ids = [f'tile "{i}", é' for i in range(len(labels))]
        draw = SplitPlan.holdout if scheme == "holdout" else SplitPlan.draw
        plan = draw(labels, patients, tile_ids=ids, seed=3)
        plan.save(tmp_path / "splits.csv")
        again = SplitPlan.load(tmp_path / "splits.csv", group="patient_id", seed=3)
        assert (again.id, again.scheme, again.group, again.seed) == (
            plan.id,
            plan.scheme,
            plan.group,
            plan.seed,
        )
        assert again.tile_ids.tolist() == ids
        assert [path.name for path in tmp_path.iterdir()] == ["splits.csv"]

    def test_bytes(self, tmp_path: Path) -> None:
        fold = np.array([[0, 1], [1, 0]], dtype=np.int16)
        plan = SplitPlan(fold, np.array(["a", "b"]), None, 0, "kfold")
        plan.save(tmp_path / "splits.csv")
        text = (tmp_path / "splits.csv").read_bytes()
        assert text == b"tile_id,repeat_0,repeat_1\na,0,1\nb,1,0\n"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "begins with ''"),
            ("tile,repeat_0\na,0\n", "begins with 'tile,repeat_0'"),
            ("tile_id,repeat_1\na,0\n", "begins with"),
            ("tile_id,repeat_0\n", "cut short at row 0"),
            ("tile_id,repeat_0\na,0\nb\n", "cut short at row 1"),
            ("tile_id,repeat_0\na,x\n", "no fold number"),
            ("tile_id,repeat_0\na,99999\n", "no fold number"),
            ("tile_id,repeat_0\na,-7\nb,0\n", "from -7 to 0"),
            ("tile_id,repeat_0\na,0\na,1\n", "more than once"),
            ("tile_id,repeat_0\na,0\nb,2\n", "empty test fold"),
        ],
    )
    def test_damaged_files_are_refused(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "splits.csv"
        path.write_text(text)
        with pytest.raises(SplitError, match=message):
            SplitPlan.load(path)

    def test_id_depends_on_tiles_and_folds_only(self) -> None:
        fold = np.array([[0, 1]], dtype=np.int16)
        base = SplitPlan(fold, np.array(["a", "b"]), None, 0, "kfold")
        other_seed = SplitPlan(fold, np.array(["a", "b"]), "site", 9, "kfold")
        other_tiles = SplitPlan(fold, np.array(["a", "c"]), None, 0, "kfold")
        other_folds = SplitPlan(1 - fold, np.array(["a", "b"]), None, 0, "kfold")
        assert base.id == other_seed.id
        assert len({base.id, other_tiles.id, other_folds.id}) == 3
        assert len(base.id) == 16

    def test_arrays_cannot_be_changed(self) -> None:
        plan = SplitPlan.draw([0, 0, 1, 1], folds=2)
        with pytest.raises(ValueError, match="read-only"):
            plan.test_fold[0, 0] = 1

    def test_shapes_must_match(self) -> None:
        with pytest.raises(SplitError, match="2 tile ids for 1 tiles"):
            SplitPlan(np.zeros((1, 1), np.int16), np.array(["a", "b"]), None, 0, "kfold")


class TestInnerFolds:
    def test_number_of_folds_is_lowered_to_the_rarest_class(self) -> None:
        labels, patients = from_sets([{0}, {0}, {0}, {1}, {1}, {1}, {1}, {1}])
        plan = inner_folds(labels, patients, folds=5)
        assert plan.n_folds == 3
        assert all(set(labels[test]) == {0, 1} for _, test in plan)

    def test_the_only_patient_of_a_class_is_always_trained_on(self) -> None:
        labels, patients = from_sets([{0}, {0}, {0}, {1}])
        plan = inner_folds(labels, patients, folds=5)
        assert plan.n_folds == 3
        assert plan.test_fold[0, 3] == TRAIN
        assert all(3 in train and set(labels[train]) == {0, 1} for train, _ in plan)

    def test_overlapping_classes(self) -> None:
        labels, patients = from_sets([{0, 1}, {1, 2}, {0, 2}])
        plan = inner_folds(labels, patients)
        assert plan.n_folds == 2
        assert all(set(labels[train]) == {0, 1, 2} for train, _ in plan)

    def test_single_tiles(self) -> None:
        labels = np.repeat([0, 1, 2], [10, 3, 1])
        plan = inner_folds(labels, folds=5)
        assert plan.n_folds == 3
        assert all(set(labels[train]) == {0, 1, 2} for train, _ in plan)

    @pytest.mark.parametrize("sets", [[{0}, {1}], [{0, 1}], [{1, 2}, {2, 0}]])
    def test_nothing_to_spare(self, sets: list[set[int]]) -> None:
        labels, patients = from_sets(sets)
        with pytest.raises(SplitError, match="too few for inner folds"):
            inner_folds(labels, patients)

    @settings(max_examples=80, deadline=None)
    @given(
        st.lists(st.sets(st.integers(0, 3), min_size=1), min_size=2, max_size=10),
        st.integers(2, 5),
    )
    def test_training_always_has_every_class_and_nobody_is_torn(
        self, sets: list[set[int]], folds: int
    ) -> None:
        labels, patients = from_sets(sets)
        classes = set(labels.tolist())
        if len(classes) < 2:
            return
        try:
            plan = inner_folds(labels, patients, folds)
        except SplitError as error:
            assert "too few" in str(error)  # noqa: PT017
            return
        assert 2 <= plan.n_folds <= folds
        plan.check_no_leak(patients)
        for train, test in plan:
            assert test.size
            assert set(labels[train].tolist()) == classes
