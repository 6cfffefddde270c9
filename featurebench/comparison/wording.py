"""How numbers are written in a sentence: units, decimals, signs, intervals and p-values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from featurebench.metrics import GREATER_IS_BETTER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from featurebench.comparison.model import Contrast, Estimate, Evidence

LABELS = {
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "kappa": "Cohen's kappa",
    "mcc": "Matthews correlation",
    "log_loss": "log loss",
    "brier": "Brier score",
    "ece": "expected calibration error",
}
# Shares of tiles or classes, which are read as per cent; all others keep their own scale.
PERCENT = {"accuracy", "balanced_accuracy", "precision", "recall", "f1"}
# A sum in patients beyond this is written as more than it.
MANY = 100_000


def label(metric: str) -> str:
    """Name a metric as in running text."""
    return LABELS.get(metric, metric.replace("_", " "))


def score(metric: str, estimate: Estimate, alpha: float) -> str:
    """Write a score with its interval, such as ``83.1 % (95 % CI 75.0 to 89.2)``."""
    if math.isnan(estimate.value):
        return "an undefined score"
    value = plain(metric, estimate.value) + unit_of_score(metric)
    if math.isnan(estimate.ci_low):
        return f"{value} (interval not estimable)"
    low, high = plain(metric, estimate.ci_low), plain(metric, estimate.ci_high)
    return f"{value} ({level(alpha)} CI {low} to {high})"


def plain(metric: str, value: float) -> str:
    """Write a score without its unit: per cent with one decimal, else three decimals."""
    return f"{100 * value:.1f}" if metric in PERCENT else f"{value:.3f}"


def unit_of_score(metric: str) -> str:
    """Return the unit of a score, with the space before it: per cent, or nothing."""
    return " %" if metric in PERCENT else ""


def difference(metric: str, values: Iterable[float]) -> list[str]:
    """Write differences in one precision, signed, without their unit.

    A difference that is not zero is not written as zero unless it needs more than three further
    decimals, so that an interval that excludes zero also does so in print.
    """
    scaled = [100 * v if metric in PERCENT else v for v in values]
    first = 1 if metric in PERCENT else 3
    shown = [abs(v) for v in scaled if abs(v) > 1e-9]
    decimals = next(
        (d for d in range(first, first + 4) if all(round(v, d) > 0 for v in shown)), first + 3
    )
    rounded = [round(v, decimals) for v in scaled]
    return [f"{v:{'+' if v else ''}.{decimals}f}" for v in (v + 0.0 for v in rounded)]


def unsigned(metric: str, value: float) -> str:
    """Write the size of a difference with its unit, such as ``2.3 pp``."""
    return f"{difference(metric, [abs(value)])[0].lstrip('+')}{points(metric)}"


def points(metric: str) -> str:
    """Return the unit of a difference, with the space before it: percentage points or nothing."""
    return " pp" if metric in PERCENT else ""


def size(metric: str, value: float) -> str:
    """Write a size without sign or more digits than it has, such as ``1 pp``."""
    return f"{100 * value if metric in PERCENT else value:.3g}{points(metric)}"


def change(contrast: Contrast) -> str:
    """Write a difference as a gain where it is one, and else as a change: ``gains +2.3 pp F1``."""
    name = label(contrast.metric)
    value = difference(contrast.metric, _ends(contrast))[0] + points(contrast.metric)
    if not GREATER_IS_BETTER[contrast.metric]:
        return f"changes {name}, where lower is better, by {value} against"
    if contrast.difference > 0 and contrast.outcome != "not claimed":
        return f"gains {value} {name} over"
    return f"changes {name} by {value} against"


def evidence(contrast: Contrast, alpha: float) -> str:
    """Write what the tests say: intervals in one precision, p-values, how many they rest on.

    The test over folds is left out where there is one test set, since it has nothing to go by, and
    that over sites where no claim asks for it.
    """
    texts = difference(contrast.metric, _ends(contrast))[1:]
    patients, folds, sites = contrast.by_patients, contrast.by_folds, contrast.by_sites
    parts = [_test(patients, texts[:2], patients.unit, alpha)]
    if contrast.n_repeats * contrast.n_folds > 1:
        parts.append(_test(folds, texts[2:4], counted(folds.n, "fold"), alpha))
    if sites is not None and contrast.rule == "folds, patients and sites":
        parts.append(_test(sites, texts[4:], counted(sites.n, "site"), alpha))
    unknown = [part for part in parts if part.startswith("interval")]
    known = [part for part in parts if part not in unknown]
    first = f"{level(alpha)} CI " if known else ""
    return first + "; ".join([*known, *unknown])


def interval(contrast: Contrast, alpha: float) -> str:
    """Write the interval of a difference, such as ``95 % CI -1.2 to +4.5``."""
    ends = (contrast.difference, contrast.ci_low, contrast.ci_high)
    _, low, high = difference(contrast.metric, ends)
    return f"{level(alpha)} CI {low} to {high}"


def short_evidence(contrast: Contrast, alpha: float) -> str:
    """Write a difference with its interval and its adjusted p-value."""
    ends = (contrast.difference, contrast.ci_low, contrast.ci_high)
    value, low, high = difference(contrast.metric, ends)
    if math.isnan(contrast.ci_low):
        interval = "interval not estimable"
    else:
        interval = f"{level(alpha)} CI {low} to {high}"
    return f"{value}{points(contrast.metric)}, {interval}, {p_value(contrast.p_adjusted, alpha)}"


def untested(contrast: Contrast) -> str:
    """Say why no p-value could be computed for a contrast; empty where there is one."""
    if not math.isnan(contrast.p_value) or math.isnan(contrast.difference):
        return ""
    folds, patients = contrast.by_folds, contrast.by_patients
    if math.isnan(folds.p_value) and folds.n > 1:
        alike = "both arms score alike" if folds.difference == 0 else "the difference is the same"
        return f"no test can be computed, since {alike} in every fold"
    if math.isnan(patients.p_value):
        unit = patients.unit
        return (
            f"no test over {unit} can be computed, since the differences do not vary over {unit} "
            "or a class has too few of them"
        )
    return "no test over folds can be computed, since fewer than two of them have a score"


def p_value(p: float, alpha: float) -> str:
    """Write a p-value with the digits that show on which side of alpha it lies."""
    if math.isnan(p):
        return "p not estimable"
    if p < 0.001:
        return "p < 0.001"
    decimals = next(
        d for d in range(2 if p >= 0.1 else 3, 18) if (round(p, d) < alpha) == (p < alpha)
    )
    return f"p = {p:.{decimals}f}"


def odds(contrast: Contrast, margin: float) -> str:
    """Write how probable a change beyond the margin is, on the side measured, and one within it.

    Both are of the posterior from the differences of the folds, in which patients play no part.
    """
    gain = contrast.difference if GREATER_IS_BETTER[contrast.metric] else -contrast.difference
    name, p = ("loss", contrast.p_worse) if gain < 0 else ("gain", contrast.p_better)
    if math.isnan(p):
        return ""
    amount = size(contrast.metric, margin)
    beyond = f"over folds alone P({name} > {amount}) {probability(p)}"
    if margin == 0:
        return beyond
    return f"{beyond}, P(within {amount}) {probability(contrast.p_practical)}"


def probability(p: float) -> str:
    """Write a probability as ``= 0.31``; never as 0 or 1, which no data give."""
    if p < 0.01:
        return "< 0.01"
    return "> 0.99" if p > 0.99 else f"= {p:.2f}"


def between(low: int, high: int) -> str:
    """Write a range of patients with one digit each, such as ``300 to 4,000``."""
    if low > MANY:
        return f"more than {MANY:,}"
    first, last = (float(f"{number:.1g}") for number in (low, high))
    if last > MANY:
        return f"{first:,.0f} to more than {MANY:,}"
    return f"{first:,.0f} to {last:,.0f}"


def duration(seconds: float) -> str:
    """Write a time with two digits, such as ``8.4 s``, ``85 s``, ``14 min`` or ``3.4 h``."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 120:
        return f"{minutes:.1f} min" if minutes < 9.95 else f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 597 else f"{minutes / 60:,.0f} h"


