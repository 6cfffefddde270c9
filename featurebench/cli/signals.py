"""What ends a verb early: Ctrl-C, a scheduler's signal; the second one at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

RESUME = (
    "interrupted: finished blocks, folds and runs are kept; the same command goes on from there"
)
INTERRUPTED, PREEMPTED = 130, 143
# SIGUSR1 is how SLURM announces a pre-emption where it is told to (--signal).
_ASKS = {
    signal.SIGINT: INTERRUPTED,
    signal.SIGTERM: PREEMPTED,
    signal.SIGUSR1: PREEMPTED,
}


@contextlib.contextmanager
def orderly_end() -> Iterator[None]:
    """Leave what is under way in order at the first signal, and at once at the second.

    The first unwinds the stack: a block that is complete is still written, one that is not is
    dropped. Exit status 130 after Ctrl-C, 143 after SIGTERM or SIGUSR1.
    """
    before = {signum: signal.signal(signum, _stop) for signum in _ASKS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _stop(signum: int, _frame: FrameType | None) -> NoReturn:
    status = _ASKS[signal.Signals(signum)]
    for other in _ASKS:
        signal.signal(other, _stop_at_once)
    click.echo(f"\nfeaturebench: {RESUME}", err=True)
    sys.exit(status)


def _stop_at_once(signum: int, _frame: FrameType | None) -> NoReturn:
    os._exit(_ASKS[signal.Signals(signum)])
