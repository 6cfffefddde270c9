"""run_probes(): deal the folds of all arms out, to this process or to workers, and gather them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from featurebench.errors import WorkerError
from featurebench.evaluation import assemble
from featurebench.experiment.arms import arm_errors, pending_arms, reason_of
from featurebench.experiment.hands import Hands, Work, send
from featurebench.experiment.probes import make_probe
from featurebench.experiment.tasks import Bench, Outcome, Task, run_ordered, run_task
from featurebench.heads import ManyFoldHead
from featurebench.results import Cost, RunResult, save_failure, save_run
from featurebench.store import FeatureStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from featurebench.config import ExperimentConfig
    from featurebench.experiment.arms import Arm
    from featurebench.experiment.console import Advance, Console
    from featurebench.experiment.study import Study

Item = TypeVar("Item")


def run_probes(
    config: ExperimentConfig,
    arms: Sequence[Arm],
    study: Study,
    console: Console,
    hands: Hands,
    *,
    validate: bool = False,
) -> None:
    """Run the probes that are not there yet; each is saved as soon as its last fold is in.

    However the work is shared, the tasks are the same. An arm that fails is recorded and the
    others go on.

    Parameters
    ----------
    validate
        Whether probes are also scored inside the training side of every fold, to choose from.
    """
    due = pending_arms(config, arms, console)
    if not due:
        return
    tasks = plan_tasks(config, due, study, validate=validate)
    total = sum(len(task.folds) for task in tasks)
    ledger = _Ledger(config, study, console, n_due=len(due))
    n_arms = f"{len(due)} arms" if len(due) > 1 else "1 arm"
    with console.track(f"probing {n_arms}", total) as advance:
        if hands.are_here:
            _work_here(tasks, Bench(config, study), ledger, advance)
        else:
            _deal(tasks, ledger, advance, hands)


def plan_tasks(
    config: ExperimentConfig, arms: Sequence[Arm], study: Study, *, validate: bool = False
) -> list[Task]:
    """Cut arms into tasks: one for all folds where the head shares work between them, else each.

    Parameters
    ----------
    validate
        As for `run_probes`; baselines are never chosen, and so not scored inside.
    """
    every = range(study.plan.n_repeats * study.plan.n_folds)
    tasks = []
    for arm in arms:
        head = make_probe(config, arm.entry or "", study.tiles.classes)
        inside = validate and arm.kind == "probe"
        if isinstance(head, ManyFoldHead):
            tasks.append(Task(arm, tuple(every), inside))
        else:
            tasks += [Task(arm, (fold,), inside) for fold in every]
    return tasks


def _work_here(tasks: Sequence[Task], bench: Bench, ledger: _Ledger, advance: Advance) -> None:
    for task in tasks:
        if ledger.has_failed(task.arm):
            advance(len(task.folds))
            continue
        note = ledger.note([task])
        advance(0, note)
        counter = _Counter(advance, note)
        outcome = run_task(bench, task, counter)
        advance(len(task.folds) - counter.done, note)
        ledger.take(outcome)


def _deal(tasks: Sequence[Task], ledger: _Ledger, advance: Advance, hands: Hands) -> None:
    """Let workers do the tasks; the ones that cannot be cut come first, since they take longest."""
    in_order = sorted(tasks, key=lambda task: -len(task.folds))
    under_way: dict[str, Task] = {}

    def hand_out() -> Iterator[Task]:
        for task in in_order:
            if ledger.has_failed(task.arm):
                advance(len(task.folds))
                continue
            under_way[str(task)] = task
            advance(0, ledger.note(under_way.values()))
            yield task

    def take(outcome: Outcome) -> None:
        under_way.pop(str(outcome.task), None)
        ledger.take(outcome)
        advance(len(outcome.task.folds), ledger.note(under_way.values()))

    try:
        work = Work(ledger.config, ledger.study, run_ordered, len(tasks))
        send(work, hands, hand_out(), take)
    except WorkerError as error:
        ledger.give_up([task.arm for task in under_way.values()], reason_of(error))
        if ledger.n_left:
            raise


@dataclass
class _Counter:
    """Counts folds on their way to the bar."""

    advance: Advance
    note: str
    done: int = 0

    def __call__(self, n: int) -> None:
        self.done += n
        self.advance(n, self.note)


@dataclass
class _Ledger:
    """What has come in so far, by arm; complete arms go to disk at once."""

    config: ExperimentConfig
    study: Study
    console: Console
    n_due: int
    found: dict[str, list[Outcome]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    n_saved: int = 0

    def has_failed(self, arm: Arm) -> bool:
        """Tell whether an earlier task of the arm failed."""
        return arm.name in self.failed

    @property
    def n_left(self) -> int:
        """Arms that are neither saved nor failed."""
        return self.n_due - self.n_saved - len(self.failed)

    def note(self, under_way: Iterable[Task]) -> str:
        """Say how many arms are left, if more than one, and which are being worked on."""
        names = ", ".join(dict.fromkeys(task.arm.name for task in under_way))
        return f"{self.n_left} arms left: {names}" if self.n_left > 1 else names

    def take(self, outcome: Outcome) -> None:
        """Keep an outcome; save the arm where it is the last one."""
        arm = outcome.task.arm
        if self.has_failed(arm):
            return
        if outcome.error is not None:
            self._fail(arm, outcome.error)
            return
        found = self.found.setdefault(arm.name, [])
        found.append(outcome)
        plan = self.study.plan
        if sum(len(each.task.folds) for each in found) < plan.n_repeats * plan.n_folds:
            return
        try:
            result = self._assemble(arm, self.found.pop(arm.name))
        except arm_errors() as error:
            self._fail(arm, reason_of(error))
            return
        save_run(result, self.config.output.results / "runs")
        self.n_saved += 1
        self.console.say("arm", f"{arm.name}: {result.cost.wall_s:.1f} s")

    def give_up(self, arms: Sequence[Arm], reason: str) -> None:
        """Record that arms ended their workers."""
        for arm in arms:
            if not self.has_failed(arm):
                self._fail(arm, reason)

    def _fail(self, arm: Arm, reason: str) -> None:
        root = self.config.output.results / "runs"
        save_failure(root, arm.name, arm.kind, arm.run_id, reason)
        self.failed.add(arm.name)
        self.found.pop(arm.name, None)
        self.console.say("failed", f"{arm.name}: {reason}")

    def _assemble(self, arm: Arm, outcomes: Sequence[Outcome]) -> RunResult:
        study = self.study
        predictions = _in_order((each.task.folds, each.predictions) for each in outcomes)
        inside = _in_order((each.task.folds, each.inside) for each in outcomes if each.inside)
        classes = study.tiles.classes
        embedding_costs = self._embedding_costs(arm)
        return RunResult(
            arm=arm.name,
            kind=arm.kind,
            embedding=None if arm.spec is None else arm.spec.name,
            head=arm.head,
            strategy=None,
            params=arm.params,
            fingerprint=arm.fingerprint,
            plan_id=study.plan.id,
            seed=self.config.splits.seed,
            classes=tuple(classes),
            **assemble(study.plan, study.tiles.labels, predictions, len(classes), inside=inside),
            cost=_with_rows(sum((each.cost for each in outcomes), Cost()), arm, len(study.rows)),
            extraction_cost=sum(embedding_costs.values(), Cost()),
            embedding_costs=embedding_costs,
            device=outcomes[0].device,
            provenance={**outcomes[0].provenance, **_image_size(arm)},
        )

    def _embedding_costs(self, arm: Arm) -> dict[str, Cost]:
        """Look up what each embedding cost that the arm reads, by name."""
        if arm.spec is None:
            return {}
        store = FeatureStore.open(self.config.store)
        return {
            spec.name: replace(Cost.of(store.cost(spec)), bytes_written=store.stored_bytes(spec))
            for spec in (arm.spec, *arm.views)
        }


def _image_size(arm: Arm) -> dict[str, int]:
    """Give the side of what the network read, in pixels; nothing where that is not known."""
    size = None if arm.spec is None else arm.spec.preprocessing.get("input_size")
    return {} if not size else {"image_size": int(size[-1])}


def _in_order(parts: Iterable[tuple[Sequence[int], Sequence[Item]]]) -> list[Item]:
    """Put what tasks say of their folds in the order of the plan's folds."""
    by_fold = {
        fold: item for folds, items in parts for fold, item in zip(folds, items, strict=True)
    }
    return [by_fold[fold] for fold in sorted(by_fold)]


def _with_rows(cost: Cost, arm: Arm, n_rows: int) -> Cost:
    """Count the rows that an arm reads, once: they are mapped, which is no read call."""
    if arm.spec is None or cost.bytes_read is None:
        return cost
    specs = (arm.spec, *arm.views)
    n_bytes = sum(n_rows * spec.dim * np.dtype(spec.dtype).itemsize for spec in specs)
    return replace(cost, bytes_read=cost.bytes_read + n_bytes)
