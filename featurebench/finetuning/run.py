"""`fine_tune`: one network trained on every fold of a SplitPlan -> out-of-fold probabilities."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from featurebench.backbones import state_sha256
from featurebench.errors import ConfigError, SplitError
from featurebench.finetuning.dataset import TilePixels
from featurebench.finetuning.folds import FoldOutcome, fold_key
from featurebench.finetuning.learner import FoldLearner, create, passes
from featurebench.finetuning.training import Feed, precision_on
from featurebench.metrics import score_folds
from featurebench.results import Cost, FoldScore, RunResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from featurebench.finetuning.recipe import Recipe
    from featurebench.splits import Split, SplitPlan
    from featurebench.tiles import TileManifest


@dataclass(frozen=True)
class Start:
    """Where fine-tuning starts; with the seed and the plan it is the identity of the arm.

    Parameters
    ----------
    params
        Everything else that changes the numbers, resolved and JSON-ready.
    fingerprint
        Hash of the starting weights without the classification layer.
    """

    params: Mapping[str, Any]
    fingerprint: str


def identify(
    recipe: Recipe, *, repeats: int, grouped: bool, base_dir: Path | None = None, seed: int = 0
) -> Start:
    """Load the network and resolve the recipe, without training.

    Parameters
    ----------
    repeats
        Repeats of the plan that will be run.
    grouped
        Whether the inner validation split is grouped by patient.
    base_dir
        Folder that a relative path of a weight file is relative to.
    seed
        As given to `fine_tune`.

    Returns
    -------
    Start
        With the ``params`` and ``fingerprint`` that `fine_tune` will put into its `RunResult`.
    """
    if seed < 0:
        raise ConfigError(f"seed {seed} cannot be used: it must be 0 or more")
    network, preprocessing = create(recipe, 0, base_dir=base_dir, seed=seed)
    params = recipe.to_dict() | {
        # The fingerprint stands for a file's content, wherever it lies.
        "weights": Path(recipe.weights).name,
        "preprocessing": preprocessing,
        "image_size": preprocessing["input_size"][-1],
        "repeats": repeats,
        "grouped": grouped,
    }
    return Start(params, state_sha256(network))


def count_passes(plan: SplitPlan, *, epochs: int, repeats: int | None = None) -> int:
    """Return how many tiles `fine_tune` goes through, to which its `progress` adds up."""
    return sum(passes(split, epochs) for split in _chosen(plan, repeats))


def fine_tune(
    manifest: TileManifest,
    plan: SplitPlan,
    recipe: Recipe,
    *,
    arm: str | None = None,
    base_dir: Path | None = None,
    repeats: int | None = None,
    groups: npt.NDArray[np.int64] | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    workers: int = 0,
    fold_dir: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> RunResult:
    """Fine-tune a network on the training side of every fold and predict its test side.

    Every fold starts again from the same weights with a new classification layer. Its random
    draws depend on the seed and its place in the plan alone, so a fold's result does not depend
    on which folds ran before it. Early stopping watches the log loss of patients held back from
    the training side (in a hold-out plan, of the plan's validation tiles).

    Parameters
    ----------
    manifest
        Tiles of the plan, in its order.
    plan
        Folds shared by all arms.
    recipe
        Network, weights and how it is trained.
    arm
        Name of the arm within the experiment; by default ``<model>+<strategy>``.
    base_dir
        Folder that a relative path of a weight file is relative to.
    repeats
        How many of the plan's repeats to run, the first ones; None runs all.
    groups
        Patient code of each tile, shape (n_tiles,), for the inner validation split.
    seed
        Of the new layers, the order of tiles, augmentation and dropout; 0 or more.
    device
        Of torch: ``cpu``, ``cuda``, ``cuda:1`` ... On CUDA training multiplies in bfloat16 where
        the GPU can.
    threads
        Processor threads of torch; None leaves them as they are. Results repeat bit for bit on the
        same machine with the same number.
    workers
        Processes that decode tiles; 0 decodes in this one.
    fold_dir
        Folder where every finished fold is saved; folds of the same recipe found there are not
        trained again.
    progress
        Called with the number of tiles just gone through; adds up to `count_passes`.

    Returns
    -------
    RunResult
        ``y_prob`` has shape (repeats, n_tiles, n_classes); ``details["folds"]`` tells by fold
        the epochs run, the best one, losses, seconds and numbers of tiles.

    Raises
    ------
    ConfigError
        If a setting cannot be used, or the loss stops being finite.
    WeightsError
        If the network or its weights cannot be had.
    SplitError
        If the plan is of other tiles, or no patients can be held back.
    TileError
        If a tile does not decode; its ``tile_id`` is named.

    Examples
    --------
    >>> import tempfile
    >>> from featurebench.finetuning import Recipe
    >>> from featurebench.splits import SplitPlan
    >>> from featurebench.tiles import write_cohort
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tiles = write_cohort(folder, patients=8, tiles_per_patient=2, size=32)
    ...     patients = tiles.table["patient_id"].factorize()[0]
    ...     plan = SplitPlan.draw(
    ...         tiles.labels, patients, folds=2, tile_ids=tiles.table["tile_id"]
    ...     )
    ...     recipe = Recipe("test_resnet", weights="random", image_size=32, epochs=1)
    ...     run = fine_tune(tiles, plan, recipe, groups=patients)
    >>> run.y_prob.shape
    (1, 16, 2)
    """
    used = _checked_device(device)
    _check_tiles(manifest, plan, groups)
    splits = _chosen(plan, repeats)
    start = identify(
        recipe,
        repeats=splits[-1].repeat + 1,
        grouped=groups is not None,
        base_dir=base_dir,
        seed=seed,
    )
    learner = FoldLearner(
        recipe=recipe,
        feed=_feed(manifest, recipe, start.params, used, workers),
        labels=manifest.labels,
        groups=groups,
        n_classes=len(manifest.classes),
        seed=seed,
        base_dir=base_dir,
        progress=progress or (lambda _: None),
        fold_dir=fold_dir,
        key=_fold_key(start, manifest, plan, groups, seed),
    )
    with _threads(threads):
        outcomes = [learner.outcome(split) for split in splits]
    name = arm or f"{recipe.model}+{recipe.strategy}"
    return _result(name, recipe, start, outcomes, manifest=manifest, plan=plan, seed=seed, on=used)


def _result(
    arm: str,
    recipe: Recipe,
    start: Start,
    outcomes: Sequence[FoldOutcome],
    *,
    manifest: TileManifest,
    plan: SplitPlan,
    seed: int,
    on: torch.device,
) -> RunResult:
    n_repeats = outcomes[-1].repeat + 1
    y_prob = _out_of_fold(outcomes, (n_repeats, len(manifest), len(manifest.classes)))
    scores = score_folds(manifest.labels, y_prob, plan.test_fold[:n_repeats])
    return RunResult(
        arm=arm,
        kind="finetune",
        embedding=None,
        head=None,
        strategy=recipe.strategy,
        params=start.params,
        fingerprint=start.fingerprint,
        plan_id=plan.id,
        seed=seed,
        classes=manifest.classes,
        y_prob=y_prob,
        scores=tuple(FoldScore(*row) for row in scores),
        cost=sum((outcome.cost for outcome in outcomes), Cost()),
        device=str(on),
        details={
            "precision": precision_on(on),
            "folds": [dict(outcome.details) for outcome in outcomes],
        },
    )


def _out_of_fold(
    outcomes: Sequence[FoldOutcome], shape: tuple[int, int, int]
) -> npt.NDArray[np.float32]:
    y_prob = np.full(shape, np.nan, dtype=np.float32)
    for outcome in outcomes:
        y_prob[outcome.repeat, outcome.test] = outcome.y_prob
    return y_prob


def _feed(
    manifest: TileManifest,
    recipe: Recipe,
    params: Mapping[str, Any],
    device: torch.device,
    workers: int,
) -> Feed:
    wanted = params["preprocessing"]
    pixels = TilePixels(manifest, params["image_size"], wanted["interpolation"], workers=workers)
    return Feed(pixels, wanted["mean"], wanted["std"], device, recipe.batch_size)


def _fold_key(
    start: Start,
    manifest: TileManifest,
    plan: SplitPlan,
    groups: npt.NDArray[np.int64] | None,
    seed: int,
) -> str:
    """Bind a fold to all that fixes its numbers; how many repeats are run is not of it."""
    params = {name: value for name, value in start.params.items() if name != "repeats"}
    return fold_key(
        params,
        start.fingerprint,
        plan.id,
        seed,
        manifest.classes,
        manifest.sha256,
        manifest.labels,
        groups,
    )


def _check_tiles(
    manifest: TileManifest, plan: SplitPlan, groups: npt.NDArray[np.int64] | None
) -> None:
    if manifest.table["tile_id"].astype(str).to_list() != plan.tile_ids.tolist():
        raise SplitError(
            f"the plan of {plan.n_tiles} tiles is not of these {len(manifest)} tiles in this order:"
            " draw the folds again"
        )
    if groups is not None and len(groups) != len(manifest):
        raise SplitError(f"{len(groups)} groups for {len(manifest)} tiles: give one per tile")


def _chosen(plan: SplitPlan, repeats: int | None) -> list[Split]:
    wanted = plan.n_repeats if repeats is None else repeats
    if not 1 <= wanted <= plan.n_repeats:
        raise ConfigError(f"repeats {wanted} cannot be used: the plan has {plan.n_repeats}")
    return [split for split in plan.splits() if split.repeat < wanted]


def _checked_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is unknown to torch: use cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} cannot be used: torch finds no CUDA here, use cpu")
    return device


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
