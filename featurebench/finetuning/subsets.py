"""fine_tune_subsets(): a network trained on smaller training sets of the folds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from featurebench.finetuning.checks import check_class_weight, checked_device
from featurebench.finetuning.folds import fold_key
from featurebench.finetuning.learner import ignore
from featurebench.finetuning.preparation import identify, prepare, torch_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

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
    start = identify(recipe, repeats=1, grouped=False, base_dir=base_dir, seed=seed)
    learner = prepare(
        manifest,
        recipe,
        start,
        plan_id=plan_id,
        groups=None,
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
            held_back = split.validation is not None
            outcomes[name] = replace(
                learner,
                recipe=recipe if held_back else replace(recipe, validation_fraction=0.0),
                fold_dir=None if folder is None else folder / name,
                key=fold_key(learner.key, name, split.train),
            ).outcome(split)
            if done is not None:
                done(name)
    return outcomes
