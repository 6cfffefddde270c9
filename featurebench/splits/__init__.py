"""Who is tested when: patient-grouped, stratified folds and hold-outs that every arm shares."""

from __future__ import annotations

from featurebench.splits.inner import inner_folds
from featurebench.splits.plan import TRAIN, VALIDATION, Split, SplitPlan

__all__ = ["TRAIN", "VALIDATION", "Split", "SplitPlan", "inner_folds"]
