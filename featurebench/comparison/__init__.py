"""From every arm's predictions to scores with intervals, tested differences and a verdict."""

from featurebench.comparison.analysis import compare
from featurebench.comparison.model import ArmSummary, Comparison, Contrast, Estimate

__all__ = ["ArmSummary", "Comparison", "Contrast", "Estimate", "compare"]
