"""fine_tune() from tiles to RunResult: it learns, it does not leak, it repeats, it resumes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, log_loss

from featurebench.errors import ConfigError, SplitError, TileError
from featurebench.finetuning import Recipe, count_passes, fine_tune, identify, learner
from featurebench.finetuning.training import train
from featurebench.splits import SplitPlan
from featurebench.tiles import TileManifest

if TYPE_CHECKING:
    from pathlib import Path

    from featurebench.results import RunResult

MakeCohort = Callable[..., TileManifest]
DrawPlan = Callable[..., SplitPlan]
PatientCodes = Callable[[TileManifest], npt.NDArray[np.int64]]

SMALL: dict[str, Any] = {
    "arm": "test_resnet+full",
    "model": "test_resnet",
    "weights": "random",
    "image_size": 32,
    "batch_size": 8,
    "epochs": 2,
    "threads": 1,
}


def tune(manifest: TileManifest, plan: SplitPlan, **settings: Any) -> RunResult:
    """Call `fine_tune` with the recipe's settings and the others in one."""
    names = {field.name for field in dataclasses.fields(Recipe)}
    recipe = Recipe(**{name: value for name, value in settings.items() if name in names})
    others = {name: value for name, value in settings.items() if name not in names}
    return fine_tune(manifest, plan, recipe, **others)


@pytest.fixture
def cohort(make_cohort: MakeCohort) -> TileManifest:
    return make_cohort()


@pytest.fixture
def groups(cohort: TileManifest, patient_codes: PatientCodes) -> npt.NDArray[np.int64]:
    return patient_codes(cohort)


@pytest.fixture
def plan(cohort: TileManifest, draw_plan: DrawPlan) -> SplitPlan:
    return draw_plan(cohort)


def test_learns_a_colour_on_patients_it_never_saw(
    cohort: TileManifest, plan: SplitPlan, groups: npt.NDArray[np.int64]
) -> None:
    run = tune(cohort, plan, groups=groups, **SMALL | {"epochs": 8, "learning_rate": 0.01})
    assert run.y_prob.shape == (1, 48, 2)
    assert run.y_prob.dtype == np.float32
    np.testing.assert_allclose(run.y_prob.sum(axis=2), 1, atol=1e-6)
    assert balanced_accuracy_score(cohort.labels, run.y_prob[0].argmax(axis=1)) > 0.9
    by_fold = {s.fold: s.value for s in run.scores if s.metric == "log_loss"}
    for fold, (_, test) in enumerate(plan):
        p = run.y_prob[0, test].astype(np.float64)
        expected = log_loss(cohort.labels[test], p / p.sum(axis=1, keepdims=True))
        assert by_fold[fold] == pytest.approx(expected, rel=1e-5)


def test_result_says_what_was_done(
    cohort: TileManifest, plan: SplitPlan, groups: npt.NDArray[np.int64]
) -> None:
    run = tune(cohort, plan, groups=groups, seed=5, **SMALL)
    assert (run.kind, run.strategy, run.embedding, run.head) == ("finetune", "full", None, None)
    assert (run.plan_id, run.seed, run.classes) == (plan.id, 5, ("class0", "class1"))
    assert run.cost.wall_s > 0
    assert run.cost.gpu_s == 0
    assert run.cost.peak_memory_mb > 50
    assert json.loads(json.dumps(run.params, allow_nan=False)) == run.params
    assert json.loads(json.dumps(run.details, allow_nan=False)) == run.details
    start = identify(
        Recipe(model="test_resnet", weights="random", image_size=32, batch_size=8, epochs=2),
        repeats=1,
        grouped=True,
        seed=5,
    )
    assert (start.params, start.fingerprint) == (run.params, run.fingerprint)
    assert [(f["repeat"], f["fold"]) for f in run.details["folds"]] == [(0, 0), (0, 1), (0, 2)]
    for fold in run.details["folds"]:
        assert fold["n_train"] + fold["n_validation"] + fold["n_test"] == len(cohort)
        assert len(fold["validation_loss"]) == fold["epochs"] == 2
        assert fold["monitored"] == fold["validation_loss"]
        assert (fold["strategy"], fold["monitor"], fold["seed"]) == ("full", "log_loss", 5)
        assert fold["n_learning"] == [fold["n_parameters"]] * 2
        assert fold["learning_rate"][0] > fold["learning_rate"][1] > 0
        assert fold["stopped_early"] is False
        assert list(fold["cka"])[-1] == "final"


def test_three_classes(
    make_cohort: MakeCohort, draw_plan: DrawPlan, patient_codes: PatientCodes
) -> None:
    tiles = make_cohort(classes=3, patients=9)
    settings = SMALL | {"epochs": 8, "learning_rate": 0.01}
    run = tune(tiles, draw_plan(tiles), groups=patient_codes(tiles), **settings)
    assert run.y_prob.shape == (1, 36, 3)
    assert balanced_accuracy_score(tiles.labels, run.y_prob[0].argmax(axis=1)) > 0.8


