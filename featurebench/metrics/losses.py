"""Metrics that are sums over tiles: log loss, Brier score, expected calibration error."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

N_BINS = 15


def log_losses(y_true: Ints, y_prob: npt.NDArray[np.floating]) -> Floats:
    """Negative log probability of the true class, by tile, in nats.

    Probabilities are clipped to [eps, 1 - eps] with the machine epsilon of their own type, as
    scikit-learn does: 1.2e-7 for float32.
    """
    true = y_prob[np.arange(len(y_true)), y_true]
    eps = np.finfo(true.dtype).eps
    return np.asarray(-np.log(np.clip(true, eps, 1 - eps).astype(np.float64)))


def brier_losses(y_true: Ints, y_prob: npt.NDArray[np.floating]) -> Floats:
    """Squared distance between probabilities and truth, by tile.

    Scikit-learn's convention (``scale_by_half="auto"``): summed over the classes, range 0 to 2, and
    halved for two classes, range 0 to 1 (Brier 1950).
    """
    distance = y_prob.astype(np.float64)
    distance[np.arange(len(y_true)), y_true] -= 1
    squares = np.einsum("ij,ij->i", distance, distance)
    return np.asarray(squares / 2 if y_prob.shape[1] == 2 else squares)


def calibration_gaps(
    y_true: Ints, y_prob: npt.NDArray[np.floating], called: Ints
) -> tuple[Floats, Ints]:
    """Correctness minus confidence, and the confidence bin, by tile.

    Confidence is the largest probability, that of the class ``called``; the bins are (0, 1/15],
    ..., (14/15, 1]. The expected calibration error is the sum over bins of the absolute sum of
    gaps, over the number of tiles (Guo et al. 2017, eq. 3).
    """
    confidence = y_prob[np.arange(len(called)), called].astype(np.float64)
    return (called == y_true) - confidence, probability_bins(confidence, N_BINS)


def probability_bins(probability: npt.ArrayLike, n_bins: int) -> Ints:
    """Return the bin of each probability, of ``n_bins`` of equal width over [0, 1].

    Bins hold their upper edge and not their lower one, but for the first, which holds 0. Edges and
    probabilities are compared as float32, in which predictions are kept: 0.2 is in the bin that
    ends there, although 0.2 as float32 is a little more.

    Examples
    --------
    >>> probability_bins(np.array([0, 0.05, 0.1, 0.11, 0.2, 1], dtype=np.float32), 10).tolist()
    [0, 0, 0, 1, 1, 9]
    """
    edges = (np.arange(1, n_bins) / n_bins).astype(np.float32)
    values = np.asarray(probability).astype(np.float32)
    return np.searchsorted(edges, values, side="left").astype(np.int64)


LOSSES = {"log_loss": log_losses, "brier": brier_losses}
"""Functions of class codes (n,) and probabilities (n, n_classes) to the loss of every tile."""


def tile_losses(name: str, y_true: Ints, y_prob: npt.NDArray[np.floating]) -> Floats:
    """Loss of every tile, whose mean is the metric of that name: ``log_loss`` or ``brier``."""
    return LOSSES[name](y_true, y_prob)
