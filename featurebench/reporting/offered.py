"""The tests that the literature uses, as a plain dict: naive beside corrected, and why not."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from featurebench.comparison import wording
from featurebench.reporting.formats import (
    count,
    counted,
    difference,
    estimate,
    minus,
    p_statement,
    p_value,
    score,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from featurebench.comparison import ArmMeasure, ArmsTest, Comparison, OfferedTest, PairTest

_UNITS = {
    "folds": "Folds taken as independent",
    "tiles": "Tiles taken as independent",
    "patients": "Patients taken as independent",
}


def offered_section(comparison: Comparison) -> dict[str, Any] | None:
    """Return the tests that were asked for by name; None if none were.

    Returns
    -------
    dict or None
        ``tests``: each with label, warning, why it was not run, and its numbers. ``columns`` and
        ``rows``: one row for each contrast, its difference and interval, each test's numbers, and
        the p-values that the claim rests on. ``tables``: the columns by what they take as
        independent. ``sentences``: how often naive and corrected tests fall below alpha.
        ``over_arms``: the tests over all arms in words. ``measures`` and ``each_arm``: one row for
        each arm with the measures of single arms.
    """
    if not comparison.offered:
        return None
    paired = [test for test in comparison.offered if test.pairs]
    measured = [test for test in comparison.offered if test.each_arm]
    columns = [{"name": test.name, "label": test.label, "unit": test.unit} for test in paired]
    return {
        "tests": [asdict(test) for test in comparison.offered],
        "columns": columns,
        "tables": [
            {"title": title, "columns": [each for each in columns if each["unit"] == unit]}
            for unit, title in _UNITS.items()
            if any(test.unit == unit for test in paired)
        ],
        "rows": _rows(comparison, paired),
        "sentences": [
            _disagreement(test, comparison.alpha)
            for test in paired
            if test.name != "stuart_maxwell"
        ],
        "over_arms": [
            _over_arms(test, test.over_arms, comparison.metric)
            for test in comparison.offered
            if test.over_arms is not None
        ],
        "measures": [{"name": test.name, "label": test.label} for test in measured],
        "each_arm": _each_arm(measured),
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
                name: asdict(pairs[c.arm_a]) | {"lines": _lines(name, pairs[c.arm_a])}
                for name, pairs in by_arm.items()
            },
            "p_corrected": c.by_folds.p_value,
            "p_patients": c.by_patients.p_value,
            "p_adjusted": c.p_adjusted,
        }
        for c in comparison.contrasts
    ]


def _each_arm(measured: Sequence[OfferedTest]) -> list[dict[str, Any]]:
    if not measured:
        return []
    by_arm = [{found.arm: found for found in test.each_arm} for test in measured]
    return [
        {
            "arm": arm,
            "cells": [
                _measure(test.unit, found[arm])
                for test, found in zip(measured, by_arm, strict=True)
            ],
        }
        for arm in by_arm[0]
    ]


def _measure(unit: str, found: ArmMeasure) -> dict[str, str]:
    """Write a measure with its interval, and what it was made from."""
    value, low, high = (
        None if math.isnan(number) else number
        for number in (found.value, found.ci_low, found.ci_high)
    )
    left_out = f", {count(found.n_undefined)} undefined" if found.n_undefined else ""
    line = f"{counted(found.n, unit.removesuffix('s'))}{left_out}"
    return {"value": estimate(value, low, high), "line": line}


def _lines(name: str, pair: PairTest) -> list[str]:
    """Say below a naive p-value what it was made from."""
    return _LINES[name](pair)


def _t_lines(pair: PairTest) -> list[str]:
    if math.isnan(pair.statistic):
        return []
    return [f"t({pair.df:.0f}) = {_statistic_text(pair.statistic)}"]


def _rank_lines(pair: PairTest) -> list[str]:
    if math.isnan(pair.statistic):
        return []
    plus, minus_ = (pair.further[key] for key in ("r_plus", "r_minus"))
    return [f"ranks {plus:g} : {minus_:g}"]


def _f_lines(pair: PairTest) -> list[str]:
    if math.isnan(pair.statistic):
        return []
    return [f"F({pair.df:.0f}, {pair.further['df_error']:.0f}) = {pair.statistic:.2f}"]


def _count_lines(pair: PairTest) -> list[str]:
    counts = f"{count(pair.only_a)} : {count(pair.only_b)} tiles"
    return [counts, f"exact {p_value(pair.p_exact)}"] if pair.p_exact >= 0 else [counts]


def _clustered_lines(pair: PairTest) -> list[str]:
    counts = f"{count(pair.only_a)} : {count(pair.only_b)} tiles"
    if math.isnan(pair.p_value):
        return [counts]
    others = [f"{who.title()} {p_value(pair.further[f'p_{who}'])}" for who in ("durkalski", "yang")]
    return [counts, *others]


def _auc_lines(pair: PairTest) -> list[str]:
    if math.isnan(pair.difference):
        return []
    areas = f"{score(pair.further['auc_a'])} : {score(pair.further['auc_b'])}"
    if math.isnan(pair.statistic):
        return [areas]
    symbol = "z" if math.isnan(pair.df) else f"t({pair.df:.0f})"
    return [areas, f"{symbol} = {_statistic_text(pair.statistic)}"]


def _shift_lines(pair: PairTest) -> list[str]:
    if math.isnan(pair.statistic):
        return []
    shift = difference(pair.difference, None, None, "accuracy")
    chi_square = f"χ²({pair.df:.0f}) = {pair.statistic:.2f}"
    return [f"at most {shift}", chi_square, f"Bowker {p_value(pair.further['p_bowker'])}"]


_LINES: Mapping[str, Callable[[PairTest], list[str]]] = {
    "paired_t": _t_lines,
    "wilcoxon": _rank_lines,
    "five_by_two_t": _t_lines,
    "five_by_two_f": _f_lines,
    "mcnemar": _count_lines,
    "clustered_mcnemar": _clustered_lines,
    "delong": _auc_lines,
    "obuchowski": _auc_lines,
    "stuart_maxwell": _shift_lines,
}


def _statistic_text(value: float) -> str:
    return minus(f"{value:.2f}")


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
