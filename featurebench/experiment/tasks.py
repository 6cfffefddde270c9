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
from featurebench.evaluation import (
    FewLabels,
    InnerScore,
    Views,
    draw_subsets,
    make_folds,
    make_inner_folds,
    predict_folds,
    score_inside,
)
from featurebench.evaluation.crossval import check_rows
from featurebench.evaluation.predicting import count_trials
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
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    from sklearn.base import ClassifierMixin

    from featurebench.config import ExperimentConfig
    from featurebench.evaluation import InnerFolds, Subsets
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
    validate
        Whether the head is also scored inside the training side of each fold.
    """

    arm: Arm
    folds: tuple[int, ...]
    validate: bool = False

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
    inside
        The same of the scores inside the folds; empty where none were asked for.
    cost
        Of fitting and predicting, inside the folds, too.
    device
        Where the head computed.
    provenance
        Versions and machine.
    error
        One line, where the arm failed; there are no predictions then.
    """

    task: Task
    predictions: tuple[FoldPrediction, ...] = ()
    inside: tuple[InnerScore, ...] = ()
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
        self._inside: dict[bool, list[InnerFolds]] = {}
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
            study, draw = self.study, self._draw(tune=tune)
            self._folds[tune] = make_folds(study.plan, study.tiles.labels, study.groups, **draw)
        return self._folds[tune]

    def inside(self, *, tune: bool) -> list[InnerFolds]:
        """Lay out the folds inside the training sides of those of the plan."""
        if tune not in self._inside:
            study, draw = self.study, self._draw(tune=tune)
            self._inside[tune] = make_inner_folds(
                study.plan, study.tiles.labels, study.groups, **draw
            )
        return self._inside[tune]

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

    def _draw(self, *, tune: bool) -> dict[str, Any]:
        return {"inner": INNER_FOLDS, "seed": self.config.splits.seed, "tune": tune}

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
    tune = needs_inner_folds(head)
    folds = [bench.folds(tune=tune)[fold] for fold in task.folds]
    within = [bench.inside(tune=tune)[fold] for fold in task.folds if task.validate]
    given: dict[str, Any] = {
        "n_classes": len(study.tiles.classes),
        "views": views,
        "threads": bench.threads,
    }
    meter = CostMeter(device)
    predictions = predict_folds(head, X, study.tiles.labels, folds, progress=progress, **given)
    inside = _score_inside(head, X, study.tiles.labels, within, **given)
    trials = count_trials(predictions) + sum(each.trials for each in inside)
    cost = replace(meter.read(), trials=trials)
    return Outcome(
        task,
        tuple(predictions),
        tuple(inside),
        cost if device == "cpu" else replace(cost, gpu_s=cost.wall_s),
        device,
        {"versions": versions(), "machine": machine(bench.threads, device)},
    )


def _score_inside(
    head: ClassifierMixin,
    X: Array,
    y: npt.NDArray[np.int64],
    within: Sequence[InnerFolds],
    **given: Any,  # noqa: ANN401
) -> list[InnerScore]:
    """Score inside folds; a head that cannot do with so few rows still predicts, unscored."""
    try:
        return score_inside(head, X, y, within, **given)
    except arm_errors() as error:
        return [InnerScore.missing(reason_of(error))] * len(within)


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
