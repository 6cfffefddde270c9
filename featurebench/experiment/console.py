"""Console: how a step tells what it does; the command line supplies one that draws bars."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

Advance = Callable[[int], None]


@contextlib.contextmanager
def _untracked(label: str, total: int) -> Iterator[Advance]:
    yield lambda _: None


def _unsaid(step: str, message: str) -> None:
    """Drop the line."""


@dataclass(frozen=True)
class Console:
    """Where a step's lines and progress go; by default nowhere.

    Parameters
    ----------
    say
        Called with the step's name and one line about it.
    track
        Called with a label and a total; its context gives a function that advances by n.
    """

    say: Callable[[str, str], None] = _unsaid
    track: Callable[[str, int], AbstractContextManager[Advance]] = _untracked


QUIET = Console()
