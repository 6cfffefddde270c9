"""Why a probe that is as good as fine-tuning may still not be called enough.

Non-inferiority says that fine-tuning gains nothing that matters; a probe at 53 % can have that,
too. So "enough" takes a score that was declared beforehand, and two guards: every class must be
found more often than by chance, and probabilities must mean what they say.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from featurebench.comparison import wording
from featurebench.metrics import GREATER_IS_BETTER, LIMITS

if TYPE_CHECKING:
    from featurebench.comparison.model import Comparison, Estimate, Subgroup

MAX_ECE = 0.1
"""The largest calibration error of a probe that is enough, where none is declared.

A score guards against what is evident, so it is held against the estimate: the error counts noise,
too, and with few tiles errs upwards.
"""


def floor_reasons(comparison: Comparison, probe_arm: str) -> tuple[str, ...]:
    """Say why a probe may not be called enough, a clause each; () where it may.

    The rules: the interval of its score lies above ``comparison.floor`` (below, where lower is
    better); the interval of the recall of every class lies above ``comparison.min_recall``, by
    default 1 over the number of classes; its expected calibration error is at most
    ``comparison.max_ece``, by default `MAX_ECE`. A score without an interval lies above a floor
    only where it is perfect, since then no resample of the patients differs.

    Parameters
    ----------
    comparison
        Its arms, and its subgroups by class, called by the same names.
    probe_arm
        The arm in question.

    Returns
    -------
    tuple of str
        Clauses such as ``its balanced accuracy, 53.0 % (95 % CI 45.1 to 60.7), does not lie above
        the floor of 80.0 %``. Without a floor the first one says that none was declared.
    """
    found = [_below_floor(comparison, probe_arm), _weak_class(comparison, probe_arm)]
    return tuple(reason for reason in (*found, _miscalibrated(comparison, probe_arm)) if reason)


def not_enough(comparison: Comparison, probe_arm: str) -> str:
    """Write the reasons as the end of a sentence that says the probe is as good as fine-tuning."""
    reasons = floor_reasons(comparison, probe_arm)
    lead = "; " if comparison.floor is None else "; it is not shown to be enough: "
    return lead + "; ".join(reasons) if reasons else ""


def floor_met(comparison: Comparison) -> str:
    """Write what a probe that is enough has reached, such as ``above the floor of 80.0 %``."""
    if comparison.floor is None:
        return ""
    side, name = _side(comparison.metric)
    return f"{side} the declared {name} of {_amount(comparison.metric, comparison.floor)}"


def _below_floor(comparison: Comparison, probe_arm: str) -> str:
    metric, floor = comparison.metric, comparison.floor
    if floor is None:
        return "whether that is good enough was not declared (give compare.floor)"
    score = comparison.arm(probe_arm).metrics[metric]
    if _beyond(metric, score, floor):
        return ""
    told = _told(metric, score, comparison.alpha)
    return f"its {wording.label(metric)}, {told}, does not lie {floor_met(comparison)}"


def _weak_class(comparison: Comparison, probe_arm: str) -> str:
    """Name the class that is found least often, where that is not shown to be often enough."""
    classes = [
        each
        for each in comparison.subgroups
        if each.column == "class" and each.arm == probe_arm and not math.isnan(each.estimate.value)
    ]
    if not classes:
        return ""
    least = 1 / len(classes) if comparison.min_recall is None else comparison.min_recall
    weak = [each for each in classes if not _beyond("recall", each.estimate, least)]
    if not weak:
        return ""
    worst: Subgroup = min(weak, key=lambda each: each.estimate.value)
    told = _told("recall", worst.estimate, comparison.alpha)
    bound = f"the declared {_amount('recall', least)}"
    if comparison.min_recall is None:
        bound = f"the {_amount('recall', least)} of chance"
    return f"its recall of class {worst.value}, {told}, does not lie above {bound}"


def _miscalibrated(comparison: Comparison, probe_arm: str) -> str:
    most = MAX_ECE if comparison.max_ece is None else comparison.max_ece
    value = comparison.arm(probe_arm).metrics["ece"].value
    if not value > most:
        return ""
    return f"its {wording.label('ece')}, {_amount('ece', value)}, is above {_amount('ece', most)}"


def _beyond(metric: str, score: Estimate, floor: float) -> bool:
    """Whether the whole interval lies on the better side of a floor."""
    side = 1 if GREATER_IS_BETTER[metric] else -1
    if math.isnan(score.ci_low):
        return math.isclose(score.value, LIMITS[metric][side > 0], abs_tol=1e-9)
    return min(side * score.ci_low, side * score.ci_high) > side * floor


def _told(metric: str, score: Estimate, alpha: float) -> str:
    return wording.score(metric, score, alpha)


def _amount(metric: str, value: float) -> str:
    return f"{wording.plain(metric, value)}{wording.unit_of_score(metric)}"


def _side(metric: str) -> tuple[str, str]:
    return ("above", "floor") if GREATER_IS_BETTER[metric] else ("below", "ceiling")
