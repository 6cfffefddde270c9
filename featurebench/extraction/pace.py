"""Pace of a pass: how fast it is, and whether reading, the network or writing holds it up."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Older seconds count less: after so many tiles' worth of batches half.
_MEMORY = 0.9
STAGES = ("reading", "network", "writing")


@dataclass
class Pace:
    """Seconds that the pass waited for each of its stages.

    A stage's seconds are those during which nothing else could go on: ``reading`` while the next
    tiles were not there yet, ``network`` while rows were computed, ``writing`` while a finished
    block could not be handed over.
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    _recent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def waiting(self, stage: str) -> Iterator[None]:
        """Count the seconds of a ``with`` statement for a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    def add(self, stage: str, seconds: float) -> None:
        """Count seconds for a stage."""
        self.seconds[stage] += seconds
        self._recent[stage] += seconds

    def tick(self) -> str:
        """Say after a batch what bounds the pass now, such as ``bound by reading (71 %)``."""
        text = bound_by(self._recent)
        for stage in STAGES:
            self._recent[stage] *= _MEMORY
        return text


def bound_by(seconds: Mapping[str, float]) -> str:
    """Name the stage that takes most of the time, and its share.

    Examples
    --------
    >>> bound_by({"reading": 1.0, "network": 3.0, "writing": 0.0})
    'bound by the network (75 %)'
    """
    total = sum(seconds.values())
    if not total:
        return ""
    stage = max(STAGES, key=lambda name: seconds[name])
    name = "the network" if stage == "network" else stage
    return f"bound by {name} ({seconds[stage] / total:.0%})".replace("%)", " %)")
