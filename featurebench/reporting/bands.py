"""ROC and precision-recall curves averaged over folds and repeats, with bands over patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from featurebench.comparison.design import Design
    from featurebench.results import RunResult

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

Kind = Literal["roc", "pr"]
MAX_UNITS = 3000
"""With more patients a band is hardly wider than its line, and none is drawn."""

# Close together where ROC curves rise.
FPR_GRID = np.round(np.linspace(0.0, 1.0, 61) ** 2, 4)
RECALL_GRID = np.linspace(0.0, 1.0, 51)
# Ranks of a fold that a band tells apart; the line itself uses all of them.
_LEVELS = 256
# A recall that equals a point of the grid must not miss it by rounding.
_ROUNDING = 1e-9
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class _Tested:
    """The tiles of one fold, from the highest score to the lowest, ties sharing a level.

    ``counts`` is what each tile counts.
    """

    level: Ints
    positive: Flags
    clusters: Ints
    counts: Floats
    n_levels: int


def mean_curves(
    design: Design, run: RunResult, of: int, *, alpha: float = 0.05, band: bool = True
) -> dict[str, Any] | None:
    """Return the ROC and the precision-recall curve of one class against the others.

    Curves are made within each test fold, since scores of different models are not comparable,
    and averaged vertically: sensitivity at each false positive rate, precision at each recall,
    over the folds of a repeat in which both sides occur, then over repeats. Between two thresholds
    an ROC curve is a straight line, precision is that of the next one (as average precision has
    it). Tiles count as they do in scores.

    Parameters
    ----------
    design
        Folds, patients and resamples.
    run
        The arm.
    of
        The class, a column of its probabilities.
    alpha
        The band has level 1 - alpha at each point by itself.
    band
        Whether to make one: percentiles of the same mean curve over resampled patients.

    Returns
    -------
    dict or None
        By ``roc`` and ``pr``: ``x``, ``y``, ``low`` and ``high``; the last two None without a
        band. None where no fold has tiles of the class and of others.

    References
    ----------
    Fawcett T. An introduction to ROC analysis. Pattern Recognit Lett 2006; 27: 861-874.
    """
    grids: dict[Kind, Floats] = {"roc": FPR_GRID, "pr": RECALL_GRID}
    lines = _averaged(design, run, of, None)
    if lines is None:
        return None
    with_band = band and design.n_units <= MAX_UNITS
    drawn = _averaged(design, run, of, _boot_weights(design)) if with_band else None
    found: dict[str, Any] = {}
    for kind, grid in grids.items():
        low, high = (None, None) if drawn is None else _quantiles(drawn[kind], alpha)
        found[kind] = {"x": _rounded(grid), "y": _rounded(lines[kind][0]), "low": low, "high": high}
    return found


def _boot_weights(design: Design) -> Floats:
    resamples = design.resamples
    return resamples.weights[1 + resamples.n_jackknife :].astype(np.float64)


def _averaged(
    design: Design, run: RunResult, of: int, weights: Floats | None
) -> dict[Kind, Floats] | None:
    """Average the folds' curves, shape (n_resamples, n_grid); one row without weights."""
    totals: dict[Kind, list[Floats]] = {"roc": [], "pr": []}
    for repeat in range(run.n_repeats):
        folds = [
            _fold_curves(design, run.y_prob[repeat, rows, of], rows, of, weights)
            for rows in design.fold_rows(repeat)
            if len(rows)
        ]
        for kind, parts in totals.items():
            parts.append(_nan_mean(np.stack([fold[kind] for fold in folds])))
    means = {kind: _nan_mean(np.stack(parts)) for kind, parts in totals.items()}
    return None if np.isnan(means["roc"]).all() else means


def _fold_curves(
    design: Design,
    score: npt.NDArray[np.float32],
    rows: npt.NDArray[np.intp],
    of: int,
    weights: Floats | None,
) -> dict[Kind, Floats]:
    tested = _ranked(design, score, rows, of, coarse=weights is not None)
    sides = (_tally(tested, side, weights) for side in (tested.positive, ~tested.positive))
    hits, alarms = (np.cumsum(side, axis=0) for side in sides)
    undefined = (hits[-1] == 0) | (alarms[-1] == 0)
    curves: dict[Kind, Floats] = {"roc": _roc(hits, alarms), "pr": _precision(hits, alarms)}
    for curve in curves.values():
        curve[undefined] = np.nan
    return curves


