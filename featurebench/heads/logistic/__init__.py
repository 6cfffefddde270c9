"""Multinomial logistic regression for all folds, repeats and penalties at once."""

from featurebench.heads.logistic.probe import LogisticProbe

__all__ = ["LogisticProbe"]
