"""Where the spread of scores comes from: variance components of crossed random factors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Components:
    """Variances, in the squared unit of the scores.

    Parameters
    ----------
    seeds
        Of what a seed does to all folds alike.
    folds
        Of what a fold does with all seeds alike.
    residual
        Of what is left: what a seed does in one fold alone.
    """

    seeds: float
    folds: float
    residual: float

    @property
    def total(self) -> float:
        """Variance of a single score: one seed, one fold."""
        return self.seeds + self.folds + self.residual


@dataclass(frozen=True)
class PatientComponents:
    """Variances of per-patient values, in their squared unit.

    Parameters
    ----------
    patients
        Of what a patient has in all repeats and with all seeds.
    splits
        Of what a split of the patients into folds does to all of them alike.
    seeds
        Of what a seed does to all patients alike; NaN where there is one seed only.
    residual
        Of what is left: how a patient fares in one split, with one seed.
    n_patients, n_left_out
        Patients used, and left out because a value of theirs is undefined.
    """

    patients: float
    splits: float
    seeds: float
    residual: float
    n_patients: int
    n_left_out: int

    @property
    def total(self) -> float:
        """Variance of a single value: one patient, one split, one seed."""
        seeds = 0.0 if math.isnan(self.seeds) else self.seeds
        return self.patients + self.splits + seeds + self.residual


def crossed_components(scores: npt.ArrayLike) -> Components:
    r"""Split the variance of scores of every seed in every fold, one score each.

    The model is :math:`y_{ij} = \mu + s_i + f_j + e_{ij}` with independent random effects. With a
    seeds, b folds and the mean squares of the two-way analysis of variance without replication,

    .. math::
        \hat\sigma_e^2 = MS_e, \qquad \hat\sigma_s^2 = (MS_s - MS_e) / b, \qquad
        \hat\sigma_f^2 = (MS_f - MS_e) / a.

    Parameters
    ----------
    scores
        Shape (n_seeds, n_folds).

    Returns
    -------
    Components
        Negative estimates are set to 0, so that these are no longer unbiased.

    Raises
    ------
    ValueError
        If there are fewer than two seeds or folds, or a score is not finite.

    References
    ----------
    Searle SR, Casella G, McCulloch CE. Variance components. Wiley 1992, chapter 4.

    Examples
    --------
    >>> crossed_components([[0.75, 0.5, 1.0], [0.75, 0.5, 1.0]])
    Components(seeds=0.0, folds=0.0625, residual=0.0)
    """
    y = np.asarray(scores, dtype=np.float64)
    if y.ndim != 2 or min(y.shape) < 2:
        raise ValueError(f"scores have shape {y.shape}: give two or more seeds, and folds, of each")
    if not np.isfinite(y).all():
        raise ValueError("scores hold NaN or infinite values: leave those folds out")
    n_seeds, n_folds = y.shape
    # Differences to one score are exact where scores are the same, and means of them are then, too.
    y = y - y[0, 0]
    of_seeds, of_folds = y.mean(axis=1), y.mean(axis=0)
    rest = y - of_seeds[:, None] - of_folds + y.mean()
    residual = float(np.square(rest).sum()) / ((n_seeds - 1) * (n_folds - 1))
    seeds = float(of_seeds.var(ddof=1)) - residual / n_folds
    folds = float(of_folds.var(ddof=1)) - residual / n_seeds
    return Components(max(seeds, 0.0), max(folds, 0.0), residual)


def patient_split_components(values: npt.ArrayLike) -> PatientComponents:
    r"""Split the variance of per-patient values into patients, splits and, where given, seeds.

    Values may be scores or differences between two arms. The factors are crossed and random. With
    the mean squares of the analysis of variance with all interactions, the component of a factor
    with levels a, in a table of n values, is

    .. math:: \hat\sigma_a^2 = \frac{a}{n} \sum_{A \ni a} (-1)^{|A| - 1} MS_A

    over all sets A of factors that hold it; for patients and splits alone this is
    :math:`(MS_p - MS_e) / R` and :math:`(MS_s - MS_e) / P`. The residual is the sum of the
    components of all interactions. Where no estimate is negative, this is also what restricted
    maximum likelihood (a mixed model) gives on the same complete table.

    It needs a complete table, so that a patient with a NaN in any repeat is left out of all of
    them. Such patients are those in whom the value is undefined, often the ones with few tiles:
    where many are left out, the components are those of the others.

    Parameters
    ----------
    values
        Shape (R, P): repeats of the split by patients; or (S, R, P) with seeds before them.

    Returns
    -------
    PatientComponents
        Negative estimates are set to 0, so that these are no longer unbiased. All components are
        NaN with fewer than two repeats, or two patients that are left.

    Raises
    ------
    ValueError
        If the values have another number of dimensions, or one is infinite.

    References
    ----------
    Searle SR, Casella G, McCulloch CE. Variance components. Wiley 1992, chapters 4 and 5.
    Bouthillier X et al. Accounting for variance in machine learning benchmarks. MLSys 2021.

    Examples
    --------
    >>> found = patient_split_components([[0.75, 0.5, 1.0], [0.75, 0.5, float("nan")]])
    >>> found.patients, found.splits, found.residual, found.n_left_out
    (0.03125, 0.0, 0.0, 1)
    """
    y = np.asarray(values, dtype=np.float64)
    if y.ndim not in (2, 3):
        raise ValueError(f"values have shape {y.shape}: give (repeats, patients), or seeds first")
    if np.isinf(y).any():
        raise ValueError("values hold an infinite one: mark what is undefined with NaN")
    y = y.reshape(-1, *y.shape[-2:])
    kept = ~np.isnan(y).any(axis=(0, 1))
    y = y[:, :, kept]
    n_patients, n_left_out = int(kept.sum()), int((~kept).sum())
    if min(y.shape[1:]) < 2:
        nan = math.nan
        return PatientComponents(nan, nan, nan, nan, n_patients, n_left_out)
    axes = tuple(axis for axis in range(3) if y.shape[axis] > 1)
    squares = _mean_squares(y - y[0, 0, 0], axes)
    seeds, splits, patients = (_component(squares, {axis}, y.shape) for axis in range(3))
    between = [set(factors) for factors in squares if len(factors) > 1]
    residual = sum(_component(squares, factors, y.shape) for factors in between)
    return PatientComponents(
        max(patients, 0.0),
        max(splits, 0.0),
        max(seeds, 0.0) if 0 in axes else math.nan,
        max(residual, 0.0),
        n_patients,
        n_left_out,
    )


def _mean_squares(y: npt.NDArray[np.float64], axes: tuple[int, ...]) -> dict[frozenset[int], float]:
    """Mean square of every set of factors, from the effects that no smaller set explains."""
    squares: dict[frozenset[int], float] = {}
    for size in range(1, len(axes) + 1):
        for factors in combinations(axes, size):
            effect = y
            for axis in axes:
                mean = effect.mean(axis=axis, keepdims=True)
                effect = effect - mean if axis in factors else mean
            df = math.prod(y.shape[axis] - 1 for axis in factors)
            n_each = y.size / effect.size
            squares[frozenset(factors)] = float(np.square(effect).sum()) * n_each / df
    return squares


def _component(
    squares: dict[frozenset[int], float], factors: set[int], shape: tuple[int, ...]
) -> float:
    """Variance of a set of factors by the sum of mean squares whose expectation it is."""
    n_each = math.prod(size for axis, size in enumerate(shape) if axis not in factors)
    signed = (
        -square if (len(held) - len(factors)) % 2 else square
        for held, square in squares.items()
        if held >= factors
    )
    return sum(signed) / n_each
