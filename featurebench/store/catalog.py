"""Catalog: which embeddings a store holds, found by their arrays and checked before use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurebench.errors import MissingRowsError, StoreError, StoreMismatchError
from featurebench.store.embedding import Embedding
from featurebench.store.layout import Layout, read_layout
from featurebench.store.spec import EmbeddingSpec, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from featurebench.store.records import Record


def list_embeddings(folder: Path, n_tiles: int) -> Iterator[Embedding]:
    """Go through the embeddings by name; arrays that others put there are left out."""
    for array in _arrays(folder):
        if layout := read_layout(array, n_tiles):
            yield Embedding(folder, layout)


def find_embedding(folder: Path, n_tiles: int, spec: EmbeddingSpec) -> Embedding:
    """Find the embedding of a spec.

    Raises
    ------
    MissingRowsError
        If it was never added.
    StoreMismatchError
        If the array of that name was made by another recipe.
    """
    try:
        layout = read_layout(_root(folder) / spec.name, n_tiles)
    except FileNotFoundError as error:
        raise MissingRowsError(
            f"{folder.name} holds no embedding {spec.name}; run `featurebench extract`"
        ) from error
    if layout is None or layout.spec.fingerprint != spec.fingerprint:
        raise StoreMismatchError(
            f"{spec.name} in {folder.name} was made by another recipe; use another store"
        )
    return Embedding(folder, layout)


def find_record(
    folder: Path, n_tiles: int, name: str, block: int
) -> tuple[Path, Layout, Record] | None:
    """Find what is needed to put a staged shard in its place; None if nothing vouches for it."""
    try:
        layout = read_layout(_root(folder) / name, n_tiles)
        if layout is None or not block < layout.n_blocks:
            return None
        embedding = Embedding(folder, layout)
        record = embedding.record(block)
    except (StoreError, FileNotFoundError):
        return None
    return None if record is None else (embedding.array, layout, record)


def find_problems(folder: Path, n_tiles: int) -> list[Problem]:
    """Compare every committed block of every embedding with what was committed."""
    problems: list[Problem] = []
    for array in _arrays(folder):
        try:
            layout = read_layout(array, n_tiles)
        except StoreError as error:
            problems.append(Problem(array.name, -1, 0, n_tiles, str(error)))
            continue
        if layout is not None:
            problems.extend(Embedding(folder, layout).problems())
    return problems


def _root(folder: Path) -> Path:
    return folder / "embeddings.zarr" / "obsm"


def _arrays(folder: Path) -> list[Path]:
    return sorted(path.parent for path in _root(folder).glob("*/zarr.json"))
