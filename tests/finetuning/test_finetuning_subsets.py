"""fine_tune_subsets(): smaller training sets, each kept, on rows that somebody else drew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from featurebench.errors import ConfigError
from featurebench.finetuning import Recipe, fine_tune, fine_tune_subsets, learner, training
from featurebench.splits import Split, SplitPlan
from featurebench.tiles import TileManifest

if TYPE_CHECKING:
    from pathlib import Path

    from featurebench.finetuning.folds import FoldOutcome
    from featurebench.finetuning.training import Lesson

MakeCohort = Callable[..., TileManifest]
DrawPlan = Callable[..., SplitPlan]
PatientCodes = Callable[[TileManifest], npt.NDArray[np.int64]]

RECIPE = Recipe("test_resnet", weights="random", image_size=32, batch_size=8, epochs=2)


@pytest.fixture
def cohort(make_cohort: MakeCohort) -> TileManifest:
    return make_cohort(patients=8, tiles=3)


@pytest.fixture
def plan(cohort: TileManifest, draw_plan: DrawPlan) -> SplitPlan:
    return draw_plan(cohort, folds=2)


@pytest.fixture
def subsets(plan: SplitPlan, cohort: TileManifest) -> dict[str, Split]:
    """Of each fold's training side: four tiles without validation tiles, and eight with four."""
    drawn = {}
    for fold, (train, test) in enumerate(plan):
        by_class = [train[cohort.labels[train] == code] for code in (0, 1)]
        few, many, held = (
            np.sort(np.concatenate([rows[start:stop] for rows in by_class]))
            for start, stop in ((0, 2), (0, 4), (4, 6))
        )
        drawn[f"few_f{fold}"] = Split(0, fold, few, None, test)
        drawn[f"many_f{fold}"] = Split(0, fold, many, held, test)
    return drawn


@pytest.fixture
def tune(
    cohort: TileManifest, plan: SplitPlan, subsets: dict[str, Split]
) -> Callable[..., dict[str, FoldOutcome]]:
    def call(recipe: Recipe = RECIPE, **further: Any) -> dict[str, FoldOutcome]:
        settings: dict[str, Any] = {"subsets": subsets, "plan_id": plan.id, "threads": 1} | further
        return fine_tune_subsets(cohort, settings.pop("subsets"), recipe, **settings)

    return call


@pytest.fixture
def lessons(monkeypatch: pytest.MonkeyPatch) -> list[Lesson]:
    """What is trained on, in order."""
    seen: list[Lesson] = []
    train = training.train

    def spy(network: Any, feed: Any, lesson: Lesson, **given: Any) -> Any:
        seen.append(lesson)
        return train(network, feed, lesson, **given)

    monkeypatch.setattr(learner, "train", spy)
    return seen


def assert_same(found: dict[str, FoldOutcome], expected: dict[str, FoldOutcome]) -> None:
    assert list(found) == list(expected)
    for name, outcome in expected.items():
        np.testing.assert_array_equal(found[name].y_prob, outcome.y_prob, err_msg=name)
        np.testing.assert_array_equal(found[name].test, outcome.test)


def test_trains_on_the_rows_given_and_predicts_the_whole_test_side(
    tune: Callable[..., dict[str, FoldOutcome]], subsets: dict[str, Split], lessons: list[Lesson]
) -> None:
    done: list[str] = []
    outcomes = tune(done=done.append)
    assert list(outcomes) == done == list(subsets)
    for lesson, split, outcome in zip(lessons, subsets.values(), outcomes.values(), strict=True):
        np.testing.assert_array_equal(lesson.rows, split.train)
        held = split.train[:0] if split.validation is None else split.validation
        np.testing.assert_array_equal(lesson.validation, held)
        np.testing.assert_array_equal(outcome.test, split.test)
        assert outcome.y_prob.shape == (len(split.test), 2)
        np.testing.assert_allclose(outcome.y_prob.sum(axis=1), 1, atol=1e-6)
        assert outcome.features is None
        assert outcome.cost.wall_s > 0


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_without_validation_rows_it_trains_for_all_epochs(
    tune: Callable[..., dict[str, FoldOutcome]], schedule: str
) -> None:
    """A classifier that does not move gets no better, so what is watched stops early."""
    changes: dict[str, Any] = {"strategy": "head", "learning_rate": 1e-30, "weight_decay": 0.0}
    still = replace(RECIPE, epochs=6, patience=1, schedule=schedule, **changes)
    outcomes = tune(still)
    for name, outcome in outcomes.items():
        watched = name.startswith("many")
        assert outcome.details["epochs"] == (2 if watched else 6), name
        assert outcome.details["stopped_early"] is watched
        assert outcome.details["best_epoch"] == (1 if watched else 6)
        assert len(outcome.details["validation_loss"]) == (2 if watched else 0)


