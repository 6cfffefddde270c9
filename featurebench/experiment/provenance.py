"""Where numbers came from: versions, commit, machine and kernels, for the record."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib import metadata
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_info

from featurebench import __version__

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = (
    "lightgbm",
    "numcodecs",
    "numpy",
    "optuna",
    "pandas",
    "pillow",
    "scikit-learn",
    "scipy",
    "timm",
    "torch",
    "xgboost",
    "zarr",
)


def versions() -> dict[str, str]:
    """Versions of featurebench, Python and the libraries that make the numbers."""
    found = {"featurebench": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def machine(threads: int, device: str) -> dict[str, Any]:
    """Processor, device and linear algebra kernels; no host name, no path."""
    kernels = {
        f"{pool['internal_api']} {pool.get('version') or ''}".strip(): pool.get("architecture")
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    }
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "threads": threads,
        "device": device,
        "blas": kernels,
    }


def git_commit(folder: Path) -> str | None:
    """Commit that the experiment file stands on, marked where files differ; None outside git."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None
