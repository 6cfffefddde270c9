"""Net benefit of acting on an arm's probability, at every threshold, for tasks of two classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from featurebench.comparison.design import Design
    from featurebench.results import RunResult

    Floats = npt.NDArray[np.float64]

THRESHOLDS = np.round(np.arange(0.01, 1.0, 0.01), 2)
# Of less than this much, one strategy is not called better than another.
_TIE = 1e-12
# A curve that crosses another back and forth is useful at single thresholds by chance.
_STRETCH = 5


def net_benefit(
    positive: npt.ArrayLike, probability: npt.ArrayLike, thresholds: npt.ArrayLike
) -> Floats:
    r"""Net benefit of treating where the probability reaches a threshold.

    .. math:: \mathrm{NB}(t) = \frac{\mathrm{TP}(t)}{n}
              - \frac{\mathrm{FP}(t)}{n} \cdot \frac{t}{1 - t}

    Parameters
    ----------
    positive
        Whether each tile has the condition, shape (n,).
    probability
        Predicted probability of it, shape (n,).
    thresholds
        From 0 to below 1, shape (m,).

    Returns
    -------
    ndarray
        Shape (m,), in true positives per tile.

    References
    ----------
    Vickers AJ, Elkin EB. Decision curve analysis: a novel method for evaluating prediction models.
    Med Decis Making 2006; 26: 565-574.

    Examples
    --------
    >>> net_benefit([True, True, False, False], [0.9, 0.4, 0.6, 0.1], [0.5]).tolist()
    [0.0]
    """
    has, score = np.asarray(positive, dtype=bool), np.asarray(probability, dtype=np.float64)
    at = np.asarray(thresholds, dtype=np.float64)
    sides = (np.sort(score[has]), np.sort(score[~has]))
    hits, alarms = (len(side) - np.searchsorted(side, at, side="left") for side in sides)
    return np.asarray((hits - alarms * at / (1 - at)) / len(score), dtype=np.float64)


def decision_section(
    design: Design, arms: Sequence[tuple[Mapping[str, Any], RunResult]], classes: Sequence[str]
) -> dict[str, Any] | None:
    """Return the decision curves of some arms; None unless there are two classes.

    Parameters
    ----------
    design
        Truth and folds.
    arms
        The summary's arms with their runs, in the order in which they are to be drawn.
    classes
        Names of the classes; the second one is the condition.

    Returns
    -------
    dict or None
        ``of``, ``prevalence`` among tested tiles, ``thresholds``, ``treat_all``, and for each of
        ``arms`` its ``values`` (mean over repeats) and the ``ranges`` of five thresholds or more in
        which it does better than treating all and none.
    """
    if len(classes) != 2 or not arms:
        return None
    rows = design.rows(0)
    prevalence = float(np.mean(design.y_true[rows] == 1))
    treat_all = prevalence - (1 - prevalence) * THRESHOLDS / (1 - THRESHOLDS)
    return {
        "of": classes[1],
        "prevalence": prevalence,
        "thresholds": THRESHOLDS.tolist(),
        "treat_all": _rounded(treat_all),
        "arms": [_curve(design, arm, run, treat_all) for arm, run in arms],
    }


def _curve(
    design: Design, arm: Mapping[str, Any], run: RunResult, treat_all: Floats
) -> dict[str, Any]:
    of_repeats = []
    for repeat in range(run.n_repeats):
        rows = design.rows(repeat)
        is_positive, score = design.y_true[rows] == 1, run.y_prob[repeat, rows, 1]
        of_repeats.append(net_benefit(is_positive, score, THRESHOLDS))
    values = np.mean(of_repeats, axis=0)
    useful = values > np.maximum(treat_all, 0.0) + _TIE
    return {
        "id": arm["id"],
        "label": arm["label"],
        "values": _rounded(values),
        "ranges": _ranges(useful),
    }


def _ranges(useful: npt.NDArray[np.bool_]) -> list[list[float]]:
    """Return first and last threshold of each longer stretch in which a curve is useful."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], useful, [False]]).astype(np.int8)))
    return [
        [float(THRESHOLDS[start]), float(THRESHOLDS[stop - 1])]
        for start, stop in edges.reshape(-1, 2)
        if stop - start >= _STRETCH
    ]


def _rounded(values: Floats) -> list[float]:
    return [round(float(x), 5) for x in values]
