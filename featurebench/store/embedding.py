"""Embedding: one matrix of a store, its blocks written once and its rows read with checks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featurebench.errors import MissingRowsError, StoreCorruptError, StoreError
from featurebench.store.encoding import Rows, encode_shard, prepare_rows, rows_sha256
from featurebench.store.files import disk_errors, human_bytes
from featurebench.store.records import (
    Record,
    make_record,
    read_record,
    record_path,
    recorded_blocks,
    stray_files,
)
from featurebench.store.shards import read_block
from featurebench.store.spec import Block, Problem, Refusal
from featurebench.store.staging import place_shard, publish_record, stage_shard

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from featurebench.store.layout import Layout


REMEDY = "run `featurebench extract`"


@dataclass(frozen=True)
class Embedding:
    """The array, the records and the staged shards of one `EmbeddingSpec` in a store's folder."""

    folder: Path
    layout: Layout

    @property
    def name(self) -> str:
        """Name of the array and of the folder of records."""
        return self.layout.spec.name

    @cached_property
    def array(self) -> Path:
        """Folder of the Zarr array."""
        return self.folder / "embeddings.zarr" / "obsm" / self.name

    @cached_property
    def commits(self) -> Path:
        """Folder of the records."""
        return self.folder / "commits" / self.name

    @property
    def staging(self) -> Path:
        """Folder of files that no record names yet, or that are not in their place yet."""
        return self.folder / "staging"

    def blocks(self) -> list[Block]:
        """List all blocks, in the order of their rows."""
        return [self.layout.block(index) for index in range(self.layout.n_blocks)]

    def pending(self) -> list[Block]:
        """List the blocks without a record."""
        done = set(recorded_blocks(self.commits))
        return [block for block in self.blocks() if block.index not in done]

    def record(self, block: int) -> Record | None:
        """Read the record of a block; None if it has none."""
        return read_record(self.commits, block, self.layout)

    def records(self) -> Iterator[Record]:
        """Read the records, in the order of their rows."""
        for index in recorded_blocks(self.commits):
            if index < self.layout.n_blocks and (record := self.record(index)):
                yield record

    def write(
        self, block: Block, rows: Rows, refused: Sequence[Refusal], cost: Mapping[str, float]
    ) -> bool:
        """Commit a block; False if another writer already has."""
        if not 0 <= block.index < self.layout.n_blocks or block != self.layout.block(block.index):
            raise StoreError(f"{block} is not a block of {self.name}; take it from blocks()")
        if self.record(block.index) is not None:
            return False
        stored = prepare_rows(self.layout, block, rows, refused)
        record = make_record(block, rows_sha256(stored), refused, cost)
        content = encode_shard(self.array, self.layout, block, stored)
        what = f"block {block.index} of {self.name} ({human_bytes(len(content))})"
        with disk_errors(what, self.folder, len(content)):
            staged = stage_shard(self.staging, self.layout, block.index, content)
            record = replace(record, staged=staged)
            if not publish_record(self.staging, self.commits, self.layout, record):
                return False
        if not place_shard(self.staging, self.array, self.layout, record).exists():
            self.discard(block)
            raise StoreError(f"{what} was removed by another program; run the same command again")
        return True

    def discard(self, block: Block) -> None:
        """Take back the record of a block: it is pending again."""
        try:
            if record := self.record(block.index):
                place_shard(self.staging, self.array, self.layout, record)
        except StoreCorruptError:
            pass  # a damaged record is one reason to come here
        record_path(self.commits, block.index).unlink(missing_ok=True)

    def load(self, rows: npt.NDArray[np.intp]) -> Rows:
        """Read committed rows, shape (len(rows), dim), in the order asked."""
        block_of = rows // self.layout.block_rows
        records = {int(b): self.record(int(b)) for b in np.unique(block_of)}
        self._require(rows, block_of, records)
        out: Rows = np.empty((len(rows), self.layout.spec.dim), dtype=self.layout.dtype)
        for record in filter(None, records.values()):
            at = np.flatnonzero(block_of == record.block.index)
            local = rows[at] - record.block.start
            if at[-1] - at[0] < len(at):
                self.read(record, out[at[0] : at[-1] + 1], local=local)
            else:
                part = np.empty((len(at), out.shape[1]), dtype=out.dtype)
                self.read(record, part, local=local)
                out[at] = part
        return out

    def read(self, record: Record, out: Rows, *, local: npt.NDArray[np.intp]) -> None:
        """Read rows of a recorded block, counted from its first, into ``out``.

        Raises
        ------
        StoreCorruptError
            If the file is damaged, or holds nothing where the record vouches for rows.
        """
        shard = place_shard(self.staging, self.array, self.layout, record)
        whole = np.array_equal(local, np.arange(len(record.block)))
        asked = None if whole else local
        read_block(self.array, shard, self.layout, record.block, out, local=asked)
        if np.isnan(out[:, 0]).any():
            raise StoreCorruptError(
                f"block {record.block.index} of {self.name} lacks rows that its record "
                f"vouches for; discard it and {REMEDY}"
            )

    def problems(self) -> Iterator[Problem]:
        """Read every recorded block anew and compare it with its record."""
        place = f"commits/{self.name}"
        for index in recorded_blocks(self.commits):
            path = f"{place}/{index}.json"
            if index >= self.layout.n_blocks:
                what = "a record of a block that does not exist"
                yield Problem(self.name, index, 0, 0, what, path)
            elif (found := self.block_problem(index)) is not None:
                yield found
        for name in stray_files(self.commits):
            yield Problem(self.name, -1, 0, 0, f"{name} is not a record", f"{place}/{name}")

    def block_problem(self, index: int) -> Problem | None:
        """Read a recorded block anew and compare it with its record."""
        block = self.layout.block(index)
        path = record_path(self.commits, index)
        try:
            record = self.record(index)
            if record is None:
                return None
            path = place_shard(self.staging, self.array, self.layout, record)
            what = self._compare(record, path)
        except StoreError as error:
            what = str(error)
        if what is None:
            return None
        where = path.relative_to(self.folder).as_posix()
        return Problem(self.name, index, block.start, block.stop, what, where)

    def _compare(self, record: Record, shard: Path) -> str | None:
        rows = np.empty((len(record.block), self.layout.spec.dim), dtype=self.layout.dtype)
        read_block(self.array, shard, self.layout, record.block, rows, trust=False)
        if rows_sha256(rows) != record.sha256:
            return "the rows are not those that were committed: another sha256"
        absent = set(np.flatnonzero(~np.isfinite(rows).all(axis=1)) + record.block.start)
        if absent != {refusal.row for refusal in record.refused}:
            return "rows without an embedding are not those that the record calls refused"
        return None

    def _require(
        self,
        rows: npt.NDArray[np.intp],
        block_of: npt.NDArray[np.intp],
        records: Mapping[int, Record | None],
    ) -> None:
        """Refuse rows that no record vouches for."""
        pending = [block for block, record in records.items() if record is None]
        if len(absent := rows[np.isin(block_of, pending)]):
            raise MissingRowsError(
                f"{_count(absent, rows)} of {self.name} are not extracted yet; {REMEDY}"
            )
        refused = [r.row for record in records.values() if record for r in record.refused]
        if len(absent := rows[np.isin(rows, refused)]):
            raise MissingRowsError(
                f"{_count(absent, rows)} of {self.name} are tiles that the extraction refused; "
                "leave them out (FeatureStore.refused lists them), or mend the tiles, discard "
                f"their blocks and {REMEDY}"
            )


def _count(absent: npt.NDArray[np.intp], rows: npt.NDArray[np.intp]) -> str:
    first = ", ".join(str(row) for row in absent[:5])
    more = ", ..." if len(absent) > 5 else ""
    return f"{len(absent)} of {len(rows)} rows (row {first}{more})"
