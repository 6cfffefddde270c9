"""Staging: the way of a block from private files to its record, and of its shard to its place."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from featurebench.store.claims import is_dead_claim
from featurebench.store.files import (
    disk_now,
    fsync_file,
    make_folder,
    move,
    owner_is_gone,
    private_name,
    publish,
    remove,
    write_file,
)
from featurebench.store.records import Record, encode_record, record_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from featurebench.store.layout import Layout

_SHARD = re.compile(r"(?P<name>.+)\.(?P<block>\d+)\.[A-Za-z0-9-]+\.shard")


def stage_shard(staging: Path, layout: Layout, block: int, content: memoryview) -> str:
    """Write a shard, durably, under a private name, which is returned."""
    make_folder(staging)
    name = f"{layout.spec.name}.{block}.{private_name()}.shard"
    write_file(staging / name, content)
    fsync_file(staging)
    return name


def publish_record(staging: Path, commits: Path, layout: Layout, record: Record) -> bool:
    """Publish the record of a block unless it has one; False if it has.

    The record names the staged shard, so this one step decides both which record and which
    bytes the block has. The shard of a writer who comes second is removed.
    """
    private = staging / f"{private_name()}.json"
    staged = staging / (record.staged or "")
    try:
        write_file(private, encode_record(record, layout))
        make_folder(commits)
    except OSError:
        staged.unlink(missing_ok=True)
        raise
    if publish(private, record_path(commits, record.block.index)):
        return True
    staged.unlink(missing_ok=True)
    return False


def place_shard(staging: Path, array: Path, layout: Layout, record: Record) -> Path:
    """Move a recorded shard to its Zarr key if that has not happened yet; return where it is.

    Any process may do this at any time: only the one file that the record names is ever moved.
    """
    target = array / layout.shard_key(record.block)
    if record.staged is None or not (source := staging / record.staged).exists():
        return target
    try:
        move(source, target)
    except FileNotFoundError:
        return target
    except OSError:
        return source if source.exists() else target
    return target


def sweep(staging: Path, find: Callable[[str, int], tuple[Path, Layout, Record] | None]) -> None:
    """Finish what killed writers had recorded, and remove what they had not.

    Parameters
    ----------
    staging
        The store's folder of private files.
    find
        Gives the array, the layout and the record for an embedding's name and a block.
    """
    if not staging.is_dir() or not (entries := sorted(staging.iterdir())):
        return
    now = 0.0
    # where nothing can be written nothing is old enough to go: the store is read as it is
    with contextlib.suppress(OSError):
        now = disk_now(staging)
    for path in entries:
        named = _SHARD.fullmatch(path.name)
        found = find(named["name"], int(named["block"])) if named else None
        with contextlib.suppress(OSError):
            if found is not None and found[2].staged == path.name:
                place_shard(staging, *found)
            elif owner_is_gone(path, now) or is_dead_claim(path):
                remove(path)
