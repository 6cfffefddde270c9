"""Cheap classifiers on stored embeddings: ordinary scikit-learn estimators, made by name."""

from featurebench.heads.catalogue import HEADS, make_head
from featurebench.heads.logistic import LogisticProbe

__all__ = ["HEADS", "LogisticProbe", "make_head"]
