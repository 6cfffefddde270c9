"""A map of the tiles: two coordinates for each of some thousand of them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from featurebench.audit.whitening import leading

if TYPE_CHECKING:
    Array = npt.NDArray[np.floating[Any]]
    Codes = npt.NDArray[np.int64]

Method = Literal["pca", "umap"]
MOST_TILES = 3000


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """Where tiles lie on a plane.

    Parameters
    ----------
    method
        ``pca`` or ``umap``.
    rows
        Rows of the tiles shown, rising, shape (n,).
    xy
        Coordinates, float32, shape (n, 2).
    explained
        Share of the variance along each of the two axes; NaN for ``umap``, whose axes have none.
    """

    method: Method
    rows: npt.NDArray[np.intp]
    xy: npt.NDArray[np.float32]
    explained: tuple[float, float]


def map_embedding(
    X: Array,
    labels: Codes,
    *,
    method: Method = "pca",
    most: int = MOST_TILES,
    seed: int = 0,
) -> EmbeddingMap:
    """Project a sample of tiles to two dimensions.

    Parameters
    ----------
    X
        Shape (n_tiles, dim), at least two rows, finite; may be a memory map.
    labels
        Codes, shape (n_tiles,); the sample has the classes' shares of all tiles.
    method
        ``pca``: the two leading principal components, exact for the sample. ``umap``: as the
        package umap-learn makes it, of unit-length embeddings.
    most
        Tiles at most.
    seed
        Of the sample, and of ``umap``.

    Raises
    ------
    ValueError
        If ``umap`` is asked for and its package is not installed.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(60, 5)) * np.array([9.0, 3.0, 1.0, 1.0, 1.0])
    >>> found = map_embedding(X, np.arange(60) % 2)
    >>> found.xy.shape
    (60, 2)
    """
    rows = sample_rows(labels, most, seed=seed)
    sample = np.asarray(X[rows], dtype=np.float32)
    if method == "umap":
        return EmbeddingMap("umap", rows, _umap(sample, seed), (float("nan"), float("nan")))
    centred = sample - sample.mean(axis=0)
    covariance = (centred.T @ centred).astype(np.float64) / max(1, len(sample) - 1)
    number = min(2, len(covariance))
    values, vectors = leading(covariance, number, steps=60)
    axes = np.zeros((len(covariance), 2))
    axes[:, :number] = vectors
    total = float(np.trace(covariance)) or 1.0
    shares = [*(max(0.0, float(value)) / total for value in values), 0.0]
    return EmbeddingMap("pca", rows, (centred @ axes).astype(np.float32), (shares[0], shares[1]))


def sample_rows(labels: Codes, most: int, *, seed: int = 0) -> npt.NDArray[np.intp]:
    """Draw up to ``most`` rows, each class by its share, every class at least once."""
    if len(labels) <= most:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    parts = []
    for code in np.unique(labels):
        rows = np.flatnonzero(labels == code)
        number = max(1, int(most * len(rows) / len(labels)))
        parts.append(rng.choice(rows, number, replace=False))
    return np.sort(np.concatenate(parts))


def has_umap() -> bool:
    """Tell whether the package umap-learn is installed."""
    return find_spec("umap") is not None


def _umap(sample: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    if not has_umap():
        raise ValueError(
            "umap-learn is not installed: pip install 'featurebench[umap]', or use 'pca'"
        )
    import umap

    made = umap.UMAP(metric="cosine", random_state=seed, n_jobs=1).fit_transform(sample)
    return np.asarray(made, dtype=np.float32)
