"""The solver's arithmetic per second, as a share of what this machine's matrix product reaches."""

from __future__ import annotations

import cProfile
import io
import pstats
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.probes.clock import Section, Way
from benchmarks.probes.cohort import make_task
from benchmarks.probes.linear import OURS, USEFUL, solve_ours
from featurebench.heads.logistic.blocks import BLOCK_ROWS
from featurebench.heads.logistic.lockstep import SLOT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.probes.clock import Clock
    from benchmarks.probes.cohort import Task
    from benchmarks.probes.settings import Settings
    from featurebench.heads.logistic.solver import Models

_REPEATS = 5


def efficiency(settings: Settings, clock: Clock) -> Section:
    """Compare the solver's rate with the products alone: square, and in the solver's shapes."""
    task = make_task(settings.shape, repeats=5, seed=settings.seed)
    timings, found = clock.time(
        [Way(OURS, lambda t: solve_ours(t, USEFUL, settings.threads))], task
    )
    models: Models = found[OURS].models
    gigaflop = count_gigaflop(models, task)
    n_columns = _slot_columns(len(models.n_iter), models.coef.shape[1])
    rates = {
        "square": square_rate(settings.product),
        "shapes": shapes_rate(task.X.shape[1] + 1, n_columns, settings.threads),
        "solver": gigaflop / timings[0].median,
    }
    shares = {name: rates["solver"] / rates[name] for name in ("square", "shapes")}
    lines = [
        f"float32 product of {settings.product}^3, BLAS threads: {rates['square']:.0f} GF/s",
        f"products of the solver's shapes ({BLOCK_ROWS} x {task.X.shape[1] + 1} x {n_columns}), "
        f"{settings.threads} threads of 1: {rates['shapes']:.0f} GF/s",
        f"solver: {int(models.n_iter.sum())} model-passes, {gigaflop:.1f} GF without warm start, "
        f"rotation and predictions: {rates['solver']:.0f} GF/s",
        f"that is {shares['square']:.0%} of the square product, {shares['shapes']:.0%} of its own",
    ]
    if settings.profile:
        lines += profile(task, settings.profile)
    facts = {
        "gigaflop": gigaflop,
        "rates": rates,
        "shares": shares,
        "n_iter": models.n_iter.tolist(),
    }
    title = f"efficiency, {len(models.n_iter)} logistic regressions as in useful"
    return Section(title, timings, lines, facts)


def count_gigaflop(models: Models, task: Task) -> float:
    """Count the products of all passes: 4 n (d + 1) K for a model, over all rows, masked or not."""
    n_rows, n_features = task.X.shape
    return float(4 * n_rows * (n_features + 1) * models.coef.shape[1] * models.n_iter.sum() / 1e9)


def square_rate(size: int) -> float:
    """Best rate of numpy's float32 product of square matrices, in GF/s."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    return 2 * size**3 / _best_seconds(lambda: a @ b) / 1e9


def shapes_rate(n_columns: int, n_logits: int, threads: int) -> float:
    """Best rate of a pass's two products, each thread with blocks of its own, in GF/s.

    Parameters
    ----------
    n_columns
        Of the working rows.
    n_logits
        Models times classes that are worked on at a time.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BLOCK_ROWS, n_columns), dtype=np.float32)
    weights = rng.standard_normal((n_logits, n_columns), dtype=np.float32)
    pieces = 4 * threads

    def work(_: int) -> None:
        logits = x @ weights.T
        logits.T @ x

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        seconds = _best_seconds(lambda: list(pool.map(work, range(pieces))))
    return 4 * pieces * BLOCK_ROWS * n_columns * n_logits / seconds / 1e9


def profile(task: Task, n_listed: int) -> list[str]:
    """List the functions that take longest in themselves, with one thread, which is all it sees."""
    profiler = cProfile.Profile()
    profiler.runcall(solve_ours, task, USEFUL, 1)
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(n_listed)
    return [line for line in text.getvalue().splitlines() if line.strip()]


def _best_seconds(work: Callable[[], object]) -> float:
    work()
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _slot_columns(n_models: int, n_classes: int) -> int:
    return min(n_models, max(1, SLOT_COLUMNS // n_classes)) * n_classes
