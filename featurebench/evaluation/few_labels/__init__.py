"""How an arm does with fewer labels: smaller training sets on the folds that all arms share."""

from featurebench.evaluation.few_labels.curves import few_label_curve
from featurebench.evaluation.few_labels.settings import KINDS, FewLabels
from featurebench.evaluation.few_labels.subsets import (
    Subset,
    Subsets,
    draw_subsets,
    score_subset,
)
from featurebench.evaluation.few_labels.untuned import without_tuning

__all__ = [
    "KINDS",
    "FewLabels",
    "Subset",
    "Subsets",
    "draw_subsets",
    "few_label_curve",
    "score_subset",
    "without_tuning",
]
