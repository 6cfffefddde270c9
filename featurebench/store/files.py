"""Durable files: written under a private name, flushed to disk, then published atomically."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
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
def disk_errors(what: str, folder: Path, needed: int | None = None) -> Iterator[None]:
    """Turn what the disk refuses into an error that names what could not be written.

    Parameters
    ----------
    what
        Is being written.
    folder
        In which; its free space is told if the disk or a quota is full.
    needed
        Bytes to be written, if known.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "mend that"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            reason += _free_space(folder, needed)
            remedy = "free some space"
        raise StoreError(
            f"{what} could not be written: {reason}; {remedy} and run the same command again, "
            "what is committed stays"
        ) from error


def human_bytes(n: int) -> str:
    """Write a number of bytes for people.

    Examples
    --------
    >>> human_bytes(512), human_bytes(33_558_000), human_bytes(2 * 10**12)
    ('512 bytes', '33.6 MB', '2.0 TB')
    """
    size, unit = float(n), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{n} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


def private_name() -> str:
    """Return a name that no other process uses, and that tells who its owner is."""
    return f"{_host()}-{os.getpid()}-{uuid.uuid4().hex}"


def read_file(path: Path) -> bytes:
    """Read a file that another process may be replacing over a network.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        # its handle was that of the file before
        if error.errno != errno.ESTALE:
            raise
    return path.read_bytes()


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


def write_file(path: Path, content: bytes | memoryview) -> None:
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


def owner_runs(name: str) -> bool | None:
    """Tell whether the process that a private name ends with runs; None if not of this host."""
    owner = _OWNER.search(name)
    if owner is None or owner["host"] != _host():
        return None
    try:
        return psutil.Process(int(owner["pid"])).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def disk_now(folder: Path) -> float:
    """Read the clock by which the file system stamps its files, in seconds.

    Raises
    ------
    OSError
        If nothing can be written there.
    """
    probe = folder / f"{private_name()}.probe"
    try:
        probe.touch(exist_ok=False)
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def require_links(folder: Path) -> None:
    """Make sure that files can be created and hard-linked in a folder, by doing so once.

    Raises
    ------
    StoreError
        If the file system has no hard links.
    OSError
        If nothing can be written there.
    """
    probe, link = (folder / f"{private_name()}.probe" for _ in range(2))
    try:
        probe.touch(exist_ok=False)
        publish(probe, link)
    except OSError as error:
        if error.errno in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
            raise StoreError(
                f"the file system of {folder} has no hard links ({error.strerror}), which blocks "
                "are committed by; keep the store on one that has them"
            ) from error
        raise
    finally:
        probe.unlink(missing_ok=True)
        link.unlink(missing_ok=True)


def owner_is_gone(path: Path, now: float) -> bool:
    """Tell whether what a process left under a private name is garbage for certain.

    So it is after a day, or when a process of this host left it ten minutes ago, and never while
    that process runs: clocks may be wrong.

    Parameters
    ----------
    path
        A file or folder.
    now
        Time by the same clock as the file's own, see `disk_now`.
    """
    try:
        age_s = now - path.stat().st_mtime
    except FileNotFoundError:
        return False
    runs = owner_runs(path.stem)
    return not runs and (age_s > DAY_S or (runs is False and age_s > GRACE_S))


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


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname()) or "host"


def _free_space(folder: Path, needed: int | None) -> str:
    above = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        free = human_bytes(shutil.disk_usage(above).free)
    except OSError:
        return ""
    also = "" if needed is None else f" and {human_bytes(needed)} are needed"
    return f" ({above} has {free} free{also})"
