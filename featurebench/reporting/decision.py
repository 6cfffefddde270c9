"""Net benefit of acting on an arm's probability, at every threshold, for tasks of two classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.reporting.bands import MAX_UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from featurebench.comparison.design import Design
    from featurebench.results import RunResult

    Floats = npt.NDArray[np.float64]
    Scores = npt.NDArray[np.floating]
    Ints = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

THRESHOLDS = np.round(np.arange(0.01, 1.0, 0.01), 2)
# Of less than this much, one strategy is not called better than another.
_TIE = 1e-12
# A curve that crosses another back and forth is useful at single thresholds by chance.
_STRETCH = 5


@dataclass(frozen=True)
class ActedOn:
    """Tiles of each unit that are acted on, and all of them, with the condition and without.

    ``hits`` and ``alarms`` have shape (n_units, n_thresholds), ``positives`` and ``negatives``
    (n_units, 1).
    """

    hits: Floats
    alarms: Floats
    positives: Floats
    negatives: Floats

    @classmethod
    def of(
        cls, positive: Flags, probability: Scores, units: Ints, n_units: int, thresholds: Floats
    ) -> ActedOn:
        """Count; both sides of a comparison are float32, in which predictions are kept."""
        at, score = thresholds.astype(np.float32), probability.astype(np.float32)
        n_cells = len(at) + 1
        places = units * n_cells + np.searchsorted(at, score, side="right")
        # In cell k are the tiles that reach k thresholds; those further right reach them too.
        with_it, without_it = (
            np.bincount(places[side], minlength=n_units * n_cells)
            .reshape(n_units, n_cells)[:, ::-1]
            .cumsum(axis=1)[:, ::-1]
            .astype(np.float64)
            for side in (positive, ~positive)
        )
        return cls(with_it[:, 1:], without_it[:, 1:], with_it[:, :1], without_it[:, :1])

    @classmethod
    def of_repeats(
        cls, design: Design, run: RunResult, thresholds: Floats, *, by_unit: bool = True
    ) -> list[ActedOn]:
        """Count each repeat of a run, by unit or all tiles together."""
        found = []
        for repeat in range(run.n_repeats):
            rows = design.rows(repeat)
            is_positive, score = design.y_true[rows] == 1, run.y_prob[repeat, rows, 1]
            units = design.clusters[rows] if by_unit else np.zeros(len(rows), dtype=np.int64)
            n_units = design.n_units if by_unit else 1
            found.append(cls.of(is_positive, score, units, n_units, thresholds))
        return found

    def weighted(self, weights: Floats) -> ActedOn:
        """Add units up under weights (b, n_units), a row each."""
        parts = (self.hits, self.alarms, self.positives, self.negatives)
        return ActedOn(*(weights @ part for part in parts))

    def benefit(self, thresholds: Floats, prevalence: float | None) -> Floats:
        """Return the net benefit of every row at its own prevalence or a declared one.

        At a declared one it is NaN where a row has tiles of one class only.
        """
        odds = thresholds / (1 - thresholds)
        if prevalence is None:
            return (self.hits - self.alarms * odds) / (self.positives + self.negatives)
        with np.errstate(invalid="ignore"):
            found, alarmed = self.hits / self.positives, self.alarms / self.negatives
        return prevalence * found - (1 - prevalence) * alarmed * odds


def net_benefit(
    positive: npt.ArrayLike,
    probability: npt.ArrayLike,
    thresholds: npt.ArrayLike,
    *,
    prevalence: float | None = None,
) -> Floats:
    r"""Net benefit of treating where the probability reaches a threshold.

    .. math:: \mathrm{NB}(t) = \mathrm{sens}(t)\, \pi
              - (1 - \mathrm{spec}(t))\, (1 - \pi) \cdot \frac{t}{1 - t}

    With the prevalence :math:`\pi` of the tiles at hand it is
    :math:`\mathrm{TP}/n - \mathrm{FP}/n \cdot t/(1 - t)`.

    Parameters
    ----------
    positive
        Whether each tile has the condition, shape (n,).
    probability
        Predicted probability of it, shape (n,).
    thresholds
        From 0 to below 1, ascending, shape (m,).
    prevalence
        Share of the condition where the arm is to be used; None for that of these tiles.

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
    has, score = np.asarray(positive, dtype=bool), np.asarray(probability)
    at = np.asarray(thresholds, dtype=np.float64)
    together = np.zeros(len(has), dtype=np.int64)
    values: Floats = ActedOn.of(has, score, together, 1, at).benefit(at, prevalence)[0]
    return values


