"""Rounds: every layout writes and reads the same rows in turn, and each step is timed."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.layouts import Featurebench, Index, Layout, Rows, Shape
from benchmarks.surroundings import touch_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

# a young file is checked at each reading, since its time stamp may not tell a second change
SETTLE_S = 2.5
WARM_UP_ROWS = 64
# so many times the matrix is more than any layout holds at once, its pages in the cache included
TOUCHED = 6


@dataclass(frozen=True)
class Plan:
    """What is measured: repeats of all layouts, fewer of those with a file per row.

    A repeat writes once and reads ``readings`` times, once where there is a file per row.
    """

    shape: Shape
    repeats: int
    readings: int
    slow_repeats: int
    drop_caches: bool = False


@dataclass(frozen=True)
class Data:
    """The matrix, shape (rows, columns), and the sorted rows of a training fold."""

    rows: Rows
    index: Index

    def first(self, n_rows: int) -> Data:
        """Return no more than the first rows, all of them in the fold."""
        rows = self.rows[:n_rows]
        return Data(rows, np.arange(len(rows)))


@dataclass(frozen=True)
class Size:
    """Files of a layout: how many, the sum of their lengths, and what they take on disk (bytes)."""

    files: int
    length: int
    on_disk: int


@dataclass
class Timings:
    """Seconds of each write and each reading, by layout and operation; sizes by layout.

    Operations: ``write`` is ``create`` (make the array, or the store with its table) and ``fill``;
    ``read`` all rows; ``gather`` those of a fold; ``first_read`` all, in a process that has not
    checked them before.
    """

    seconds: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    sizes: dict[str, Size] = field(default_factory=dict)


def make_data(shape: Shape, *, fold: float, seed: int) -> Data:
    """Draw features like those behind a ReLU and a mean over positions, and a fold's rows."""
    rng = np.random.default_rng(seed)
    shift = rng.normal(-0.5, 0.5, shape.columns).astype(np.float32)
    rows = np.empty((shape.rows, shape.columns), dtype=np.float16)
    for start in range(0, shape.rows, 1024):
        part = rows[start : start + 1024]
        positions = (rng.standard_normal(part.shape, dtype=np.float32) + shift for _ in range(4))
        part[:] = sum(np.maximum(position, 0) for position in positions) / 4
    chosen = rng.permutation(shape.rows)[: max(1, round(fold * shape.rows))]
    return Data(rows, np.sort(chosen).astype(np.intp))


def run_rounds(
    layouts: Sequence[Layout],
    plan: Plan,
    data: Data,
    folder: Path,
    *,
    say: Callable[[str], None],
) -> Timings:
    """Measure every layout in every round, after one round that does not count.

    Layouts take turns within a round, in writing and in each reading, and another one starts each
    round. In the round that does not count, those with a file per row have few rows.

    Parameters
    ----------
    layouts, plan
        What to measure.
    data
        What is written and read.
    folder
        Empty; empty again afterwards.
    say
        Told of each round.

    Raises
    ------
    ValueError
        If a layout returns other rows than were written.
    """
    few_files = [layout for layout in layouts if not layout.many_files]
    many_files = [layout for layout in layouts if layout.many_files]
    say("warm-up")
    _run_round(few_files, plan, data, folder, Timings())
    _run_round(many_files, plan, data.first(WARM_UP_ROWS), folder, Timings())
    timings = Timings()
    for number in range(max(plan.repeats, plan.slow_repeats)):
        say(f"round {number + 1}")
        due = few_files * (number < plan.repeats) + many_files * (number < plan.slow_repeats)
        turn = number % len(due)
        _run_round(due[turn:] + due[:turn], plan, data, folder, timings)
    return timings


def time_first_read(folder: Path, touched: int = 0) -> tuple[float, str]:
    """Read a `FeatureStore` in a process that has checked none of its checksums yet.

    Parameters
    ----------
    folder
        Of the layout `Featurebench`.
    touched
        Bytes of memory that the process uses and gives back before it reads, see `touch_memory`.

    Returns
    -------
    tuple of float and str
        Seconds from opening the store to all rows in memory, without the start of the process,
        and the SHA-256 of these rows.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(_time_read, folder, touched).result()


def _run_round(
    layouts: Sequence[Layout], plan: Plan, data: Data, folder: Path, timings: Timings
) -> None:
    for layout in layouts:
        _time_write(layout, plan, data.rows, folder / layout.name, timings)
    time.sleep(SETTLE_S)
    few_files = [layout for layout in layouts if not layout.many_files]
    for layout in few_files:
        # one that does not count, and after which checksums have been compared in this process
        layout.read(folder / layout.name)
    for number in range(plan.readings):
        for layout in few_files if number else layouts:
            _time_reads(layout, plan, data, folder / layout.name, timings)
    for layout in layouts:
        timings.sizes[layout.name] = _measure_size(folder / layout.name)
        shutil.rmtree(folder / layout.name)
    os.sync()


def _time_write(layout: Layout, plan: Plan, rows: Rows, folder: Path, timings: Timings) -> None:
    folder.mkdir()
    touch_memory(TOUCHED * rows.nbytes)
    start = time.perf_counter()
    layout.create(folder, Shape(len(rows), rows.shape[1], plan.shape.block_rows))
    created = time.perf_counter()
    layout.fill(folder, rows)
    filled = time.perf_counter()
    for name, seconds in (
        ("create", created - start),
        ("fill", filled - created),
        ("write", filled - start),
    ):
        timings.seconds[layout.name, name].append(seconds)
    # what one layout leaves to the operating system shall not slow down the next one
    os.sync()


def _time_reads(layout: Layout, plan: Plan, data: Data, folder: Path, timings: Timings) -> None:
    if isinstance(layout, Featurebench):
        _prepare(plan, folder)
        seconds, found = time_first_read(folder, TOUCHED * data.rows.nbytes)
        _require(found == _digest(data.rows), layout)
        timings.seconds[layout.name, "first_read"].append(seconds)
    steps: tuple[tuple[str, Callable[[], Rows], Rows], ...] = (
        ("read", lambda: layout.read(folder), data.rows),
        ("gather", lambda: layout.gather(folder, data.index), data.rows[data.index]),
    )
    for name, step, expected in steps:
        _prepare(plan, folder)
        touch_memory(TOUCHED * data.rows.nbytes)
        start = time.perf_counter()
        found_rows = step()
        timings.seconds[layout.name, name].append(time.perf_counter() - start)
        _require(np.array_equal(found_rows, expected), layout)
        del found_rows


def _time_read(folder: Path, touched: int) -> tuple[float, str]:
    touch_memory(touched)
    start = time.perf_counter()
    rows = Featurebench().read(folder)
    return time.perf_counter() - start, _digest(rows)


def _digest(rows: Rows) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()


def _require(same: bool, layout: Layout) -> None:
    if not same:
        raise ValueError(f"{layout.title} returned other rows than were written; mend its layout")


def _prepare(plan: Plan, folder: Path) -> None:
    """Drop the files from the page cache if the plan is to read cold; others stay in it."""
    if not plan.drop_caches:
        return
    for path in _files(folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _measure_size(folder: Path) -> Size:
    stats = [path.stat() for path in _files(folder)]
    # st_blocks counts in units of 512 bytes, whatever the file system's own
    return Size(len(stats), sum(s.st_size for s in stats), 512 * sum(s.st_blocks for s in stats))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
