"""Platt's sigmoid: probabilities from one-vs-rest decision values of rows not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

if TYPE_CHECKING:
    from featurebench.heads.folds import Codes

    Doubles = npt.NDArray[np.float64]
    Floats = npt.NDArray[np.floating[Any]]

_MAX_STEPS = 100
# Mean loss that a Newton step still promises; the step after it is exact to rounding.
_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Sigmoids:
    """Probability of each class against the rest, ``1 / (1 + exp(-(slope * f + intercept)))``.

    Parameters
    ----------
    slope, intercept
        Shape (n_classes,).
    """

    slope: Doubles
    intercept: Doubles

    def probabilities(self, values: Floats, present: Codes) -> Doubles:
        """Probabilities that sum to 1, from decision values.

        Parameters
        ----------
        values
            Decision values, shape (n_rows, n_classes); NaN of a class that was not trained on.
        present
            The codes that can occur, ascending. Of two, the sigmoid of the second decides.

        Returns
        -------
        array of shape (n_rows, n_classes)
        """
        p = expit(values.astype(np.float64) * self.slope + self.intercept)
        p = np.where(np.isnan(p), 0.0, p)
        if len(present) == 2:
            p[:, present[0]] = 1 - p[:, present[1]]
            return p
        total = p.sum(axis=1, keepdims=True)
        even = np.isin(np.arange(values.shape[1]), present) / len(present)
        return np.where(total > 0, p / np.where(total > 0, total, 1), even)


def fit_sigmoids(values: Floats, y: Codes, row_weights: Doubles) -> list[Sigmoids]:
    """Fit the sigmoid of every candidate and class to decision values.

    The targets are smoothed as Platt has it: (n+ + 1) / (n+ + 2) for rows of the class and
    1 / (n- + 2) for the rest. A class of which there are no rows, or only rows, has nothing to be
    fitted to and takes ``sigmoid(2 f)``, which follows the least-squares estimate (1 + f) / 2.

    Parameters
    ----------
    values
        Decision values, shape (n_candidates, n_rows, n_classes), NaN where unknown; neighbouring
        candidates should be alike, since each starts where the one before it ended.
    y
        Codes, shape (n_rows,).
    row_weights
        Shape (n_rows,).

    References
    ----------
    J. Platt, Probabilistic outputs for support vector machines, 1999; solved by Newton's method
    (Lin, Lin and Weng, A note on Platt's probabilistic outputs, 2007).

    Examples
    --------
    >>> values = np.array([[[1.0, -1.0], [-1.0, 1.0], [0.5, -0.5], [-0.5, 0.5]]])
    >>> (fitted,) = fit_sigmoids(values, np.array([0, 1, 0, 1]), np.ones(4))
    >>> fitted.probabilities(values[0], np.array([0, 1])).argmax(axis=1)
    array([0, 1, 0, 1])
    """
    fitted = []
    known = ~np.isnan(values[0])
    mass = known * row_weights[:, None]
    members = y[:, None] == np.arange(values.shape[2])
    above, below = (mass * members).sum(axis=0), (mass * ~members).sum(axis=0)
    target = np.where(members, (above + 1) / (above + 2), 1 / (below + 2))
    usable = (above > 0) & (below > 0)
    start = np.stack([np.zeros_like(above), np.log((above + 1) / (below + 1))])
    total = np.maximum(mass.sum(axis=0), 1)
    for each in values:
        f = np.where(known, each, 0).astype(np.float64)
        mean = (mass * f).sum(axis=0) / total
        spread = np.sqrt((mass * (f - mean) ** 2).sum(axis=0) / total)
        spread = np.where(spread > 0, spread, 1)
        start = _newton((f - mean) / spread, target, mass, start)
        slope = np.where(usable, start[0] / spread, 2)
        fitted.append(Sigmoids(slope, np.where(usable, start[1] - slope * mean, 0)))
    return fitted


def _newton(f: Doubles, target: Doubles, mass: Doubles, start: Doubles) -> Doubles:
    """Slopes and intercepts, shape (2, n_classes), of least cross-entropy, column by column."""
    total = np.maximum(mass.sum(axis=0), 1)
    point = start
    loss, p = _cross_entropy(f, target, mass, point)
    for _ in range(_MAX_STEPS):
        residual, curvature = mass * (p - target), mass * p * (1 - p)
        gradient = np.stack([np.einsum("ij,ij->j", residual, f), residual.sum(axis=0)])
        step = _solve_2x2(curvature, f, gradient)
        promised = (step * gradient).sum(axis=0) / total
        length = np.ones(f.shape[1])
        # Near the end a loss can rise by its rounding; that must not halve the last step.
        allowed = loss + 1e-12 * total
        while True:
            found, p = _cross_entropy(f, target, mass, point - length * step)
            worse = found > allowed
            if not worse.any():
                break
            length[worse] /= 2
        point, loss = point - length * step, found
        if (promised < _TOLERANCE).all():
            break
    return point


def _cross_entropy(
    f: Doubles, target: Doubles, mass: Doubles, point: Doubles
) -> tuple[Doubles, Doubles]:
    """Sum up the loss of each class; give it and the probabilities."""
    logit = point[0] * f + point[1]
    tail = np.exp(-np.abs(logit))
    p = np.where(logit >= 0, 1, tail) / (1 + tail)
    loss = np.maximum(logit, 0) + np.log1p(tail) - target * logit
    return np.einsum("ij,ij->j", mass, loss), p


def _solve_2x2(curvature: Doubles, f: Doubles, gradient: Doubles) -> Doubles:
    """Newton's step of each class; the little that is added keeps a constant f solvable."""
    weighted = curvature * f
    b, c = weighted.sum(axis=0), curvature.sum(axis=0)
    a = np.einsum("ij,ij->j", weighted, f)
    a, c = a + 1e-9 * c + 1e-300, c * (1 + 1e-9) + 1e-300
    determinant = a * c - b * b
    step: Doubles = np.stack(
        [(c * gradient[0] - b * gradient[1]), (a * gradient[1] - b * gradient[0])]
    )
    step /= np.maximum(determinant, 1e-300)
    return step
