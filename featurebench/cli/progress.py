"""Console of the command line: lines, and bars on a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from featurebench.experiment import Console
    from featurebench.experiment.console import Advance

PLAIN_EVERY_S = 10.0
# A fold may take minutes; the time left is told from the last hour.
SPEED_OVER_S = 3600.0


def make_console(*, quiet: bool = False) -> Console:
    """Make the console: a bar on a terminal, plain lines elsewhere; notices alone where quiet."""
    from featurebench.experiment import Console

    if quiet:
        return Console(say=_say_notice)
    if not sys.stderr.isatty():
        return Console(say=_say, track=_plain)
    terminal = _Terminal()
    return Console(say=terminal.say, track=terminal.track)


def _say(step: str, message: str) -> None:
    click.echo(_line(step, message), err=True)


def _say_notice(step: str, message: str) -> None:
    if step == "notice":
        _say(step, message)


class _Terminal:
    """Lines, and a bar that stays below them while there is one."""

    def __init__(self) -> None:
        self._bar: Progress | None = None

    def say(self, step: str, message: str) -> None:
        """Print a line, above the bar."""
        if self._bar is None:
            _say(step, message)
        else:
            line = _line(step, message)
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def track(self, label: str, total: int) -> Iterator[Advance]:
        """Show a bar with the rate and the time left, gone when the work is done."""
        with _make_bar() as bar:
            self._bar = bar
            task = bar.add_task(label, total=total, rate="", note="")

            def advance(n: int, note: str = "") -> None:
                speed = bar.tasks[0].speed
                bar.update(task, advance=n, rate=_rate(speed) if speed else "", note=note)

            try:
                yield advance
            finally:
                self._bar = None


def _make_bar() -> Progress:
    from rich.console import Console as Terminal
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    terminal = Terminal(stderr=True)
    return Progress(*columns, console=terminal, transient=True, speed_estimate_period=SPEED_OVER_S)


@contextlib.contextmanager
def _plain(label: str, total: int) -> Iterator[Advance]:
    """Print a line every few seconds where there is no terminal."""
    start = last = time.monotonic()
    done = 0

    def advance(n: int, note: str = "") -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if now - last >= PLAIN_EVERY_S and 0 < done < total:
            rate = done / (now - start)
            left = (total - done) / rate
            beside = f", {note}" if note else ""
            _say("...", f"{label}: {done:,}/{total:,}, {_rate(rate)}, {left:.0f} s left{beside}")
            last = now

    yield advance


def _line(step: str, message: str) -> str:
    return f"{step:<10} {message}"


def _rate(per_s: float) -> str:
    return f"{per_s:.1f}/s" if per_s >= 1 else f"{1 / per_s:.1f} s each"
