"""Where the spread of scores comes from: variance components of two crossed random factors."""

from __future__ import annotations

from dataclasses import dataclass

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
