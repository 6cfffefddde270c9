"""Hyper-parameter search on inner folds: `SearchedHead`, how it searches and where."""

from featurebench.heads.search.defaults import DEFAULT_SPACES
from featurebench.heads.search.head import SearchedHead
from featurebench.heads.search.plan import Method, SearchPlan
from featurebench.heads.search.space import Choice, Range, parse_space

__all__ = [
    "DEFAULT_SPACES",
    "Choice",
    "Method",
    "Range",
    "SearchPlan",
    "SearchedHead",
    "parse_space",
]
