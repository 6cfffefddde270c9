"""Tiles from disk to a network's inputs: each read and decoded once, whatever is made of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from featurebench.errors import TileError
from featurebench.tiles import jitter_tile, read_tile, turn_pixels

if TYPE_CHECKING:
    import mmap
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from featurebench.backbones.protocols import Preparation
    from featurebench.tiles import View

Inputs = list[npt.NDArray[Any]]


@dataclass(frozen=True)
class Feed:
    """An input that readers make of each tile: a view of the tile, then a preparation."""

    prepare: Preparation
    view: View


@dataclass(frozen=True)
class Order:
    """Some tiles to read.

    Parameters
    ----------
    rows
        Of the manifest, consecutive.
    tile_ids, paths
        Of these rows.
    """

    rows: range
    tile_ids: tuple[str, ...]
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Reading:
    """How the reading of some tiles went.

    Parameters
    ----------
    unreadable
        Reason why there is no input, by the tile's place in the order.
    seconds
        What each feed's preparation took, decoding left out.
    """

    unreadable: dict[int, str]
    seconds: tuple[float, ...]


def read_tiles(
    order: Order,
    feeds: Sequence[Feed],
    inputs: Inputs,
    *,
    skip: Collection[int] = (),
    note: npt.NDArray[np.int64] | None = None,
) -> Reading:
    """Make every feed of every tile; a tile that cannot be read gives its reason instead.

    Parameters
    ----------
    order
        The tiles.
    feeds
        What to make of each.
    inputs
        One array per feed, shape (at least the number of tiles, ...); filled from the front.
    skip
        Places in the order of tiles to leave out.
    note
        Its first element is set to the place of each tile before that is read.
    """
    unreadable: dict[int, str] = {}
    seconds = np.zeros(len(feeds))
    for at, (tile_id, path) in enumerate(zip(order.tile_ids, order.paths, strict=True)):
        if at in skip:
            continue
        if note is not None:
            note[0] = at
        try:
            seconds += _read_one(tile_id, path, feeds, [array[at] for array in inputs])
        except TileError as error:
            unreadable[at] = str(error)
    return Reading(unreadable, tuple(seconds.tolist()))


def lay_out(buffer: mmap.mmap | memoryview, feeds: Sequence[Feed], capacity: int) -> Inputs:
    """See a buffer as one array per feed, for `capacity` tiles each."""
    arrays, offset = [], 0
    for feed in feeds:
        shape, dtype = (capacity, *feed.prepare.shape), np.dtype(feed.prepare.dtype)
        arrays.append(np.ndarray(shape, dtype, buffer, offset))
        offset += _aligned(arrays[-1].nbytes)
    return arrays


def new_inputs(feeds: Sequence[Feed], capacity: int) -> Inputs:
    """Make room in this process for the inputs of `capacity` tiles, one array per feed."""
    return lay_out(np.empty(bytes_needed(feeds, capacity), dtype=np.uint8).data, feeds, capacity)


def bytes_needed(feeds: Sequence[Feed], capacity: int) -> int:
    """Count the bytes of a buffer for `capacity` tiles."""
    return sum(
        _aligned(int(np.prod((capacity, *f.prepare.shape))) * np.dtype(f.prepare.dtype).itemsize)
        for f in feeds
    )


def _read_one(
    tile_id: str, path: Path, feeds: Sequence[Feed], places: Sequence[npt.NDArray[Any]]
) -> list[float]:
    decoded: dict[int | None, Image.Image] = {}
    seconds = []
    for feed, place in zip(feeds, places, strict=True):
        min_side = feed.prepare.min_side
        if min_side not in decoded:
            decoded[min_side] = read_tile(path, min_side=min_side)
        started = time.perf_counter()
        image = jitter_tile(decoded[min_side], feed.view, tile_id)
        if feed.view.symmetry:
            turned = turn_pixels(np.asarray(image), feed.view.symmetry)
            image = Image.fromarray(np.ascontiguousarray(turned))
        place[...] = feed.prepare(image)
        seconds.append(time.perf_counter() - started)
    return seconds


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // 64) * 64
