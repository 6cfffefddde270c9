"""Training in the middle of a fold on disk, so that a killed one goes on where it was."""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from featurebench.results import Cost, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_DIGEST_BYTES = 32


def save_checkpoint(file: Path, key: str, state: dict[str, Any]) -> None:
    """Write a state of tensors and plain values as one file, which appears whole or not.

    Parameters
    ----------
    key
        Without which the file is not read again.
    """
    stream = io.BytesIO()
    torch.save(state, stream)
    content = stream.getvalue()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, _digest(key, content) + content)


def load_checkpoint(file: Path, key: str) -> dict[str, Any] | None:
    """Read a state onto the CPU; None where it is absent, damaged, or has another key."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if digest != _digest(key, content):
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


@dataclass
class Checkpoints:
    """The checkpoints of one fold, each replacing the one before.

    Parameters
    ----------
    file, key
        As for `save_checkpoint`; without a file nothing is kept.
    every_s
        Seconds that pass between two of them at the least.
    spent
        Tells what this process has spent on the fold, which is kept, too.
    """

    file: Path | None
    key: str
    every_s: float
    spent: Callable[[], Cost]
    earlier: Cost = field(default=Cost(), init=False)
    last: float = field(default_factory=time.monotonic, init=False)

    def load(self) -> dict[str, Any] | None:
        """Read the state of the last checkpoint; its cost becomes `earlier`."""
        kept = None if self.file is None else load_checkpoint(self.file, self.key)
        if kept is None:
            return None
        self.earlier = Cost.of(kept["cost"])
        state: dict[str, Any] = kept["state"]
        return state

    def offer(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state if the last one is old enough."""
        if self.file is None or time.monotonic() - self.last < self.every_s:
            return
        cost = asdict(self.earlier + self.spent())
        save_checkpoint(self.file, self.key, {"state": state(), "cost": cost})
        self.last = time.monotonic()


def _digest(key: str, content: bytes) -> bytes:
    # torch.load does not notice a flipped bit in a tensor.
    return hashlib.sha256(key.encode() + content).digest()
