"""Numbers as a reader wants them: scores, percentage points, seconds, memory and p-values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from featurebench.comparison import wording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MISSING = "–"
MINUS = "−"

METRIC_LABELS: Mapping[str, str] = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "roc_auc": "ROC AUC",
    "average_precision": "Average precision",
    "kappa": "Cohen's kappa",
    "mcc": "MCC",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "ece": "Calibration error",
}
"""How each metric is called in the report."""

# A point between digits is a decimal point, where no number may be broken.
_BREAKS = re.compile(r"([_+/·,=@]|(?<!\d)\.|\.(?!\d))")
_NEGATIVE = re.compile(r"(?<![^\s(])-(?=[\d.])")
_EMBEDDING = re.compile(r"^(?P<model>[^.@]+)(?P<tag>\.[^@]*)?(@[0-9a-f]{8}(?P<view>\..+)?)?$")


def metric_phrase(name: str) -> str:
    """Return the metric's name within a sentence."""
    return wording.label(name)


def metric_label(name: str) -> str:
    """Return the metric's name for a reader."""
    return METRIC_LABELS.get(name, name.replace("_", " "))


def score(value: float | None) -> str:
    """Return a score with three decimals: ``0.873``."""
    return MISSING if value is None else _signless(f"{value:.3f}")


def interval(low: float | None, high: float | None) -> str:
    """Return an interval of scores: ``0.812–0.921``, or with "to" where a bound is negative."""
    if low is None or high is None:
        return MISSING
    joint = " to " if min(low, high) < 0 else "–"
    return f"{score(low)}{joint}{score(high)}"


def estimate(value: float | None, low: float | None, high: float | None) -> str:
    """Return a score with its interval: ``0.873 (0.812–0.921)``."""
    if value is None:
        return MISSING
    return (
        score(value) if low is None or high is None else f"{score(value)} ({interval(low, high)})"
    )


def unit_of(metric: str) -> str:
    """Return the unit of a difference: ``pp`` (percentage points), or nothing."""
    return wording.points(metric).strip()


def factor_of(metric: str) -> float:
    """Return what a difference is multiplied with to be in `unit_of`."""
    return 100.0 if unit_of(metric) else 1.0


def difference(
    value: float | None, low: float | None, high: float | None, metric: str, *, unit: bool = True
) -> str:
    """Return a difference with its interval: ``+3.1 pp (+1.4 to +4.9)``.

    Decimals are added where a number that is not zero would read as zero.
    """
    if value is None:
        return "not estimable"
    ends = [] if low is None or high is None else [low, high]
    numbers = [minus(text) for text in wording.difference(metric, [value, *ends])]
    text = f"{numbers[0]} {unit_of(metric)}".rstrip() if unit else numbers[0]
    return f"{text} ({numbers[1]} to {numbers[2]})" if ends else text


def minus(text: str) -> str:
    """Return a number's text with a true minus sign."""
    return text.replace("-", MINUS)


def minus_signs(text: str) -> str:
    """Return a text with a true minus sign before every negative number: ``−0.8 to +3.1``.

    A hyphen within a word, a date or a power of ten stays.
    """
    return _NEGATIVE.sub(MINUS, text)


def magnitude(value: float, metric: str) -> str:
    """Return a size without sign: ``1 pp``."""
    return f"{value * factor_of(metric):.3g} {unit_of(metric)}".rstrip()


def margin(metric: Mapping[str, Any]) -> str:
    """Return the margin of a summary's metric in words: ``margin 1 pp``, or ``no margin``."""
    if not metric["margin"]:
        return "no margin"
    return f"margin {magnitude(metric['margin'], metric['name'])}"


def ratio(value: float) -> str:
    """Return a ratio: ``0.79×``, ``4.0×``, ``41×``."""
    if value >= 9.95:
        return f"{count(round(value))}×"
    return f"{value:.1f}×" if value >= 0.995 else f"{value:.2f}×"


def unsigned(value: float, metric: str) -> str:
    """Return the size of a difference with its unit, written as differences are: ``4.7 pp``."""
    return wording.unsigned(metric, value)


def p_value(value: float | None) -> str:
    """Return a p-value: ``0.004``, ``<0.001``, or a dash where it cannot be estimated."""
    if value is None:
        return MISSING
    if value < 0.001:
        return "<0.001"
    return ">0.999" if value > 0.999 else f"{value:.3f}"


def p_statement(value: float | None) -> str:
    """Return a p-value as a statement: ``p = 0.004`` or ``p <0.001``."""
    if value is None:
        return "p not estimable"
    text = p_value(value)
    return f"p {text}" if text[0] in "<>" else f"p = {text}"


