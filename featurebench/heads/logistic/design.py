"""Design: the rows in working coordinates, and where each training set lies in them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from featurebench.heads.logistic.blocks import by_membership, in_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from featurebench.heads.logistic.blocks import Blocks
    from featurebench.heads.rows import RowSource
    from featurebench.heads.threads import Pool

    Reader = Callable[[int, int], npt.NDArray[np.float32]]

# Of numpy, or of torch where the design is on a device.
Array = Any
Doubles = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
# Working rows up to this many bytes are kept in memory; beyond, they are converted at each pass.
KEEP_BYTES = 2**30
# Rows read at a time, and pieces that sums are made of, whatever the number of threads.
_READ_ROWS = 2048
_LANES = 8
# Square of what float32 cannot tell from a working coordinate of about 1.
_ROUNDING = 1e-13


@dataclass(frozen=True, eq=False)
class Design:
    """Rows and training sets of one multi-fold problem.

    Working coordinates are x - centre (divided by ``spread`` where features are standardised),
    followed by a 1. The features that training set s sees are ``scale[s] * (x - mean[s])``; so
    models are fitted on standardised features while X itself is never copied per fold. Rows that
    are kept in memory stand in an order of their own, y, sets and weights with them.

    Parameters
    ----------
    read
        Gives working rows start to stop, float32 or float64, shape (stop - start, d + 1).
    y
        Codes, shape (n,).
    sets
        Weight of each row in each training set, 0 or 1, uint8, shape (n, n_sets).
    row_weight
        Sample weights, shape (n,), or None.
    class_weight
        Weight of each class in each training set, shape (n_sets, n_classes), or None.
    mean, scale
        Of each training set in working coordinates, float32, shape (n_sets, d).
    total_weight
        Sum of the row weights of each set, shape (n_sets,).
    prior
        Weighted share of each class in each set, shape (n_sets, n_classes).
    basis, spectrum
        Eigenvectors of X'X / n in working coordinates with the 1's own as the last column, shape
        (d + 1, d + 1), and eigenvalues, shape (d + 1,).
    centre, spread
        Of the working coordinates in those of X, float64, shape (d,).
    blocks
        What rows a pass takes at a time, and which sets they concern.
    kept
        All working rows where they fit in memory, shape (n, d + 1).
    """

    read: Callable[[int, int], Array]
    y: Array
    sets: Array
    row_weight: Array | None
    class_weight: Array | None
    mean: Array
    scale: Array
    total_weight: Array
    prior: Array
    basis: Array
    spectrum: Array
    centre: Array
    spread: Array
    blocks: Blocks
    kept: Array | None = None

    @property
    def xp(self) -> Any:  # noqa: ANN401
        """The module that the arrays belong to: numpy, or torch where they are on a device."""
        if isinstance(self.basis, np.ndarray):
            return np
        import torch

        return torch

    @property
    def n_rows(self) -> int:
        """Rows of X."""
        return len(self.y)

    @property
    def n_columns(self) -> int:
        """Columns of the working rows: features and the 1."""
        return len(self.spectrum)

    @property
    def n_classes(self) -> int:
        """Classes of y."""
        return int(self.prior.shape[1])


def lay_out(
    source: RowSource,
    y: npt.NDArray[np.int64],
    sets: npt.NDArray[np.uint8],
    *,
    n_classes: int,
    standardise: bool,
    row_weight: Doubles | None = None,
    class_weight: Doubles | None = None,
    keep_bytes: int = KEEP_BYTES,
    pool: Pool = map,
) -> Design:
    """Read the rows twice or thrice and find all that the solver needs to know about them.

    Parameters
    ----------
    source
        Rows of X, shape (n, d).
    y, sets, row_weight, class_weight
        As in `Design`; every class has weight in every set.
    standardise
        Whether each set sees features with mean 0 and (unweighted) variance 1 on its own rows; a
        feature that is constant there is only centred, as scikit-learn's StandardScaler has it.
    keep_bytes
        Largest working copy of X that is kept in memory.
    pool
        Maps a function over pieces of the rows, such as a thread pool's ``map``.
    """
    centre, spread = _moments(source, pool)
    if not standardise:
        spread = np.ones_like(spread)
    # as the reader has them, so that coefficients of X are exact
    centre = centre.astype(np.float32).astype(np.float64)
    spread = 1 / (1 / spread).astype(np.float32).astype(np.float64)
    convert = _converter(source, centre, spread)
    n, d = source.shape
    if n * (d + 1) * 4 > keep_bytes:
        read, kept, blocks = convert, None, in_order(sets)
    else:
        order, blocks = by_membership(sets)
        kept = _keep(convert, order, d + 1, pool)
        read = partial(_stretch, kept)
        y, sets = y[order], sets[order]
        row_weight = None if row_weight is None else row_weight[order]
    mean, scale, gram = _set_moments(read, sets, source.shape[1], pool, standardise=standardise)
    basis, spectrum = _eigenbasis(gram)
    total, prior = _class_shares(y, sets, n_classes, row_weight, class_weight)
    return Design(
        read,
        y,
        sets,
        row_weight,
        class_weight,
        mean,
        scale,
        total,
        prior,
        basis,
        spectrum,
        centre,
        spread,
        blocks,
        kept,
    )


def in_double(design: Design) -> Design:
    """Give the same problem, to the last digit, for work in float64."""
    double: dict[str, Any] = {
        name: getattr(design, name).astype(np.float64)
        for name in ("mean", "scale", "basis", "spectrum")
    }
    return replace(design, read=lambda a, b: design.read(a, b).astype(np.float64), **double)


def on_device(design: Design, device: str) -> Design:
    """Copy the problem to a device of torch; X goes along if it is kept, else block by block."""
    import torch

    moved: dict[str, Any] = {
        item.name: torch.from_numpy(value).to(device)
        for item in fields(design)
        if isinstance(value := getattr(design, item.name), np.ndarray)
    }
    if design.kept is None:
        return replace(
            design, read=lambda a, b: torch.from_numpy(design.read(a, b)).to(device), **moved
        )
    return replace(design, read=partial(_stretch, moved["kept"]), **moved)


def _in_lanes(n_rows: int, work: Callable[[range], Any], pool: Pool) -> list[Any]:
    """Do a piece of work for the blocks' starts of each lane; as many lanes for any pool."""
    starts = range(0, n_rows, _READ_ROWS)
    return list(pool(work, [starts[lane::_LANES] for lane in range(min(_LANES, len(starts)))]))


