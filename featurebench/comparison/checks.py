"""What must hold before runs may be compared: one plan, the same tiles, known names."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import numpy as np

from featurebench.errors import ConfigError, ResultsError
from featurebench.metrics import LIMITS, METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from featurebench.comparison.model import Selection
    from featurebench.results import ResultsTable, RunResult


def check_comparable(results: ResultsTable) -> None:
    """Refuse runs that do not belong together.

    Raises
    ------
    ResultsError
        Without runs, with two arms of one name, or where an arm has another plan, other classes,
        another number of tiles, or tested tiles without a prediction.
    """
    if not results.runs:
        raise ResultsError("no runs to compare: run at least one arm first")
    names = [run.arm for run in results.runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ResultsError(f"arms {_quoted(twice)} occur more than once: compare one run of each")
    if np.all(results.test_fold < 0):
        raise ResultsError(f"plan {results.plan_id} tests no tile: draw the folds again")
    for run in results.runs:
        _check_run(run, results)


def check_settings(
    metric: str, margin: float, alpha: float, n_boot: int, floor: float | None = None
) -> None:
    """Refuse an unknown metric or a number out of range.

    Raises
    ------
    ResultsError
        For a metric that does not exist; the nearest name is given.
    ConfigError
        For a margin, alpha, number of resamples or floor that cannot be used.
    """
    if metric not in METRICS:
        raise ResultsError(f"metric {metric!r} is unknown: {_nearest(metric, METRICS)}")
    if not margin >= 0:
        raise ConfigError(f"margin is {margin}: give 0 or more, in the units of the metric")
    check_floor(metric, floor)
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha is {alpha}: give a value between 0 and 1, such as 0.05")
    if n_boot < 1:
        raise ConfigError(f"n_boot is {n_boot}: give a positive number of resamples, such as 2000")


def check_floor(metric: str, floor: float | None) -> None:
    """Refuse a floor that every score, or none, would reach.

    Raises
    ------
    ConfigError
        If it does not lie within the limits of the metric, which has a known name.
    """
    low, high = LIMITS[metric]
    if floor is not None and not low < floor < high:
        between = f"between {low:g} and {high:g}" if high < float("inf") else f"above {low:g}"
        raise ConfigError(f"floor is {floor}: give a value of {metric} {between}, such as 0.8")


def choose_reference(
    results: ResultsTable, reference: str | None, selections: Sequence[Selection] = ()
) -> RunResult:
    """Return the declared reference or, where none is declared, the selected probe.

    Without any probe it is the first run. Test scores play no part in the choice.

    Raises
    ------
    ResultsError
        For a reference that is not among the runs; the nearest name is given.
    """
    by_name = {run.arm: run for run in results.runs}
    if reference is None:
        probes = [each.arm for each in selections if each.kind == "probe"]
        return by_name[probes[0]] if probes else results.runs[0]
    if reference not in by_name:
        raise ResultsError(f"reference {reference!r} is no arm: {_nearest(reference, by_name)}")
    return by_name[reference]


def _check_run(run: RunResult, results: ResultsTable) -> None:
    if run.plan_id != results.plan_id:
        raise ResultsError(
            f"arm {run.arm!r} was run on plan {run.plan_id}, not on {results.plan_id}: "
            "run it again on the same folds"
        )
    if run.classes != results.classes:
        raise ResultsError(
            f"arm {run.arm!r} has classes {_quoted(run.classes)}, the results have "
            f"{_quoted(results.classes)}: run it again on the same labels"
        )
    n_repeats, n_tiles = results.test_fold.shape
    tested = (len(results.y_true), len(results.classes))
    if run.y_prob.shape[1:] != tested or not 1 <= run.n_repeats <= n_repeats:
        raise ResultsError(
            f"arm {run.arm!r} has predictions of shape {run.y_prob.shape} for {n_repeats} "
            f"repeats, {n_tiles} tiles and {tested[1]} classes: run it again"
        )
    missing = np.isnan(run.y_prob).any(axis=2) & (results.test_fold[: run.n_repeats] >= 0)
    if missing.any():
        raise ResultsError(
            f"arm {run.arm!r} lacks predictions for {int(missing.sum())} tested tiles "
            f"(first in repeat {int(np.argwhere(missing)[0, 0])}): run it again"
        )


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"choose from {_quoted(names)}"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
