"""Reading shards: a memory map where their bytes allow it, zarr elsewhere, checksums always."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import google_crc32c
import numpy as np
import numpy.typing as npt

from featurebench.errors import StoreCorruptError
from featurebench.store.encoding import CRC_BYTES, Rows, decode_rows
from featurebench.store.seals import REPAIR

if TYPE_CHECKING:
    from pathlib import Path

    from featurebench.store.layout import Layout
    from featurebench.store.spec import Block

Asked = npt.NDArray[np.intp]
ABSENT = np.iinfo(np.uint64).max
# Fewer rows in a row of one chunk than this are not worth a step of their own.
SHORT_RUN = 8
# a file changed twice within its time stamp's grain looks unchanged, so a young one is not trusted
SETTLED_NS = 2_000_000_000

_verified: dict[Path, tuple[int, ...]] = {}


@dataclass(frozen=True)
class MappedShard:
    """A verified shard: chunk k of the block is ``chunks[slots[k]]``, or absent where that is -1.

    ``chunks`` has shape (n, chunk rows, dim) and is a view of the file.
    """

    chunks: Rows
    slots: npt.NDArray[np.int64]

    def read_all(self, out: Rows) -> None:
        """Copy the block's rows to ``out``; a row of an absent chunk is NaN."""
        _, chunk_rows, dim = self.chunks.shape
        whole, rest = divmod(len(out), chunk_rows)
        present = self.slots[: whole + bool(rest)]
        if not np.array_equal(present, np.arange(len(present))):
            self.read_rows(np.arange(len(out)), out)
            return
        out[: whole * chunk_rows].reshape(whole, chunk_rows, dim)[:] = self.chunks[:whole]
        if rest:
            out[whole * chunk_rows :] = self.chunks[whole, :rest]

    def read_rows(self, local: npt.NDArray[np.intp], out: Rows) -> None:
        """Copy rows, counted from the block's first, to ``out``; one of an absent chunk is NaN.

        Rows of one chunk that are asked one after the other go straight to their place; where
        they jump from chunk to chunk, all are gathered at once.
        """
        chunk_rows = self.chunks.shape[1]
        chunk, offset = local // chunk_rows, local % chunk_rows
        edges = np.flatnonzero(np.diff(chunk)) + 1
        if len(edges) * SHORT_RUN > len(local):
            self._gather(self.slots[chunk], offset, out)
            return
        bounds = [0, *edges.tolist(), len(local)] if len(local) else [0]
        for start, stop in pairwise(bounds):
            slot = self.slots[chunk[start]]
            if slot < 0:
                out[start:stop] = np.nan
            else:
                # "clip" writes to `out` directly; all offsets are within the chunk
                rows = offset[start:stop]
                np.take(self.chunks[slot], rows, axis=0, out=out[start:stop], mode="clip")

    def _gather(
        self, slots: npt.NDArray[np.int64], offset: npt.NDArray[np.intp], out: Rows
    ) -> None:
        if (present := slots >= 0).all():
            out[:] = self.chunks[slots, offset]
            return
        out[:] = np.nan
        out[present] = self.chunks[slots[present], offset[present]]


def read_block(
    array: Path,
    shard: Path,
    layout: Layout,
    block: Block,
    out: Rows,
    *,
    local: npt.NDArray[np.intp] | None = None,
    trust: bool = True,
) -> None:
    """Read rows of a block into ``out``, checked against the checksums that stand beside them.

    Parameters
    ----------
    array, shard
        The array's folder and the block's file.
    out
        In the stored dtype, C order, shape (rows, dim); NaN where the file holds nothing.
    local
        Rows counted from the block's first; all if None.
    trust
        Whether a file that this process has verified, and that looks unchanged, is read without
        a second check.

    Raises
    ------
    StoreCorruptError
        If the file is missing, cut off or changed.
    """
    try:
        mapped = _map(shard, layout, trust=trust)
        if mapped is None:
            asked = np.arange(len(block)) if local is None else local
            out[:] = _decode(array, shard, layout, block, asked)
            return
    except FileNotFoundError as error:
        raise StoreCorruptError(_damaged(layout, block, "its shard is missing")) from error
    except (ValueError, RuntimeError) as error:
        what = str(error).splitlines()[0] if str(error) else repr(error)
        raise StoreCorruptError(_damaged(layout, block, what)) from error
    if local is None:
        mapped.read_all(out)
    else:
        mapped.read_rows(local, out)


