"""One pass over X that serves all models: losses, gradients and curvatures at given weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from featurebench.heads.logistic.design import Array, Design
    from featurebench.heads.threads import Pool

    Ints = npt.NDArray[np.int64]

# Sums are taken within a lane and then over lanes in order: the same for any number of threads.
LANES = 16
BLOCK_ROWS = 1024
# Elements of a block's logits that are worked on at a time: as many as a core's cache holds.
_CACHED = 131_072
# exp of it times the number of classes is still a float32
_LARGEST = 80.0


@dataclass(eq=False)
class Sums:
    """What a pass gives for M models of K columns (1 if there are two classes).

    Parameters
    ----------
    loss
        Weighted sum of cross-entropies, float64, shape (M,).
    gradient
        Its gradient by the weights on working rows, shape (K M, d + 1), class by class.
    curvature
        Weighted sum of p (1 - p), float64, shape (K, M); None where not asked for.
    """

    loss: Array
    gradient: Array | None
    curvature: Array | None

    def add(self, other: Sums) -> None:
        """Add another lane's sums."""
        self.loss += other.loss
        if self.gradient is not None:
            self.gradient += other.gradient
        if self.curvature is not None:
            self.curvature += other.curvature


def sum_up(
    design: Design,
    weights: Array,
    set_of: Ints,
    pool: Pool = map,
    *,
    gradient: bool = True,
    curvature: bool = False,
) -> Sums:
    """Sum loss and gradient over the rows of each model's training set.

    Parameters
    ----------
    weights
        On working rows, the intercept last, shape (M, K, d + 1); their type is that of the work.
    set_of
        Training set of each model, shape (M,).
    pool
        Maps a function over lanes, such as a thread pool's ``map``; BLAS should then have one
        thread.
    gradient, curvature
        What is summed besides the loss.
    """
    n_columns = weights.shape[1]
    # class by class, so that a softmax over classes runs along contiguous models
    by_class = weights.swapaxes(0, 1).reshape(-1, weights.shape[2])
    size = min(BLOCK_ROWS, -(-design.n_rows // 4))
    starts = range(0, design.n_rows, size)
    lanes = [starts[lane::LANES] for lane in range(min(LANES, len(starts)))]

    def run(lane: range) -> Sums:
        total = _nothing(design, by_class, n_columns, gradient=gradient, curvature=curvature)
        for start in lane:
            _add_block(design, by_class, set_of, (start, min(start + size, design.n_rows)), total)
        return total

    parts: Iterator[Sums] = iter(pool(run, lanes))
    total = next(parts)
    for part in parts:
        total.add(part)
    return total


def to_numpy(values: Any) -> npt.NDArray[Any]:  # noqa: ANN401
    """Bring an array of either module to numpy."""
    return values if isinstance(values, np.ndarray) else np.asarray(values.cpu().numpy())


def _nothing(
    design: Design, by_class: Array, n_columns: int, *, gradient: bool, curvature: bool
) -> Sums:
    n_models = len(by_class) // n_columns
    double = design.total_weight
    return Sums(
        _zeros(design, (n_models,), like=double),
        _zeros(design, tuple(by_class.shape), like=by_class) if gradient else None,
        _zeros(design, (n_columns, n_models), like=double) if curvature else None,
    )


def _zeros(design: Design, shape: tuple[int, ...], *, like: Array) -> Array:
    where = {} if design.xp is np else {"device": like.device}
    zeros: Array = design.xp.zeros(shape, dtype=like.dtype, **where)
    return zeros


def _add_block(
    design: Design, by_class: Array, set_of: Ints, block: tuple[int, int], total: Sums
) -> None:
    start, stop = block
    x = design.read(start, stop)
    logits = x @ by_class.T
    n_models = len(set_of)
    step = max(16, _CACHED // logits.shape[1]) if design.xp is np else stop - start
    for first in range(start, stop, step):
        last = min(first + step, stop)
        z = logits[first - start : last - start].reshape(last - first, -1, n_models)
        weight = _row_weights(design, set_of, (first, last), like=z)
        part = _softmax_residual if z.shape[1] > 1 else _logistic_residual
        part(design.xp, z, design.y[first:last], weight, total)
    if total.gradient is not None:
        total.gradient += logits.T @ x


def _row_weights(design: Design, set_of: Ints, block: tuple[int, int], *, like: Array) -> Array:
    """Weight of a block's rows in each model, shape (rows, M)."""
    rows = slice(*block)
    weight = _as_type(design.sets[rows][:, set_of], like)
    if design.class_weight is not None:
        weight *= _as_type(design.class_weight[set_of][:, design.y[rows]].T, like)
    if design.row_weight is not None:
        weight *= _as_type(design.row_weight[rows, None], like)
    return weight


def _as_type(values: Any, like: Array) -> Array:  # noqa: ANN401
    converted: Array = (
        values.astype(like.dtype) if isinstance(values, np.ndarray) else values.to(like.dtype)
    )
    return converted


def _softmax_residual(xp: Any, z: Array, y: Ints, weight: Array, total: Sums) -> None:  # noqa: ANN401
    """Turn logits (rows, K, M) into weighted residuals in place; add loss and curvature.

    The true class is the point of reference: log1p of the others' sum keeps all digits of a loss
    that is almost 0, where the logarithm of a sum of about 1 would have none left.
    """
    rows = xp.arange(len(y), **({} if xp is np else {"device": z.device}))
    z -= xp.asarray(z[rows, y])[:, None, :]
    shift = None
    if z.max() > _LARGEST:
        shift = (xp.amax(z, axis=1) - _LARGEST).clip(0, None)
        z -= shift[:, None, :]
    xp.exp(z, out=z)
    truth = z[rows, y]
    z[rows, y] = 0
    others = z.sum(axis=1)
    loss = xp.log1p(others) if shift is None else xp.log(others + truth) + shift
    total.loss += (weight * loss).sum(axis=0, dtype=xp.float64)
    norm = truth + others
    if total.curvature is not None:
        p = z / norm[:, None, :]
        p[rows, y] = truth / norm
        p *= 1 - p
        p *= weight[:, None, :]
        total.curvature += p.sum(axis=0, dtype=xp.float64)
    factor = weight / norm
    z *= factor[:, None, :]
    z[rows, y] = -others * factor


def _logistic_residual(xp: Any, z: Array, y: Ints, weight: Array, total: Sums) -> None:  # noqa: ANN401
    """Do the same for two classes, where one column has the logit of the second class."""
    flat = z[:, 0, :]
    sign = _as_type(1 - 2 * y, z)[:, None]
    flat *= sign
    # now the logit of the wrong class, whose probability is the residual
    small = xp.exp(-xp.abs(flat))
    loss = flat.clip(0, None) + xp.log1p(small)
    total.loss += (weight * loss).sum(axis=0, dtype=xp.float64)
    wrong = xp.where(flat >= 0, xp.ones_like(small), small) / (1 + small)
    if total.curvature is not None:
        total.curvature += (weight * wrong * (1 - wrong)).sum(axis=0, dtype=xp.float64)
    xp.multiply(wrong, weight * sign, out=flat)
