"""Where a benchmark keeps its files, and how many threads its libraries may use."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Iterator

IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def usable_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def file_system(folder: Path) -> str:
    """Name the type of the file system that holds ``folder``, e.g. ``ext4``."""
    place = folder.resolve()
    above = {str(place), *map(str, place.parents)}
    mounts = [part for part in psutil.disk_partitions(all=True) if part.mountpoint in above]
    # of several mounts in one place, the last one is seen
    found = sorted(mounts, key=lambda part: len(part.mountpoint))
    return str(found[-1].fstype) if found else "unknown"


def disk_folder() -> Path:
    """Choose a folder for temporary files that is not kept in memory.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    for name in (tempfile.gettempdir(), "/var/tmp", str(Path.cwd())):
        folder = Path(name)
        if os.access(folder, os.W_OK) and file_system(folder) not in IN_MEMORY:
            return folder
    raise FileNotFoundError("every temporary folder is kept in memory; give --folder on a disk")


@contextmanager
def limit_threads(threads: int) -> Iterator[None]:
    """Give linear algebra, torch and zarr so many threads.

    zarr starts its threads when it is first used, so only the first limit in a process counts for
    it.
    """
    import torch
    import zarr

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads), zarr.config.set({"threading.max_workers": threads}):
            yield
    finally:
        torch.set_num_threads(before)


def touch_memory(n_bytes: int) -> None:
    """Use memory and give it back, so that the next step finds memory that was used just before.

    A virtual machine may have returned what was free to its host. To get 80 MB back can take ten
    times as long as to fill them, and would be counted for whichever step comes next. At most half
    of the memory that is available is touched.
    """
    np.ones(min(n_bytes, psutil.virtual_memory().available // 2), dtype=np.uint8)
