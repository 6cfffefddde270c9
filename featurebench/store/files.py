"""Durable files: written under a private name, flushed to disk, then published atomically."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from featurebench.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY_S = 86_400.0
# a name of this host seen from another container may carry a process id that means nothing here
GRACE_S = 600.0
_OWNER = re.compile(r"(?P<host>[A-Za-z0-9-]+)-(?P<pid>\d+)-[0-9a-f]{32}$")


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn what the disk refuses into an error that names what could not be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            f"{what} could not be written: {reason}; mend that and run the same command again, "
            "what is committed stays"
        ) from error


def private_name() -> str:
    """Return a name that no other process uses, and that tells who its owner is."""
    host = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname()) or "host"
    return f"{host}-{os.getpid()}-{uuid.uuid4().hex}"


def fsync_file(path: Path) -> None:
    """Flush a file, or a folder's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Flush every file and folder below ``folder``, and itself, to disk."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            fsync_file(Path(parent, name))
        fsync_file(Path(parent))


def write_file(path: Path, content: bytes) -> None:
    """Write a new file and flush it to disk; nothing is left behind when that fails."""
    try:
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, each durable in the one above."""
    missing = [path, *path.parents]
    missing = missing[: next(i for i, folder in enumerate(missing) if folder.exists())]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        fsync_file(folder.parent)


def publish(private: Path, target: Path) -> bool:
    """Give a private file its public name unless that name is taken; the private name goes.

    Returns
    -------
    bool
        False if the name was taken: the file that stands there is untouched.

    Raises
    ------
    OSError
        If the file system refuses, e.g. because it has no hard links.
    """
    try:
        os.link(private, target)
    except OSError as error:
        # over a network file system a link that was made can be answered with an error
        if private.stat().st_nlink != 2:
            private.unlink(missing_ok=True)
            if isinstance(error, FileExistsError):
                return False
            raise
    fsync_file(target.parent)
    private.unlink(missing_ok=True)
    return True


def move(source: Path, target: Path) -> None:
    """Move a file onto its public name, whatever stands there, durably."""
    make_folder(target.parent)
    source.replace(target)
    fsync_file(target.parent)


def publish_folder(private: Path, target: Path) -> bool:
    """Give a private folder its public name unless that name is taken; the private folder goes.

    Returns
    -------
    bool
        False if a folder with something in it stood there already.
    """
    fsync_tree(private)
    try:
        private.rename(target)
    except OSError:
        shutil.rmtree(private)
        if not target.is_dir():
            raise
        return False
    fsync_file(target.parent)
    return True


def owner_is_gone(path: Path) -> bool:
    """Tell whether what a process left under a private name is garbage for certain.

    So it is after a day, or when a process of this host that no longer runs left it
    ten minutes ago.
    """
    try:
        age_s = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return False
    if age_s > DAY_S:
        return True
    owner = _OWNER.search(path.stem)
    here = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname())
    if owner is None or owner["host"] != here or age_s < GRACE_S:
        return False
    return not psutil.pid_exists(int(owner["pid"]))


def remove(path: Path) -> None:
    """Remove a file or a folder that another process may be removing too."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def require_folder(path: Path, what: str) -> None:
    """Refuse a path that holds something other than a folder."""
    if path.exists() and not path.is_dir():
        raise StoreError(f"{path.name} is a file, not {what}; give the path of a folder")
