"""From an array of rows to a shard's bytes: what may be stored, and how zarr encodes it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, cast

import google_crc32c
import numpy as np
import numpy.typing as npt

from featurebench.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import zarr
    from zarr.abc.buffer import Buffer

    from featurebench.store.layout import Layout
    from featurebench.store.spec import Block, Refusal

Rows = npt.NDArray[np.floating[Any]]

CRC_BYTES = 4
# Few enough that they stay in the processor's cache.
_CHECK_ROWS = 256
# From here on, sign left out, half-precision bits are infinite or no number.
_HALF_INFINITY = 0x7C00


def storable_rows(rows: Rows, dtype: str = "float16") -> npt.NDArray[np.bool_]:
    """Tell which rows can be stored: finite, and still finite as ``dtype``.

    Parameters
    ----------
    rows
        Floating point, shape (n, dim).
    dtype
        Of the store.

    Returns
    -------
    ndarray of bool, shape (n,)

    Examples
    --------
    >>> storable_rows(np.array([[1.0, 2.0], [1.0, np.nan], [1.0, 70000.0]])).tolist()
    [True, False, False]
    """
    cast_rows = _cast(rows, np.dtype(dtype))
    storable = np.empty(len(rows), dtype=np.bool_)
    for start in range(0, len(rows), _CHECK_ROWS):
        part = slice(start, start + _CHECK_ROWS)
        storable[part] = _finite_rows(cast_rows[part])
    return storable


def prepare_rows(
    layout: Layout, block: Block, rows: Rows, refused: Sequence[Refusal]
) -> npt.NDArray[np.floating[Any]]:
    """Check a block's rows and give them the form in which they are stored, refused rows NaN.

    Raises
    ------
    StoreError
        If the rows have another shape or type, a refused row lies outside of the block, or a row
        that is not refused cannot be stored.
    """
    shape = (len(block), layout.spec.dim)
    if rows.shape != shape or not np.issubdtype(rows.dtype, np.floating):
        raise StoreError(
            f"block {block.index} of {layout.spec.name} takes floating-point rows of shape "
            f"{shape}, not {rows.dtype} {rows.shape}"
        )
    stored = _cast(rows, layout.dtype, copy=True)
    stored[(refused_rows := _local_rows(block, refused))] = np.nan
    bad: npt.NDArray[np.bool_] = ~storable_rows(stored, layout.spec.dtype)
    bad[refused_rows] = False
    if n_bad := int(bad.sum()):
        raise StoreError(
            f"{n_bad} rows of block {block.index} of {layout.spec.name} are not finite as "
            f"{layout.spec.dtype} (NaN, infinite or out of range); refuse them or store float32"
        )
    return stored


def rows_sha256(stored: Rows) -> str:
    """Hash rows in their stored form: little-endian, C order."""
    return hashlib.sha256(np.ascontiguousarray(stored).data).hexdigest()


def encode_shard(array: Path, layout: Layout, block: Block, stored: Rows) -> memoryview:
    """Encode a block as the shard that zarr would write for these rows of ``array``.

    Shards that can be memory-mapped are laid out here, several times faster than by zarr, and the
    same byte for byte: the chunks one after the other, each with its checksum, those without any
    value left out; then where each is, and the checksum of that.
    """
    if not layout.mappable:
        return _encode_with_zarr(array, layout, block, stored)
    chunk_rows, stride = layout.chunk_rows, layout.chunk_bytes + CRC_BYTES
    index = np.full((layout.chunks_per_block, 2), np.iinfo(np.uint64).max, dtype="<u8")
    starts = [
        s for s in range(0, len(stored), chunk_rows) if _has_values(stored[s : s + chunk_rows])
    ]
    shard = np.empty(len(starts) * stride + index.nbytes + CRC_BYTES, dtype=np.uint8)
    for slot, start in enumerate(starts):
        place = shard[slot * stride : (slot + 1) * stride]
        _put_chunk(place, stored[start : start + chunk_rows], layout)
        index[start // chunk_rows] = slot * stride, stride
    shard[len(starts) * stride : -CRC_BYTES] = index.reshape(-1).view(np.uint8)
    _seal(shard[len(starts) * stride :])
    return shard.data


def decode_rows(
    array: Path, layout: Layout, block: Block, content: npt.NDArray[np.uint8], local: slice
) -> Rows:
    """Decode rows of a block's shard through zarr, checksums included.

    Parameters
    ----------
    array
        Folder of the array.
    layout, block
        What the shard is of.
    content
        Bytes of the shard.
    local
        Rows counted from the block's first; only the chunks that hold them are decoded.

    Raises
    ------
    ValueError, RuntimeError
        If a checksum does not fit, or a codec cannot make sense of the bytes.
    """
    from zarr.buffer.cpu import Buffer as MemoryBuffer

    shard = MemoryBuffer.from_array_like(content)
    objects: dict[str, Buffer] = {layout.shard_key(block): shard}
    rows = slice(block.start + local.start, block.start + local.stop)
    return cast("Rows", np.asarray(_open_over(array, objects)[rows], dtype=layout.dtype))


def _encode_with_zarr(array: Path, layout: Layout, block: Block, stored: Rows) -> memoryview:
    objects: dict[str, Buffer] = {}
    _open_over(array, objects)[block.start : block.stop] = stored
    shard = objects.get(layout.shard_key(block))
    if shard is not None:
        return memoryview(shard.to_bytes())
    # zarr writes nothing where all rows are NaN, but every committed block has its file
    empty = np.full(16 * layout.chunks_per_block + CRC_BYTES, 0xFF, dtype=np.uint8)
    _seal(empty)
    return empty.data


def _put_chunk(place: npt.NDArray[np.uint8], rows: Rows, layout: Layout) -> None:
    values = place[:-CRC_BYTES].view(layout.dtype).reshape(layout.chunk_rows, -1)
    values[: len(rows)] = rows
    values[len(rows) :] = np.nan
    _seal(place)


def _seal(place: npt.NDArray[np.uint8]) -> None:
    """Write the checksum of all that comes before it into the last four bytes."""
    content = place[:-CRC_BYTES]
    content.flags.writeable = False
    checksum = int(google_crc32c.value(cast("bytes", content)))
    place[-CRC_BYTES:] = np.frombuffer(checksum.to_bytes(CRC_BYTES, "little"), dtype=np.uint8)


def _has_values(rows: Rows) -> bool:
    return not (np.isnan(rows[:, 0]).all() and np.isnan(rows).all())


def _finite_rows(rows: Rows) -> npt.NDArray[np.bool_]:
    if rows.dtype == np.float16:
        # several times as fast as isfinite, which has no kernel for half precision
        magnitudes = np.ascontiguousarray(rows).view(np.uint16) & 0x7FFF
        return np.asarray(magnitudes.max(axis=1) < _HALF_INFINITY)
    return np.asarray(np.isfinite(rows).all(axis=1))


def _open_over(array: Path, objects: dict[str, Buffer]) -> zarr.Array[Any]:
    """Open the array's own metadata over objects in memory: same codecs, and no other shard."""
    import zarr
    from zarr.buffer.cpu import Buffer as MemoryBuffer
    from zarr.storage import MemoryStore

    objects["zarr.json"] = MemoryBuffer.from_bytes((array / "zarr.json").read_bytes())
    return zarr.open_array(MemoryStore(objects), mode="r+", zarr_format=3)


def _local_rows(block: Block, refused: Sequence[Refusal]) -> npt.NDArray[np.intp]:
    rows = np.array([refusal.row for refusal in refused], dtype=np.intp)
    if len(outside := rows[(rows < block.start) | (rows >= block.stop)]):
        raise StoreError(
            f"row {outside[0]} is refused in block {block.index}, which holds rows "
            f"{block.start} to {block.stop - 1}"
        )
    return rows - block.start


def _cast(rows: Rows, dtype: np.dtype[Any], *, copy: bool = False) -> Rows:
    with np.errstate(over="ignore", invalid="ignore"):
        return rows.astype(dtype, copy=copy)
