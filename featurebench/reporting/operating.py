"""What each arm does at a threshold declared before the run, for tasks of two classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, logit, stdtrit

from featurebench.reporting.decision import ActedOn, prevalence_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from featurebench.comparison.design import Design
    from featurebench.results import RunResult

    Floats = npt.NDArray[np.float64]

MEASURES: dict[str, str] = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
}
"""Measures at an operating point, and how they are called."""


def operating_section(
    design: Design,
    arms: Sequence[tuple[Mapping[str, Any], RunResult]],
    classes: Sequence[str],
    *,
    threshold: float | None,
    prevalence: float | None = None,
    alpha: float = 0.05,
) -> dict[str, Any] | None:
    """Return sensitivity, specificity and predictive values of each arm at one threshold.

    Each is the mean over repeats of the share of tested tiles.

    Parameters
    ----------
    design
        Truth, folds and patients.
    arms
        The summary's arms with their runs.
    classes
        Names of the classes; the second one is the condition.
    threshold
        A tile is called positive where its probability reaches it; None where none was declared.
    prevalence
        The share of the condition that predictive values are for; None for that of the tested
        tiles.
    alpha
        Intervals have level 1 - alpha.

    Returns
    -------
    dict or None
        ``of``, ``threshold``, ``prevalence``, ``is_declared`` (the prevalence), ``unit`` and for
        each of ``arms`` the `MEASURES`, each with ``value``, ``ci_low`` and ``ci_high``, NaN where
        not estimable. None without a threshold and unless there are two classes.
    """
    if threshold is None or len(classes) != 2 or not arms:
        return None
    return {
        "of": classes[1],
        "threshold": threshold,
        "prevalence": prevalence_of(design) if prevalence is None else prevalence,
        "is_declared": prevalence is not None,
        "unit": design.unit,
        "arms": [
            {"id": arm["id"], "label": arm["label"]}
            | _at_threshold(design, run, threshold, prevalence, alpha)
            for arm, run in arms
        ],
    }


def operating_limits(summary: Mapping[str, Any]) -> list[str]:
    """Return what is not shown of an operating point, as sentences."""
    n_classes = len(summary["data"]["classes"])
    declared = summary["settings"].get("compare") or {}
    if n_classes != 2 and (declared.get("operating_point") or declared.get("prevalence")):
        return [
            f"The declared operating point or prevalence is of two classes; with {n_classes} it is "
            "not shown."
        ]
    if n_classes == 2 and summary["operating_point"] is None:
        return [
            "No operating point was declared (compare.operating_point), so no sensitivity, "
            "specificity or predictive value at a threshold is shown."
        ]
    return []


def _at_threshold(
    design: Design, run: RunResult, threshold: float, prevalence: float | None, alpha: float
) -> dict[str, dict[str, float]]:
    repeats = ActedOn.of_repeats(design, run, np.array([threshold]))
    hits, alarms, positives, negatives = parts = [
        np.stack([getattr(counts, name)[:, 0] for counts in repeats])
        for name in ("hits", "alarms", "positives", "negatives")
    ]
    sums = [part.sum(axis=1, keepdims=True) for part in parts]
    value = _measures(*sums, prevalence=prevalence)
    rest = [total - part for total, part in zip(sums, parts, strict=True)]
    without = _measures(*rest, prevalence=prevalence)
    called = hits + alarms
    of = {
        "sensitivity": positives,
        "specificity": negatives,
        "ppv": called,
        "npv": positives + negatives - called,
    }
    return {
        name: share_interval(
            float(value[name][0]), without[name], int(of[name].any(axis=0).sum()), alpha
        )
        for name in MEASURES
    }


def _measures(
    hits: Floats,
    alarms: Floats,
    positives: Floats,
    negatives: Floats,
    *,
    prevalence: float | None,
) -> dict[str, Floats]:
    """Return each measure's mean over repeats, from counts of shape (n_repeats, m)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity, specificity = hits / positives, 1 - alarms / negatives
        share = positives / (positives + negatives) if prevalence is None else prevalence
        found, missed = sensitivity * share, (1 - sensitivity) * share
        spared, alarmed = specificity * (1 - share), (1 - specificity) * (1 - share)
        values = {
            "sensitivity": sensitivity,
            "specificity": specificity,
            "ppv": found / (found + alarmed),
            "npv": spared / (spared + missed),
        }
    return {name: np.asarray(each.mean(axis=0)) for name, each in values.items()}


def share_interval(value: float, without: Floats, n_units: int, alpha: float) -> dict[str, float]:
    """Return a share with its interval over units, made on the logit scale.

    The standard error is that of the jackknife, with Student's t of ``n_units`` - 1 degrees of
    freedom. A share of 0 or 1 has the exact bound of Clopper and Pearson, with units as cases.

    Parameters
    ----------
    value
        The share.
    without
        The share without each unit, shape (m,).
    n_units
        Units with a tile that the share is of.
    alpha
        The interval has level 1 - alpha.

    Returns
    -------
    dict
        ``value``, ``ci_low`` and ``ci_high``; bounds are NaN where not estimable.

    References
    ----------
    Korn EL, Graubard BI. Confidence intervals for proportions with small expected number of
    positive counts estimated from survey data. Surv Methodol 1998; 24: 193-201.

    Examples
    --------
    >>> found = share_interval(1.0, np.ones(12), 12, 0.05)
    >>> round(found["ci_low"], 3), found["ci_high"]
    (0.735, 1.0)
    """
    low = high = float("nan")
    if value in (0.0, 1.0) and n_units:
        bound = (alpha / 2) ** (1 / n_units)
        low, high = (bound, 1.0) if value else (0.0, 1 - bound)
    elif 0 < value < 1 and n_units > 1:
        error = np.sqrt((len(without) - 1) * np.var(without)) / (value * (1 - value))
        reach = float(stdtrit(n_units - 1, 1 - alpha / 2)) * error
        low, high = (float(expit(logit(value) + side)) for side in (-reach, reach))
    return {"value": value, "ci_low": low, "ci_high": high}
