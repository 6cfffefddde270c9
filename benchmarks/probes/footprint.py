"""Solve a problem written by `memory` in this process alone, and print what memory it took."""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from featurebench.heads.logistic.solver import Problem, solve_logistic
from featurebench.heads.rows import RowSource

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_STATUS = Path("/proc/self/status")
_PERIOD_S = 0.01


class AnonymousMemory:
    """Watches the anonymous memory of this process from a thread.

    Attributes
    ----------
    peak
        The most that was seen, in bytes; what comes and goes between two looks is missed.
    """

    def __init__(self) -> None:
        self.peak = read_status("RssAnon")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_PERIOD_S):
            self.peak = max(self.peak, read_status("RssAnon"))


def read_status(name: str) -> int:
    """Read one size of this process, in bytes.

    Raises
    ------
    ValueError
        If this system does not tell it.
    """
    lines = _STATUS.read_text(encoding="utf-8").splitlines() if _STATUS.exists() else []
    for line in lines:
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise ValueError(f"{_STATUS} has no {name}: memory is measured on Linux only; leave it out")


def main() -> None:
    """Solve the problem in a folder, and print seconds, passes and bytes as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--keep-bytes", type=int, required=True)
    parser.add_argument("--C", type=float, nargs="+", required=True)
    options = parser.parse_args()
    X = np.load(options.folder / "X.npy", mmap_mode="r")
    y, sets = (np.load(options.folder / f"{name}.npy") for name in ("y", "sets"))
    n_sets, Cs = sets.shape[1], options.C
    which = np.repeat(np.arange(n_sets), len(Cs))
    problem = Problem(sets, which, np.tile(Cs, n_sets), int(y.max()) + 1)
    before = read_status("RssAnon")
    start = time.perf_counter()
    with threadpool_limits(options.threads), AnonymousMemory() as watched:
        models = solve_logistic(
            RowSource(X), y, problem, threads=options.threads, keep_bytes=options.keep_bytes
        )
    found = {
        "seconds": time.perf_counter() - start,
        "passes": float(models.n_iter.mean()),
        "largest_gap": float(models.gap.max()),
        "anon_before_bytes": before,
        "peak_anon_bytes": watched.peak,
        "peak_rss_bytes": read_status("VmHWM"),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
