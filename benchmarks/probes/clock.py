"""Clock: several ways of doing one task take turns, and each is timed."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.probes.cohort import Shape, make_task
from benchmarks.surroundings import touch_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.probes.cohort import Task

# So many times the matrix is more than any way holds at once.
TOUCHED = 6
_WARM_UP = Shape(rows=450, columns=16, patients=30)


@dataclass(frozen=True)
class Way:
    """One way of doing a task; with ``n_folds`` it is given the first ones only, and scaled."""

    name: str
    run: Callable[[Task], Any]
    n_folds: int | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds of each round, of the whole task."""

    name: str
    seconds: list[float]
    note: str = ""

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Section:
    """What one measurement found.

    Parameters
    ----------
    title
        What was done, in a line.
    timings
        Ours first; the others are divided by it.
    lines
        Printed below.
    facts
        JSON-ready.
    """

    title: str
    timings: Sequence[Timing] = ()
    lines: Sequence[str] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ratios(self) -> dict[str, float]:
        """Median seconds of the other ways, in units of the first one's."""
        first, *others = self.timings or (Timing("", [1.0]),)
        return {other.name: other.median / first.median for other in others}


@dataclass(frozen=True)
class Clock:
    """Times ways of doing a task in so many rounds; ``say`` is told of each step."""

    rounds: int
    say: Callable[[str], None]

    def time(self, ways: Sequence[Way], task: Task) -> tuple[list[Timing], dict[str, Any]]:
        """Time all ways in every round, another one first in each; and give what they return.

        Before, each does a small task, so that libraries are loaded and processes started. Memory
        is touched before each step, outside of the time.

        Returns
        -------
        timings, found
            In the order of the ways, and what the last round of each returned, by name.
        """
        small = make_task(_WARM_UP, folds=2)
        for way in ways:
            way.run(small)
        seconds: dict[str, list[float]] = {way.name: [] for way in ways}
        found: dict[str, Any] = {}
        for number in range(self.rounds):
            turn = number % len(ways)
            for way in [*ways[turn:], *ways[:turn]]:
                self.say(f"  round {number + 1}: {way.name}")
                part = task.first(way.n_folds)
                taken, found[way.name] = time_once(way.run, part)
                seconds[way.name].append(taken * len(task.splits) / len(part.splits))
        return [Timing(way.name, seconds[way.name], _note(way, task)) for way in ways], found


def time_once(run: Callable[[Task], Any], task: Task) -> tuple[float, Any]:
    """Run once, on memory that was used just before; give the seconds and what it returned."""
    touch_memory(TOUCHED * task.X.nbytes)
    start = time.perf_counter()
    found = run(task)
    return time.perf_counter() - start, found


def kernels(pools: Sequence[dict[str, Any]]) -> str:
    """Name the linear algebra of thread pools as threadpoolctl gives them, with its kernels."""
    names = {
        f"{pool['internal_api']} {pool.get('version')} {pool.get('architecture', '')}".strip()
        for pool in pools
        if pool["user_api"] == "blas"
    }
    return ", ".join(sorted(names))


def folds(n_folds: int) -> str:
    """Count folds in words, e.g. ``25 folds``."""
    return "1 fold" if n_folds == 1 else f"{n_folds} folds"


def _note(way: Way, task: Task) -> str:
    n_run, n_all = len(task.first(way.n_folds).splits), len(task.splits)
    return f"timed on {n_run} of {n_all} folds, scaled" if n_run < n_all else ""
