"""choose(): which candidate the inner folds speak for, by the best mean or the one-SE rule."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from featurebench.errors import ConfigError

Rule = Literal["best", "one_se"]
# Probabilities below this are no better known; a single wrong certainty would decide alone.
FLOOR = 1e-7


def choose(losses: npt.NDArray[np.float64], rule: Rule = "best") -> int:
    """Choose a candidate by its losses on the inner folds.

    Parameters
    ----------
    losses
        Mean loss of each inner fold and candidate, shape (n_inner, n_candidates); candidates
        stand from the simplest (strongest penalty) to the most flexible.
    rule
        ``best``: the least mean. ``one_se``: the simplest whose mean is within one standard error
        of the least one (Breiman et al., Classification and Regression Trees, 1984, section 3.4.3).
        The first of equals.

    Returns
    -------
    int
        Column of ``losses``.

    Raises
    ------
    ConfigError
        If the rule is unknown.

    Examples
    --------
    >>> losses = np.array([[0.50, 0.40, 0.45], [0.54, 0.60, 0.66]])
    >>> choose(losses), choose(losses, "one_se")
    (1, 0)
    """
    if rule not in get_args(Rule):
        raise ConfigError(f"rule {rule!r} is unknown: use one of {', '.join(get_args(Rule))}")
    mean = losses.mean(axis=0)
    best = int(np.argmin(mean))
    if rule == "best" or len(losses) < 2:
        return best
    error = losses[:, best].std(ddof=1) / np.sqrt(len(losses))
    return int(np.flatnonzero(mean <= mean[best] + error)[0])


def log_loss(y_prob: npt.NDArray[np.floating], y: npt.NDArray[np.int64]) -> float:
    """Mean negative log probability of the true class, in nats.

    Parameters
    ----------
    y_prob
        Shape (n_rows, n_classes).
    y
        Codes, shape (n_rows,).
    """
    p = y_prob[np.arange(len(y)), y].astype(np.float64)
    return float(-np.log(np.maximum(p, FLOOR)).mean())
