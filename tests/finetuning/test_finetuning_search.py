"""The search of a recipe: on the inner split alone, within its budget, and kept when killed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from featurebench.errors import ConfigError
from featurebench.finetuning import DEFAULT_SPACE, Recipe, RecipeSearch, fine_tune
from featurebench.finetuning import search as searching
from featurebench.finetuning.dataset import TilePixels
from featurebench.finetuning.training import Training
from featurebench.heads.search import SearchPlan, parse_space
from featurebench.heads.search.study import Search
from featurebench.splits import SplitPlan
from featurebench.tiles import TileManifest

if TYPE_CHECKING:
    from pathlib import Path

    from featurebench.finetuning.learner import FoldLearner
    from featurebench.finetuning.training import Lesson, Seeds
    from featurebench.results import RunResult

MakeCohort = Callable[..., TileManifest]
DrawPlan = Callable[..., SplitPlan]
PatientCodes = Callable[[TileManifest], npt.NDArray[np.int64]]
Validate = Callable[["FoldLearner", "Lesson", "Seeds"], Iterator[float]]

RECIPE = Recipe("test_resnet", weights="random", image_size=32, batch_size=8, epochs=2)
RATES = {"learning_rate": [1e-5, 1e-3, 1e-2], "label_smoothing": [0.0, 0.2]}


def plan_of(**settings: Any) -> SearchPlan:
    return SearchPlan(**{"method": "random", "trials": 3, **settings})


@pytest.fixture
def cohort(make_cohort: MakeCohort) -> TileManifest:
    return make_cohort(patients=8, tiles=3)


@pytest.fixture
def tune(
    cohort: TileManifest, draw_plan: DrawPlan, patient_codes: PatientCodes
) -> Callable[..., RunResult]:
    """Fine-tune on two folds."""
    plan, groups = draw_plan(cohort, folds=2), patient_codes(cohort)

    def call(search: RecipeSearch | None, recipe: Recipe = RECIPE, **further: Any) -> RunResult:
        settings: dict[str, Any] = {"groups": groups, "threads": 1, "drift": False} | further
        return fine_tune(cohort, plan, recipe, search=search, **settings)

    return call


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Let trials have losses of our choice; gives the list of those tried, with the losses seen."""

    def install(losses: Callable[[int, Recipe], list[float]]) -> list[dict[str, Any]]:
        tried: list[dict[str, Any]] = []

        def validate(learner: FoldLearner, _lesson: Lesson, _seeds: Seeds) -> Iterator[float]:
            tried.append({"recipe": learner.recipe, "seen": []})
            for loss in losses(len(tried), learner.recipe):
                tried[-1]["seen"].append(loss)
                yield loss

        monkeypatch.setattr(searching, "_validate", validate)
        return tried

    return install


