"""Shelf: memory that this process and its readers share, for an order of tiles and their inputs."""

from __future__ import annotations

import mmap
import os
import pickle
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featurebench.extraction.reading import Order, Reading, bytes_needed, lay_out, read_tiles

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy.typing as npt

    from featurebench.extraction.reading import Feed

# The inputs, then which tile is at hand, then the order, which may be longer than any pipe holds.
_NOTE_BYTES = 64


@dataclass(frozen=True)
class ShelfName:
    """What another process needs to find a shelf: its file, and for how many tiles it has room."""

    path: str
    capacity: int


class Shelf:
    """Shared memory for the inputs of some tiles, as the process sees it that has them read.

    Parameters
    ----------
    feeds
        What is made of each tile.
    capacity
        Most tiles.
    """

    def __init__(self, feeds: Sequence[Feed], capacity: int) -> None:
        self._size = bytes_needed(feeds, capacity)
        # memory without a name cannot be left behind, and no container's /dev/shm limits it
        self._file = os.memfd_create("featurebench-tiles")
        os.ftruncate(self._file, self._size + _NOTE_BYTES)
        buffer = mmap.mmap(self._file, self._size + _NOTE_BYTES)
        self._note = _note_in(buffer, self._size)
        self.inputs = lay_out(buffer, feeds, capacity)
        self.name = ShelfName(f"/proc/{os.getpid()}/fd/{self._file}", capacity)

    @property
    def at_hand(self) -> int | None:
        """Place in the order of the tile that a reader began last; None if it began none."""
        at = int(self._note[0])
        return None if at < 0 else at

    def put(self, order: Order, skip: Collection[int]) -> None:
        """Lay an order down for a reader; no other may work on the shelf."""
        self._note[0] = -1
        os.pwrite(self._file, pickle.dumps((order, frozenset(skip))), self._size + _NOTE_BYTES)

    def close(self) -> None:
        """Free the memory once its arrays are no longer used."""
        os.close(self._file)


def read_shelf(name: ShelfName, feeds: Sequence[Feed]) -> Reading:
    """Read what is ordered on a shelf of another process, onto that shelf."""
    buffer = _map(name.path)
    size = bytes_needed(feeds, name.capacity)
    with Path(name.path).open("rb") as file:
        file.seek(size + _NOTE_BYTES)
        order, skip = pickle.load(file)
    inputs = lay_out(buffer, feeds, name.capacity)
    return read_tiles(order, feeds, inputs, skip=skip, note=_note_in(buffer, size))


@cache
def _map(path: str) -> mmap.mmap:
    """Map a shelf once in a reader, which never outlives the shelves that it is told of."""
    with Path(path).open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def _note_in(buffer: mmap.mmap, size: int) -> npt.NDArray[np.int64]:
    return np.ndarray((1,), np.int64, buffer, size)
