"""One arm on one SplitPlan: out-of-fold probabilities, and what they are with fewer labels."""

from featurebench.evaluation.crossval import assemble, cross_validate, predict_folds
from featurebench.evaluation.folds import make_folds
from featurebench.evaluation.views import Views

__all__ = ["Views", "assemble", "cross_validate", "make_folds", "predict_folds"]
