"""Comparisons on several data sets with effects and scores that are written down, not drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from featurebench.comparison.model import (
    ArmSummary,
    Comparison,
    Contrast,
    Estimate,
    Evidence,
    Selection,
)
from featurebench.results import Cost

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBE, KNN = "resnet18.a1_in1k@0f3a2b1c+logistic", "resnet18.a1_in1k@0f3a2b1c+knn"
TUNED, DUMMY = "resnet18.a1_in1k+full", "dummy"
KINDS = {PROBE: "probe", KNN: "probe", TUNED: "finetune", DUMMY: "baseline"}


def evidence(unit: Any, difference: float, se: float, df: float = 19.0) -> Evidence:
    """Test a difference by its standard error."""
    half, narrow = (float(stats.t.ppf(p, df)) * se for p in (0.975, 0.95))
    return Evidence(
        test=f"t over {unit}",
        unit=unit,
        difference=difference,
        se=se,
        statistic=difference / se if se else math.nan,
        df=df,
        p_value=float(2 * stats.t.sf(abs(difference) / se, df)) if se else math.nan,
        ci_low=difference - half,
        ci_high=difference + half,
        narrow_low=difference - narrow,
        narrow_high=difference + narrow,
        p_equivalent=0.5,
        n=int(df) + 1,
    )


def contrast(difference: float, se_folds: float, se_patients: float, **changes: Any) -> Contrast:
    """Hold the fine-tuned network against the probe."""
    by_folds = evidence("folds", difference, se_folds)
    by_patients = evidence("patients", difference, se_patients, df=39.0)
    described: dict[str, Any] = {
        "arm_a": TUNED,
        "arm_b": PROBE,
        "metric": "balanced_accuracy",
        "primary": True,
        "difference": difference,
        "ci_low": by_patients.ci_low,
        "ci_high": by_patients.ci_high,
        "interval": "t over patients",
        "by_folds": by_folds,
        "by_patients": by_patients,
        "permutation_p": 0.5,
        "p_worse": 0.1,
        "p_practical": 0.2,
        "p_better": 0.7,
        "rule": "both tests",
        "p_value": 0.5,
        "p_adjusted": 0.5,
        "outcome": "not resolved",
        "relevance": "open",
        "detectable": 0.05,
        "n_needed_low": 400,
        "n_needed_high": 400,
        "p_patient_better": 0.6,
        "n_repeats": 2,
        "n_folds": 5,
        "undefined_folds": 0,
        "cost_ratio": 8.0,
    }
    return Contrast(**{**described, **changes})


def summary(
    arm: str, value: float, metric: str = "balanced_accuracy", **changes: Any
) -> ArmSummary:
    """Give an arm a score with an interval of 4 points to either side."""
    described: dict[str, Any] = {
        "arm": arm,
        "kind": KINDS.get(arm, "probe"),
        "embedding": None if "@" not in arm else arm.rpartition("+")[0],
        "head": "logistic" if arm == PROBE else "knn" if arm == KNN else None,
        "strategy": "full" if arm == TUNED else None,
        "metrics": {metric: Estimate(value, value - 0.04, value + 0.04)},
        "patient_metrics": {},
        "undefined_folds": {},
        "confusion": np.zeros((2, 2), dtype=np.int64),
        "cost": Cost(),
        "extraction_cost": Cost(),
        "n_repeats": 2,
    }
    return ArmSummary(**{**described, **changes})


def comparison(
    difference: float = 0.02,
    se: tuple[float, float] = (0.02, 0.01),
    scores: Mapping[str, float] | None = None,
    *,
    of_contrast: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Comparison:
    """Compare a probe, another, a fine-tuned network and a baseline on one data set.

    The standard errors are those over folds and over patients.
    """
    scores = scores or {PROBE: 0.8, KNN: 0.75, TUNED: 0.8 + difference, DUMMY: 0.5}
    metric = changes.get("metric", "balanced_accuracy")
    described: dict[str, Any] = {
        "metric": metric,
        "margin": 0.01,
        "alpha": 0.05,
        "reference": PROBE,
        "arms": tuple(summary(arm, value, metric) for arm, value in scores.items()),
        "contrasts": (contrast(difference, *se, **{"metric": metric, **(of_contrast or {})}),),
        "verdict": "",
        "caveats": (),
        "selections": (
            Selection("probe", PROBE, {PROBE: 10}),
            Selection("finetune", TUNED, {TUNED: 10}),
        ),
    }
    return Comparison(**{**described, **changes})


def many(n: int, *, seed: int = 0, n_arms: int = 4) -> dict[str, Comparison]:
    """Compare on n data sets, where the fine-tuned network is the best and kNN the worst arm."""
    rng = np.random.default_rng(seed)
    arms = [PROBE, KNN, TUNED, *(f"resnet18.a1_in1k@0f3a2b1c+extra{i}" for i in range(n_arms - 3))]
    level = dict(zip(arms, [0.80, 0.70, 0.86, *(0.8,) * (n_arms - 3)], strict=True))
    named = {}
    for i in range(n):
        scores = {arm: value + 0.01 * rng.normal() for arm, value in level.items()}
        gap = scores[TUNED] - scores[PROBE]
        named[f"cohort-{i + 1}"] = comparison(gap, (0.02, 0.015), {**scores, DUMMY: 0.5})
    return named
