"""Status: how much of an embedding is done, how it is stored, and where it was made."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featurebench.store.obs import read_notes
from featurebench.store.records import record_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from featurebench.store.embedding import Embedding
    from featurebench.store.records import Record
    from featurebench.store.spec import EmbeddingSpec

_STAGED_BY = re.compile(r"\.(?P<host>[A-Za-z0-9-]+)-\d+-[0-9a-f]{32}\.shard$")


@dataclass(frozen=True)
class EmbeddingStatus:
    """One embedding of a store, for people.

    ``n_done`` counts the tiles of committed blocks, ``n_refused`` those of them without an
    embedding. ``n_bytes`` are the files of the array and its records. ``hosts`` are the machines
    that committed blocks, the first to do so first. ``notes`` are what was noted when the
    embedding was added: ``versions``, ``host``, ``provenance``; empty if they cannot be read.
    """

    name: str
    spec: EmbeddingSpec
    n_tiles: int
    n_done: int
    n_refused: int
    block_rows: int
    chunk_rows: int
    compression: str
    n_bytes: int
    hosts: tuple[str, ...]
    notes: Mapping[str, Any]


def read_status(embedding: Embedding) -> EmbeddingStatus:
    """Count an embedding's rows and bytes and gather its notes.

    Raises
    ------
    StoreCorruptError
        If a record is damaged.
    """
    layout = embedding.layout
    records = sorted(embedding.records(), key=lambda record: _committed_ns(embedding, record))
    notes = embedding.folder / "embeddings.zarr" / "uns" / "featurebench" / embedding.name
    hosts = (_STAGED_BY.search(record.staged or "") for record in records)
    return EmbeddingStatus(
        name=embedding.name,
        spec=layout.spec,
        n_tiles=layout.n_tiles,
        n_done=sum(len(record.block) for record in records),
        n_refused=sum(len(record.refused) for record in records),
        block_rows=layout.block_rows,
        chunk_rows=layout.chunk_rows,
        compression=layout.compression,
        n_bytes=_n_bytes(embedding.array) + _n_bytes(embedding.commits),
        hosts=tuple(dict.fromkeys(host["host"] for host in hosts if host)),
        notes=_parse_notes(notes),
    )


def _committed_ns(embedding: Embedding, record: Record) -> int:
    return record_path(embedding.commits, record.block.index).stat().st_mtime_ns


def _n_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _parse_notes(folder: Path) -> dict[str, Any]:
    try:
        texts = read_notes(folder)
        parsed = {name: json.loads(texts[name]) for name in ("versions", "provenance")}
    except (KeyError, OSError, RuntimeError, ValueError):
        return {}
    return {**parsed, "host": texts.get("host", "")}