def decision_section(
    design: Design,
    arms: Sequence[tuple[Mapping[str, Any], RunResult]],
    classes: Sequence[str],
    *,
    leads: Sequence[str] = (),
    prevalence: float | None = None,
    alpha: float = 0.05,
) -> dict[str, Any] | None:
    """Return the decision curves of some arms; None unless there are two classes.

    Parameters
    ----------
    design
        Truth, folds, patients and resamples.
    arms
        The summary's arms with their runs, in the order in which they are to be drawn.
    classes
        Names of the classes; the second one is the condition.
    leads
        Ids of the arms that have a band.
    prevalence
        The share of the condition that was declared; None for that of the tested tiles.
    alpha
        Bands have level 1 - alpha at each threshold by itself.

    Returns
    -------
    dict or None
        ``of``, ``prevalence`` that the curves hold for, ``is_declared``, ``cohort_prevalence``
        among tested tiles, ``unit``, ``n_resamples`` (0 without bands), ``thresholds``,
        ``treat_all``, and for each of ``arms`` its ``values`` (mean over repeats), ``low`` and
        ``high`` (None without a band) and the ``ranges`` of five thresholds or more in which it
        does better than treating all and none.
    """
    if len(classes) != 2 or not arms:
        return None
    own = prevalence_of(design)
    share = own if prevalence is None else prevalence
    treat_all = share - (1 - share) * THRESHOLDS / (1 - THRESHOLDS)
    banded = leads if design.n_units <= MAX_UNITS else ()
    curves = []
    for arm, run in arms:
        values = _benefits(design, run, prevalence)
        useful = values > np.maximum(treat_all, 0.0) + _TIE
        band = _band(design, run, prevalence, alpha) if arm["id"] in banded else (None, None)
        curves.append(
            {
                "id": arm["id"],
                "label": arm["label"],
                "values": _rounded(values),
                "low": band[0],
                "high": band[1],
                "ranges": _ranges(useful),
            }
        )
    return {
        "of": classes[1],
        "prevalence": share,
        "is_declared": prevalence is not None,
        "cohort_prevalence": own,
        "unit": design.unit,
        "n_resamples": design.resamples.n_boot if banded else 0,
        "thresholds": THRESHOLDS.tolist(),
        "treat_all": _rounded(treat_all),
        "arms": curves,
    }


def prevalence_of(design: Design) -> float:
    """Return the share of the second class among the tested tiles."""
    return float(np.mean(design.y_true[design.rows(0)] == 1))


def _benefits(design: Design, run: RunResult, prevalence: float | None) -> Floats:
    repeats = ActedOn.of_repeats(design, run, THRESHOLDS, by_unit=False)
    found = [counts.benefit(THRESHOLDS, prevalence)[0] for counts in repeats]
    return np.asarray(np.mean(found, axis=0), dtype=np.float64)


def _band(
    design: Design, run: RunResult, prevalence: float | None, alpha: float
) -> tuple[list[float], list[float]]:
    """Return pointwise percentiles of the mean over repeats, over resampled units."""
    resamples = design.resamples
    weights = resamples.weights[1 + resamples.n_jackknife :].astype(np.float64)
    drawn = [
        counts.weighted(weights).benefit(THRESHOLDS, prevalence)
        for counts in ActedOn.of_repeats(design, run, THRESHOLDS)
    ]
    means = np.mean(drawn, axis=0)
    defined = means[~np.isnan(means).any(axis=1)]
    low, high = np.quantile(defined, [alpha / 2, 1 - alpha / 2], axis=0)
    return _rounded(low), _rounded(high)


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