def test_same_settings_same_bits_and_other_seed_other_bits(
    cohort: TileManifest, plan: SplitPlan, groups: npt.NDArray[np.int64]
) -> None:
    first = tune(cohort, plan, groups=groups, **SMALL)
    torch.rand(7)
    again = tune(cohort, plan, groups=groups, **SMALL)
    other = tune(cohort, plan, groups=groups, seed=1, **SMALL)
    np.testing.assert_array_equal(first.y_prob, again.y_prob)
    assert first.run_id == again.run_id != other.run_id
    assert not np.array_equal(first.y_prob, other.y_prob)


def test_leaves_the_callers_random_state(cohort: TileManifest, plan: SplitPlan) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    tune(cohort, plan, **SMALL | {"epochs": 1})
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_are_set_for_training_only(
    cohort: TileManifest, plan: SplitPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    during: list[int] = []

    def interrupted(*_: object, **__: object) -> None:
        during.append(torch.get_num_threads())
        raise KeyboardInterrupt

    monkeypatch.setattr(learner, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(cohort, plan, **SMALL | {"threads": threads + 1})
    assert (during, torch.get_num_threads()) == ([threads + 1], threads)


def test_test_tiles_do_not_touch_training(
    cohort: TileManifest, plan: SplitPlan, groups: npt.NDArray[np.int64]
) -> None:
    """Swap the labels of fold 0's test tiles: its predictions must not move by a bit."""
    honest = tune(cohort, plan, groups=groups, **SMALL)
    _, test = next(iter(plan))
    table = cohort.table.copy()
    table.loc[test, "label"] = ["class1" if c == 0 else "class0" for c in cohort.labels[test]]
    swapped = tune(dataclasses.replace(cohort, table=table), plan, groups=groups, **SMALL)
    np.testing.assert_array_equal(honest.y_prob[0, test], swapped.y_prob[0, test])
    rest = np.setdiff1d(np.arange(len(cohort)), test)
    assert not np.array_equal(honest.y_prob[0, rest], swapped.y_prob[0, rest])


def test_learns_from_and_watches_disjoint_training_patients(
    cohort: TileManifest,
    plan: SplitPlan,
    groups: npt.NDArray[np.int64],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[set[int], set[int], set[int]]] = []

    def spy(network: Any, feed: Any, lesson: Any, **given: Any) -> Any:
        used: set[int] = set()
        watched: set[int] = set()
        feed_batches = feed.batches

        class Spying:
            device, batch_size = feed.device, feed.batch_size

            @staticmethod
            def batches(batches: Any, augmentation: Any = None) -> Any:
                target = used if network.training else watched
                target.update(int(row) for rows in batches for row in rows)
                return feed_batches(batches, augmentation)

        history = train(network, Spying, lesson, **given)  # type: ignore[arg-type]
        seen.append((used, watched, set(lesson.validation.tolist())))
        return history

    monkeypatch.setattr(learner, "train", spy)
    tune(cohort, plan, groups=groups, drift=False, **SMALL)
    for (used, watched, validation), (rows, _) in zip(seen, plan, strict=True):
        assert used | watched == set(rows.tolist())
        assert watched == validation != set()
        assert not set(groups[sorted(used)]) & set(groups[sorted(watched)])
        assert len(set(cohort.labels[sorted(watched)])) == 2


def test_resumed_run_equals_an_undisturbed_one(
    cohort: TileManifest,
    plan: SplitPlan,
    groups: npt.NDArray[np.int64],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = tune(cohort, plan, groups=groups, fold_dir=tmp_path / "folds", **SMALL)
    folder = tmp_path / "folds"
    assert sorted(f.name for f in folder.iterdir()) == [f"fold_r0_f{f}.npz" for f in range(3)]
    (folder / "fold_r0_f1.npz").unlink()
    (folder / "fold_r0_f2.npz").write_bytes(b"torn")
    passes: list[int] = []
    resumed = tune(cohort, plan, groups=groups, fold_dir=folder, progress=passes.append, **SMALL)
    _assert_same(resumed, whole)
    assert sum(passes) == count_passes(plan, epochs=2)

    monkeypatch.setattr(learner, "train", None)
    loaded = tune(cohort, plan, groups=groups, fold_dir=folder, **SMALL)
    _assert_same(loaded, resumed)
    assert loaded.cost == resumed.cost
    with pytest.raises(TypeError):
        tune(cohort, plan, groups=groups, fold_dir=folder, **SMALL | {"learning_rate": 2e-4})
    relabelled = cohort.table.assign(label=cohort.table["label"].to_list()[::-1])
    with pytest.raises(TypeError):
        tune(
            dataclasses.replace(cohort, table=relabelled),
            plan,
            groups=groups,
            fold_dir=folder,
            **SMALL,
        )


def _assert_same(run: RunResult, other: RunResult) -> None:
    np.testing.assert_array_equal(run.y_prob, other.y_prob)
    assert run.run_id == other.run_id
    assert run.scores == other.scores
    for ours, theirs in zip(run.details["folds"], other.details["folds"], strict=True):
        for key in ("epochs", "best_epoch", "train_loss", "validation_loss", "n_train"):
            assert ours[key] == theirs[key]


def test_features_of_the_test_tiles_are_saved_with_the_fold(
    cohort: TileManifest, plan: SplitPlan, tmp_path: Path
) -> None:
    settings = SMALL | {"epochs": 1, "fold_dir": tmp_path}
    with_features = tune(cohort, plan, **settings)
    for fold, (_, test) in enumerate(plan):
        with np.load(tmp_path / f"fold_r0_f{fold}.npz", allow_pickle=False) as arrays:
            assert arrays["features"].dtype == np.float16
            assert arrays["features"].shape == (len(test), 96)
    without = tune(cohort, plan, **settings | {"fold_dir": None, "drift": False})
    np.testing.assert_array_equal(with_features.y_prob, without.y_prob)
    assert "cka" not in without.details["folds"][0]


def test_from_scratch_the_weights_do_not_count() -> None:
    recipe = Recipe("tf_efficientnet_lite0", weights="package", strategy="scratch", image_size=32)
    start = identify(recipe, repeats=1, grouped=True)
    drawn = dataclasses.replace(recipe, weights="random")
    assert identify(drawn, repeats=1, grouped=True) == start
    assert start.params["weights"] == "random"


def test_first_repeats_are_those_of_a_longer_run(
    cohort: TileManifest, draw_plan: DrawPlan, tmp_path: Path
) -> None:
    plan = draw_plan(cohort, folds=2, repeats=2)
    settings = SMALL | {"epochs": 1, "fold_dir": tmp_path / "folds"}
    one = tune(cohort, plan, repeats=1, **settings)
    both = tune(cohort, plan, **settings)
    assert (one.n_repeats, both.n_repeats) == (1, 2)
    np.testing.assert_array_equal(both.y_prob[0], one.y_prob[0])
    assert not np.array_equal(both.y_prob[1], both.y_prob[0])
    assert len(list((tmp_path / "folds").iterdir())) == 4
    assert count_passes(plan, epochs=1) == 2 * count_passes(plan, epochs=1, repeats=1)


def test_hold_out_uses_the_plans_own_validation_tiles(
    cohort: TileManifest, groups: npt.NDArray[np.int64]
) -> None:
    ids = cohort.table["tile_id"].to_numpy(dtype=np.str_)
    plan = SplitPlan.holdout(cohort.labels, groups, fractions=(0.5, 0.25, 0.25), tile_ids=ids)
    passes: list[int] = []
    run = tune(cohort, plan, groups=groups, progress=passes.append, **SMALL)
    (split,) = plan.splits()
    assert split.validation is not None
    (fold,) = run.details["folds"]
    assert (fold["n_train"], fold["n_validation"], fold["n_test"]) == (
        len(split.train),
        len(split.validation),
        len(split.test),
    )
    tested = np.isfinite(run.y_prob[0]).all(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(tested), split.test)
    assert np.isnan(run.y_prob[0, ~tested]).all()
    assert sum(passes) == count_passes(plan, epochs=2)


def test_without_validation_all_epochs_are_run(cohort: TileManifest, plan: SplitPlan) -> None:
    run = tune(cohort, plan, validation_fraction=0, **SMALL)
    for fold in run.details["folds"]:
        assert (fold["n_validation"], fold["epochs"], fold["best_epoch"]) == (0, 2, 2)
        assert fold["validation_loss"] == []


def test_two_training_patients_are_refused_by_name_of_the_remedy(
    make_cohort: MakeCohort, draw_plan: DrawPlan, patient_codes: PatientCodes
) -> None:
    tiles = make_cohort(patients=4)
    plan = draw_plan(tiles, folds=2)
    with pytest.raises(SplitError, match="or set validation_fraction to 0"):
        tune(tiles, plan, groups=patient_codes(tiles), **SMALL)


def test_exploding_loss_names_the_remedy(cohort: TileManifest, plan: SplitPlan) -> None:
    with pytest.raises(ConfigError, match=r"learning_rate 1e\+30 .* epoch \d: lower learning_rate"):
        tune(cohort, plan, **SMALL | {"learning_rate": 1e30})


def test_tile_that_does_not_decode_is_named(cohort: TileManifest, plan: SplitPlan) -> None:
    cohort.path_of(7).write_bytes(b"no image")
    with pytest.raises(TileError, match=r"^tile 't01_3': .*; take it out of the manifest$"):
        tune(cohort, plan, **SMALL)


def test_plan_of_other_tiles_is_refused(cohort: TileManifest, plan: SplitPlan) -> None:
    with pytest.raises(SplitError, match="not of these 47 tiles"):
        tune(cohort.take(np.arange(47)), plan, **SMALL)
    with pytest.raises(SplitError, match="not of these 48 tiles in this order"):
        tune(cohort.take(np.arange(48)[::-1]), plan, **SMALL)
    with pytest.raises(SplitError, match="3 groups for 48 tiles"):
        tune(cohort, plan, groups=np.arange(3), **SMALL)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repeats": 2}, "repeats 2 cannot be used: the plan has 1"),
        ({"seed": -1}, "seed -1 cannot be used"),
        ({"device": "abacus"}, "device 'abacus' is unknown to torch"),
        ({"strategy": "half"}, "strategy 'half' does not exist"),
        ({"strategy": "last:99"}, "strategy 'last:99' needs 99 stages .* this network has"),
        ({"precision": "float16"}, "precision 'float16' cannot be used on cpu: use float32"),
        ({"data_parallel": 0}, "data_parallel 0 cannot be used: give 1 to 4"),
        ({"data_parallel": 5}, "data_parallel 5 cannot be used: give 1 to 4"),
        ({"data_parallel": 2, "devices": ["cpu"] * 2}, "side by side or shared out, not both"),
        (
            {"class_weight": {"tumour": 2.0}},
            "class_weight names 'tumour': the classes are class0, class1",
        ),
        ({"preprocessing": {"input_size": [32, 48]}, "image_size": None}, "32 x 48 is not square"),
    ],
)
def test_settings_that_cannot_be_used(
    cohort: TileManifest, plan: SplitPlan, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        tune(cohort, plan, **SMALL | settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_missing_cuda_is_refused(cohort: TileManifest, plan: SplitPlan) -> None:
    with pytest.raises(ConfigError, match="torch finds no CUDA here, use cpu"):
        tune(cohort, plan, **SMALL | {"device": "cuda"})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA")
def test_learns_on_a_gpu(
    cohort: TileManifest, plan: SplitPlan, groups: npt.NDArray[np.int64]
) -> None:
    settings = SMALL | {"epochs": 8, "learning_rate": 0.01, "device": "cuda"}
    run = tune(cohort, plan, groups=groups, **settings)
    assert balanced_accuracy_score(cohort.labels, run.y_prob[0].argmax(axis=1)) > 0.9
    assert run.cost.gpu_s == run.cost.wall_s
    assert run.details["folds"][0]["peak_gpu_memory_mb"] > 0


def test_starting_network_decides_the_fingerprint() -> None:
    recipe = Recipe(model="test_resnet", weights="random", image_size=32)
    start = identify(recipe, repeats=1, grouped=True)
    assert start.params["image_size"] == 32
    assert start.params["preprocessing"]["input_size"] == [3, 32, 32]
    slower = dataclasses.replace(recipe, learning_rate=1e-5)
    assert identify(slower, repeats=1, grouped=True).fingerprint == start.fingerprint
    assert identify(recipe, repeats=1, grouped=True, seed=1).fingerprint != start.fingerprint
    own_size = identify(Recipe(model="test_resnet", weights="random"), repeats=1, grouped=True)
    assert own_size.params["image_size"] == own_size.params["preprocessing"]["input_size"][-1]


@pytest.mark.slow
@pytest.mark.shared
def test_real_tiles_real_weights(shared: Path) -> None:
    """Three epochs at 64 pixels on 480 real tiles of 16 patients are far above chance."""
    folder = shared / "data" / "glas_tiles"
    columns = {"patient_id": "patient", "slide_id": "image"}
    tiles = TileManifest.from_table(folder / "tiles.csv", columns=columns)
    tiles = tiles.take(np.arange(0, len(tiles), 2))
    patients = pd.factorize(tiles.table["patient_id"])[0].astype(np.int64)
    ids = tiles.table["tile_id"].to_numpy(dtype=np.str_)
    plan = SplitPlan.draw(tiles.labels, patients, folds=3, tile_ids=ids)
    run = tune(
        tiles,
        plan,
        arm="lite0+full",
        model="tf_efficientnet_lite0",
        weights="package",
        groups=patients,
        epochs=3,
        image_size=64,
    )
    assert balanced_accuracy_score(tiles.labels, run.y_prob[0].argmax(axis=1)) > 0.65
