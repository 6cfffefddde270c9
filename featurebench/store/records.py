"""Record: one finished block, its checksum and its refused tiles, as a JSON file that is final."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurebench.errors import StoreCorruptError, StoreError
from featurebench.store.seals import REPAIR, seal, unseal
from featurebench.store.spec import Block, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featurebench.store.layout import Layout

FORMAT = "featurebench.commit"
VERSION = "1.1"
_FILE = re.compile(r"(0|[1-9]\d*)\.json")


@dataclass(frozen=True)
class Record:
    """What vouches for a block: nothing without a record exists.

    ``sha256`` is that of the block's rows, little-endian in C order, refused rows NaN.
    ``staged`` is the name below ``staging/`` from which the shard is moved to its Zarr key.
    """

    block: Block
    sha256: str
    refused: tuple[Refusal, ...] = ()
    cost: Mapping[str, float] = field(default_factory=dict)
    staged: str | None = None


def make_record(
    block: Block, sha256: str, refused: Sequence[Refusal], cost: Mapping[str, float]
) -> Record:
    """Make the record of a block from plain values.

    Raises
    ------
    StoreError
        If a cost is not a finite number.
    """
    listed = tuple(Refusal(int(r.row), str(r.tile_id), str(r.reason)) for r in refused)
    plain = {str(key): float(value) for key, value in cost.items()}
    for key, value in plain.items():
        if not math.isfinite(value):
            raise StoreError(f"the cost {key} is {value}; give a finite number or leave it out")
    return Record(block, sha256, listed, plain)


def record_path(commits: Path, block: int) -> Path:
    """Return where the record of a block stands in its embedding's folder of commits."""
    return commits / f"{block}.json"


def recorded_blocks(commits: Path) -> list[int]:
    """List the blocks that have a record, in order."""
    if not commits.is_dir():
        return []
    names = (_FILE.fullmatch(path.name) for path in commits.iterdir())
    return sorted(int(name[1]) for name in names if name)


def stray_files(commits: Path) -> list[str]:
    """List what stands among the records and is none, other than hidden files."""
    if not commits.is_dir():
        return []
    names = sorted(path.name for path in commits.iterdir())
    return [name for name in names if not (_FILE.fullmatch(name) or name.startswith("."))]


def encode_record(record: Record, layout: Layout) -> bytes:
    """Write a record as JSON that ends with the hash of itself."""
    body: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "embedding": layout.spec.name,
        "fingerprint": layout.spec.fingerprint,
        "block": record.block.index,
        "start": record.block.start,
        "stop": record.block.stop,
        "sha256": record.sha256,
        "refused": [asdict(refusal) for refusal in record.refused],
        "cost": dict(record.cost),
    }
    if record.staged is not None:
        body["staged"] = record.staged
    return seal(body)


def read_record(commits: Path, block: int, layout: Layout) -> Record | None:
    """Read the record of a block; None if the block is not finished.

    Raises
    ------
    StoreCorruptError
        If the file is not what its writer wrote, or speaks of other rows or another recipe.
    """
    name = f"the record of block {block} of {layout.spec.name}"
    try:
        body = unseal(record_path(commits, block), name)
    except FileNotFoundError:
        return None
    expected = layout.block(block)
    place = (layout.spec.name, layout.spec.fingerprint, *asdict(expected).values())
    try:
        found = tuple(body[k] for k in ("embedding", "fingerprint", "block", "start", "stop"))
        refused = tuple(Refusal(**refusal) for refusal in body["refused"])
        record = Record(expected, body["sha256"], refused, body["cost"], body.get("staged"))
    except (KeyError, TypeError) as error:
        raise StoreCorruptError(f"{name} lacks {error}; {REPAIR}") from error
    if found != place or body.get("format") != FORMAT:
        raise StoreCorruptError(f"{name} speaks of other rows or another recipe; {REPAIR}")
    if record.staged is not None and Path(record.staged).name != record.staged:
        raise StoreCorruptError(f"{name} names a file outside of the staging folder; {REPAIR}")
    return record