def _decode(array: Path, shard: Path, layout: Layout, block: Block, asked: Asked) -> Rows:
    """Read rows through zarr, as few chunks as the first and the last row asked allow."""
    first, last = (int(asked.min()), int(asked.max())) if len(asked) else (0, 0)
    # a copy and not a map: zarr's threads may still look at it when the file has changed
    content = np.fromfile(shard, dtype=np.uint8)
    rows = decode_rows(array, layout, block, content, slice(first, last + 1))
    return rows[asked - first]


def _map(shard: Path, layout: Layout, *, trust: bool) -> MappedShard | None:
    index_bytes = 16 * layout.chunks_per_block + CRC_BYTES
    if (size := shard.stat().st_size) < index_bytes:
        raise ValueError(f"its shard has {size} bytes, less than its index")
    if not layout.mappable:
        return None
    raw = np.asarray(np.memmap(shard, dtype=np.uint8, mode="r"))
    index = raw[len(raw) - index_bytes :].tobytes()
    if (checksum := google_crc32c.value(index[:-CRC_BYTES])) != _stored_crc(index):
        raise ValueError("the checksum of its index does not fit")
    slots = _slots(index[:-CRC_BYTES], layout, len(raw) - index_bytes)
    if slots is None:
        return None
    stride = layout.chunk_bytes + CRC_BYTES
    slotted = raw[: (len(raw) - index_bytes) // stride * stride].reshape(-1, stride)
    _verify_once(shard, slotted, slots, checksum, trust=trust)
    shape = (len(slotted), layout.chunk_rows, layout.spec.dim)
    chunks = slotted[:, : layout.chunk_bytes].view(layout.dtype).reshape(shape)
    return MappedShard(chunks, slots)


def _slots(index: bytes, layout: Layout, limit: int) -> npt.NDArray[np.int64] | None:
    """Return each chunk's place in units of chunks; None where they do not stand in such places."""
    entries = np.frombuffer(index, dtype="<u8").reshape(-1, 2)
    present = entries[:, 0] != ABSENT
    offsets, lengths = entries[present].T
    stride = layout.chunk_bytes + CRC_BYTES
    if (lengths != stride).any() or (offsets % np.uint64(stride)).any():
        return None
    if (offsets > max(limit - stride, 0)).any():
        raise ValueError("its shard is cut off")
    slots = np.full(len(entries), -1, dtype=np.int64)
    slots[present] = offsets // np.uint64(stride)
    return slots


def _verify_once(
    shard: Path,
    slotted: npt.NDArray[np.uint8],
    slots: npt.NDArray[np.int64],
    index_crc: int,
    *,
    trust: bool,
) -> None:
    stat = shard.stat()
    state = (stat.st_ino, stat.st_size, stat.st_mtime_ns, index_crc)
    if trust and _verified.get(shard) == state:
        return
    for slot in slots[slots >= 0]:
        data, stored = slotted[slot, :-CRC_BYTES], slotted[slot, -CRC_BYTES:]
        if google_crc32c.value(cast("bytes", data)) != _stored_crc(stored.tobytes()):
            raise ValueError(f"the checksum of chunk {slot} does not fit")
    if abs(time.time_ns() - stat.st_mtime_ns) > SETTLED_NS:
        _verified[shard] = state


def _stored_crc(data: bytes) -> int:
    return int.from_bytes(data[-CRC_BYTES:], "little")


def _damaged(layout: Layout, block: Block, what: str) -> str:
    name = layout.spec.name
    rows = f"rows {block.start} to {block.stop - 1}"
    return f"block {block.index} ({rows}) of {name} is damaged: {what}; {REPAIR}"
