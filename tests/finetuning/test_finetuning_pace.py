"""measure_pace(): seconds of a tile, measured without a trace, and their sum over a plan."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from featurebench.errors import ConfigError
from featurebench.finetuning import Recipe, pace
from featurebench.finetuning.pace import Pace, measure_pace
from featurebench.finetuning.training import Training
from featurebench.splits import SplitPlan

if TYPE_CHECKING:
    from collections.abc import Callable

    from featurebench.tiles import TileManifest

RECIPE = Recipe("test_resnet", weights="random", image_size=32, batch_size=6, epochs=3)
LABELS = np.tile([0, 1], 12)
PATIENTS = np.repeat(np.arange(12), 2)


def measure(recipe: Recipe = RECIPE, threads: int = 1, seconds: float = 1e-9) -> Pace:
    return measure_pace(recipe, n_classes=2, device="cpu", threads=threads, seconds=seconds)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"strategy": "head"},
        {"strategy": "lora"},
        {"strategy": "lp-ft"},
        {"strategy": "gradual"},
        {"strategy": "scratch", "weights": "hub"},
        {"weights": "no/such/file.pth"},
        {"learning_rate": 1e30, "optimizer": "sgd"},
        {"head": "dense", "ema": 0.9, "accumulate": 4, "clip_norm": 1.0},
        {"augmentation": {"mixup": 0.2, "stain": 0.1}, "class_weight": {"any": 2.0}},
        {"schedule": "plateau"},
        {"batch_size": 100},
    ],
)
def test_every_recipe_has_a_pace(changes: dict[str, Any]) -> None:
    if changes.get("strategy") == "lora":
        pytest.importorskip("peft")
    found = measure(replace(RECIPE, **changes))
    assert found.training_s > 0
    assert found.prediction_s > 0


def test_leaves_the_random_state_and_the_threads() -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    before, legacy = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    during: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pace, "predict_logits", lambda *_: during.append(torch.get_num_threads()))
        measure(replace(RECIPE, augmentation={"cutmix": 1.0}), threads=threads + 1)
    assert set(during) == {threads + 1}
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), before)
    assert repr(np.random.get_state()) == legacy  # noqa: NPY002
    with pytest.raises(ConfigError, match="layer9"):
        measure(replace(RECIPE, strategy="from:layer9"), threads=threads + 1)
    assert torch.get_num_threads() == threads


def test_first_batch_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves by 1 s per step of training, 100 s at the first one."""
    now = [0.0]
    learn = Training.learn
    steps: list[int] = []

    def slow(self: Training, *given: Any) -> None:
        learn(self, *given)
        steps.append(self.epoch)
        now[0] += 100 if len(steps) == 1 else 1

    monkeypatch.setattr(Training, "learn", slow)
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now[0])  # type: ignore[attr-defined]
    predicted: list[int] = []

    def predict(*_: object) -> None:
        predicted.append(1)
        now[0] += 0.5

    monkeypatch.setattr(pace, "predict_logits", predict)
    found = measure(seconds=4.0)
    # One step before the clock starts, then until 4 s are over; 4/3 s of prediction.
    assert len(steps) == 1 + 4
    assert len(predicted) == 1 + 3
    assert found.training_s == pytest.approx(1 / RECIPE.batch_size)
    assert found.prediction_s == pytest.approx(0.5 / RECIPE.batch_size)


def test_seconds_of_folds_by_hand() -> None:
    """24 tiles, 3 folds of 8: from 16 tiles a quarter is watched in each of 3 epochs."""
    plan = SplitPlan.draw(LABELS, PATIENTS, folds=3, repeats=2)
    recipe = replace(RECIPE, validation_fraction=0.25)
    given = Pace(training_s=10.0, prediction_s=1.0)
    a_fold = 3 * (12 * 10 + 4 * 1) + 8 * 1
    assert given.most_seconds(plan, recipe, repeats=1) == pytest.approx(3 * a_fold)
    assert given.most_seconds(plan, recipe, repeats=2) == pytest.approx(6 * a_fold)
    unwatched = replace(recipe, validation_fraction=0.0)
    assert given.most_seconds(plan, unwatched, repeats=1) == pytest.approx(3 * (3 * 160 + 8))


def test_seconds_of_a_hold_out_by_hand() -> None:
    """12 tiles to learn from, 6 to watch and 6 to test, whatever the recipe would hold back."""
    plan = SplitPlan.holdout(LABELS, PATIENTS, fractions=(0.5, 0.25, 0.25))
    (split,) = plan.splits()
    assert split.validation is not None
    assert [len(rows) for rows in (split.train, split.validation, split.test)] == [12, 6, 6]
    given = Pace(training_s=10.0, prediction_s=1.0)
    expected = 3 * (12 * 10 + 6 * 1) + 6 * 1
    assert given.most_seconds(plan, RECIPE, repeats=1) == pytest.approx(expected)


def test_estimate_counts_the_tiles_that_training_goes_through(
    make_cohort: Callable[..., TileManifest], draw_plan: Callable[..., SplitPlan]
) -> None:
    """At one second a tile the estimate is the number of tiles that progress is told of."""
    from featurebench.finetuning import count_passes, fine_tune

    cohort = make_cohort(patients=8, tiles=2)
    plan = draw_plan(cohort, folds=2)
    told: list[int] = []
    fine_tune(cohort, plan, RECIPE, threads=1, drift=False, progress=told.append)
    found = Pace(1.0, 1.0).most_seconds(plan, RECIPE, repeats=1)
    assert found == pytest.approx(sum(told))
    assert sum(told) == count_passes(plan, epochs=RECIPE.epochs)
