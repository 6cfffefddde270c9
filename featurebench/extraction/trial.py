"""A short trial: how fast this machine reads some tiles and embeds them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurebench.extraction.computing import Computer
from featurebench.extraction.passes import feeds_of, make_targets, plan_forwards
from featurebench.extraction.reading import Order, new_inputs, read_tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featurebench.backbones import Backbone
    from featurebench.tiles import TileManifest


@dataclass(frozen=True)
class Trial:
    """What a trial measured.

    Parameters
    ----------
    n_tiles
        Tiles read and embedded.
    n_unreadable
        Of them, those that could not be read.
    reading_s
        Seconds of one reader for one tile: decoding, and making all inputs of it.
    network_s
        Seconds of all networks and views for one tile.
    """

    n_tiles: int
    n_unreadable: int
    reading_s: float
    network_s: float

    def tiles_per_s(self, n_readers: int) -> float:
        """Estimate the rate with so many readers beside the networks."""
        return 1 / max(self.network_s, self.reading_s / max(1, n_readers), 1e-9)


def try_out(
    manifest: TileManifest,
    backbones: Sequence[Backbone],
    *,
    batch_size: int,
    seconds: float = 5.0,
) -> Trial:
    """Read and embed tiles from all over the manifest for a few seconds; nothing is stored.

    Parameters
    ----------
    manifest, backbones
        As for `featurebench.extraction.extract`.
    batch_size
        Tiles of a forward pass.
    seconds
        After which no further batch is begun; one batch is done in any case.
    """
    forwards = plan_forwards(make_targets(backbones))
    feeds = feeds_of(forwards)
    wanted = [target.spec for forward in forwards for target in forward.targets]
    computer = Computer(forwards, lambda _line: None)
    n = min(batch_size, len(manifest))
    computer.seconds_per_tile(min(n, 2))
    inputs = new_inputs(feeds, n)
    n_tiles = n_unreadable = 0
    reading = network = 0.0
    begun = time.perf_counter()
    while not n_tiles or time.perf_counter() - begun < seconds:
        started = time.perf_counter()
        bad = read_tiles(_spread(manifest, n, n_tiles), feeds, inputs).unreadable
        read = time.perf_counter()
        computer.compute(dict(zip(feeds, inputs, strict=True)), wanted).collect()
        reading, network = reading + read - started, network + time.perf_counter() - read
        n_tiles, n_unreadable = n_tiles + n, n_unreadable + len(bad)
    return Trial(n_tiles, n_unreadable, reading / n_tiles, network / n_tiles)


def _spread(manifest: TileManifest, n: int, seen: int) -> Order:
    """Choose tiles evenly over the manifest, others in each batch."""
    step = max(1, len(manifest) // n)
    rows = [(seen // n + i * step) % len(manifest) for i in range(n)]
    part = manifest.table.iloc[rows]
    paths = tuple(manifest.root / path for path in part["path"].astype(str))
    return Order(range(n), tuple(part["tile_id"].astype(str)), paths)
