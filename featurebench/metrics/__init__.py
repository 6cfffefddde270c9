"""Metrics of class probabilities: plain, by fold, by patient, and under cluster weights."""

from __future__ import annotations

from featurebench.metrics.scoring import (
    GREATER_IS_BETTER,
    METRICS,
    arm_value,
    confusion_matrix,
    patient_level,
    patient_rows,
    score_folds,
)
from featurebench.metrics.weighted import RANKED, weighted_metric

__all__ = [
    "GREATER_IS_BETTER",
    "METRICS",
    "RANKED",
    "arm_value",
    "confusion_matrix",
    "patient_level",
    "patient_rows",
    "score_folds",
    "weighted_metric",
]
