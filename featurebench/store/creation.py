"""Creating a store, and writing its copy of the tile table anew, each in one step."""

from __future__ import annotations

import contextlib
import errno
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from featurebench.errors import StoreMismatchError
from featurebench.store.documents import manifest_sha256, tree_problems
from featurebench.store.files import (
    disk_now,
    fsync_file,
    fsync_tree,
    make_folder,
    owner_is_gone,
    private_name,
    publish_folder,
    remove,
    require_folder,
)
from featurebench.store.header import Header, write_header
from featurebench.store.obs import obs_digest, read_strings, write_obs, write_skeleton

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

_REMOVALS = 20
_PAUSE_S = 0.05


def build_store(path: Path, obs: pd.DataFrame, header: Header) -> None:
    """Build a store without embeddings beside ``path`` and give it its name, unless it is taken."""
    require_folder(path, "a feature store")
    if (path / "store.json").exists():
        return
    make_folder(path.parent)
    _remove_left_behind(path)
    private = path.with_name(f"{path.name}.{private_name()}.tmp")
    try:
        private.mkdir()
        write_skeleton(private / "embeddings.zarr", obs, header.classes)
        (private / "commits").mkdir()
        write_header(private, replace(header, obs_digest=obs_digest(obs, header.classes)))
        publish_folder(private, path)
    finally:
        _remove_until_gone(private)


def rewrite_obs(folder: Path, header: Header, obs: pd.DataFrame, classes: Sequence[str]) -> Header:
    """Replace the copy of the tile table if it is out of date; return the store's new header.

    Raises
    ------
    StoreMismatchError
        If the table holds other tiles, or in another order.
    """
    target = folder / "embeddings.zarr" / "obs"
    new = replace(header, classes=tuple(classes), obs_digest=obs_digest(obs, classes))
    damage = next(tree_problems(target, sealed=header.sealed), None)
    sound = damage is None and (target / "zarr.json").exists()
    if new == header and sound:
        return header
    if len(obs) != header.n_tiles or not _same_tiles(target if sound else None, header, obs):
        raise StoreMismatchError(
            f"{folder.name} holds {header.n_tiles} tiles, and these are {len(obs)} others; "
            "use another store"
        )
    _swap(folder, target, obs, classes)
    write_header(folder, new)
    return new


def _same_tiles(copy: Path | None, header: Header, obs: pd.DataFrame) -> bool:
    """Compare tiles with those of the copy in the store, or, without one, with their hash."""
    tile_ids = obs["tile_id"].astype(str).tolist()
    if copy is not None:
        return read_strings(copy / "tile_id") == tile_ids
    if "path" not in obs.columns or not header.sealed:
        return True
    return manifest_sha256(tile_ids, obs["path"].astype(str).tolist()) == header.manifest_sha256


def _swap(folder: Path, target: Path, obs: pd.DataFrame, classes: Sequence[str]) -> None:
    staging = folder / "staging"
    make_folder(staging)
    private = staging / f"{private_name()}.obs"
    write_obs(private, obs, classes)
    fsync_tree(private)
    while True:
        old = staging / f"{private_name()}.old"
        with contextlib.suppress(FileNotFoundError):
            target.rename(old)
        try:
            private.rename(target)
        except OSError as error:
            # another process put its copy there in between
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
        else:
            break
        finally:
            remove(old)
    fsync_file(target.parent)


def _remove_until_gone(folder: Path) -> None:
    """Remove a folder into which zarr's threads may still write after one of them has failed."""
    for _ in range(_REMOVALS):
        if not folder.exists():
            return
        remove(folder)
        time.sleep(_PAUSE_S)


def _remove_left_behind(path: Path) -> None:
    left = [p for p in path.parent.glob("*.tmp") if p.name.startswith(f"{path.name}.")]
    now = disk_now(path.parent) if left else 0.0
    for sibling in left:
        if owner_is_gone(sibling, now):
            remove(sibling)
