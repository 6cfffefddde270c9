"""tuned_curve(): how a fine-tune does with fewer labels, on the training sets of the heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurebench.evaluation.few_labels import score_subset
from featurebench.experiment.arms import repeats_of
from featurebench.experiment.fine_tunes import group_codes
from featurebench.experiment.networks import resolve_device
from featurebench.experiment.provenance import machine, versions
from featurebench.results import Cost, LearningCurve
from featurebench.splits import Split

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from featurebench.config import ExperimentConfig, FineTuneConfig
    from featurebench.evaluation.few_labels import Subset
    from featurebench.experiment.arms import Arm
    from featurebench.experiment.tasks import Bench

# Beside the metric of the comparison.
_METRICS = ("balanced_accuracy", "roc_auc", "log_loss")


def metrics_of(config: ExperimentConfig) -> tuple[str, ...]:
    """Give the metrics of every curve: the declared one first."""
    return tuple(dict.fromkeys([config.compare.metric, *_METRICS]))


def tuned_curve(
    bench: Bench,
    arm: Arm,
    entry: FineTuneConfig,
    *,
    folder: Path | None,
    progress: Callable[[int], None] | None = None,
) -> LearningCurve:
    """Train on every smaller training set of the repeats that the fine-tune runs.

    A set's first inner fold is what early stopping watches; one that is too small for inner folds
    is trained for all epochs. The recipe is that of the entry, unsearched.

    Parameters
    ----------
    folder
        Of the curve; finished sets are kept in it, so that a killed curve goes on.
    progress
        Called with numbers that add up to the number of all smaller training sets.
    """
    from featurebench.finetuning import fine_tune_subsets

    config, study, drawn = bench.config, bench.study, bench.subsets()
    repeats, device = repeats_of(study, entry), resolve_device(config.compute.device)
    subsets = {_name(each): each for each in drawn if each.repeat < repeats}
    tell = progress or (lambda _: None)
    tell(len(drawn) - len(subsets))
    outcomes = fine_tune_subsets(
        study.tiles,
        {name: _as_split(subset) for name, subset in subsets.items()},
        entry.recipe,
        plan_id=study.plan.id,
        groups=group_codes(study),
        seed=arm.seed,
        device=device,
        threads=bench.threads,
        workers=config.compute.workers or 0,
        folder=None if folder is None else folder / "folds",
        done=lambda _: tell(1),
    )
    metrics, labels = metrics_of(config), study.tiles.labels
    return LearningCurve(
        arm=arm.name,
        embedding=None,
        head=None,
        params=arm.params,
        fingerprint=arm.fingerprint,
        plan_id=study.plan.id,
        seed=arm.seed,
        classes=study.tiles.classes,
        settings=drawn.few.as_json(),
        metrics=metrics,
        points=tuple(
            score_subset(
                subset, labels, outcomes[name].y_prob, metrics, inner=subset.level or "fixed"
            )
            for name, subset in subsets.items()
        ),
        left_out=drawn.left_out,
        full_tiles=drawn.full_tiles,
        full_patients=drawn.full_patients,
        cost=sum((outcome.cost for outcome in outcomes.values()), Cost()),
        provenance={"versions": versions(), "machine": machine(bench.threads, device)},
    )


def _name(subset: Subset) -> str:
    return f"{subset.kind}_{subset.size}_{subset.draw}_r{subset.repeat}_f{subset.fold}"


def _as_split(subset: Subset) -> Split:
    train = subset.train
    if subset.inner is None:
        return Split(subset.repeat, subset.fold, train, None, subset.test)
    held = subset.inner == 0
    return Split(subset.repeat, subset.fold, train[~held], train[held], subset.test)
