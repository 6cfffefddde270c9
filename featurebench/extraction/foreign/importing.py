"""import_embeddings(): embeddings of other programs, checked and committed block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.errors import ExtractionError, StoreMismatchError
from featurebench.extraction.foreign.assembly import Assembly, assemble
from featurebench.extraction.foreign.sources import list_sources
from featurebench.store import EmbeddingSpec, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from featurebench.extraction.foreign.sources import Located, SourceFile
    from featurebench.store import FeatureStore
    from featurebench.tiles import TileManifest

TAG = "foreign"
UNKNOWN = "unknown"
NOTE = "the weights are not known: weights_sha256 is the hash of the imported files' hashes"
NAMED = 3


@dataclass(frozen=True)
class ForeignImport:
    """What an import did.

    Parameters
    ----------
    spec
        The recipe under which the store holds the rows; `FeatureStore.load` takes it.
    n_rows
        Tiles that have an embedding.
    refused
        Tiles that have none, each with the reason, by row.
    sources
        The files that were used, with their hashes.
    n_unmatched
        Embeddings in those files that belong to no tile of the manifest.
    n_blocks_done, n_blocks_cached
        Blocks that this call committed, and those that were there.
    """

    spec: EmbeddingSpec
    n_rows: int
    refused: tuple[Refusal, ...]
    sources: tuple[SourceFile, ...]
    n_unmatched: int
    n_blocks_done: int
    n_blocks_cached: int


def import_embeddings(
    manifest: TileManifest,
    store: FeatureStore,
    sources: Sequence[Path],
    *,
    format: str = "auto",
    name: str,
    max_bad_tiles: float = 0.01,
    progress: Callable[[int], None] | None = None,
) -> ForeignImport:
    """Bring embeddings that another program made into a store; safe to kill and to call again.

    All files are hashed, matched and looked through before the first block is written. The rows
    are kept as ``float16``, or as ``float32`` where that would lose more than rounding. Nothing in
    the files is run, and no file is followed to another.

    Parameters
    ----------
    manifest
        The tiles that the store was made from.
    store
        Gets one array, with the tag ``foreign``.
    sources
        HDF5 files of slides (CLAM, TRIDENT, STAMP) or folders of them; folders of eva; or ``.npy``
        matrices, each with a ``.csv`` beside it that names ``tile_id`` or ``path``.
    format
        ``clam``, ``trident``, ``stamp``, ``eva`` or ``npy``; ``auto`` looks at the files.
    name
        Of the network, for people and for the array's name.
    max_bad_tiles
        Share of the manifest that may be without an embedding; those tiles are refused by name.
    progress
        Called with the number of rows just committed.

    Returns
    -------
    ForeignImport

    Raises
    ------
    StoreMismatchError
        If the store was made from other tiles.
    ManifestError
        If the manifest lacks the columns by which these files are matched.
    ExtractionError
        If files cannot be read, do not fit together, or leave too many tiles without an embedding.
    """
    _check_arguments(name, max_bad_tiles)
    _check_store(manifest, store)
    assembly = assemble(_locate(manifest, sources, format), len(manifest))
    tile_ids = manifest.table["tile_id"]
    refused = [Refusal(row, str(tile_ids.iloc[row]), why) for row, why in assembly.absent]
    _refuse_too_many(refused, assembly, max_bad_tiles)
    spec = make_spec(name, assembly)
    store.add(spec, provenance=_provenance(assembly))
    n_done = sum(_write_blocks(store, spec, assembly, refused, progress or _silent))
    return ForeignImport(
        spec,
        len(manifest) - len(refused),
        tuple(refused),
        assembly.files,
        assembly.n_unmatched,
        n_done,
        len(store.blocks(spec)) - n_done,
    )


def make_spec(name: str, assembly: Assembly) -> EmbeddingSpec:
    """Describe an imported embedding as far as it is known.

    Its fingerprint depends on the content of the files and on which tile got which embedding.
    """
    return EmbeddingSpec(
        model=name,
        tag=TAG,
        dim=assembly.dim,
        weights_sha256=assembly.content_sha256,
        preprocessing={
            "source": assembly.format,
            "files": sum(file.n_files for file in assembly.files),
            "match_sha256": assembly.match_sha256,
        },
        layer=UNKNOWN,
        pool=UNKNOWN,
        dtype=assembly.dtype,
        precision=UNKNOWN,
    )


def _locate(manifest: TileManifest, sources: Sequence[Path], format: str) -> Iterator[Located]:
    kind, files = list_sources(sources, format)
    if kind == "hdf5":
        from featurebench.extraction.foreign.slides import locate_slides

        return locate_slides(files, manifest, format)
    if kind == "eva":
        from featurebench.extraction.foreign.eva import locate_tensors

        return locate_tensors(files, manifest)
    from featurebench.extraction.foreign.matrices import locate_matrices

    return locate_matrices(files, manifest)


def _write_blocks(
    store: FeatureStore,
    spec: EmbeddingSpec,
    assembly: Assembly,
    refused: Sequence[Refusal],
    progress: Callable[[int], None],
) -> Iterator[bool]:
    """Commit the pending blocks, each with its own refused tiles; the cost stays unknown."""
    refused_rows = np.array([refusal.row for refusal in refused], dtype=np.intp)
    for block in store.pending(spec):
        first, stop = np.searchsorted(refused_rows, [block.start, block.stop])
        rows = assembly.read(range(block.start, block.stop))
        yield store.write(spec, block, rows, refused=refused[first:stop])
        progress(len(block))


def _provenance(assembly: Assembly) -> dict[str, Any]:
    return {
        "foreign": True,
        "source": assembly.format,
        "files": [
            {"name": file.name, "sha256": file.sha256, "n_files": file.n_files}
            for file in assembly.files
        ],
        "attributes": assembly.attributes,
        "note": NOTE,
    }


def _refuse_too_many(refused: Sequence[Refusal], assembly: Assembly, max_bad_tiles: float) -> None:
    n_tiles = len(assembly.source_of)
    if len(refused) <= max_bad_tiles * n_tiles and len(refused) < n_tiles:
        return
    named = "; ".join(f"{refusal.tile_id}: {refusal.reason}" for refusal in refused[:NAMED])
    more = ", ..." if len(refused) > NAMED else ""
    raise ExtractionError(
        f"{len(refused)} of {n_tiles} tiles ({len(refused) / n_tiles:.2%}) have no embedding in "
        f"these files, more than max_bad_tiles {max_bad_tiles:.2%} ({named}{more}), and "
        f"{assembly.n_unmatched} embeddings have no tile; check that slide_id, x and y, or "
        "tile_id, are those of the files, or raise max_bad_tiles"
    )


def _check_arguments(name: str, max_bad_tiles: float) -> None:
    if not name.strip():
        raise ExtractionError("the embedding has no name; give the network's, e.g. uni")
    if not 0 <= max_bad_tiles <= 1:
        raise ExtractionError(f"max_bad_tiles {max_bad_tiles} is not a share; give 0 to 1")


def _check_store(manifest: TileManifest, store: FeatureStore) -> None:
    if (store.manifest_sha256, store.n_tiles) != (manifest.sha256, len(manifest)):
        raise StoreMismatchError(
            f"{store.path.name} was made from other tiles (manifest {store.manifest_sha256[:8]}, "
            f"{store.n_tiles} tiles) than these ({manifest.sha256[:8]}, {len(manifest)} tiles); "
            "give the tiles that it was made from"
        )


def _silent(_n_rows: int) -> None:
    """Tell nobody."""
