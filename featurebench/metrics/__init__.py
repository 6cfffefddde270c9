"""Metrics of class probabilities: plain, by fold, by patient, and under cluster weights."""

from __future__ import annotations

from featurebench.metrics.losses import probability_bins, tile_losses
from featurebench.metrics.patients import PatientTiles, patient_level, patient_rows
from featurebench.metrics.scoring import (
    GREATER_IS_BETTER,
    LIMITS,
    METRICS,
    SUGGESTED_MARGINS,
    arm_value,
    chance_level,
    confusion_matrix,
    fold_values,
    score_folds,
)
from featurebench.metrics.weighted import RANKED, weighted_metric, weighted_metrics

__all__ = [
    "GREATER_IS_BETTER",
    "LIMITS",
    "METRICS",
    "RANKED",
    "SUGGESTED_MARGINS",
    "PatientTiles",
    "arm_value",
    "chance_level",
    "confusion_matrix",
    "fold_values",
    "patient_level",
    "patient_rows",
    "probability_bins",
    "score_folds",
    "tile_losses",
    "weighted_metric",
    "weighted_metrics",
]
