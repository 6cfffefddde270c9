"""`fine_tune`: one network trained on every fold of a SplitPlan -> out-of-fold probabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.errors import ConfigError
from featurebench.finetuning.checks import (
    check_class_weight,
    check_processes,
    check_tiles,
    checked_device,
)
from featurebench.finetuning.fabric import precision_on
from featurebench.finetuning.feed import ignore
from featurebench.finetuning.learner import FoldLearner, passes
from featurebench.finetuning.parallel import learn_side_by_side
from featurebench.finetuning.preparation import Start, identify, prepare, torch_threads
from featurebench.metrics import METRICS, score_folds
from featurebench.results import Cost, FoldScore, RunResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import torch

    from featurebench.finetuning.folds import FoldOutcome
    from featurebench.finetuning.recipe import Recipe
    from featurebench.finetuning.spaces import RecipeSearch
    from featurebench.splits import Split, SplitPlan
    from featurebench.tiles import TileManifest

# Of a `History`; told by fold, beside the other arms' inner scores.
_SCORES = "validation_scores"


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
    devices: Sequence[str] = (),
    data_parallel: int = 1,
    threads: int | None = None,
    workers: int = 0,
    fold_dir: Path | None = None,
    checkpoint_seconds: float = 30.0,
    drift: bool = True,
    search: RecipeSearch | None = None,
    progress: Callable[[int], None] | None = None,
) -> RunResult:
    """Fine-tune a network on the training side of every fold and predict its test side.

    Every fold starts again from the same weights with a new classification layer. Its random
    draws depend on the seed and its place in the plan alone, so a fold's result does not depend
    on which folds ran before it, or beside it. Early stopping watches patients held back from
    the training side (in a hold-out plan, the plan's validation tiles). To see how much the draws
    matter, call it with several seeds: each gives a run of its own.

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
        Of torch: ``cpu``, ``cuda``, ``cuda:1`` ...
    devices
        Several of them, in place of `device`: folds are trained side by side, in one process per
        device, with the results that they have one after the other.
    data_parallel
        Processes that share every batch of one fold, on the first GPUs or on the processor, by
        Lightning Fabric. Results agree with those of one process up to rounding, except that each
        process draws its own augmentation and dropout.
    threads
        Processor threads of torch in each process; None leaves them as they are. Results repeat
        bit for bit on the same machine with the same number.
    workers
        Processes that decode tiles; 0 decodes in this one.
    fold_dir
        Folder where every finished fold is saved; folds of the same recipe found there are not
        trained again. A fold in training is kept there, too, and goes on where it was.
    checkpoint_seconds
        Least time between two writings of a fold in training, which are made after an epoch.
    drift
        Whether the fine-tuned features of the test tiles are saved with the fold, and their
        likeness to the starting network's is told in its details, under ``cka``.
    search
        Whether and where each fold's recipe is searched first, on its inner split alone.
    progress
        Called with the number of tiles just gone through; adds up to `count_passes`, of which the
        trials of a search are no part.

    Returns
    -------
    RunResult
        ``y_prob`` has shape (repeats, n_tiles, n_classes); ``details["folds"]`` tells by fold
        what was learnt from, the epochs run, the best one, losses, rates and seconds, and
        ``details["inner"]`` how the weights that were kept do on the validation tiles.

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
    used = [checked_device(name) for name in devices or [device]]
    check_processes(data_parallel, used, recipe)
    check_class_weight(recipe, manifest.classes)
    for each in used:
        precision_on(each, recipe.precision)
    check_tiles(manifest, plan, groups)
    splits = _chosen(plan, repeats)
    start = identify(
        recipe,
        repeats=splits[-1].repeat + 1,
        grouped=groups is not None,
        base_dir=base_dir,
        seed=seed,
    )
    if search is not None:
        start = replace(start, params={**start.params, "search": search.to_dict()})
    learner = prepare(
        manifest,
        recipe,
        start,
        plan_id=plan.id,
        groups=groups,
        seed=seed,
        device=used[0],
        workers=workers,
        base_dir=base_dir,
        progress=progress or ignore,
        fold_dir=fold_dir,
        data_parallel=data_parallel,
        checkpoint_seconds=checkpoint_seconds,
        drift=drift,
        search=search,
    )
    with torch_threads(threads):
        outcomes = _outcomes(learner, splits, used)
    name = arm or f"{recipe.model}+{recipe.strategy}"
    return _result(name, recipe, start, outcomes, manifest=manifest, plan=plan, seed=seed, on=used)


def _outcomes(
    learner: FoldLearner, splits: Sequence[Split], devices: Sequence[torch.device]
) -> list[FoldOutcome]:
    """Learn the folds one after the other, or side by side where there are several devices."""
    if len(devices) == 1:
        return [learner.outcome(split) for split in splits]
    sizes = {(split.repeat, split.fold): passes(split, learner.recipe.epochs) for split in splits}
    outcomes: dict[tuple[int, int], FoldOutcome] = {}

    def take(outcome: FoldOutcome) -> None:
        outcomes[outcome.repeat, outcome.fold] = outcome
        learner.progress(sizes[outcome.repeat, outcome.fold])

    learn_side_by_side(replace(learner, progress=ignore), splits, devices, done=take)
    return [outcomes[split.repeat, split.fold] for split in splits]


def _result(
    arm: str,
    recipe: Recipe,
    start: Start,
    outcomes: Sequence[FoldOutcome],
    *,
    manifest: TileManifest,
    plan: SplitPlan,
    seed: int,
    on: Sequence[torch.device],
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
        device=", ".join(dict.fromkeys(map(str, on))),
        details={
            "precision": precision_on(on[0], recipe.precision),
            "folds": [_without_scores(outcome.details) for outcome in outcomes],
            "inner": [_inner(outcome) for outcome in outcomes],
        },
        features=_held_out_features(outcomes, (n_repeats, len(manifest))),
    )


def _inner(outcome: FoldOutcome) -> dict[str, Any]:
    """Say how a fold's network does on its validation tiles; nothing is known of older folds."""
    known = outcome.details.get(_SCORES) or {}
    return {
        "repeat": outcome.repeat,
        "fold": outcome.fold,
        "n": outcome.details.get("n_validation", 0),
        "scores": {name: known.get(name) for name in METRICS},
    }


def _without_scores(details: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in details.items() if key != _SCORES}


def _out_of_fold(
    outcomes: Sequence[FoldOutcome], shape: tuple[int, int, int]
) -> npt.NDArray[np.float32]:
    y_prob = np.full(shape, np.nan, dtype=np.float32)
    for outcome in outcomes:
        y_prob[outcome.repeat, outcome.test] = outcome.y_prob
    return y_prob


def _held_out_features(
    outcomes: Sequence[FoldOutcome], shape: tuple[int, int]
) -> npt.NDArray[np.float16] | None:
    """Features of the tiles tested; None where no fold kept them, or they differ in length."""
    dims = {None if o.features is None else o.features.shape[1] for o in outcomes}
    (dim,) = dims if len(dims) == 1 else (None,)
    if dim is None:
        return None
    features = np.full((*shape, dim), np.nan, dtype=np.float16)
    for outcome in outcomes:
        features[outcome.repeat, outcome.test] = outcome.features
    return features


def _chosen(plan: SplitPlan, repeats: int | None) -> list[Split]:
    wanted = plan.n_repeats if repeats is None else repeats
    if not 1 <= wanted <= plan.n_repeats:
        raise ConfigError(f"repeats {wanted} cannot be used: the plan has {plan.n_repeats}")
    return [split for split in plan.splits() if split.repeat < wanted]
