"""The solver's time by rows and by folds."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.probes.clock import Section, time_once
from benchmarks.probes.cohort import Shape, make_task
from benchmarks.probes.efficiency import count_gigaflop
from benchmarks.probes.linear import USEFUL, solve_ours

if TYPE_CHECKING:
    from benchmarks.probes.clock import Clock
    from benchmarks.probes.cohort import Task
    from benchmarks.probes.settings import Settings

_FOLDS = 5


def curve(settings: Settings, clock: Clock) -> Section:
    """Time four penalties on 5 folds of more and more rows, and on more and more folds."""
    solve_ours(make_task(Shape(450, 16, patients=30), folds=2), USEFUL, settings.threads)
    by_rows = []
    for n_rows in settings.curve_rows:
        shape = replace(settings.shape, rows=n_rows)
        by_rows.append(_time(settings, clock, make_task(shape, seed=settings.seed)))
    repeats = -(-max(settings.curve_folds) // _FOLDS)
    task = make_task(settings.shape, repeats=repeats, seed=settings.seed)
    by_folds = [_time(settings, clock, task.first(n)) for n in settings.curve_folds]
    lines = ["by rows, 5 folds:", *_table(by_rows), "by folds:", *_table(by_folds)]
    title = f"logistic regression, {len(USEFUL)} penalties, by rows and by folds"
    return Section(title, (), lines, {"by_rows": by_rows, "by_folds": by_folds})


def _time(settings: Settings, clock: Clock, task: Task) -> dict[str, Any]:
    clock.say(f"  {len(task.y)} rows, {len(task.splits)} folds")
    seconds = []
    for _ in range(clock.rounds):
        taken, solved = time_once(lambda t: solve_ours(t, USEFUL, settings.threads), task)
        seconds.append(taken)
    median = statistics.median(seconds)
    n_models = len(solved.models.n_iter)
    return {
        "rows": len(task.y),
        "folds": len(task.splits),
        "models": n_models,
        "seconds": seconds,
        "median_s": median,
        "s_per_model": median / n_models,
        "passes_per_model": float(solved.models.n_iter.mean()),
        "gf_per_s": count_gigaflop(solved.models, task) / median,
    }


def _table(found: list[dict[str, Any]]) -> list[str]:
    heads = ("rows", "folds", "models", "seconds", "s/model", "passes/model", "GF/s")
    rows = (
        f"{each['rows']:>13}{each['folds']:>13}{each['models']:>13}{each['median_s']:>13.2f}"
        f"{each['s_per_model']:>13.4f}{each['passes_per_model']:>13.1f}{each['gf_per_s']:>13.0f}"
        for each in found
    )
    return ["".join(f"{head:>13}" for head in heads), *rows]
