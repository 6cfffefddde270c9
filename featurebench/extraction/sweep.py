"""A sweep over pending blocks: those that no other process works on are claimed and ordered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurebench.extraction.reading import Order
from featurebench.extraction.writing import BlockJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from featurebench.extraction.passes import Target
    from featurebench.store import Block, EmbeddingSpec, FeatureStore
    from featurebench.store.claims import Claims
    from featurebench.tiles import TileManifest

Pending = list[tuple["Block", list["Target"]]]


def pending_blocks(
    store: FeatureStore, targets: Sequence[Target], mine: Callable[[int], bool] | None
) -> Pending:
    """List the blocks that this process may do, in order, each with the targets that lack it.

    Parameters
    ----------
    store, targets
        The embeddings; all in blocks of the same size.
    mine
        Tells of a block's number whether this process may do it; all if None.
    """
    found: dict[int, tuple[Block, list[Target]]] = {}
    for target in targets:
        for block in store.pending(target.spec):
            if mine is None or mine(block.index):
                found.setdefault(block.index, (block, []))[1].append(target)
    return [found[index] for index in sorted(found)]


@dataclass(frozen=True)
class Sweep:
    """Orders the tiles of the pending blocks that no other process works on, batch by batch."""

    manifest: TileManifest
    store: FeatureStore
    claims: Claims
    batch_size: int

    def orders(self, pending: Pending) -> Iterator[tuple[BlockJob, Order]]:
        """Claim one block after the other; a batch never spans two."""
        for block, lacking in pending:
            ours = tuple(target for target in lacking if self._take(target.spec, block))
            if ours:
                job = BlockJob(block, ours)
                for start in range(block.start, block.stop, self.batch_size):
                    yield job, self._order(start, min(start + self.batch_size, block.stop))

    def _take(self, spec: EmbeddingSpec, block: Block) -> bool:
        if not self.claims.take(spec.name, block.index):
            return False
        # another process may have committed it since the sweep began
        if not self.store.is_committed(spec, block):
            return True
        self.claims.release(spec.name, block.index)
        return False

    def _order(self, start: int, stop: int) -> Order:
        part = self.manifest.table.iloc[start:stop]
        return Order(
            range(start, stop),
            tuple(part["tile_id"].astype(str)),
            tuple(self.manifest.root / path for path in part["path"].astype(str)),
        )
