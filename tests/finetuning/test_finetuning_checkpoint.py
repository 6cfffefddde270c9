"""Killed and resumed is undisturbed, bit for bit; a damaged or foreign checkpoint is ignored."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from featurebench.finetuning import Recipe, count_passes, fine_tune
from featurebench.finetuning.checkpoint import Checkpoints, load_checkpoint, save_checkpoint
from featurebench.finetuning.training import Training
from featurebench.results import Cost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from featurebench.splits import SplitPlan
    from featurebench.tiles import TileManifest

RECIPE = Recipe("test_resnet", weights="random", image_size=32, batch_size=8, epochs=4)
KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "gradual": {"strategy": "gradual", "accumulate": 2},
    "average": {"ema": 0.9, "strategy": "last:1", "drop_rate": 0.3},
    "mixed": {"augmentation": {"mixup": 0.4, "cutmix": 1.0, "rotation": 30, "stain": 0.1}},
    "plateau": {"schedule": "plateau", "optimizer": "sgd", "decay_epochs": 1, "clip_norm": 1.0},
    "stopped": {"patience": 1, "learning_rate": 0.05, "monitor": "brier"},
    "adapted": {"model": "test_vit", "strategy": "lora", "rank": 2},
}
NUMBERS = ("train_loss", "validation_loss", "monitored", "learning_rate", "n_learning", "epochs")


class _Kill:
    """A kill after so many tiles, and a count of those seen."""

    def __init__(self, after: float = float("inf")) -> None:
        self.left, self.seen = after, 0

    def __call__(self, tiles: int) -> None:
        self.seen += tiles
        if self.seen > self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_training_equals_an_undisturbed_one(
    kind: str,
    make_cohort: Callable[..., TileManifest],
    draw_plan: Callable[..., SplitPlan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kind == "adapted" and importlib.util.find_spec("peft") is None:
        pytest.skip("peft is not installed")
    tiles = make_cohort(patients=8, tiles=2)
    plan = draw_plan(tiles, folds=2)
    recipe = dataclasses.replace(RECIPE, **KINDS[kind])
    settings: dict[str, Any] = {"groups": np.arange(16) // 2, "threads": 1, "drift": False}
    whole = fine_tune(tiles, plan, recipe, **settings)
    settings |= {"fold_dir": tmp_path / "folds", "checkpoint_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        # in the second epoch, then in the third: a part of an epoch is never kept
        fine_tune(tiles, plan, recipe, progress=_Kill(9), **settings)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(tiles, plan, recipe, progress=_Kill(17), **settings)
    assert [file.name for file in (tmp_path / "folds").iterdir()] == ["fold_r0_f0.checkpoint"]
    epochs: list[int] = []
    learn = Training.learn

    def spy(self: Training, *given: Any) -> None:
        epochs.append(self.epoch)
        learn(self, *given)

    monkeypatch.setattr(Training, "learn", spy)
    counted = _Kill()
    resumed = fine_tune(tiles, plan, recipe, progress=counted, **settings)
    assert epochs[0] > 1
    assert 1 in epochs
    np.testing.assert_array_equal(resumed.y_prob, whole.y_prob)
    for ours, theirs in zip(resumed.details["folds"], whole.details["folds"], strict=True):
        assert {key: ours[key] for key in NUMBERS} == {key: theirs[key] for key in NUMBERS}
    assert counted.seen == count_passes(plan, epochs=4)
    assert sorted(file.suffix for file in (tmp_path / "folds").iterdir()) == [".npz", ".npz"]


def test_state_comes_back_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "new" / "fold.checkpoint"
    state = {"weight": torch.arange(5.0), "step": 3, "history": {"loss": [0.5, 0.25]}, "none": None}
    save_checkpoint(file, "key", state)
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    found = load_checkpoint(file, "key")
    assert found is not None
    assert torch.equal(found.pop("weight"), state.pop("weight"))  # type: ignore[arg-type]
    assert found == state


@pytest.mark.parametrize("damage", ["absent", "empty", "cut", "flipped", "key"])
def test_checkpoint_that_cannot_be_used_is_none(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "fold.checkpoint"
    weight = torch.arange(1000.0)
    save_checkpoint(file, "other" if damage == "key" else "key", {"weight": weight})
    content = bytearray(file.read_bytes())
    if damage == "absent":
        file.unlink()
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "cut":
        file.write_bytes(content[:-100])
    elif damage == "flipped":
        content[content.find(weight.numpy().tobytes())] ^= 1
        file.write_bytes(content)
    assert load_checkpoint(file, "key") is None


def test_checkpoints_wait_and_keep_what_was_spent(tmp_path: Path) -> None:
    file = tmp_path / "fold.checkpoint"
    Checkpoints(file, "k", 3600, Cost).offer(dict)
    assert not file.exists()
    Checkpoints(None, "k", 0, Cost).offer(dict)
    first = Checkpoints(file, "k", 0, lambda: Cost(wall_s=2, cpu_s=1))
    assert first.load() is None
    first.offer(lambda: {"step": 1})
    second = Checkpoints(file, "k", 0, lambda: Cost(wall_s=3, peak_memory_mb=7))
    assert second.load() == {"step": 1}
    assert second.earlier == Cost(wall_s=2, cpu_s=1)
    second.offer(lambda: {"step": 2})
    third = Checkpoints(file, "k", 0, Cost)
    assert third.load() == {"step": 2}
    assert (third.earlier.wall_s, third.earlier.cpu_s, third.earlier.peak_memory_mb) == (5, 1, 7)


def test_checkpoint_of_another_recipe_is_left_aside(
    make_cohort: Callable[..., TileManifest],
    draw_plan: Callable[..., SplitPlan],
    tmp_path: Path,
) -> None:
    tiles = make_cohort(patients=8, tiles=2)
    plan = draw_plan(tiles, folds=2)
    settings: dict[str, Any] = {"threads": 1, "drift": False}
    resumable = settings | {"fold_dir": tmp_path / "folds", "checkpoint_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        fine_tune(tiles, plan, RECIPE, progress=_Kill(9), **resumable)
    other = dataclasses.replace(RECIPE, learning_rate=2e-3)
    found = fine_tune(tiles, plan, other, **resumable)
    np.testing.assert_array_equal(found.y_prob, fine_tune(tiles, plan, other, **settings).y_prob)