def seconds(value: float | None) -> str:
    """Return a duration: ``0.4 s``, ``41 s``, ``3 min 12 s``, ``2 h 5 min``."""
    if value is None:
        return MISSING
    if value < 0.05:
        return "0 s" if value == 0 else "<0.1 s"
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two_units(whole, 60, "min", "s")
    return _two_units(round(value / 60), 60, "h", "min")


def memory(mebibytes: float | None) -> str:
    """Return an amount of memory: ``312 MiB``, ``4.2 GiB``."""
    if not mebibytes:
        return MISSING
    return f"{mebibytes:.0f} MiB" if mebibytes < 1000 else f"{mebibytes / 1024:.1f} GiB"


def size(n_bytes: float | None) -> str:
    """Return a number of bytes: ``812 B``, ``3.4 KiB``, ``312 MiB``, ``1.2 TiB``."""
    if not n_bytes:
        return MISSING
    value, unit = float(n_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 999.5:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 9.95 else f"{value:.1f} {unit}"


def energy(joules: float | None) -> str:
    """Return an energy: ``412 J``, ``38 Wh``, ``1.2 kWh``."""
    if not joules:
        return MISSING
    if joules < 3600:
        return f"{joules:.0f} J" if joules >= 9.95 else f"{joules:.1f} J"
    hours = joules / 3600
    if hours < 999.5:
        return f"{hours:.0f} Wh" if hours >= 9.95 else f"{hours:.1f} Wh"
    kilo = hours / 1000
    return f"{kilo:.0f} kWh" if kilo >= 9.95 else f"{kilo:.1f} kWh"


def count(value: int | None) -> str:
    """Return a count with thin spaces between thousands: ``12 480``."""
    return MISSING if value is None else f"{value:,}".replace(",", "\u202f")


def patients_needed(contrast: Mapping[str, Any]) -> str:
    """Return the range of patients needed: ``300 to 4 000``."""
    low, high = contrast["n_needed_low"], contrast["n_needed_high"]
    return MISSING if low is None else wording.between(low, high).replace(",", "\u202f")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: ``1 patient``, ``40 patients``."""
    return f"{count(number)} {noun if number == 1 else plural or noun + 's'}"


def plan_text(plan: Mapping[str, Any]) -> str:
    """Return the folds in words: ``5 folds × 10 repeats, grouped by patient_id``."""
    if plan["scheme"] == "holdout":
        folds = "one hold-out split"
    elif plan["n_repeats"] == 1:
        folds = f"{counted(plan['n_folds'], 'fold')}, drawn once"
    else:
        folds = f"{plan['n_folds']} folds × {plan['n_repeats']} repeats"
    group = f"grouped by {plan['group']}" if plan["group"] else "not grouped by patient"
    return f"{folds}, {group}"


def prevalence_text(section: Mapping[str, Any]) -> str:
    """Return the prevalence that numbers hold for: ``the prevalence of x in these tiles, 38 %``."""
    share = f"{section['prevalence'] * 100:.3g} %"
    if section["is_declared"]:
        return f"the declared prevalence of {section['of']}, {share}"
    return f"the prevalence of {section['of']} in these tiles, {share}"


def percent(share: float) -> str:
    """Return a share as a whole percentage: ``81 %``."""
    return f"{share * 100:.0f} %"


def shorten(text: str, width: int) -> str:
    """Return the text, its middle left out where it is longer than ``width`` characters."""
    if len(text) <= width:
        return text
    head = width // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def breakable(text: str) -> Markup:
    """Return escaped text that may be broken after underscores, dots, plus signs and the like.

    >>> str(breakable("net.tag,rate=0.001"))
    'net.<wbr>tag,<wbr>rate=<wbr>0.001'
    """
    return Markup("").join(
        part + Markup("<wbr>") if _BREAKS.fullmatch(part) else part for part in _BREAKS.split(text)
    )


def short_sources(sources: Sequence[str]) -> dict[str, str]:
    """Map embedding names to shorter ones that still tell them apart.

    ``resnet50.a1_in1k@0f3a2b1c`` becomes ``resnet50``; tag and fingerprint come back where two
    embeddings would otherwise be called the same.
    """
    distinct = list(dict.fromkeys(sources))
    for groups in (("model", "view"), ("model", "tag", "view")):
        short = {name: _embedding_parts(name, groups) for name in distinct}
        if len(set(short.values())) == len(distinct):
            return short
    return {name: name for name in distinct}


def _embedding_parts(name: str, groups: Sequence[str]) -> str:
    match = _EMBEDDING.match(name)
    return "".join(match[group] or "" for group in groups) if match else name


def _two_units(whole: int, base: int, large: str, small: str) -> str:
    quotient, rest = divmod(whole, base)
    return f"{quotient} {large} {rest} {small}" if rest else f"{quotient} {large}"


def _signless(text: str) -> str:
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)
