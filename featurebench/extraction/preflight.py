"""Before the first tile: is there room on the disk, and how many tiles make a block."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

from featurebench.errors import ExtractionError
from featurebench.store.files import human_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featurebench.extraction.computing import Computer
    from featurebench.store import EmbeddingSpec, FeatureStore

# What a kill may cost: seconds of work in a block.
BLOCK_S = 20.0
MIN_BLOCK_ROWS = 256
TRIAL_TILES = 8
_STEP = 4


def choose_block_rows(computer: Computer, n_tiles: int, batch_size: int) -> int | None:
    """Choose the tiles of a block from a short trial of the networks.

    Parameters
    ----------
    computer
        Of the pass.
    n_tiles
        Of the manifest.
    batch_size
        Most tiles of the trial.

    Returns
    -------
    int or None
        256 times a power of four, about 20 seconds of work or less; None where the store's own
        choice for so many tiles is less than that.
    """
    if n_tiles <= MIN_BLOCK_ROWS:
        return None
    affordable = BLOCK_S / computer.seconds_per_tile(min(batch_size, TRIAL_TILES))
    rows = MIN_BLOCK_ROWS
    while rows * _STEP <= affordable and rows < n_tiles:
        rows *= _STEP
    return rows if rows < n_tiles else None


def bytes_to_write(spec: EmbeddingSpec, n_tiles: int) -> int:
    """Count the bytes of an embedding on disk, checksums and records left out."""
    return n_tiles * spec.dim * np.dtype(spec.dtype).itemsize


def check_space(store: FeatureStore, specs: Sequence[EmbeddingSpec]) -> None:
    """Make sure that what is pending of some embeddings, new ones or not, fits on the disk.

    Raises
    ------
    ExtractionError
        Naming what is needed and what is free.
    """
    known = store.embeddings()
    needed = 0
    for spec in specs:
        pending = sum(map(len, store.pending(spec))) if spec in known else store.n_tiles
        needed += bytes_to_write(spec, pending)
    free = shutil.disk_usage(store.path).free
    if needed > free:
        raise ExtractionError(
            f"{len(specs)} embeddings of {store.n_tiles:,} tiles need {human_bytes(needed)} more "
            f"and the disk of {store.path.name} has {human_bytes(free)} free; make room, or give "
            "another store path"
        )
