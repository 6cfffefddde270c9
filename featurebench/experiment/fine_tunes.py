"""run_fine_tunes(): train the networks of an experiment that no folder holds yet."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from featurebench.experiment.arms import (
    arm_errors,
    pending_arms,
    reason_of,
    repeats_of,
    search_of,
)
from featurebench.experiment.networks import resolve_device, resolve_threads
from featurebench.experiment.provenance import machine, versions
from featurebench.results import save_failure, save_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from featurebench.config import ExperimentConfig, FineTuneConfig
    from featurebench.experiment.arms import Arm
    from featurebench.experiment.console import Console
    from featurebench.experiment.study import Study
    from featurebench.results import RunResult


def run_fine_tunes(
    config: ExperimentConfig, arms: Sequence[Arm], study: Study, console: Console
) -> None:
    """Run what is not there yet; an arm that fails is recorded and the next one goes on."""
    root = config.output.results / "runs"
    for arm in pending_arms(config, arms, console):
        if arm.fine_tune is None:
            continue
        try:
            result = _run(config, arm, arm.fine_tune, study, console)
        except arm_errors() as error:
            reason = reason_of(error)
            save_failure(root, arm.name, arm.kind, arm.run_id, reason)
            console.say("failed", f"{arm.name}: {reason}")
            continue
        save_run(result, root)
        console.say("arm", f"{arm.name}: {result.cost.wall_s:.1f} s")


def _run(
    config: ExperimentConfig,
    arm: Arm,
    entry: FineTuneConfig,
    study: Study,
    console: Console,
) -> RunResult:

    from featurebench.finetuning import count_passes, fine_tune

    recipe, repeats = entry.recipe, repeats_of(study, entry)
    threads = resolve_threads(config.compute.threads)
    total = count_passes(study.plan, epochs=recipe.epochs, repeats=repeats)
    with console.track(arm.name, total) as advance:
        result = fine_tune(
            study.tiles,
            study.plan,
            recipe,
            arm=arm.name,
            repeats=repeats,
            groups=group_codes(study),
            seed=arm.seed,
            device=resolve_device(config.compute.device),
            devices=config.compute.devices,
            data_parallel=config.compute.data_parallel,
            threads=threads,
            workers=config.compute.workers or 0,
            fold_dir=arm.folder(config.output.results) / "folds",
            search=search_of(config, entry),
            progress=advance,
        )
    record = {"versions": versions(), "machine": machine(threads, result.device)}
    return replace(result, params=arm.params, provenance=record)


def group_codes(study: Study) -> npt.NDArray[np.int64] | None:
    """Give every tile the number of its group; None where there are no groups."""
    import numpy as np

    if study.groups is None:
        return None
    return np.unique(study.groups.astype(str), return_inverse=True)[1]
