"""Pure functions of arrays: tests, patient-level intervals, many comparisons."""

from featurebench.stats.bootstrap import Interval, Resamples, cluster_bootstrap
from featurebench.stats.classic import (
    AnovaResult,
    CochranResult,
    McNemarResult,
    cochran_q,
    mcnemar,
    paired_t,
    repeated_measures_anova,
)
from featurebench.stats.components import Components, crossed_components
from featurebench.stats.multiplicity import holm
from featurebench.stats.resampled import TestResult, corrected_resampled_t
from featurebench.stats.similarity import linear_cka

__all__ = [
    "AnovaResult",
    "CochranResult",
    "Components",
    "Interval",
    "McNemarResult",
    "Resamples",
    "TestResult",
    "cluster_bootstrap",
    "cochran_q",
    "corrected_resampled_t",
    "crossed_components",
    "holm",
    "linear_cka",
    "mcnemar",
    "paired_t",
    "repeated_measures_anova",
]
