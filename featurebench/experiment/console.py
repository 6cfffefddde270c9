"""Console: how a step tells what it does; the command line supplies one that draws bars."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Advance(Protocol):
    """Moves a progress bar by n, with a few words beside it."""

    def __call__(self, n: int, note: str = "") -> None:
        """Advance."""


@contextlib.contextmanager
def _untracked(label: str, total: int) -> Iterator[Advance]:
    yield lambda n, note="": None


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
        Called with a label and a total; its context gives an `Advance`.
    """

    say: Callable[[str, str], None] = _unsaid
    track: Callable[[str, int], AbstractContextManager[Advance]] = _untracked


QUIET = Console()
