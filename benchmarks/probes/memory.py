"""Memory of the solver on a float16 file that is larger than what it may keep."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.probes.clock import Section
from benchmarks.probes.cohort import Cohort, membership
from benchmarks.surroundings import disk_folder, file_system

if TYPE_CHECKING:
    from benchmarks.probes.clock import Clock
    from benchmarks.probes.cohort import Shape
    from benchmarks.probes.settings import Settings

CS = (1e-4, 1e-3)
_FOLDS = 5
_GB = 1e9


def memory(settings: Settings, clock: Clock) -> Section:
    """Solve two penalties on 5 folds of a memory map, in a process of its own, and watch it."""
    shape = replace(settings.shape, rows=settings.memory_rows)
    folder = settings.scratch or disk_folder()
    _require_room(folder, 2 * shape.rows * shape.columns)
    clock.say(f"  the file is kept on {file_system(folder)}, in {folder}")
    with tempfile.TemporaryDirectory(dir=folder, prefix="featurebench-benchmark-") as place:
        write_problem(Path(place), shape, seed=settings.seed)
        clock.say("  solving")
        facts = _measure(Path(place), settings)
    facts |= {"rows": shape.rows, "columns": shape.columns, "keep_bytes": settings.keep_bytes}
    n_models = len(CS) * _FOLDS
    title = f"memory, {shape.rows} x {shape.columns} float16 on disk, {n_models} regressions"
    return Section(title, (), _describe(facts), facts)


def write_problem(folder: Path, shape: Shape, *, seed: int) -> None:
    """Write features, codes and training sets as files that `footprint` reads."""
    cohort = Cohort.draw(shape, seed=seed)
    path = folder / "X.npy"
    X = np.lib.format.open_memmap(path, "w+", np.float16, (shape.rows, shape.columns))
    cohort.fill(X)
    X.flush()
    np.save(folder / "y.npy", cohort.y)
    np.save(folder / "sets.npy", membership(cohort.splits(_FOLDS), shape.rows))


def _measure(folder: Path, settings: Settings) -> dict[str, Any]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "benchmarks.probes.footprint", str(folder)]
    command += ["--threads", str(settings.threads), "--keep-bytes", str(settings.keep_bytes)]
    command += ["--C", *map(str, CS)]
    environment = os.environ | {"OMP_NUM_THREADS": str(settings.threads)}
    done = subprocess.run(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, check=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _require_room(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < 1.1 * n_bytes:
        raise ValueError(
            f"{folder} has {free / _GB:.1f} GB free, the file takes {n_bytes / _GB:.1f}: "
            "give --scratch on another disk, or fewer --memory-rows"
        )


def _describe(facts: dict[str, Any]) -> list[str]:
    n = facts["rows"] * facts["columns"]
    own = facts["peak_anon_bytes"] - facts["anon_before_bytes"]
    return [
        f"the matrix takes {2 * n / _GB:.2f} GB as float16, {4 * n / _GB:.2f} GB as float32; "
        f"the solver may keep {facts['keep_bytes'] / _GB:.3f} GB of it",
        f"its own memory (RssAnon): {facts['peak_anon_bytes'] / _GB:.3f} GB at most, "
        f"{own / _GB:.3f} GB more than before solving",
        f"peak resident set (VmHWM): {facts['peak_rss_bytes'] / _GB:.3f} GB, "
        "with pages of the file that the system may drop",
        f"{facts['seconds']:.1f} s, {facts['passes']:.1f} passes a model, "
        f"largest estimated gap {facts['largest_gap']:.1e}",
    ]
