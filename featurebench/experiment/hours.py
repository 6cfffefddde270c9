"""How long the fine-tunes of an experiment would take on this machine: of a dry run, of init."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from featurebench.experiment.arms import declare_fine_tunes, repeats_of, search_of
from featurebench.experiment.networks import resolve_device, resolve_threads
from featurebench.experiment.study import load_tiles, make_study

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featurebench.config import ExperimentConfig
    from featurebench.experiment.arms import Arm
    from featurebench.experiment.console import Console
    from featurebench.experiment.study import Study
    from featurebench.finetuning import Recipe, RecipeSearch
    from featurebench.finetuning.pace import Pace

# What does not change how long a tile takes.
_IDLE = ("epochs", "learning_rate", "weight_decay", "patience", "monitor", "weights", "schedule")


def estimate_hours(config: ExperimentConfig, console: Console) -> None:
    """Do as `tell_hours` for all fine-tunes of an experiment of which nothing was run yet.

    Raises
    ------
    FeatureBenchError
        If the tiles cannot be read, or a network or its weights cannot be had.
    """
    study = make_study(config, load_tiles(config, console), ())
    tell_hours(config, declare_fine_tunes(config, study, remember=False), study, console)


def tell_hours(
    config: ExperimentConfig, arms: Sequence[Arm], study: Study, console: Console
) -> None:
    """Time a few steps of each fine-tune on noise and say how long its folds take at most.

    Fine-tunes of one network that differ in nothing that costs time are timed once.
    """
    if not arms:
        return
    from featurebench.finetuning.pace import measure_pace

    device, threads = (
        resolve_device(config.compute.device),
        resolve_threads(config.compute.threads),
    )
    paces: dict[str, Pace] = {}
    total = 0.0
    with console.track("timing fine-tunes", len(arms)) as advance:
        for arm in arms:
            if arm.fine_tune is None:
                continue
            recipe = arm.fine_tune.recipe
            key = _what_costs(recipe)
            if key not in paces:
                paces[key] = measure_pace(
                    recipe, n_classes=len(study.tiles.classes), device=device, threads=threads
                )
            repeats = repeats_of(study, arm.fine_tune)
            seconds = paces[key].most_seconds(study.plan, recipe, repeats=repeats)
            search = search_of(config, arm.fine_tune)
            if search is not None:
                seconds += _most_searching(search, seconds, n_folds=repeats * study.plan.n_folds)
            total += seconds
            console.say("hours", f"{arm.name}: at most {duration(seconds)}")
            advance(1)
    console.say("hours", f"fine-tuning on {device}, in all at most {duration(total)}")


def duration(seconds: float) -> str:
    """Write a time as seconds, minutes or hours."""
    minutes = seconds / 60
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _most_searching(search: RecipeSearch, training: float, *, n_folds: int) -> float:
    """Estimate the seconds of all trials of all folds, given those of training once."""
    plan = search.plan
    trials = math.inf if plan.trials is None else plan.trials
    if plan.method == "grid":
        # the recipe as it is may be none of the grid's
        trials = min(trials, 1 + math.prod(len(values) for values in search.space.values()))
    # a trial that was begun in time ends
    by_clock = math.inf if plan.seconds is None else n_folds * plan.seconds + training
    return min(trials * training, by_clock)


def _what_costs(recipe: Recipe) -> str:
    settings = {key: value for key, value in recipe.to_dict().items() if key not in _IDLE}
    return json.dumps(settings, sort_keys=True, default=str)
