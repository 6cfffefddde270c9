"""What a fold's network makes of its validation tiles: with the kept weights, beside the fold."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, roc_auc_score

from featurebench.finetuning import Recipe, fine_tune, learner
from featurebench.finetuning.checkpoint import load_checkpoint, save_checkpoint
from featurebench.finetuning.feed import ignore, predict_logits
from featurebench.finetuning.training import train
from featurebench.finetuning.watching import BestWeights, scores_of
from featurebench.metrics import METRICS
from featurebench.splits import SplitPlan
from featurebench.tiles import TileManifest

if TYPE_CHECKING:
    from pathlib import Path

    from featurebench.results import RunResult

MakeCohort = Callable[..., TileManifest]
DrawPlan = Callable[..., SplitPlan]

RECIPE = Recipe(
    "test_resnet",
    weights="random",
    image_size=32,
    batch_size=8,
    epochs=3,
    learning_rate=0.03,
    patience=1,
)


@pytest.fixture
def cohort(make_cohort: MakeCohort) -> TileManifest:
    return make_cohort()


@pytest.fixture
def groups(
    cohort: TileManifest, patient_codes: Callable[[TileManifest], npt.NDArray[np.int64]]
) -> npt.NDArray[np.int64]:
    return patient_codes(cohort)


@pytest.fixture
def plan(cohort: TileManifest, draw_plan: DrawPlan) -> SplitPlan:
    return draw_plan(cohort, folds=2)


def tune(
    cohort: TileManifest, plan: SplitPlan, recipe: Recipe = RECIPE, **settings: Any
) -> RunResult:
    return fine_tune(cohort, plan, recipe, threads=1, drift=False, **settings)


@pytest.mark.parametrize("changed", [{}, {"ema": 0.5}, {"monitor": "accuracy"}])
def test_equal_those_of_the_restored_network(
    cohort: TileManifest,
    plan: SplitPlan,
    groups: npt.NDArray[np.int64],
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any],
) -> None:
    predicted: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = []

    def spy(network: Any, feed: Any, lesson: Any, **given: Any) -> Any:
        history = train(network, feed, lesson, **given)
        rows = lesson.validation
        logits = predict_logits(network, feed, rows, ignore)
        predicted.append((cohort.labels[rows], logits.double().softmax(dim=1).numpy()))
        return history

    monkeypatch.setattr(learner, "train", spy)
    run = tune(cohort, plan, dataclasses.replace(RECIPE, **changed), groups=groups)
    inner = run.details["inner"]
    assert [(e["repeat"], e["fold"]) for e in inner] == [(0, 0), (0, 1)]
    best = [fold["best_epoch"] < fold["epochs"] for fold in run.details["folds"]]
    assert changed or any(best), "choose a recipe that does not end with its best epoch"
    for entry, fold, (y, p) in zip(inner, run.details["folds"], predicted, strict=True):
        assert entry["n"] == len(y) == fold["n_validation"] > 0
        assert set(entry["scores"]) == set(METRICS)
        called = p.argmax(axis=1)
        expected = {
            "accuracy": accuracy_score(y, called),
            "balanced_accuracy": balanced_accuracy_score(y, called),
            "roc_auc": roc_auc_score(y, p[:, 1]),
            "log_loss": log_loss(y, p),
        }
        for name, value in expected.items():
            assert entry["scores"][name] == pytest.approx(value, abs=1e-5), name
        monitored = fold["monitored"][fold["best_epoch"] - 1]
        assert entry["scores"][fold["monitor"]] == pytest.approx(monitored, abs=1e-5)
        assert "validation_scores" not in fold
    assert json.loads(json.dumps(run.details, allow_nan=False)) == run.details


def test_tested_tiles_do_not_touch_them(
    cohort: TileManifest, plan: SplitPlan, groups: npt.NDArray[np.int64]
) -> None:
    honest = tune(cohort, plan, groups=groups)
    _, test = next(iter(plan))
    table = cohort.table.copy()
    table.loc[test, "label"] = ["class1" if c == 0 else "class0" for c in cohort.labels[test]]
    poisoned = tune(dataclasses.replace(cohort, table=table), plan, groups=groups)
    assert poisoned.details["inner"][0] == honest.details["inner"][0]
    assert poisoned.details["inner"][1] != honest.details["inner"][1]


def test_come_back_with_the_fold_and_older_folds_have_none(
    cohort: TileManifest, plan: SplitPlan, groups: npt.NDArray[np.int64], tmp_path: Path
) -> None:
    whole = tune(cohort, plan, groups=groups, fold_dir=tmp_path)
    assert tune(cohort, plan, groups=groups, fold_dir=tmp_path).details == whole.details
    file = tmp_path / "fold_r0_f0.npz"
    with np.load(file, allow_pickle=False) as archive:
        arrays = dict(archive)
    header = json.loads(str(arrays["header"]))
    del header["details"]["validation_scores"]
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **{**arrays, "header": np.array(json.dumps(header))})
    file.write_bytes(stream.getvalue())
    older = tune(cohort, plan, groups=groups, fold_dir=tmp_path)
    np.testing.assert_array_equal(older.y_prob, whole.y_prob)
    assert older.run_id == whole.run_id
    first, second = older.details["inner"]
    assert set(first["scores"].values()) == {None}
    assert first["n"] == whole.details["inner"][0]["n"]
    assert second == whole.details["inner"][1]


def test_without_validation_tiles_there_are_none(cohort: TileManifest, plan: SplitPlan) -> None:
    run = tune(cohort, plan, dataclasses.replace(RECIPE, validation_fraction=0, epochs=1))
    for entry in run.details["inner"]:
        assert (entry["n"], set(entry["scores"].values())) == (0, {None})


def test_in_a_hold_out_the_plans_validation_tiles_are_scored(
    cohort: TileManifest, groups: npt.NDArray[np.int64]
) -> None:
    ids = cohort.table["tile_id"].to_numpy(dtype=np.str_)
    plan = SplitPlan.holdout(cohort.labels, groups, fractions=(0.5, 0.25, 0.25), tile_ids=ids)
    (split,) = plan.splits()
    assert split.validation is not None
    (entry,) = tune(cohort, plan, groups=groups).details["inner"]
    assert (entry["repeat"], entry["fold"], entry["n"]) == (0, 0, len(split.validation))
    assert entry["scores"]["accuracy"] is not None


def test_a_checkpoint_without_them_is_gone_on_from(tmp_path: Path) -> None:
    kept = {"score": 0.5, "epoch": 2, "state": {"w": torch.ones(2)}}
    save_checkpoint(tmp_path / "c", "k", {"best": kept})
    state = load_checkpoint(tmp_path / "c", "k")
    assert state is not None
    best = BestWeights(**state["best"])
    assert (best.epoch, best.logits) == (2, None)
    logits = torch.tensor([[0.0, 1.0]])
    best.offer(0.6, 3, torch.nn.Linear(1, 1), logits)
    best.offer(0.4, 4, torch.nn.Linear(1, 1), logits + 1)
    best.offer(0.5, 5, torch.nn.Linear(1, 1), logits)
    save_checkpoint(tmp_path / "c", "k", {"best": dict(vars(best))})
    again = load_checkpoint(tmp_path / "c", "k")
    assert again is not None
    assert again["best"]["epoch"] == 4
    assert torch.equal(again["best"]["logits"], logits + 1)


def test_undefined_is_none() -> None:
    found = scores_of(torch.tensor([[0.0, 2.0], [1.0, 0.0]]), np.array([1, 1]))
    assert found["roc_auc"] is None
    assert found["accuracy"] == 0.5
