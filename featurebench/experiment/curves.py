"""run_curves(): how the arms do with fewer labels, an arm at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from featurebench.errors import WorkerError
from featurebench.evaluation import few_label_curve
from featurebench.experiment.arms import arm_errors, reason_of
from featurebench.experiment.hands import Work, send
from featurebench.experiment.probes import BASELINE, device_of
from featurebench.experiment.provenance import machine, versions
from featurebench.experiment.tasks import ALONE, Bench, bench_of, few_labels_of
from featurebench.experiment.tuned_curves import metrics_of, tuned_curve
from featurebench.results import curve_folder, curve_id, is_complete_curve, save_curve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from featurebench.config import ExperimentConfig, FineTuneConfig
    from featurebench.experiment.arms import Arm
    from featurebench.experiment.console import Console
    from featurebench.experiment.hands import Hands
    from featurebench.experiment.study import Study
    from featurebench.experiment.tasks import Order
    from featurebench.results import LearningCurve


@dataclass(frozen=True, eq=False)
class Drawn:
    """What came of one arm's curve: it, or the reason why there is none."""

    arm: Arm
    curve: LearningCurve | None = None
    error: str | None = None


def curve_folder_of(config: ExperimentConfig, arm: Arm, plan_id: str) -> Path | None:
    """Folder of the curve that an arm is to have, or None."""
    few = few_labels_of(config)
    if few is None or not _has_curve(config, arm):
        return None
    identity = curve_id(arm.name, arm.params, few.as_json(), arm.fingerprint, plan_id, arm.seed)
    return curve_folder(config.output.results / "curves", arm.name, identity)


def _has_curve(config: ExperimentConfig, arm: Arm) -> bool:
    if arm.fine_tune is not None:
        return arm.fine_tune.few_labels and arm.replica_of is None
    if arm.entry is None or arm.head == BASELINE or config.few_labels is None:
        return False
    return config.few_labels.heads is None or arm.entry in config.few_labels.heads


def run_curves(
    config: ExperimentConfig,
    arms: Sequence[Arm],
    study: Study,
    console: Console,
    hands: Hands,
) -> None:
    """Draw the curves that are not there yet; one that fails is told and the others go on."""
    due = []
    for arm in arms:
        folder = curve_folder_of(config, arm, study.plan.id)
        if folder is not None and is_complete_curve(folder):
            console.say("few labels", f"{arm.name}: cached")
        elif folder is not None:
            due.append(arm)
    if not due:
        return

    def take(drawn: Drawn) -> None:
        if drawn.curve is None:
            console.say("failed", f"{drawn.arm.name}, few labels: {drawn.error}")
            return
        save_curve(drawn.curve, config.output.results / "curves")
        console.say("few labels", f"{drawn.arm.name}: {drawn.curve.cost.wall_s:.1f} s")

    tunes = [arm for arm in due if arm.fine_tune is not None]
    due = [arm for arm in due if arm.fine_tune is None]
    if hands.are_here or not due:
        _draw_here(Bench(config, study), [*due, *tunes], console, take)
        return
    _draw_here(Bench(config, study), tunes, console, take)
    with console.track("few labels", len(due)) as advance:

        def take_and_count(drawn: Drawn) -> None:
            take(drawn)
            advance(1, drawn.arm.name)

        try:
            send(Work(config, study, draw_ordered, len(due)), hands, iter(due), take_and_count)
        except WorkerError as error:
            console.say("failed", f"few labels: {error}")


def draw_ordered(order: Order, arm: Arm) -> Drawn:
    """Draw a curve in a worker, which loads the experiment at its first task."""
    return draw(bench_of(order), arm)


def draw(bench: Bench, arm: Arm, progress: Callable[[int], None] | None = None) -> Drawn:
    """Draw an arm's curve; an error of the arm's own is its outcome."""
    config, study = bench.config, bench.study
    if arm.fine_tune is not None:
        return _draw_tuned(bench, arm, arm.fine_tune, progress)
    head = bench.head(arm)
    try:
        with ALONE:
            X, views = bench.rows(arm)
            curve = few_label_curve(
                head,
                X,
                study.tiles.labels,
                bench.subsets(),
                classes=study.tiles.classes,
                arm=arm.name,
                embedding=None if arm.spec is None else arm.spec.name,
                head_name=arm.head,
                params=arm.params,
                fingerprint=arm.fingerprint,
                seed=config.splits.seed,
                metrics=metrics_of(config),
                views=views,
                threads=bench.threads,
                progress=progress,
            )
    except arm_errors() as error:
        return Drawn(arm, error=reason_of(error))
    record = {"versions": versions(), "machine": machine(bench.threads, device_of(head))}
    return Drawn(arm, replace(curve, provenance=record))


def _draw_tuned(
    bench: Bench, arm: Arm, entry: FineTuneConfig, progress: Callable[[int], None] | None
) -> Drawn:
    folder = curve_folder_of(bench.config, arm, bench.study.plan.id)
    try:
        return Drawn(arm, tuned_curve(bench, arm, entry, folder=folder, progress=progress))
    except arm_errors() as error:
        return Drawn(arm, error=reason_of(error))


def _draw_here(
    bench: Bench, due: Sequence[Arm], console: Console, take: Callable[[Drawn], None]
) -> None:
    with console.track("few labels", len(due) * len(bench.subsets())) as advance:
        for i, arm in enumerate(due):
            left = len(due) - i
            note = f"{left} arms left: {arm.name}" if left > 1 else arm.name
            take(draw(bench, arm, lambda n, note=note: advance(n, note)))  # type: ignore[misc]
