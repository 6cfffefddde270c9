"""From every arm's predictions to scores with intervals, tested differences and a verdict."""

from featurebench.comparison.analysis import add_selected, compare
from featurebench.comparison.model import (
    ArmSummary,
    Comparison,
    Contrast,
    Estimate,
    Evidence,
    Selection,
    Subgroup,
)
from featurebench.comparison.offered import OFFERED, check_tests
from featurebench.comparison.offered_model import ArmMeasure, ArmsTest, OfferedTest, PairTest

__all__ = [
    "OFFERED",
    "ArmMeasure",
    "ArmSummary",
    "ArmsTest",
    "Comparison",
    "Contrast",
    "Estimate",
    "Evidence",
    "OfferedTest",
    "PairTest",
    "Selection",
    "Subgroup",
    "add_selected",
    "check_tests",
    "compare",
]
