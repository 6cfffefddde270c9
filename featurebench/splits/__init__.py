"""Who is tested when: patient-grouped folds and hold-outs, drawn or given, that all arms share."""

from __future__ import annotations

from featurebench.splits.inner import inner_folds
from featurebench.splits.plan import TRAIN, VALIDATION, Split, SplitPlan

__all__ = ["TRAIN", "VALIDATION", "Split", "SplitPlan", "inner_folds"]