def _moments(source: RowSource, pool: Pool) -> tuple[Doubles, Doubles]:
    """Mean and standard deviation (1 where constant) of every feature over all rows."""
    n, d = source.shape

    def add(starts: range, centre: npt.NDArray[np.float32] | None) -> Doubles:
        total = np.zeros(d)
        for start in starts:
            block = source.read(slice(start, start + _READ_ROWS))
            if centre is not None:
                block = (block - centre) ** 2
            total += block.sum(axis=0, dtype=np.float64)
        return total

    mean = sum(_in_lanes(n, partial(add, centre=None), pool), np.zeros(d)) / n
    about = partial(add, centre=mean.astype(np.float32))
    return mean, _safe_deviation(sum(_in_lanes(n, about, pool), np.zeros(d)) / n)


def _safe_deviation(variance: Doubles) -> Doubles:
    deviation = np.sqrt(np.maximum(variance, 0))
    return np.where(deviation > 0, deviation, 1)


def _converter(source: RowSource, centre: Doubles, spread: Doubles) -> Reader:
    shift, factor = centre.astype(np.float32), (1 / spread).astype(np.float32)

    def convert(start: int, stop: int) -> Singles:
        block = np.ones((stop - start, len(shift) + 1), dtype=np.float32)
        np.subtract(source.read(slice(start, stop)), shift, out=block[:, :-1])
        block[:, :-1] *= factor
        return block

    return convert


def _keep(convert: Reader, order: npt.NDArray[np.int64], n_columns: int, pool: Pool) -> Singles:
    """All working rows in an order, converted as they stand."""
    n = len(order)
    kept = np.empty((n, n_columns), dtype=np.float32)
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)

    def keep(starts: range) -> None:
        for start in starts:
            stop = min(start + _READ_ROWS, n)
            kept[place[start:stop]] = convert(start, stop)

    _in_lanes(n, keep, pool)
    return kept


def _stretch(rows: Array, start: int, stop: int) -> Array:
    return rows[start:stop]


def _set_moments(
    read: Callable[[int, int], npt.NDArray[np.float32]],
    sets: npt.NDArray[np.uint8],
    d: int,
    pool: Pool,
    *,
    standardise: bool,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Doubles]:
    """Mean and scale of every set, and X'X / n over all rows, in working coordinates."""
    n, n_sets = sets.shape

    def add(starts: range) -> tuple[Doubles, Doubles, Doubles]:
        gram, first, second = np.zeros((d, d)), np.zeros((n_sets, d)), np.zeros((n_sets, d))
        for start in starts:
            stop = min(start + _READ_ROWS, n)
            x = read(start, stop)[:, :-1]
            gram += x.T @ x
            # rows outside a set may lie far off: its variance is then a small difference
            x, members = x.astype(np.float64), sets[start:stop].T.astype(np.float64)
            first += members @ x
            if standardise:
                second += members @ x**2
        return gram, first, second

    gram, first, second = (sum(parts) for parts in zip(*_in_lanes(n, add, pool), strict=True))
    size = sets.sum(axis=0, dtype=np.int64)[:, None]
    mean = first / size
    scale = np.ones_like(mean)
    if standardise:
        variance = second / size - mean**2
        # what is left of a constant feature is rounding
        variance[variance < _ROUNDING] = 0
        scale = 1 / _safe_deviation(variance)
    return mean.astype(np.float32), scale.astype(np.float32), gram / n


def _eigenbasis(
    gram: Doubles,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    d = len(gram)
    values, vectors = eigh(gram.astype(np.float32), driver="evd", overwrite_a=True)
    basis = np.eye(d + 1, dtype=np.float32)
    basis[:d, :d] = vectors
    return basis, np.append(np.maximum(values, 0), 1).astype(np.float32)


def _class_shares(
    y: npt.NDArray[np.int64],
    sets: npt.NDArray[np.uint8],
    n_classes: int,
    row_weight: Doubles | None,
    class_weight: Doubles | None,
) -> tuple[Doubles, Doubles]:
    """Total weight of every set, and the share of every class in it."""
    weight = np.ones(len(y)) if row_weight is None else row_weight
    mass = np.zeros((sets.shape[1], n_classes))
    for k in range(n_classes):
        rows = np.flatnonzero(y == k)
        mass[:, k] = weight[rows] @ sets[rows]
    if class_weight is not None:
        mass *= class_weight
    total = mass.sum(axis=1)
    return total, mass / total[:, None]
