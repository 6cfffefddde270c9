"""How numbers are written in a sentence: units, decimals, signs, intervals and p-values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from featurebench.metrics import GREATER_IS_BETTER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from featurebench.comparison.model import Contrast, Estimate

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


def label(metric: str) -> str:
    """Name a metric as in running text."""
    return LABELS.get(metric, metric.replace("_", " "))


def score(metric: str, estimate: Estimate, alpha: float, unit: str) -> str:
    """Write a score with its interval, such as ``83.1 % (95 % CI 75.0 to 89.2, ...)``."""
    value = plain(metric, estimate.value) + unit_of_score(metric)
    if math.isnan(estimate.ci_low):
        return f"{value} (interval not estimable)"
    low, high = plain(metric, estimate.ci_low), plain(metric, estimate.ci_high)
    return f"{value} ({level(alpha)} CI {low} to {high}, {unit} resampled)"


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


def effect(contrast: Contrast, alpha: float) -> str:
    """Write a difference with its interval and adjusted p-value."""
    parts = (contrast.difference, contrast.ci_low, contrast.ci_high)
    lower = "" if GREATER_IS_BETTER[contrast.metric] else ", lower is better"
    name = label(contrast.metric)
    if math.isnan(contrast.difference):
        return f"undefined in {name}"
    if math.isnan(contrast.ci_low):
        value = difference(contrast.metric, parts[:1])[0] + points(contrast.metric)
        return f"{value} {name} (interval not estimable; {p_value(contrast)}{lower})"
    value, low, high = difference(contrast.metric, parts)
    unit = contrast.interval.rpartition(" ")[2]
    interval = f"{level(alpha)} CI {low} to {high}, {unit} resampled"
    return f"{value}{points(contrast.metric)} {name} ({interval}; {p_value(contrast)}{lower})"


def p_value(contrast: Contrast) -> str:
    """Write the adjusted p-value, or that there is none."""
    p = contrast.p_adjusted
    if math.isnan(p):
        return "test over folds not estimable"
    return "Holm p < 0.001" if p < 0.001 else f"Holm p = {p:.3f}"


def as_gains(metric: str, low: float, high: float) -> tuple[float, float]:
    """Turn the ends of a difference into the smallest and largest gain; a loss is negative."""
    return (low, high) if GREATER_IS_BETTER[metric] else (-high, -low)


def gain_or_loss(metric: str, gain: float) -> str:
    """Write a gain such as ``a gain of 2.3 pp`` or ``a loss of 2.3 pp``."""
    return f"a {'loss' if gain < 0 else 'gain'} of {unsigned(metric, gain)}"


def times(ratio: float) -> str:
    """Write a cost ratio with two digits, such as ``41 times`` or ``1.3 times``."""
    return f"{ratio:,.0f} times" if ratio >= 9.95 else f"{ratio:.2g} times"


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
    return name[:1].upper() + name[1:] if first.replace("-", "").isalpha() else name
