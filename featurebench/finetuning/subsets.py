"""fine_tune_subsets(): a network trained on smaller training sets of the folds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from featurebench.finetuning.checks import check_class_weight, checked_device
from featurebench.finetuning.feed import ignore
from featurebench.finetuning.folds import fold_key
from featurebench.finetuning.preparation import identify, prepare, torch_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from featurebench.finetuning.folds import FoldOutcome
    from featurebench.finetuning.recipe import Recipe
    from featurebench.splits import Split
    from featurebench.tiles import TileManifest


def fine_tune_subsets(
    manifest: TileManifest,
    subsets: Mapping[str, Split],
    recipe: Recipe,
    *,
    plan_id: str,
    groups: npt.NDArray[np.int64] | None = None,
    base_dir: Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    workers: int = 0,
    folder: Path | None = None,
    done: Callable[[str], None] | None = None,
) -> dict[str, FoldOutcome]:
    """Train on each of many smaller training sets and predict its fold's whole test side.

    A subset without validation rows is trained for all epochs and keeps the last weights: it is
    too small to hold patients back. Draws depend on the seed and the fold, not on the subset.

    Parameters
    ----------
    manifest, recipe, base_dir, seed, device, threads, workers
        As for `fine_tune`.
    groups
        Patient code of each tile, shape (n_tiles,), for the inner folds of ``lp-ft``'s probe.
    subsets
        By a name of its own: rows to train on, to validate on (or none) and to test.
    plan_id
        Of the plan that the test sides are of.
    folder
        Where finished subsets are kept, each in a folder of its name; None keeps nothing.
    done
        Called with the name of each subset, finished now or before.

    Returns
    -------
    dict of FoldOutcome
        By the subsets' names; without features.
    """
    used = checked_device(device)
    check_class_weight(recipe, manifest.classes)
    grouped = groups is not None
    start = identify(recipe, repeats=1, grouped=grouped, base_dir=base_dir, seed=seed)
    learner = prepare(
        manifest,
        recipe,
        start,
        plan_id=plan_id,
        groups=groups,
        seed=seed,
        device=used,
        workers=workers,
        base_dir=base_dir,
        progress=ignore,
        fold_dir=None,
        drift=False,
    )
    outcomes = {}
    with torch_threads(threads):
        for name, split in subsets.items():
            outcomes[name] = replace(
                learner,
                recipe=_unwatched(recipe) if split.validation is None else recipe,
                fold_dir=None if folder is None else folder / name,
                key=fold_key(learner.key, name, split.train, split.validation, split.test),
            ).outcome(split)
            if done is not None:
                done(name)
    return outcomes


def _unwatched(recipe: Recipe) -> Recipe:
    """Change a recipe so that it asks for no validation tiles."""
    # A plateau of what nobody watches never comes.
    schedule = "constant" if recipe.schedule == "plateau" else recipe.schedule
    return replace(recipe, validation_fraction=0.0, schedule=schedule)
