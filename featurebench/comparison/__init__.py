"""From every arm's predictions to scores with intervals, tested differences and a verdict."""

from featurebench.comparison.analysis import compare
from featurebench.comparison.model import (
    ArmsTest,
    ArmSummary,
    Comparison,
    Contrast,
    Estimate,
    OfferedTest,
    PairTest,
)
from featurebench.comparison.offered import OFFERED, check_tests

__all__ = [
    "OFFERED",
    "ArmSummary",
    "ArmsTest",
    "Comparison",
    "Contrast",
    "Estimate",
    "OfferedTest",
    "PairTest",
    "check_tests",
    "compare",
]
