"""What a benchmark ran on: the machine, and the libraries that made the numbers."""

from __future__ import annotations

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from threadpoolctl import threadpool_info

from benchmarks.surroundings import usable_cores

LIBRARIES = ("featurebench", "numpy", "zarr", "numcodecs", "h5py", "torch", "google-crc32c")


def machine_facts() -> dict[str, Any]:
    """Describe the machine and the libraries, without host name and paths; JSON-ready.

    ``memory_bytes`` is that of the whole machine, ``threadpools`` what threadpoolctl finds in the
    libraries that are loaded now.
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_model(),
        "logical_cores": psutil.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "usable_cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE"),
        "threadpools": [_without_path(pool) for pool in threadpool_info()],
    }


def _cpu_model() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def _without_path(pool: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in pool.items() if key != "filepath"}
