"""Layout: what an embedding's Zarr metadata says, checked before a single byte is decoded."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from featurebench.errors import StoreCorruptError, StoreError, StoreMismatchError
from featurebench.store.spec import Block, EmbeddingSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

CODECS = frozenset({"bytes", "crc32c", "zstd", "blosc", "sharding_indexed", "transpose"})
CHUNK_ROWS = 256
BLOCK_ROWS = 16_384


@dataclass(frozen=True)
class Layout:
    """Rows and bytes of one embedding.

    ``mappable`` is true where the rows stand in the shards as they are, followed by a checksum
    per chunk, so that a shard can be read without zarr.
    """

    spec: EmbeddingSpec
    n_tiles: int
    block_rows: int
    chunk_rows: int
    mappable: bool
    separator: str

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


def choose_rows(n_tiles: int, block_rows: int | None) -> tuple[int, int]:
    """Choose rows per block and per chunk, for no more rows than there are.

    Above 256, ``block_rows`` is rounded down to a multiple of the 256 rows of a chunk; below,
    a block is one chunk.

    Raises
    ------
    StoreError
        If ``block_rows`` is below 1.
    """
    if block_rows is not None and block_rows < 1:
        raise StoreError(f"block_rows is {block_rows}; give at least 1")
    needed = CHUNK_ROWS * math.ceil(n_tiles / CHUNK_ROWS)
    rows = min(block_rows or BLOCK_ROWS, needed)
    chunk_rows = min(CHUNK_ROWS, rows)
    return rows - rows % chunk_rows, chunk_rows


def read_layout(array: Path, n_tiles: int) -> Layout | None:
    """Read an array's ``zarr.json``; None if the array is no embedding of ours.

    Raises
    ------
    StoreCorruptError
        If the metadata cannot be read, or the recipe in it is not the one that the name promises.
    StoreError
        If the array uses a codec outside of the allowed ones, or no checksums.
    """
    meta = read_json(array / "zarr.json")
    ours = meta.get("attributes", {}).get("featurebench")
    if ours is None:
        return None
    try:
        spec = EmbeddingSpec.from_dict(ours["spec"])
        layout = _parse(meta, spec, n_tiles)
        fingerprint, dtype = ours["fingerprint"], meta["data_type"]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise StoreCorruptError(_damaged(array.name, f"{error!r} in its metadata")) from error
    if (spec.fingerprint, spec.name, spec.dtype) != (fingerprint, array.name, dtype):
        raise StoreCorruptError(_damaged(array.name, "its recipe is not the one it was made by"))
    if meta["shape"] != [n_tiles, spec.dim]:
        raise StoreMismatchError(
            f"{array.name} has shape {meta['shape']}, the store [{n_tiles}, {spec.dim}]; "
            "extract it again into a new store"
        )
    return layout


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    StoreCorruptError
        If the file is not one.
    FileNotFoundError
        If there is none.
    """
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise StoreCorruptError(_damaged(path.name, "it is not JSON")) from error
    if not isinstance(value, dict):
        raise StoreCorruptError(_damaged(path.name, "it is not a JSON object"))
    return cast("dict[str, Any]", value)


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
    return Layout(spec, n_tiles, block_rows, chunk_rows, mappable, separator)


def _codec_names(codecs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for codec in codecs:
        yield codec["name"]
        inside = codec.get("configuration") or {}
        yield from _codec_names(inside.get("codecs", []))
        yield from _codec_names(inside.get("index_codecs", []))


def _damaged(name: str, what: str) -> str:
    return f"{name} is damaged: {what}; restore it from a copy, or extract it again"
