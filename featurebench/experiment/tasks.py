"""A task: some folds of one arm, done by this process or by a worker that loads what it needs."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.config import parse_config
from featurebench.errors import ResultsError
from featurebench.evaluation import FewLabels, Views, draw_subsets, make_folds, predict_folds
from featurebench.evaluation.crossval import check_rows, count_trials
from featurebench.experiment.arms import arm_errors, reason_of
from featurebench.experiment.console import QUIET
from featurebench.experiment.networks import resolve_device, resolve_threads
from featurebench.experiment.probes import INNER_FOLDS, device_of, make_probe
from featurebench.experiment.provenance import machine, versions
from featurebench.experiment.study import load_tiles, make_study
from featurebench.heads import needs_inner_folds
from featurebench.results import Cost, CostMeter
from featurebench.store import FeatureStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt
    from sklearn.base import ClassifierMixin

    from featurebench.config import ExperimentConfig
    from featurebench.evaluation import Subsets
    from featurebench.experiment.arms import Arm
    from featurebench.experiment.study import BadTile, Study
    from featurebench.heads import Fold, FoldPrediction

    Progress = Callable[[int], None]
    Array = npt.NDArray[np.floating[Any]]

# What is measured, and how many threads work, holds for a whole process.
ALONE = threading.Lock()


@dataclass(frozen=True)
class Task:
    """A piece of one arm's work, small enough to be sent.

    Parameters
    ----------
    arm
        As declared.
    folds
        Numbers of the folds in the plan's order.
    """

    arm: Arm
    folds: tuple[int, ...]

    def __str__(self) -> str:
        """Name the arm and its folds."""
        first, last = self.folds[0], self.folds[-1]
        return f"{self.arm.name}, {f'fold {first}' if first == last else f'folds {first}-{last}'}"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a task.

    Parameters
    ----------
    predictions
        One per fold of the task, in its order.
    cost
        Of fitting and predicting.
    device
        Where the head computed.
    provenance
        Versions and machine.
    error
        One line, where the arm failed; there are no predictions then.
    """

    task: Task
    predictions: tuple[FoldPrediction, ...] = ()
    cost: Cost = field(default_factory=Cost)
    device: str = "cpu"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Order:
    """What a worker must know besides the task: the same for all tasks of a command.

    Parameters
    ----------
    text, base
        The experiment, as `featurebench.config.dump_config` gives it, as JSON, and its folder.
    bad_tiles
        Tiles that no arm uses.
    plan_id
        Of the folds that the worker must arrive at.
    """

    text: str
    base: str
    bad_tiles: tuple[BadTile, ...]
    plan_id: str


class Bench:
    """An experiment as tasks need it; what several tasks share is read or drawn once.

    Parameters
    ----------
    config, study
        The experiment.
    """

    def __init__(self, config: ExperimentConfig, study: Study) -> None:
        self.config = config
        self.study = study
        self.threads = resolve_threads(config.compute.threads)
        self._folds: dict[bool, list[Fold]] = {}
        self._subsets: Subsets | None = None
        self._read: tuple[tuple[str, ...], Array, Views | None] | None = None

    def head(self, arm: Arm) -> ClassifierMixin:
        """Make the arm's unfitted head."""
        device = resolve_device(self.config.compute.device)
        classes = self.study.tiles.classes
        return make_probe(
            self.config, arm.entry or "", classes, threads=self.threads, device=device
        )

    def folds(self, *, tune: bool) -> list[Fold]:
        """Lay out all folds of the plan, with inner ones where a head chooses something."""
        if tune not in self._folds:
            study = self.study
            self._folds[tune] = make_folds(
                study.plan,
                study.tiles.labels,
                study.groups,
                inner=INNER_FOLDS,
                seed=self.config.splits.seed,
                tune=tune,
            )
        return self._folds[tune]

    def subsets(self) -> Subsets:
        """Draw the smaller training sets that all arms are fitted on."""
        few = few_labels_of(self.config)
        if few is None:
            raise ResultsError("the experiment file has no few_labels: there is nothing to draw")
        if self._subsets is None:
            study = self.study
            self._subsets = draw_subsets(
                study.tiles.labels,
                study.plan,
                few,
                groups=study.groups,
                patients=study.patients,
            )
        return self._subsets

    def rows(self, arm: Arm) -> tuple[Array, Views | None]:
        """Read the arm's embeddings; the last ones read are kept for its other tasks."""
        key = (arm.fingerprint, str(arm.params.get("views")))
        if self._read is None or self._read[0] != key:
            self._read = None  # two matrices may not fit
            self._read = (key, *self._load(arm))
        return self._read[1:]

    def _load(self, arm: Arm) -> tuple[Array, Views | None]:
        study = self.study
        if arm.spec is None:
            return np.zeros((len(study.tiles), 1), dtype=np.float32), None
        store = FeatureStore.open(self.config.store)
        X = store.load(arm.spec, study.rows)
        check_rows(X, study.tiles.labels, study.plan)
        use = self.config.heads[arm.entry or ""].views
        if use is None:
            return X, None
        others = [store.load(spec, study.rows) for spec in arm.views]
        return X, Views(others, train=use.train, average=use.average)


def few_labels_of(config: ExperimentConfig) -> FewLabels | None:
    """Give the sizes that the experiment file asks for, if any."""
    section = config.few_labels
    return None if section is None else FewLabels(**section.model_dump(exclude={"heads"}))


def run_task(bench: Bench, task: Task, progress: Progress | None = None) -> Outcome:
    """Do a task here; an error of the arm's own is its outcome.

    Parameters
    ----------
    progress
        Called with the number of folds done.
    """
    with ALONE:
        try:
            return _predict(bench, task, progress)
        except arm_errors() as error:
            return Outcome(task, error=reason_of(error))


def run_ordered(order: Order, task: Task) -> Outcome:
    """Do a task in a worker, which loads the experiment at its first one."""
    return run_task(bench_of(order), task)


def _predict(bench: Bench, task: Task, progress: Progress | None) -> Outcome:
    study, head = bench.study, bench.head(task.arm)
    device = device_of(head)
    X, views = bench.rows(task.arm)
    laid_out = bench.folds(tune=needs_inner_folds(head))
    meter = CostMeter(device)
    predictions = predict_folds(
        head,
        X,
        study.tiles.labels,
        [laid_out[fold] for fold in task.folds],
        n_classes=len(study.tiles.classes),
        views=views,
        threads=bench.threads,
        progress=progress,
    )
    cost = replace(meter.read(), trials=count_trials(predictions))
    return Outcome(
        task,
        tuple(predictions),
        cost if device == "cpu" else replace(cost, gpu_s=cost.wall_s),
        device,
        {"versions": versions(), "machine": machine(bench.threads, device)},
    )


@lru_cache(maxsize=1)
def bench_of(order: Order) -> Bench:
    """Load the experiment that a worker was given, at its first task."""
    config = parse_config(json.loads(order.text), Path(order.base))
    study = make_study(config, load_tiles(config, QUIET), order.bad_tiles)
    if study.plan.id != order.plan_id:
        raise ResultsError(
            f"a worker finds folds {study.plan.id} where {order.plan_id} were drawn: its tiles or "
            "its featurebench differ; give all workers the same files and versions"
        )
    return Bench(config, study)
