"""Layout: what an embedding's Zarr metadata says, checked before a single byte is decoded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.errors import StoreCorruptError, StoreError, StoreMismatchError
from featurebench.store.seals import ATTRIBUTE, REPAIR, read_metadata
from featurebench.store.spec import Block, EmbeddingSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from featurebench.store.header import Header

CODECS = frozenset({"bytes", "crc32c", "zstd", "blosc", "sharding_indexed", "transpose"})
COMPRESSORS = frozenset({"zstd", "blosc"})
# up to so many tiles: rows of a chunk, rows of a block
SHAPES = ((10**6, 256, 16_384), (10**8, 512, 65_536), (math.inf, 1024, 262_144))
SHARD_BYTES = 2**29


@dataclass(frozen=True)
class Layout:
    """Rows and bytes of one embedding.

    ``mappable`` is true where the rows stand in the shards as they are, followed by a checksum
    per chunk, so that a shard can be read without zarr. ``compression`` is ``none``, or the names
    of the codecs that make chunks smaller.
    """

    spec: EmbeddingSpec
    n_tiles: int
    block_rows: int
    chunk_rows: int
    mappable: bool
    separator: str
    compression: str = "none"

    @property
    def dtype(self) -> np.dtype[np.floating[Any]]:
        """Element type in the file, little-endian."""
        return np.dtype(self.spec.dtype).newbyteorder("<")

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk without its checksum."""
        return self.chunk_rows * self.spec.dim * self.dtype.itemsize

    @property
    def chunks_per_block(self) -> int:
        """Entries in a shard's index."""
        return self.block_rows // self.chunk_rows

    @property
    def n_blocks(self) -> int:
        """Blocks that hold all tiles."""
        return math.ceil(self.n_tiles / self.block_rows)

    def block(self, index: int) -> Block:
        """Return the rows of block ``index``."""
        start = index * self.block_rows
        return Block(index, start, min(start + self.block_rows, self.n_tiles))

    def shard_key(self, block: Block) -> str:
        """Return the Zarr key of the block's shard, relative to the array."""
        return self.separator.join(("c", str(block.index), "0"))


