"""A split that is given as a column: taken as it is, or refused with the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from featurebench.config import load_config
from featurebench.errors import ConfigError, SplitError
from featurebench.experiment import Console
from featurebench.experiment.study import BadTile, Study, load_tiles, make_study
from featurebench.splits import TRAIN, VALIDATION, SplitPlan
from featurebench.tiles import write_cohort

if TYPE_CHECKING:
    from pathlib import Path

SIDES = ["train", "val", "test", "train", "test", "validation", "train"]
LABELS = [0, 1, 1, 1, 0, 0, 0]


def test_every_tile_is_on_its_side() -> None:
    plan = SplitPlan.from_column(SIDES, LABELS)
    expected = [TRAIN, VALIDATION, 0, TRAIN, 0, VALIDATION, TRAIN]
    assert plan.test_fold.tolist() == [expected]
    assert (plan.scheme, plan.group, plan.n_repeats, plan.n_folds) == ("holdout", None, 1, 1)
    (split,) = plan.splits()
    assert split.train.tolist() == [0, 3, 6]
    assert split.validation is not None
    assert split.validation.tolist() == [1, 5]
    assert split.test.tolist() == [2, 4]


def test_there_need_be_no_validation_tiles() -> None:
    (split,) = SplitPlan.from_column(["train", "train", "test"], [0, 1, 1]).splits()
    assert split.validation is None


def test_a_drawn_split_that_is_given_back_is_the_same_plan() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(30), rng.integers(2, 9, 30))
    labels, ids = patients % 2, np.arange(len(patients)).astype(str)
    drawn = SplitPlan.holdout(labels, patients, seed=3, tile_ids=ids)
    names = {TRAIN: "train", VALIDATION: "val", 0: "test"}
    values = [names[code] for code in drawn.test_fold[0].tolist()]
    given = SplitPlan.from_column(values, labels, patients, tile_ids=ids)
    assert given.id == drawn.id
    assert given.group == "patient_id"


@pytest.mark.parametrize("odd", ["dev", "Train", "", "0", " test"])
def test_another_value_is_refused_by_its_row(odd: str) -> None:
    with pytest.raises(SplitError) as error:
        SplitPlan.from_column([*SIDES, odd], [*LABELS, 0], column="side")
    assert "column 'side' has 1 tiles with another value than train, val, validation, test" in str(
        error.value
    )
    assert "(rows 7)" in str(error.value)


def test_values_that_may_be_patients_are_not_shown() -> None:
    with pytest.raises(SplitError) as error:
        SplitPlan.from_column([f"P{i}" for i in range(7)], LABELS, column="patient_id")
    assert "7 tiles" in str(error.value)
    assert "(rows 0, 1, 2, 3, 4, ...)" in str(error.value)
    assert "P1" not in str(error.value)


@pytest.mark.parametrize("side", ["train", "test"])
def test_an_empty_side_is_refused(side: str) -> None:
    values = ["val" if value == side else value for value in SIDES]
    with pytest.raises(SplitError, match=f"has no tile with the value '{side}'"):
        SplitPlan.from_column(values, LABELS)


@pytest.mark.parametrize(
    ("first", "second"), [("train", "test"), ("train", "val"), ("val", "test")]
)
def test_a_patient_on_two_sides_is_refused_without_being_named(first: str, second: str) -> None:
    values = [*SIDES, first, second, second]
    patients = ["a", "b", "c", "d", "e", "f", "g", "MARY", "MARY", "MARY"]
    with pytest.raises(SplitError) as error:
        SplitPlan.from_column(values, [*LABELS, 0, 0, 1], patients)
    assert "1 patients (3 tiles) stand on more than one side" in str(error.value)
    assert "MARY" not in str(error.value)
    assert SplitPlan.from_column(values, [*LABELS, 0, 0, 1]).group is None


def test_a_class_without_training_tiles_is_refused() -> None:
    with pytest.raises(SplitError, match="no tile of class 'tumour' is in train"):
        SplitPlan.from_column(SIDES, [0, 1, 1, 0, 0, 0, 0], classes=["stroma", "tumour"])


def test_a_class_without_test_tiles_is_taken_as_it_is() -> None:
    plan = SplitPlan.from_column(["train", "train", "test"], [0, 1, 1])
    assert plan.test_fold.tolist() == [[TRAIN, TRAIN, 0]]


def test_as_many_values_as_tiles() -> None:
    with pytest.raises(SplitError, match="has 2 values for 7 tiles"):
        SplitPlan.from_column(["train", "test"], LABELS)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients of two tiles, with a column that holds a split by patient, and one by tile."""
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder / "tiles", patients=6, tiles_per_patient=2, size=32)
    header, *rows = (folder / "tiles" / "tiles.csv").read_text().splitlines()
    whole = ["train"] * 4 + ["val"] * 4 + ["test"] * 4
    torn = ["train", "test"] * 3 + ["val"] * 6
    lines = [f"{row},{a},{b}" for row, a, b in zip(rows, whole, torn, strict=True)]
    (folder / "tiles" / "given.csv").write_text("\n".join([f"{header},whole,torn", *lines]))
    (folder / "study.yaml").write_text(
        "data: {manifest: tiles/given.csv}\nbackbones: [{model: resnet18}]\nheads: {knn: }\n"
    )
    return folder


def study_of(folder: Path, *overrides: str, bad: tuple[int, ...] = ()) -> Study:
    config = load_config(folder / "study.yaml", overrides)
    tiles = load_tiles(config, Console())
    return make_study(config, tiles, [BadTile(row, str(row), "broken") for row in bad])


def test_the_column_of_an_experiment_becomes_its_plan(cohort: Path) -> None:
    study = study_of(cohort, "splits={given: whole}")
    assert study.plan.test_fold.tolist() == [[TRAIN] * 4 + [VALIDATION] * 4 + [0] * 4]
    assert study.plan.group == "patient_id"


def test_tiles_that_are_left_out_leave_the_others_on_their_sides(cohort: Path) -> None:
    study = study_of(cohort, "splits={given: whole}", bad=(0, 5, 11))
    assert study.plan.test_fold.tolist() == [[TRAIN] * 3 + [VALIDATION] * 3 + [0] * 3]


def test_a_leak_stops_the_experiment(cohort: Path) -> None:
    with pytest.raises(SplitError) as error:
        study_of(cohort, "splits={given: torn}")
    assert str(error.value).startswith("splits: 3 patients (6 tiles) stand on more than one side")


def test_a_column_that_is_not_there_is_named(cohort: Path) -> None:
    with pytest.raises(ConfigError, match=r"splits.given: the tiles have no column 'side'; .*torn"):
        study_of(cohort, "splits={given: side}")