def energy(joules: float) -> str:
    """Write an energy with two digits, such as ``412 J``, ``16 Wh`` or ``1.2 kWh``."""
    if joules < 3600:
        return f"{joules:.0f} J"
    for amount, unit in ((joules / 3600, "Wh"), (joules / 3.6e6, "kWh")):
        if amount < 999.5 or unit == "kWh":
            break
    return f"{amount:,.0f} {unit}" if amount >= 9.95 else f"{amount:.1f} {unit}"


def times(ratio: float) -> str:
    """Write a cost ratio with two digits, such as ``41 times`` or ``1.3 times``."""
    return f"{ratio:,.0f} times" if ratio >= 9.95 else f"{ratio:.2g} times"


def counted(number: int, noun: str) -> str:
    """Write a count with its noun, such as ``1 patient`` or ``40 patients``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def level(alpha: float) -> str:
    """Write the level of an interval, such as ``95 %``."""
    return f"{100 * (1 - alpha):.4g} %"


def listed(items: list[str], conjunction: str = "and") -> str:
    """Join names as in running text."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {conjunction} {items[-1]}"


def opening(name: str) -> str:
    """Write an arm's name as a sentence's first words; an identifier stays as it is."""
    first = name.partition(" ")[0]
    return capital(name) if first.replace("-", "").isalpha() else name


def capital(text: str) -> str:
    """Write a sentence's first letter large."""
    return text[:1].upper() + text[1:]


def _ends(contrast: Contrast) -> tuple[float, ...]:
    tests = [contrast.by_patients, contrast.by_folds]
    tests += [] if contrast.by_sites is None else [contrast.by_sites]
    return (
        contrast.difference,
        *(end for test in tests for end in (test.ci_low, test.ci_high)),
    )


def _test(test: Evidence, ends: list[str], over: str, alpha: float) -> str:
    if math.isnan(test.ci_low):
        return f"interval over {test.unit} not estimable, {p_value(test.p_value, alpha)}"
    return f"{ends[0]} to {ends[1]} over {over}, {p_value(test.p_value, alpha)}"
