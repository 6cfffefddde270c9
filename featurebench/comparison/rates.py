"""How often the claim rule and the tests offered err, as `benchmarks.error_rates` measured it.

Reports, README and docs/statistics.md all take their figures from the one file that it writes.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = Path(__file__).with_name("error_rates.json")
METRICS = ("balanced_accuracy", "roc_auc")
RULE_10, RULE_3, RULE_1 = (f"claim rule, {n} x 5 folds" for n in (10, 3, 1))
ON_TILES = "McNemar mid-p, or DeLong, on tiles"


@cache
def scenarios() -> Mapping[str, Mapping[str, Any]]:
    """Give what was measured by the name of the simulated cohort."""
    found: Mapping[str, Mapping[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found["scenarios"]


def spread(
    test: str, *, metrics: tuple[str, ...] = METRICS, textbook: bool | None = None
) -> tuple[float, float]:
    """Give the lowest and the highest share of studies of equally good arms called different.

    Parameters
    ----------
    test
        Its name in the file, such as `RULE_10`.
    metrics
        Which metrics are looked at.
    textbook
        Whether only cohorts with patients of equal size and balanced classes count, or only the
        others; None for all.

    Raises
    ------
    KeyError
        If it was measured nowhere.

    Examples
    --------
    >>> low, high = spread(RULE_10)
    >>> 0 <= low <= high < spread("naive paired t, 10 x 5 folds")[0]
    True
    """
    found = [
        each[metric]["rejected"][test]
        for each in scenarios().values()
        for metric in metrics
        if each["null"]
        and textbook in {None, each["textbook"]}
        and test in each[metric]["rejected"]
        and each[metric]["outcomes"].get(test, {}).get("not claimed") != 1
    ]
    if not found:
        raise KeyError(f"no error rate of {test!r} was measured")
    return min(found), max(found)


def in_per_cent(
    test: str, *, metrics: tuple[str, ...] = METRICS, textbook: bool | None = None
) -> str:
    """Write a `spread` such as ``in 1 to 6 %``."""
    found = spread(test, metrics=metrics, textbook=textbook)
    low, high = (round(100 * share) for share in found)
    return f"in {low} %" if low == high else f"in {low} to {high} %"


def rule_sentence() -> str:
    """Say how often the claim rule erred, and on what."""
    nulls = [each for each in scenarios().values() if each["null"]]
    n_studies = sum(each["studies"] for each in nulls)
    return (
        f"In {n_studies:,} simulated studies of equally good arms, on {len(nulls)} kinds of cohort "
        "(few patients, unequal numbers of tiles, rare classes, wrong labels, sites, noisy "
        f"training), the claim rule called them different {in_per_cent(RULE_10)} with 10 repeats "
        f"of 5 folds, {in_per_cent(RULE_3)} with 3 and {in_per_cent(RULE_1)} with one, by kind of "
        "cohort."
    )
