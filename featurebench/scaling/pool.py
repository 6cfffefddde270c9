"""deal_locally(): one task per item in processes of this machine, one at a time in each."""

from __future__ import annotations

import contextlib
import signal
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, TypeVar

from featurebench.errors import ConfigError, WorkerError
from featurebench.scaling.pool_worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# So many items that end their workers are no accident of one item.
MAX_SUSPECTS = 8
_LOOK_AGAIN_S = 1.0

Item = TypeVar("Item")
Result = TypeVar("Result")


def deal_locally(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    processes: int,
    threads_each: int = 1,
    progress: Callable[[Result], None],
    retries: int = 3,
) -> None:
    """Run ``function`` on every item in processes of this machine that end with the call.

    An item is drawn when a process is free for it, so none waits behind a long one. A task whose
    process died runs again, so it must bear being run twice. An item whose process died too often
    is tried once more at the end, alone, since its neighbours may have taken the memory. On Linux
    the processes end as soon as this one is gone, elsewhere after the task at hand.

    Parameters
    ----------
    function
        Importable in a new process, or picklable by cloudpickle. What its modules cache stays
        from one item to the next.
    items
        One task each, picklable; ``str(item)`` names it in errors.
    processes
        How many at most; no more are started than there are items.
    threads_each
        Sets ``OMP_NUM_THREADS``, ``MKL_NUM_THREADS`` and ``OPENBLAS_NUM_THREADS`` of the
        processes, before they import anything.
    progress
        Called in this process with each result, in the order in which they arrive.
    retries
        How often a task may be run again beside others after its process died.

    Raises
    ------
    ConfigError
        If a count is not positive, or a process cannot be started.
    WorkerError
        If items ended their processes whenever they were tried; all others are done, unless
        `MAX_SUSPECTS` items did so.
    Exception
        What ``function`` raised, as itself, as soon as it is known; a note has its traceback.

    Examples
    --------
    >>> from featurebench.scaling import deal_locally
    >>> lengths = []
    >>> deal_locally(len, ["a", "bc"], processes=2, progress=lengths.append)
    >>> sorted(lengths)
    [1, 2]
    """
    if threads_each < 1 or processes < 1:
        raise ConfigError(
            f"{processes} processes with {threads_each} threads each are too few; give 1 or more"
        )
    tasks = map(_Task, items)
    suspects = _Crew(function, threads_each, processes, retries, tasks).run(progress)
    guilty = _Crew(function, threads_each, 1, 0, iter(suspects)).run(progress)
    if guilty:
        raise _poison(guilty, "all others are done")


@dataclass
class _Task:
    """An item, and what became of the processes that had it."""

    item: object
    deaths: int = 0
    status: int = 0

    def __str__(self) -> str:
        how = signal.strsignal(-self.status) if self.status < 0 else f"status {self.status}"
        return f"{self.item} ({how})"


@dataclass
class _Crew:
    """The processes of one round, and what they have to do."""

    function: Callable[[Any], Any]
    threads_each: int
    processes: int
    retries: int
    waiting: Iterator[_Task]
    busy: dict[Worker, _Task] = field(default_factory=dict)
    idle: list[Worker] = field(default_factory=list)
    suspects: list[_Task] = field(default_factory=list)

    def run(self, progress: Callable[[Any], None]) -> list[_Task]:
        """Run the tasks; return those whose process died too often."""
        with self._none_left_behind():
            self._feed()
            while self.busy:
                for worker in self._heard():
                    self._take(worker, progress)
        return self.suspects

    def _feed(self) -> None:
        while len(self.busy) < self.processes:
            task = next(self.waiting, None)
            if task is None:
                return
            if not self.idle:
                self._start()
            worker = self.idle.pop()
            self.busy[worker] = task
            worker.give(task.item)

    def _start(self) -> None:
        try:
            self.idle.append(Worker(self.threads_each))
        except OSError as error:
            raise ConfigError(
                f"cannot start process {len(self.busy) + 1} of {self.processes}: "
                f"{error.strerror}; use fewer processes"
            ) from error
        self.idle[-1].give(self.function)

    def _heard(self) -> list[Worker]:
        """Wait for answers and deaths."""
        ready = wait([worker.connection for worker in self.busy], timeout=_LOOK_AGAIN_S)
        # The dead one's end of the pipe may live on in a process that it had forked.
        return [w for w in self.busy if w.connection in ready or w.process.poll() is not None]

    def _take(self, worker: Worker, progress: Callable[[Any], None]) -> None:
        answer = worker.answer()
        if answer is None:
            self._bury(worker)
            self._feed()
            return
        if answer.error is not None:
            raise answer.error
        del self.busy[worker]
        self.idle.append(worker)
        self._feed()  # nobody need wait for progress()
        progress(answer.result)

    def _bury(self, worker: Worker) -> None:
        status = worker.end()
        task = self.busy.pop(worker)
        task.deaths, task.status = task.deaths + 1, status
        if task.deaths <= self.retries:
            self.waiting = chain([task], self.waiting)
        else:
            self.suspects.append(task)
        if len(self.suspects) >= MAX_SUSPECTS:
            raise _poison(self.suspects, "stopped, since it is not one item's fault")

    @contextlib.contextmanager
    def _none_left_behind(self) -> Iterator[None]:
        try:
            yield
            for worker in self.idle:
                worker.finish()
        finally:
            for worker in (*self.busy, *self.idle):
                worker.end()


def _poison(tasks: list[_Task], others: str) -> WorkerError:
    return WorkerError(
        f"{', '.join(map(str, tasks))} ended the worker process each time (Killed is want of "
        f"memory, as a rule); {others}; use fewer processes or more memory and run it again"
    )
