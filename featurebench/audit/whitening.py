"""A space in which the similarity of two tiles means the same for every network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

if TYPE_CHECKING:
    from collections.abc import Iterator

    Array = npt.NDArray[np.floating[Any]]

COMPONENTS = 64
# Rows whose covariance is taken; drawn at even distances where there are more.
_FITTED = 10_000
_BLOCK = 8192
# Directions that a subspace iteration carries beyond those wanted.
_SPARE = 10


@dataclass(frozen=True, eq=False)
class Whitening:
    """Leading principal components of unit-length embeddings, each scaled to unit variance.

    Parameters
    ----------
    mean
        Of the unit-length embeddings, shape (dim,).
    directions
        Shape (dim, n_components): components divided by their standard deviation.
    """

    mean: npt.NDArray[np.float64]
    directions: npt.NDArray[np.float64]

    def apply(self, X: Array) -> npt.NDArray[np.float32]:
        """Project embeddings and scale every row to unit length.

        Parameters
        ----------
        X
            Shape (n_tiles, dim); a memory map is read block by block.

        Returns
        -------
        ndarray
            Float32, shape (n_tiles, n_components); zero for a tile at the mean of all.
        """
        directions = self.directions.astype(np.float32)
        at = (self.mean @ self.directions).astype(np.float32)
        out = np.empty((len(X), self.directions.shape[1]), dtype=np.float32)
        for start, block in _blocks(X):
            out[start : start + len(block)] = unit(block @ directions - at)
        return out


def fit_whitening(X: Array, n_components: int = COMPONENTS) -> Whitening:
    """Find the leading principal components of unit-length embeddings.

    The cosine of raw embeddings is no scale: of unrelated tiles it is 0.5 with one network and 0.99
    with another, because a few directions carry most of the variance. With 64 whitened components
    unrelated tiles scatter about 0 by about 1/8 whatever the network.

    Parameters
    ----------
    X
        Shape (n_tiles, dim), at least two rows; of more than 10,000, that many at even distances
        are used.
    n_components
        At most half the rows used, and at most the rank.

    Returns
    -------
    Whitening

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 8)) * np.array([100, 1, 1, 1, 1, 1, 1, 1])
    >>> fit_whitening(X, 4).apply(X).shape
    (200, 4)
    """
    rows = np.unique(np.linspace(0, len(X) - 1, min(len(X), _FITTED)).astype(np.intp))
    total, products = np.zeros(X.shape[1]), np.zeros((X.shape[1], X.shape[1]))
    for part in np.array_split(rows, max(1, len(rows) // _BLOCK)):
        block = unit(np.asarray(X[part], dtype=np.float32))
        total += block.sum(axis=0, dtype=np.float64)
        products += block.T @ block
    mean = total / len(rows)
    covariance = products / len(rows) - np.outer(mean, mean)
    wanted = max(1, min(n_components, X.shape[1], len(rows) // 2))
    values, vectors = leading(covariance, wanted)
    kept = values > 1e-10 * max(values[0], 1e-30)
    return Whitening(mean, vectors[:, kept] / np.sqrt(values[kept]))


def leading(
    covariance: npt.NDArray[np.float64], number: int, *, steps: int = 8
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Find a symmetric matrix's largest eigenvalues and their vectors by subspace iteration.

    Some ten times as fast as a full decomposition where few of a thousand are wanted.

    Parameters
    ----------
    covariance
        Shape (d, d), not negative.
    number
        How many, at most d.
    steps
        Multiplications by the matrix. 8 give the subspace that whitening needs; 60 give two
        leading vectors to five digits unless the second and the thirteenth value nearly agree.

    Returns
    -------
    values, vectors
        Falling, shape (number,), and shape (d, number); the largest entry of a vector is positive.
    """
    dim = len(covariance)
    if dim <= 4 * number:
        values, vectors = eigh(covariance)
    else:
        start = np.random.default_rng(0).standard_normal((dim, number + _SPARE))
        basis = np.linalg.qr(start)[0]
        for _ in range(steps):
            basis = np.linalg.qr(covariance @ basis)[0]
        values, inner = eigh(basis.T @ covariance @ basis)
        vectors = basis @ inner
    values, vectors = values[::-1][:number], vectors[:, ::-1][:, :number]
    # An eigenvector's sign is arbitrary.
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(number)]
    return values, vectors * np.where(largest < 0, -1.0, 1.0)


def unit(rows: Array) -> Array:
    """Scale rows to unit length; rows of zeros stay zeros."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)


def _blocks(X: Array) -> Iterator[tuple[int, Array]]:
    for start in range(0, len(X), _BLOCK):
        yield start, unit(np.asarray(X[start : start + _BLOCK], dtype=np.float32))
