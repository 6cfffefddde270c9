"""Catalog: which embeddings a store holds, found by their arrays and checked before use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurebench.errors import (
    MissingRowsError,
    StoreCorruptError,
    StoreError,
    StoreMismatchError,
)
from featurebench.store.embedding import Embedding
from featurebench.store.layout import Layout, read_layout
from featurebench.store.seals import REPAIR

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from featurebench.store.header import Header
    from featurebench.store.records import Record
    from featurebench.store.spec import EmbeddingSpec


def list_embeddings(folder: Path, header: Header) -> Iterator[Embedding]:
    """Go through the embeddings by name; arrays that others put there are left out."""
    for array in _arrays(folder):
        if layout := read_layout(array, header):
            yield Embedding(folder, layout)


def find_embedding(folder: Path, header: Header, spec: EmbeddingSpec) -> Embedding:
    """Find the embedding of a spec.

    Raises
    ------
    MissingRowsError
        If it was never added.
    StoreMismatchError
        If the array of that name was made by another recipe.
    StoreCorruptError
        If its metadata is damaged or lost.
    """
    try:
        layout = read_layout(_root(folder) / spec.name, header)
    except FileNotFoundError as error:
        require_no_remains(folder, spec.name)
        raise MissingRowsError(
            f"{folder.name} holds no embedding {spec.name}; run `featurebench extract`"
        ) from error
    if layout is None or layout.spec.fingerprint != spec.fingerprint:
        raise StoreMismatchError(
            f"{spec.name} in {folder.name} was made by another recipe; use another store"
        )
    return Embedding(folder, layout)


def require_no_remains(folder: Path, name: str) -> None:
    """Refuse to go on with the shards or records of an array whose metadata is lost.

    Raises
    ------
    StoreCorruptError
        If there are any.
    """
    array = _root(folder) / name
    # an array appears whole, so the order of these looks does not mistake a new one
    remains = array.is_dir() or (folder / "commits" / name).is_dir()
    if remains and not (array / "zarr.json").exists():
        raise StoreCorruptError(f"{name} is damaged: its zarr.json is missing; {REPAIR}")


def find_record(
    folder: Path, header: Header, name: str, block: int
) -> tuple[Path, Layout, Record] | None:
    """Find what is needed to put a staged shard in its place; None if nothing vouches for it."""
    try:
        layout = read_layout(_root(folder) / name, header)
        if layout is None or not block < layout.n_blocks:
            return None
        embedding = Embedding(folder, layout)
        record = embedding.record(block)
    except (StoreError, FileNotFoundError):
        return None
    return None if record is None else (embedding.array, layout, record)


def _root(folder: Path) -> Path:
    return folder / "embeddings.zarr" / "obsm"


def _arrays(folder: Path) -> list[Path]:
    return sorted(path.parent for path in _root(folder).glob("*/zarr.json"))
