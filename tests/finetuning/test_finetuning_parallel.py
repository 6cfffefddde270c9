"""Several processes: folds side by side give the same bits, one fold shared out the same losses."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from featurebench.errors import ConfigError, TileError
from featurebench.finetuning import Recipe, count_passes, fine_tune, parallel
from featurebench.finetuning.dataset import TilePixels
from featurebench.finetuning.fabric import share_of
from featurebench.splits import SplitPlan
from featurebench.tiles import TileManifest

if TYPE_CHECKING:
    from pathlib import Path

MakeCohort = Callable[..., TileManifest]
DrawPlan = Callable[..., SplitPlan]

STILL = {"flips": False, "quarter_turns": False, "color_jitter": 0.0}
# Without batch normalisation and without dropout.
TRANSFORMER = Recipe(
    "test_vit",
    weights="random",
    image_size=32,
    batch_size=8,
    epochs=3,
    learning_rate=3e-4,
    augmentation=STILL,
)


@pytest.mark.slow
def test_folds_side_by_side_have_the_bits_of_one_after_the_other(
    make_cohort: MakeCohort, draw_plan: DrawPlan, tmp_path: Path
) -> None:
    tiles = make_cohort()
    plan = draw_plan(tiles)
    recipe = Recipe("test_resnet", weights="random", image_size=32, batch_size=8, epochs=2)
    settings: dict[str, Any] = {"groups": np.arange(48) // 4, "threads": 1}
    alone = fine_tune(tiles, plan, recipe, **settings)
    passes: list[int] = []
    folder = tmp_path / "folds"
    beside = fine_tune(
        tiles,
        plan,
        recipe,
        devices=["cpu", "cpu"],
        fold_dir=folder,
        progress=passes.append,
        **settings,
    )
    np.testing.assert_array_equal(beside.y_prob, alone.y_prob)
    assert beside.scores == alone.scores
    assert beside.run_id == alone.run_id
    assert beside.device == "cpu"
    assert sum(passes) == count_passes(plan, epochs=2)
    assert beside.cost.wall_s > 0
    assert sorted(file.name for file in folder.iterdir()) == [f"fold_r0_f{f}.npz" for f in range(3)]


@pytest.mark.slow
def test_error_in_a_process_is_raised_as_itself(
    make_cohort: MakeCohort, draw_plan: DrawPlan
) -> None:
    tiles = make_cohort()
    plan = draw_plan(tiles)
    tiles.path_of(7).write_bytes(b"no image")
    recipe = Recipe("test_resnet", weights="random", image_size=32, epochs=1)
    with pytest.raises(TileError, match=r"^tile 't01_3': .*; take it out of the manifest"):
        fine_tune(tiles, plan, recipe, devices=["cpu", "cpu"], threads=1)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["full", "gradual"])
def test_one_fold_shared_out_learns_what_one_process_learns(
    strategy: str, make_cohort: MakeCohort, draw_plan: DrawPlan, tmp_path: Path
) -> None:
    tiles = make_cohort(patients=8)
    plan = draw_plan(tiles, folds=2)
    recipe = dataclasses.replace(
        TRANSFORMER, strategy=strategy, class_weight="balanced", clip_norm=1.0, ema=0.9
    )
    settings: dict[str, Any] = {"groups": np.arange(32) // 4, "threads": 2, "drift": False}
    alone = fine_tune(tiles, plan, recipe, **settings)
    passes: list[int] = []
    shared = fine_tune(
        tiles,
        plan,
        recipe,
        data_parallel=2,
        fold_dir=tmp_path / "folds",
        checkpoint_seconds=0,
        progress=passes.append,
        **settings,
    )
    assert sum(passes) == count_passes(plan, epochs=3)
    for ours, theirs in zip(shared.details["folds"], alone.details["folds"], strict=True):
        assert ours["n_learning"] == theirs["n_learning"]
        for key in ("train_loss", "validation_loss", "learning_rate"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-3), key
    np.testing.assert_allclose(shared.y_prob, alone.y_prob, atol=2e-3)
    assert shared.run_id == alone.run_id


@pytest.mark.slow
def test_batch_normalisation_is_not_shared_out_on_the_processor(
    make_cohort: MakeCohort, draw_plan: DrawPlan
) -> None:
    tiles = make_cohort(patients=8)
    plan = draw_plan(tiles, folds=2)
    recipe = dataclasses.replace(TRANSFORMER, model="test_resnet")
    with pytest.raises(ConfigError, match="data_parallel 2 cannot be used on cpu: the network has"):
        fine_tune(tiles, plan, recipe, data_parallel=2, threads=2)


def test_share_of_every_batch() -> None:
    batches = [np.arange(7), np.arange(7, 13)]

    def shares(rank: int, processes: int) -> list[list[int]]:
        fabric: Any = SimpleNamespace(world_size=processes, global_rank=rank)
        return [part.tolist() for part in share_of(fabric, batches)]

    assert shares(0, 1) == [list(range(7)), list(range(7, 13))]
    assert shares(1, 3) == [[1, 4], [8, 11]]
    for number, batch in enumerate(batches):
        together = [row for rank in range(3) for row in shares(rank, 3)[number]]
        assert sorted(together) == batch.tolist()
    with pytest.raises(ConfigError, match="data_parallel 7 cannot be used: a batch has 6 tiles"):
        shares(0, 7)


def test_a_process_keeps_the_device_that_it_claims(tmp_path: Path) -> None:
    devices = ("first", "second")
    found = [parallel._claim.__wrapped__(str(tmp_path), devices) for _ in range(2)]
    assert found == list(devices)
    with pytest.raises(RuntimeError, match="none of 2 devices is free"):
        parallel._claim.__wrapped__(str(tmp_path), devices)


def test_pixels_stay_behind_when_they_are_sent_to_a_process(make_cohort: MakeCohort) -> None:
    tiles = make_cohort(patients=2)
    pixels = TilePixels(tiles, 32, "bilinear")
    rows = [np.array([3, 1])]
    (before,) = pixels.batches(rows)
    sent = pickle.loads(pickle.dumps(pixels))
    assert len(pickle.dumps(sent)) < 8 * 32 * 32 * 3
    (after,) = sent.batches(rows)
    assert before.equal(after)
