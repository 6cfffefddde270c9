"""Tiles without an embedding: which they are, and when they are too many to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurebench.errors import ExtractionError, TileError
from featurebench.store import storable_rows
from featurebench.tiles import read_tile

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from featurebench.store import EmbeddingSpec, FeatureStore, Refusal
    from featurebench.tiles import TileManifest

NOT_FINITE = "embedding is not finite"
NAMED = 3


def not_finite_rows(
    rows: Sequence[int], embedding: npt.NDArray[np.float32], dtype: str
) -> list[tuple[int, str]]:
    """List the rows whose embedding cannot be stored as ``dtype``, each with the reason."""
    storable = storable_rows(embedding, dtype)
    return [(row, NOT_FINITE) for row, fine in zip(rows, storable, strict=True) if not fine]


def refuse_too_many(refused: Sequence[Refusal], n_tiles: int, max_bad_tiles: float) -> None:
    """Stop once more than the tolerated share of all tiles has no embedding.

    Parameters
    ----------
    refused
        All refused tiles so far, those of earlier runs included.
    n_tiles
        Tiles of the manifest.
    max_bad_tiles
        Tolerated share of the manifest, 0 to 1.

    Raises
    ------
    ExtractionError
        Naming the number, the share, the first tiles with their reasons, and the remedy.
    """
    if len(refused) <= max_bad_tiles * n_tiles:
        return
    named = "; ".join(f"{refusal.tile_id}: {refusal.reason}" for refusal in refused[:NAMED])
    more = ", ..." if len(refused) > NAMED else ""
    raise ExtractionError(
        f"{len(refused)} of {n_tiles} tiles ({len(refused) / n_tiles:.2%}) cannot be embedded, "
        f"more than max_bad_tiles {max_bad_tiles:.2%} ({named}{more}); mend these tiles and run "
        "again, or raise max_bad_tiles"
    )


def reopen_mended(store: FeatureStore, spec: EmbeddingSpec, manifest: TileManifest) -> None:
    """Take back the blocks in which a refused tile can be read by now, so that they are redone."""
    mended = {refusal.row for refusal in store.refused(spec) if _was_mended(refusal, manifest)}
    for block in store.blocks(spec):
        if not mended.isdisjoint(range(block.start, block.stop)):
            store.discard(spec, block)


def _was_mended(refusal: Refusal, manifest: TileManifest) -> bool:
    if refusal.reason == NOT_FINITE:
        return False
    try:
        read_tile(manifest.path_of(refusal.row))
    except TileError:
        return False
    return True