def choose_rows(n_tiles: int, row_bytes: int, block_rows: int | None = None) -> tuple[int, int]:
    """Choose rows per block and per chunk, for no more rows than there are.

    The larger the job, the larger its blocks and chunks, but no shard is larger than half a
    gigabyte unless asked for. Above the rows of a chunk, ``block_rows`` is rounded down to a
    multiple of them; below, a block is one chunk.

    Parameters
    ----------
    n_tiles
        Rows of the matrix.
    row_bytes
        Bytes of one row.
    block_rows
        As asked for; chosen if None.

    Returns
    -------
    tuple of int
        Rows per block and per chunk.

    Raises
    ------
    StoreError
        If ``block_rows`` is below 1.

    Examples
    --------
    >>> choose_rows(100_000, 2048), choose_rows(10_000_000, 2048)
    ((16384, 256), (65536, 512))
    """
    if block_rows is not None and block_rows < 1:
        raise StoreError(f"block_rows is {block_rows}; give at least 1")
    chunk_rows, usual = next(rows for most, *rows in SHAPES if n_tiles <= most)
    rows = block_rows or max(1, min(usual, SHARD_BYTES // row_bytes))
    rows = min(rows, chunk_rows * math.ceil(n_tiles / chunk_rows))
    chunk_rows = min(chunk_rows, rows)
    return rows - rows % chunk_rows, chunk_rows


def read_layout(array: Path, header: Header) -> Layout | None:
    """Read an array's ``zarr.json``; None if the array is no embedding of ours.

    Parameters
    ----------
    array
        Folder of the array.
    header
        What the store is of, and whether its metadata must be sealed.

    Raises
    ------
    StoreCorruptError
        If the metadata cannot be read, or the recipe in it is not the one that the name promises.
    StoreError
        If the array uses a codec outside of the allowed ones, or no checksums.
    """
    meta = read_metadata(array / "zarr.json", array.name)
    attributes = meta.get("attributes")
    if not isinstance(attributes, dict) or (ours := attributes.get("featurebench")) is None:
        return None
    if header.sealed and ATTRIBUTE not in attributes:
        raise StoreCorruptError(_damaged(array.name, "its metadata has no digest"))
    try:
        spec = EmbeddingSpec.from_dict(ours["spec"])
        layout = _parse(meta, spec, header.n_tiles)
        fingerprint, dtype = ours["fingerprint"], meta["data_type"]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise StoreCorruptError(_damaged(array.name, f"{error!r} in its metadata")) from error
    if (spec.fingerprint, spec.name, spec.dtype) != (fingerprint, array.name, dtype):
        raise StoreCorruptError(_damaged(array.name, "its recipe is not the one it was made by"))
    if meta["shape"] != [header.n_tiles, spec.dim]:
        raise StoreMismatchError(
            f"{array.name} has shape {meta['shape']}, the store [{header.n_tiles}, {spec.dim}]; "
            "extract it again into a new store"
        )
    return layout


def require_codecs(meta: Mapping[str, Any], name: str, allowed: frozenset[str] = CODECS) -> None:
    """Refuse an array that is not Zarr v3 or that a codec outside of ``allowed`` would decode.

    Raises
    ------
    StoreError
        The codecs are named.
    """
    if meta.get("zarr_format") != 3:
        raise StoreError(f"{name} is Zarr format {meta.get('zarr_format')}; only 3 is read")
    if refused := sorted(set(_codec_names(meta["codecs"])) - allowed):
        raise StoreError(f"{name} uses the codecs {refused}; only {sorted(allowed)} are decoded")


def _parse(meta: Mapping[str, Any], spec: EmbeddingSpec, n_tiles: int) -> Layout:
    require_codecs(meta, spec.name)
    block_rows, block_dim = meta["chunk_grid"]["configuration"]["chunk_shape"]
    if [codec["name"] for codec in meta["codecs"]] != ["sharding_indexed"]:
        raise StoreError(f"{spec.name} is not sharded; write it with the sharding_indexed codec")
    sharding = meta["codecs"][0]["configuration"]
    chunk_rows, chunk_dim = sharding["chunk_shape"]
    if (block_dim, chunk_dim) != (spec.dim, spec.dim) or block_rows % chunk_rows:
        raise StoreError(f"{spec.name} splits rows between chunks; a chunk holds whole rows")
    inner = [codec["name"] for codec in sharding["codecs"]]
    index = [codec["name"] for codec in sharding["index_codecs"]]
    if inner[-1] != "crc32c" or index != ["bytes", "crc32c"]:
        raise StoreError(f"{spec.name} has no checksums; write its chunks and index with crc32c")
    order = [sharding["codecs"][0], sharding["index_codecs"][0]]
    little = all(codec.get("configuration", {}).get("endian") == "little" for codec in order)
    at_end = sharding.get("index_location", "end") == "end"
    mappable = inner == ["bytes", "crc32c"] and little and at_end
    key = meta["chunk_key_encoding"]
    if key["name"] != "default":
        raise StoreError(f"{spec.name} uses chunk keys {key['name']!r}; only 'default' is read")
    separator = key.get("configuration", {}).get("separator", "/")
    compression = "+".join(name for name in inner if name in COMPRESSORS) or "none"
    return Layout(spec, n_tiles, block_rows, chunk_rows, mappable, separator, compression)


def _codec_names(codecs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for codec in codecs:
        yield codec["name"]
        inside = codec.get("configuration") or {}
        yield from _codec_names(inside.get("codecs", []))
        yield from _codec_names(inside.get("index_codecs", []))


def _damaged(name: str, what: str) -> str:
    return f"{name} is damaged: {what}; {REPAIR}"