def test_subset_of_a_plans_own_rows_is_the_plans_fold(
    cohort: TileManifest, tune: Callable[..., dict[str, FoldOutcome]]
) -> None:
    """The same rows to learn from, to watch and to test give the bits that `fine_tune` gives."""
    ids = cohort.table["tile_id"].to_numpy(dtype=np.str_)
    drawn = SplitPlan.holdout(cohort.labels, fractions=(0.5, 0.25, 0.25), tile_ids=ids)
    (split,) = drawn.splits()
    run = fine_tune(cohort, drawn, RECIPE, threads=1, drift=False, seed=5)
    (outcome,) = tune(subsets={"all": split}, plan_id=drawn.id, seed=5).values()
    np.testing.assert_array_equal(outcome.y_prob, run.y_prob[0, split.test])


def test_finished_subsets_are_kept(
    tune: Callable[..., dict[str, FoldOutcome]],
    subsets: dict[str, Split],
    lessons: list[Lesson],
    tmp_path: Path,
) -> None:
    first = tune(folder=tmp_path / "kept")
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == sorted(subsets)
    assert [p.name for p in (tmp_path / "kept/few_f1").iterdir()] == ["fold_r0_f1.npz"]
    assert len(lessons) == 4
    done: list[str] = []
    assert_same(tune(folder=tmp_path / "kept", done=done.append), first)
    assert done == list(subsets)
    assert len(lessons) == 4


def test_killed_between_subsets_it_goes_on(
    tune: Callable[..., dict[str, FoldOutcome]], lessons: list[Lesson], tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def die(name: str) -> None:
        if name == "many_f0":
            raise Killed

    with pytest.raises(Killed):
        tune(folder=tmp_path / "kept", done=die)
    assert len(lessons) == 2
    resumed = tune(folder=tmp_path / "kept")
    assert len(lessons) == 4
    assert_same(resumed, tune())


@pytest.mark.parametrize("part", ["train", "validation", "test", "plan", "seed", "recipe"])
def test_what_is_kept_is_bound_to_its_rows(
    tune: Callable[..., dict[str, FoldOutcome]],
    subsets: dict[str, Split],
    lessons: list[Lesson],
    tmp_path: Path,
    part: str,
) -> None:
    some = {"many_f0": subsets["many_f0"]}
    tune(subsets=some, folder=tmp_path / "kept")
    split, further, recipe = subsets["many_f0"], dict[str, Any](), RECIPE
    if part == "plan":
        further["plan_id"] = "another"
    elif part == "seed":
        further["seed"] = 1
    elif part == "recipe":
        recipe = replace(RECIPE, learning_rate=2e-3)
    else:
        rows = getattr(split, part)
        split = split._replace(**{part: rows[:-1]})
    changed = tune(recipe, subsets={"many_f0": split}, folder=tmp_path / "kept", **further)
    assert len(lessons) == 2
    again = tune(recipe, subsets={"many_f0": split}, folder=tmp_path / "kept", **further)
    assert len(lessons) == 2
    assert_same(again, changed)


def test_probe_starts_subsets_that_have_no_inner_folds(
    cohort: TileManifest,
    tune: Callable[..., dict[str, FoldOutcome]],
    plan: SplitPlan,
    patient_codes: PatientCodes,
) -> None:
    """Two tiles are too few to choose a penalty on, twelve of four patients are enough."""
    train, test = next(iter(plan))
    two = np.array([train[cohort.labels[train] == code][0] for code in (0, 1)])
    some = {"two": Split(0, 0, two, None, test), "all": Split(0, 0, train, None, test)}
    recipe = replace(RECIPE, strategy="lp-ft", epochs=1, learning_rate=1e-30)
    groups = patient_codes(cohort)
    outcomes = tune(recipe, subsets=some, groups=groups)
    fixed = tune(replace(recipe, probe_C="dK/100"), subsets=some, groups=groups)
    np.testing.assert_array_equal(outcomes["two"].y_prob, fixed["two"].y_prob)
    assert not np.array_equal(outcomes["all"].y_prob, fixed["all"].y_prob)


def test_what_cannot_be_used_is_refused_first(
    tune: Callable[..., dict[str, FoldOutcome]], lessons: list[Lesson]
) -> None:
    with pytest.raises(ConfigError, match="class_weight names 'class7'"):
        tune(replace(RECIPE, class_weight={"class7": 2.0}))
    with pytest.raises(ConfigError, match="'abacus' is unknown to torch"):
        tune(device="abacus")
    assert lessons == []
