"""Pure functions of arrays: corrected tests, patient-level intervals, many comparisons."""

from featurebench.stats.bootstrap import Interval, Resamples, cluster_bootstrap
from featurebench.stats.multiplicity import holm
from featurebench.stats.resampled import TestResult, corrected_resampled_t

__all__ = [
    "Interval",
    "Resamples",
    "TestResult",
    "cluster_bootstrap",
    "corrected_resampled_t",
    "holm",
]
