"""The tests that the literature uses, as a plain dict: naive beside corrected, and why not."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from featurebench.comparison import wording
from featurebench.reporting.formats import count, counted, minus, p_statement, p_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featurebench.comparison import ArmsTest, Comparison, OfferedTest, PairTest


def offered_section(comparison: Comparison) -> dict[str, Any] | None:
    """Return the tests that were asked for by name; None if none were.

    Returns
    -------
    dict or None
        ``tests``: each with label, warning, why it was not run, and its numbers. ``columns`` and
        ``rows``: one row for each contrast, its difference and interval, each test's numbers, and
        the corrected p-value. ``sentences``: how often naive and corrected tests fall below alpha.
        ``over_arms``: the tests over all arms in words.
    """
    if not comparison.offered:
        return None
    paired = [test for test in comparison.offered if test.pairs]
    return {
        "tests": [asdict(test) for test in comparison.offered],
        "columns": [{"name": test.name, "label": test.label} for test in paired],
        "rows": _rows(comparison, paired),
        "sentences": [_disagreement(test, comparison.alpha) for test in paired],
        "over_arms": [
            _over_arms(test, test.over_arms, comparison.metric)
            for test in comparison.offered
            if test.over_arms is not None
        ],
    }


def _rows(comparison: Comparison, paired: Sequence[OfferedTest]) -> list[dict[str, Any]]:
    by_arm = {test.name: {pair.arm_a: pair for pair in test.pairs} for test in paired}
    if not paired:
        return []
    return [
        {
            "arm": c.arm_a,
            "metric": c.metric,
            "difference": c.difference,
            "ci_low": c.ci_low,
            "ci_high": c.ci_high,
            "tests": {
                name: asdict(pairs[c.arm_a]) | {"lines": _lines(pairs[c.arm_a])}
                for name, pairs in by_arm.items()
            },
            "p_corrected": c.p_value,
            "p_adjusted": c.p_adjusted,
        }
        for c in comparison.contrasts
    ]


def _lines(pair: PairTest) -> list[str]:
    """Say below a naive p-value what it was made from."""
    if pair.only_a is not None:
        counts = f"{count(pair.only_a)} : {count(pair.only_b)} tiles"
        return [counts, f"exact {p_value(pair.p_exact)}"] if pair.p_exact >= 0 else [counts]
    if math.isnan(pair.statistic):
        return []
    return [f"t({pair.df:.0f}) = {minus(f'{pair.statistic:.2f}')}"]


def _disagreement(test: OfferedTest, alpha: float) -> str:
    """Count the contrasts below alpha by the naive test and by the corrected one."""
    naive = sum(pair.p_value < alpha for pair in test.pairs)
    corrected = sum(pair.p_corrected < alpha for pair in test.pairs)
    of_all = f"of {counted(len(test.pairs), 'difference')}"
    return (
        f"{test.label}: p below {alpha:g} in {naive} {of_all}; corrected t, before Holm: in "
        f"{corrected}."
    )


def _over_arms(test: OfferedTest, found: ArmsTest, metric: str) -> str:
    """Say what a test over all arms found, with the range that the arms span."""
    left_out = f", {counted(found.n_undefined, 'fold')} left out" if found.n_undefined else ""
    subject = (
        f"{test.label}, {counted(len(found.arms), 'arm')} on "
        f"{counted(found.n, test.unit.removesuffix('s'))}{left_out} (no baselines): "
    )
    return f"{subject}{_statistic(found)}. {_range(test, found, metric)}"


def _statistic(found: ArmsTest) -> str:
    if math.isnan(found.p_value):
        return "not estimable"
    p = p_statement(found.p_value)
    if math.isnan(found.df_error):
        return f"Q({found.df:.0f}) = {found.statistic:.2f}, {p}"
    text = f"F({found.df:.0f}, {found.df_error:.0f}) = {found.statistic:.2f}, {p}"
    if found.df > 1:
        text += (
            f"; Greenhouse-Geisser epsilon {found.epsilon:.2f}, with it "
            f"{p_statement(found.p_epsilon)}"
        )
    if not math.isnan(found.sphericity_p):
        text += f"; sphericity (Mauchly) {p_statement(found.sphericity_p)}"
    return text


def _range(test: OfferedTest, found: ArmsTest, metric: str) -> str:
    if math.isnan(found.lowest):
        return "No fold has a score of every arm."
    scale = metric if test.unit == "folds" else "accuracy"
    low, high = wording.plain(scale, found.lowest), wording.plain(scale, found.highest)
    over_folds = f"mean {wording.label(metric)} over folds"
    what = over_folds if test.unit == "folds" else "share of tiles called right"
    return f"The arms' {what} spans {low} to {high}{wording.unit_of_score(scale)}."
