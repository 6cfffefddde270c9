"""Verification: all that a store holds, read from disk and compared with what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurebench.errors import StoreError
from featurebench.store.documents import FIXED, node_problem, table_problem, tree_problems
from featurebench.store.embedding import Embedding
from featurebench.store.layout import read_layout
from featurebench.store.seals import REPAIR
from featurebench.store.spec import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from featurebench.store.header import Header

ROOT = "embeddings.zarr"
NOTES = f"{ROOT}/uns/featurebench"


def find_problems(
    folder: Path, header: Header, manifest_sha256: str | None = None
) -> list[Problem]:
    """Check the metadata, the copy of the tile table, and every block of every embedding."""
    problems: list[Problem] = []
    if manifest_sha256 not in {None, header.manifest_sha256}:
        what = "the store was made from a manifest that no longer matches; use another store"
        problems.append(Problem("", -1, 0, header.n_tiles, what, "store.json"))
    problems.extend(_fixed_problems(folder, header))
    # another process may be putting a new copy in place: what is wrong stays wrong
    problems.extend(_table_problems(folder, header) and _table_problems(folder, header))
    for name in embedding_names(folder):
        problems.extend(embedding_problems(folder, header, name))
    return problems


def embedding_names(folder: Path) -> list[str]:
    """Name everything that is, or once was, an embedding or an array of somebody else."""
    arrays = {path.parent.name for path in (folder / ROOT / "obsm").glob("*/zarr.json")}
    others = (folder / "commits", folder / NOTES)
    return sorted(arrays.union(*(_subfolders(other) for other in others)))


def embedding_problems(folder: Path, header: Header, name: str) -> Iterator[Problem]:
    """Check an embedding's metadata, notes and blocks."""
    array = f"{ROOT}/obsm/{name}"
    try:
        layout = read_layout(folder / array, header)
        what = None if layout or not traces(folder, name) else _lost(folder, name)
    except FileNotFoundError:
        layout, what = None, _lost(folder, name)
    except StoreError as error:
        layout, what = None, str(error)
    if what is not None:
        yield Problem(name, -1, 0, header.n_tiles, what, array)
    yield from _notes_problems(folder, header, name)
    if layout is not None:
        yield from Embedding(folder, layout).problems()


def traces(folder: Path, name: str) -> list[str]:
    """Tell what a store has of an embedding beside its array: records, notes."""
    places = {"records": folder / "commits" / name, "notes": folder / NOTES / name}
    return [kind for kind, place in places.items() if place.is_dir()]


def _fixed_problems(folder: Path, header: Header) -> Iterator[Problem]:
    for name in FIXED:
        node = folder / ROOT / name
        if (what := node_problem(node, sealed=header.sealed)) is not None:
            path = f"{ROOT}/{name}".rstrip("/")
            yield Problem("", -1, 0, 0, f"{path}: {what}", path)


def _table_problems(folder: Path, header: Header) -> list[Problem]:
    obs = folder / ROOT / "obs"
    found = list(tree_problems(obs, sealed=header.sealed))
    if not found and obs.is_dir() and (what := table_problem(obs, header)) is not None:
        found = [(obs, what)]
    problems = []
    for node, what in found:
        path = node.relative_to(folder).as_posix()
        said = f"{path}: {what}; run `featurebench extract`, which writes the table anew"
        problems.append(Problem("", -1, 0, 0, said, path))
    return problems


def _notes_problems(folder: Path, header: Header, name: str) -> Iterator[Problem]:
    notes = folder / NOTES / name
    if not notes.is_dir():
        return
    for node, what in tree_problems(notes, sealed=header.sealed):
        path = node.relative_to(folder).as_posix()
        yield Problem(name, -1, 0, 0, f"{path}: {what}; {REPAIR}", path)


def _lost(folder: Path, name: str) -> str:
    kinds = " and ".join(traces(folder, name))
    return f"there are {kinds} of an array that is not there; {REPAIR}"


def _subfolders(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()
