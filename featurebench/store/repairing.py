"""Repair: what is damaged goes to quarantine, so that it is made anew; what is sound stays."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from featurebench.errors import StoreCorruptError, StoreError
from featurebench.store.arrays import build_array, build_notes, parse_notes
from featurebench.store.documents import FIXED, node_problem, tree_problems
from featurebench.store.embedding import Embedding
from featurebench.store.files import (
    fsync_file,
    make_folder,
    private_name,
    publish_folder,
    remove,
)
from featurebench.store.layout import read_layout
from featurebench.store.obs import read_notes, write_fixed
from featurebench.store.records import record_path, recorded_blocks, stray_files
from featurebench.store.verification import NOTES, ROOT, traces

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from featurebench.store.header import Header
    from featurebench.store.layout import Layout
    from featurebench.store.spec import Problem


def repair_problems(folder: Path, header: Header, problems: Sequence[Problem]) -> int:
    """Take back or rebuild what these problems are about, if it is still damaged.

    Returns
    -------
    int
        Blocks and pieces of metadata.
    """
    n_done = 0
    if any(not problem.embedding for problem in problems):
        n_done += _rebuild_fixed(folder, header)
    for name in dict.fromkeys(problem.embedding for problem in problems if problem.embedding):
        blocks = {problem.block for problem in problems if problem.embedding == name}
        n_done += _repair_embedding(folder, header, name, blocks)
    return n_done


def _rebuild_fixed(folder: Path, header: Header) -> int:
    """Write anew the metadata that is the same in every store."""
    places = [folder / ROOT / name for name in FIXED]
    damaged = [node_problem(place, sealed=header.sealed) is not None for place in places]
    if any(damaged):
        fresh = folder / "staging" / f"{private_name()}.fixed"
        make_folder(fresh.parent)
        write_fixed(fresh)
        for name, place, is_damaged in zip(FIXED, places, damaged, strict=True):
            if is_damaged:
                _replace(folder, fresh / name / "zarr.json", place / "zarr.json")
        remove(fresh)
    return sum(damaged)


def _repair_embedding(folder: Path, header: Header, name: str, blocks: Collection[int]) -> int:
    array = folder / ROOT / "obsm" / name
    try:
        layout = read_layout(array, header)
        is_lost = layout is None and bool(traces(folder, name))
    except (FileNotFoundError, StoreCorruptError):
        layout, is_lost = None, True
    except StoreError:
        # not damaged but of a kind that this version cannot read
        return 0
    if not is_lost:
        n_done = 0
    elif layout := _rebuild_array(folder, header, name):
        n_done, blocks = 1, recorded_blocks(folder / "commits" / name)
    else:
        for place in (folder / "commits" / name, array, folder / NOTES / name):
            _set_aside(folder, place)
        return 1
    if layout is None:
        return n_done
    return n_done + _renew_notes(folder, header, layout) + _take_back(folder, layout, blocks)


def _rebuild_array(folder: Path, header: Header, name: str) -> Layout | None:
    """Write an array's metadata anew from the notes beside it, if these are sound."""
    array, notes = folder / ROOT / "obsm" / name, folder / NOTES / name
    if not (array.is_dir() and notes.is_dir()) or any(tree_problems(notes, sealed=True)):
        return None
    private = folder / "staging" / f"{private_name()}.array"
    try:
        spec, shape = parse_notes(read_notes(notes))
        make_folder(private)
        build_array(private / name, spec, header.n_tiles, shape)
        layout = read_layout(private / name, header)
        _replace(folder, private / name / "zarr.json", array / "zarr.json")
    except (KeyError, StoreError, TypeError, ValueError):
        return None
    finally:
        remove(private)
    return layout


def _renew_notes(folder: Path, header: Header, layout: Layout) -> int:
    """Write damaged notes anew, as far as the array tells what stood there."""
    notes = folder / NOTES / layout.spec.name
    if not notes.is_dir() or not any(tree_problems(notes, sealed=header.sealed)):
        return 0
    private = folder / "staging" / f"{private_name()}.notes"
    make_folder(private.parent)
    build_notes(private, layout.spec, (layout.block_rows, layout.chunk_rows, layout.compression))
    _set_aside(folder, notes)
    publish_folder(private, notes)
    return 1


def _take_back(folder: Path, layout: Layout, blocks: Collection[int]) -> int:
    """Set aside the damaged ones of these blocks, and what stands among the records."""
    embedding = Embedding(folder, layout)
    strays = [embedding.commits / name for name in stray_files(embedding.commits)]
    beyond = [block for block in recorded_blocks(embedding.commits) if block >= layout.n_blocks]
    strays += [record_path(embedding.commits, block) for block in beyond]
    for stray in strays:
        _set_aside(folder, stray)
    known = sorted(block for block in blocks if 0 <= block < layout.n_blocks)
    return len(strays) + sum(_set_block_aside(embedding, block) for block in known)


def _set_block_aside(embedding: Embedding, index: int) -> bool:
    path = record_path(embedding.commits, index)
    if not path.exists():
        return False
    judged = path.read_bytes()
    if embedding.block_problem(index) is None:
        return False
    if _is_readable(embedding, index):
        # while its record stands nobody commits the block anew, so the shard goes first
        shard = embedding.array / embedding.layout.shard_key(embedding.layout.block(index))
        aside = _set_aside(embedding.folder, shard)
        if path.exists() and path.read_bytes() != judged:
            # it was repaired and committed anew in between: that was the new shard
            if aside is not None and not shard.exists():
                aside.rename(shard)
            return False
    _set_aside(embedding.folder, path)
    return True


def _is_readable(embedding: Embedding, index: int) -> bool:
    try:
        return embedding.record(index) is not None
    except StoreError:
        return False


def _set_aside(folder: Path, path: Path) -> Path | None:
    """Move a file or a folder to quarantine, durably; None if it is not there."""
    target = folder / "quarantine" / private_name() / path.relative_to(folder)
    if not path.exists():
        return None
    make_folder(target.parent)
    path.rename(target)
    fsync_file(target.parent)
    fsync_file(path.parent)
    return target


def _replace(folder: Path, fresh: Path, target: Path) -> None:
    """Put a new file in the place of a damaged one, of which quarantine keeps a copy."""
    if target.exists():
        kept = folder / "quarantine" / private_name() / target.relative_to(folder)
        make_folder(kept.parent)
        os.link(target, kept)
        fsync_file(kept.parent)
    make_folder(target.parent)
    fsync_file(fresh)
    fresh.replace(target)
    fsync_file(target.parent)