@pytest.mark.parametrize(
    ("space", "settings", "message"),
    [
        ({"learning_rat": [1]}, {}, "unknown key 'learning_rat': did you mean 'learning_rate'?"),
        ({"model": ["a"]}, {}, "'model' cannot be searched: give entries of their own"),
        ({"image_size": [32]}, {}, "'image_size' cannot be searched"),
        ({"class_weight": ["balanced"]}, {}, "'class_weight' cannot be searched"),
        ({"validation_fraction": [0.3]}, {}, "'validation_fraction' cannot be searched"),
        ({"preset": ["paper"]}, {}, "'preset' cannot be searched"),
        ({}, {}, "the space is empty"),
        ({"epochs": 3}, {}, "epochs: 3 is no list of values and no range"),
        (DEFAULT_SPACE, {"method": "grid"}, "is a range; a grid needs its values"),
    ],
)
def test_space_that_cannot_be_searched_is_refused(
    space: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        RecipeSearch(plan_of(**settings), space)


def test_default_space_is_around_the_default_recipe() -> None:
    default = Recipe("any")
    for key, parameter in parse_space(DEFAULT_SPACE).items():
        assert parameter.encode(getattr(default, key)) is not None
    RecipeSearch(plan_of(), DEFAULT_SPACE)
    written = RecipeSearch(plan_of(trials=7), RATES).to_dict()
    assert json.loads(json.dumps(written))["space"] == RATES
    assert (written["method"], written["trials"]) == ("random", 7)


def test_best_recipe_trains_the_fold(tune: Callable[..., RunResult]) -> None:
    """The search gives what training with the chosen recipe from the start gives."""
    search = RecipeSearch(plan_of(method="grid", trials=None), {"learning_rate": [1e-9, 1e-2]})
    found = tune(search)
    chosen = tune(None, Recipe(**{**RECIPE.to_dict(), "learning_rate": 1e-2}))
    for fold, alone in zip(found.details["folds"], chosen.details["folds"], strict=True):
        told = fold["search"]
        assert told["params"] == {"learning_rate": 1e-2}
        assert told["loss"] == min(alone["validation_loss"])
        assert told["loss"] < told["default_loss"]
        # The recipe as it is, which is none of the grid's, and the grid.
        assert (told["trials"], told["pruned"], told["failed"]) == (3, 0, 0)
        assert told["method"] == "grid"
        assert told["seconds"] > 0
        assert fold["validation_loss"] == alone["validation_loss"]
    np.testing.assert_array_equal(found.y_prob, chosen.y_prob)
    assert found.cost.trials == 6
    assert chosen.cost.trials == 0
    assert found.run_id != tune(None).run_id


def test_trials_see_no_test_tile(
    tune: Callable[..., RunResult],
    cohort: TileManifest,
    draw_plan: DrawPlan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[set[int]] = []
    now: list[set[int]] = []
    batches, search = TilePixels.batches, Search.run

    def spy(self: TilePixels, parts: Any) -> Any:
        for rows in now:
            rows.update(int(row) for part in parts for row in part)
        return batches(self, parts)

    def run(self: Any, *given: Any) -> Any:
        now.append(set())
        found = search(self, *given)
        seen.append(now.pop())
        return found

    monkeypatch.setattr(TilePixels, "batches", spy)
    monkeypatch.setattr(Search, "run", run)
    tune(RecipeSearch(plan_of(trials=2), RATES))
    for rows, (train, test) in zip(seen, draw_plan(cohort, folds=2), strict=True):
        assert rows == set(train.tolist())
        assert not rows & set(test.tolist())


def test_recipe_as_it_is_comes_first_and_trials_are_counted(
    tune: Callable[..., RunResult], script: Callable[..., list[dict[str, Any]]]
) -> None:
    tried = script(lambda _, recipe: [abs(math.log(recipe.learning_rate / 1e-2))] * 2)
    run = tune(RecipeSearch(plan_of(trials=4), RATES))
    assert len(tried) == 8
    for first in (tried[0], tried[4]):
        assert first["recipe"] == RECIPE
    assert len({(t["recipe"].learning_rate, t["recipe"].label_smoothing) for t in tried}) > 2
    assert [fold["search"]["trials"] for fold in run.details["folds"]] == [4, 4]


def test_small_space_ends_the_search(
    tune: Callable[..., RunResult], script: Callable[..., list[dict[str, Any]]]
) -> None:
    tried = script(lambda n, _: [1.0, 1.0 / n])
    run = tune(RecipeSearch(plan_of(trials=50), {"learning_rate": [1e-3, 1e-2]}))
    assert len(tried) == 4
    assert [fold["search"]["params"] for fold in run.details["folds"]] == [
        {"learning_rate": 1e-2}
    ] * 2


def test_no_trial_begins_after_the_seconds(
    tune: Callable[..., RunResult],
    script: Callable[..., list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clock that only training moves: 10 s a trial, 25 s in all, so the third is the last."""
    now = [0.0]

    def losses(_: int, __: Recipe) -> list[float]:
        now[0] += 10
        return [1.0, 1.0]

    tried = script(losses)
    clocked = partial(Search, clock=lambda: now[0])
    monkeypatch.setattr(searching, "Search", clocked)
    run = tune(RecipeSearch(plan_of(trials=None, seconds=25.0), DEFAULT_SPACE))
    assert len(tried) == 6
    assert [fold["search"]["seconds"] for fold in run.details["folds"]] == [30.0, 30.0]


def test_poor_trial_is_pruned_after_an_epoch(
    tune: Callable[..., RunResult], script: Callable[..., list[dict[str, Any]]]
) -> None:
    """Five complete trials come before any is given up; from the sixth all start worse."""
    tried = script(lambda n, _: [1.0, 0.5, 0.5] if n <= 5 else [2.0, 0.1, 0.1])
    search = RecipeSearch(plan_of(trials=7), DEFAULT_SPACE)
    recipe = Recipe(**{**RECIPE.to_dict(), "epochs": 3})
    run = tune(search, recipe, repeats=1)
    assert [len(trial["seen"]) for trial in tried[:7]] == [3, 3, 3, 3, 3, 1, 1]
    told = run.details["folds"][0]["search"]
    assert (told["trials"], told["pruned"], told["loss"]) == (7, 2, 0.5)
    tried.clear()
    tune(RecipeSearch(plan_of(trials=7, pruning=False), DEFAULT_SPACE), recipe)
    assert [len(trial["seen"]) for trial in tried[:7]] == [3] * 7


def test_diverging_trial_fails_alone(tune: Callable[..., RunResult]) -> None:
    space = {"learning_rate": [1e-3, 1e38]}
    run = tune(RecipeSearch(plan_of(method="grid", trials=None), space))
    for fold in run.details["folds"]:
        assert fold["search"]["failed"] == 1
        assert fold["search"]["params"] == {"learning_rate": 1e-3}
    hopeless = Recipe(**{**RECIPE.to_dict(), "learning_rate": 1e38})
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        tune(RecipeSearch(plan_of(trials=1), {"learning_rate": [1e38]}), hopeless)


def test_search_without_validation_tiles_is_refused(tune: Callable[..., RunResult]) -> None:
    recipe = Recipe(**{**RECIPE.to_dict(), "validation_fraction": 0.0})
    with pytest.raises(ConfigError, match="set validation_fraction above 0"):
        tune(RecipeSearch(plan_of(), RATES), recipe)


class Killed(BaseException):
    """What no handler of errors takes."""


def kill_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stop everything in that epoch of all; gives the list of the epochs learnt."""
    learn, learnt = Training.learn, list[int]()

    def dying(self: Training, *given: Any) -> None:
        if len(learnt) == epochs:
            raise Killed
        learnt.append(self.epoch)
        learn(self, *given)

    monkeypatch.setattr(Training, "learn", dying)
    return learnt


def told(run: RunResult) -> list[dict[str, Any]]:
    """What was found, but for the time."""
    return [{**fold["search"], "seconds": 0} for fold in run.details["folds"]]


def test_killed_search_goes_on_to_the_same_bits(
    tune: Callable[..., RunResult], tmp_path: Path
) -> None:
    search = RecipeSearch(plan_of(trials=3), DEFAULT_SPACE)
    whole = tune(search, fold_dir=tmp_path / "calm")
    assert sorted(p.name for p in (tmp_path / "calm").iterdir()) == [
        "fold_r0_f0.npz",
        "fold_r0_f1.npz",
    ]
    folder = tmp_path / "killed"
    with pytest.MonkeyPatch.context() as patch:
        # The second epoch of the second trial.
        kill_after(3, patch)
        with pytest.raises(Killed):
            tune(search, fold_dir=folder)
    kept = json.loads((folder / "search_r0_f0.json").read_text())
    assert [len(losses) for losses in kept["trials"].values()] == [2]
    with pytest.MonkeyPatch.context() as patch:
        learnt = kill_after(10**6, patch)
        resumed = tune(search, fold_dir=folder)
    # Of two folds with three trials and a training, one trial was remembered.
    assert learnt == [1, 2] * 7
    np.testing.assert_array_equal(resumed.y_prob, whole.y_prob)
    assert told(resumed) == told(whole)
    assert resumed.cost.trials == whole.cost.trials == 6
    assert sorted(p.name for p in folder.iterdir()) == ["fold_r0_f0.npz", "fold_r0_f1.npz"]


@pytest.mark.parametrize("damage", ["key", "text", "list", "binary"])
def test_foreign_or_damaged_memory_is_not_believed(
    tune: Callable[..., RunResult], tmp_path: Path, damage: str
) -> None:
    search = RecipeSearch(plan_of(trials=1), {"learning_rate": [1e-3, 1e-2]})
    with pytest.MonkeyPatch.context() as patch:
        kill_after(2, patch)
        with pytest.raises(Killed):
            tune(search, fold_dir=tmp_path)
    file = tmp_path / "search_r0_f0.json"
    document = json.loads(file.read_text())
    (name,) = document["trials"]
    better = {**document, "trials": {name: [-5.0, -5.0]}}
    wrong = {
        "key": json.dumps(better | {"key": "another"}).encode(),
        "text": json.dumps(better).encode()[:-3],
        "list": json.dumps([better]).encode(),
        "binary": b"\xff\xfe" + json.dumps(better).encode(),
    }
    file.write_bytes(wrong[damage])
    found = tune(search, fold_dir=tmp_path).details["folds"][0]
    assert found["search"]["loss"] == min(found["validation_loss"])
    # Whereas the one that is right is taken at its word.
    (tmp_path / "fold_r0_f0.npz").unlink()
    file.write_text(json.dumps(better))
    assert tune(search, fold_dir=tmp_path).details["folds"][0]["search"]["loss"] == -5.0