def _ranked(
    design: Design,
    score: npt.NDArray[np.float32],
    rows: npt.NDArray[np.intp],
    of: int,
    *,
    coarse: bool,
) -> _Tested:
    order = np.argsort(-score)
    sorted_score, sorted_rows = score[order], rows[order]
    starts = np.concatenate([[True], np.diff(sorted_score) != 0])
    level = np.cumsum(starts) - 1
    if coarse and level[-1] >= _LEVELS:
        # Levels hold about equally many tiles; those of one score stay together.
        first = np.flatnonzero(starts)[level]
        level = np.unique(first * _LEVELS // len(score), return_inverse=True)[1]
    return _Tested(
        level,
        design.y_true[sorted_rows] == of,
        design.clusters[sorted_rows],
        design.tile_weights[sorted_rows],
        int(level[-1]) + 1,
    )


def _tally(tested: _Tested, side: Flags, weights: Floats | None) -> Floats:
    """Count a side by level, shape (n_levels, n_resamples); one column without weights."""
    level, counts, n_levels = tested.level[side], tested.counts[side], tested.n_levels
    if weights is None:
        return np.bincount(level, counts, n_levels)[:, None].astype(np.float64)
    units, members = np.unique(tested.clusters, return_inverse=True)
    cells = np.bincount(level * len(units) + members[side], counts, n_levels * len(units))
    return np.asarray(cells.reshape(n_levels, -1) @ np.ascontiguousarray(weights[:, units].T))


def _roc(hits: Floats, alarms: Floats) -> Floats:
    """Return sensitivity at the grid's false positive rates, shape (n_resamples, n_grid)."""
    zero = np.zeros((1, hits.shape[1]))
    tpr, fpr = (
        np.concatenate([zero, side / np.maximum(side[-1], _TINY)]).T for side in (hits, alarms)
    )
    last = _search(fpr, FPR_GRID, side="right") - 1
    following = np.minimum(last + 1, fpr.shape[1] - 1)
    x0, x1, y0, y1 = (
        np.take_along_axis(of, at, axis=1) for of in (fpr, tpr) for at in (last, following)
    )
    run, share = x1 - x0, np.zeros_like(x0)
    np.divide(FPR_GRID - x0, run, out=share, where=run > 0)
    return np.asarray(y0 + share * (y1 - y0))


def _precision(hits: Floats, alarms: Floats) -> Floats:
    """Return precision at the grid's recalls, shape (n_resamples, n_grid)."""
    recall = (hits / np.maximum(hits[-1], _TINY)).T
    precision = (hits / np.maximum(hits + alarms, _TINY)).T
    # The smallest step counts as recall above 0, where there is some.
    wanted = np.maximum(RECALL_GRID, _ROUNDING * 2) - _ROUNDING
    first = np.minimum(_search(recall, wanted, side="left"), recall.shape[1] - 1)
    return np.take_along_axis(precision, first, axis=1)


def _search(rows: Floats, values: Floats, *, side: Literal["left", "right"]) -> Ints:
    """Search the same values in each of several ascending rows of numbers from 0 to 1."""
    offsets = 2.0 * np.arange(len(rows))[:, None]
    places = np.searchsorted((rows + offsets).ravel(), (values + offsets).ravel(), side=side)
    starts = rows.shape[1] * np.arange(len(rows))[:, None]
    return np.asarray(places.reshape(len(rows), -1) - starts, dtype=np.int64)


def _nan_mean(stack: Floats) -> Floats:
    """Average over the first axis what is defined there; NaN where nothing is."""
    known = ~np.isnan(stack)
    total, n = np.where(known, stack, 0.0).sum(axis=0), known.sum(axis=0)
    mean = np.full(total.shape, np.nan)
    np.divide(total, n, out=mean, where=n > 0)
    return mean


def _quantiles(curves: Floats, alpha: float) -> tuple[list[float], list[float]]:
    defined = curves[~np.isnan(curves).any(axis=1)]
    low, high = np.quantile(defined, [alpha / 2, 1 - alpha / 2], axis=0)
    return _rounded(low), _rounded(high)


def _rounded(values: Floats) -> list[float]:
    return [round(float(x), 4) for x in values]
