"""One arm on one SplitPlan: out-of-fold probabilities, and what they are with fewer labels."""

from featurebench.evaluation.crossval import assemble, cross_validate
from featurebench.evaluation.few_labels import FewLabels, Subsets, draw_subsets, few_label_curve
from featurebench.evaluation.folds import make_folds
from featurebench.evaluation.inside import InnerFolds, InnerScore, make_inner_folds, score_inside
from featurebench.evaluation.predicting import predict_folds
from featurebench.evaluation.views import Views

__all__ = [
    "FewLabels",
    "InnerFolds",
    "InnerScore",
    "Subsets",
    "Views",
    "assemble",
    "cross_validate",
    "draw_subsets",
    "few_label_curve",
    "make_folds",
    "make_inner_folds",
    "predict_folds",
    "score_inside",
]
