"""Comparisons built by hand, with the outcome and the numbers that a test asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from comparison_cases import Cohort, arm, draw_results

from featurebench.comparison.design import Design
from featurebench.comparison.model import (
    ArmSummary,
    Comparison,
    Contrast,
    Estimate,
    Evidence,
    Selection,
)
from featurebench.metrics import GREATER_IS_BETTER, METRICS
from featurebench.results import Cost

NAN = float("nan")
PROBE, TUNED, DUMMY = "net.tag@00000000+logistic", "net.tag+full", "dummy"
DESIGN = Design.of(draw_results([arm(PROBE)], Cohort(n_patients=40, n_folds=5)), n_boot=10, seed=0)
TILES = Design.of(
    draw_results([arm(PROBE)], Cohort(n_patients=40, known_patients=False)), n_boot=10, seed=0
)


def make_evidence(unit: Any, low: float, mid: float, high: float, **more: Any) -> Evidence:
    """Build what one test says from its interval."""
    numbers: dict[str, Any] = {
        "test": f"test over {unit}",
        "unit": unit,
        "difference": mid,
        "se": (high - low) / 4,
        "statistic": 1.0,
        "df": 14.0,
        "p_value": 0.71,
        "ci_low": low,
        "ci_high": high,
        "narrow_low": low,
        "narrow_high": high,
        "p_equivalent": 0.2,
        "n": 15 if unit == "folds" else 40,
    }
    return Evidence(**{**numbers, **more})


def make_contrast(
    ends: tuple[float, float, float] = (-0.029, 0.004, 0.038),
    p: tuple[float, float] = (0.8, 0.71),
    **more: Any,
) -> Contrast:
    """Build the primary contrast from its interval over patients and both p-values.

    The interval over folds is wider by a tenth of a point on both sides.
    """
    low, mid, high = ends
    numbers: dict[str, Any] = {
        "arm_a": TUNED,
        "arm_b": PROBE,
        "metric": "balanced_accuracy",
        "primary": True,
        "difference": mid,
        "ci_low": low,
        "ci_high": high,
        "interval": "t over patients",
        "by_folds": make_evidence("folds", low - 0.001, mid, high + 0.001, p_value=p[1]),
        "by_patients": make_evidence("patients", low, mid, high, p_value=p[0]),
        "permutation_p": p[0],
        "p_worse": 0.29,
        "p_practical": 0.4,
        "p_better": 0.31,
        "rule": "both tests",
        "p_value": max(p),
        "p_adjusted": max(p),
        "outcome": "not resolved",
        "relevance": "open",
        "detectable": 0.051,
        "n_needed_low": 600,
        "n_needed_high": 4_100,
        "p_patient_better": 0.5,
        "n_repeats": 3,
        "n_folds": 5,
        "undefined_folds": 0,
        "cost_ratio": 4.0,
    }
    return Contrast(**{**numbers, **more})


def make_arm(
    name: str, kind: Any, score: tuple[float, float, float], cost: Cost, **more: Any
) -> ArmSummary:
    """Build an arm with the same score in every metric, and well calibrated."""
    values = {**dict.fromkeys(METRICS, Estimate(*score)), "ece": Estimate(0.03, 0.02, 0.05)}
    numbers: dict[str, Any] = {
        "arm": name,
        "kind": kind,
        "embedding": "net.tag@00000000" if kind == "probe" else None,
        "head": "logistic" if kind == "probe" else None,
        "strategy": "full" if kind == "finetune" else None,
        "metrics": values,
        "patient_metrics": {},
        "undefined_folds": dict.fromkeys(METRICS, 0),
        "confusion": np.zeros((2, 2), dtype=np.int64),
        "cost": cost,
        "extraction_cost": Cost(),
        "n_repeats": 3,
    }
    return ArmSummary(**{**numbers, **more})


def make_comparison(
    contrast: Contrast | None = None,
    *others: Contrast,
    probe: tuple[float, float, float] = (0.831, 0.75, 0.892),
    tuned: tuple[float, float, float] = (0.835, 0.76, 0.9),
    **more: Any,
) -> Comparison:
    """Build a comparison of a probe, a fine-tune and the dummy around the primary contrast.

    The probe reaches the declared floor, and the ceiling where lower is better.
    """
    primary = make_contrast() if contrast is None else contrast
    numbers: dict[str, Any] = {
        "metric": primary.metric,
        "margin": 0.01,
        "floor": 0.7 if GREATER_IS_BETTER[primary.metric] else 0.95,
        "alpha": 0.05,
        "reference": primary.arm_b,
        "arms": (
            make_arm(PROBE, "probe", probe, Cost(wall_s=21.2)),
            make_arm(TUNED, "finetune", tuned, Cost(wall_s=84.8)),
            make_arm(DUMMY, "baseline", (0.5, NAN, NAN), Cost(wall_s=0.1)),
        ),
        "contrasts": (primary, *others),
        "verdict": "",
        "caveats": (),
        "selections": (
            Selection("probe", PROBE, {PROBE: 15}),
            Selection("finetune", TUNED, {TUNED: 15}),
        ),
    }
    return Comparison(**{**numbers, **more})


def with_arm(comparison: Comparison, name: str, kind: Any, **more: Any) -> Comparison:
    """Add an arm to a comparison, after the others."""
    added = make_arm(name, kind, (0.8, 0.7, 0.9), Cost(wall_s=10.0), **more)
    return replace(comparison, arms=(*comparison.arms, added))
