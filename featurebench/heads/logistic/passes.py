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
# Elements of a block's logits that are worked on at a time: as many as a core's cache holds.
_CACHED = 131_072
# Largest exponent: logits are shifted down to it. Of a logit so large that it lies halfway between
# two floats the shift is rounded to twice as much, of which exp is still a float32; a shift by 80
# would become one by 96 or 128, of which it is not.
_LARGEST = 32.0


@dataclass(eq=False)
class Sums:
    """What a pass gives for M models of K columns (1 if there are two classes).

    Parameters
    ----------
    loss
        Weighted sum of cross-entropies, float64, shape (M,).
    gradient
        Its gradient by the weights on working rows, shape (K, M, d + 1), class by class.
    curvature
        Weighted sum of diag(p) - p p', float64, shape (M, K, K); None where not asked for.
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

    def add_to(self, models: npt.NDArray[np.intp], other: Sums) -> None:
        """Add the sums of some of the models."""
        self.loss[models] += other.loss
        if self.gradient is not None and other.gradient is not None:
            self.gradient[:, models] += other.gradient
        if self.curvature is not None and other.curvature is not None:
            self.curvature[models] += other.curvature


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
    models = _Columns(weights.swapaxes(0, 1) + 0, set_of)
    wanted = design.blocks.needed[:, set_of]
    numbers = np.flatnonzero(wanted.any(axis=1)).tolist()
    lanes = [numbers[lane::LANES] for lane in range(min(LANES, len(numbers)))]

    def run(lane: list[int]) -> Sums:
        total = _nothing(design, models, gradient=gradient, curvature=curvature)
        for number in lane:
            bounds = design.blocks.bounds[number]
            if wanted[number].all():
                _add_block(design, models, bounds, total)
                continue
            some = np.flatnonzero(wanted[number])
            few = models.of(some)
            part = _nothing(design, few, gradient=gradient, curvature=curvature)
            _add_block(design, few, bounds, part)
            total.add_to(some, part)
        return total

    parts: Iterator[Sums] = iter(pool(run, lanes))
    total = next(parts)
    for part in parts:
        total.add(part)
    return total


def to_numpy(values: Any) -> npt.NDArray[Any]:  # noqa: ANN401
    """Bring an array of either module to numpy."""
    return values if isinstance(values, np.ndarray) else np.asarray(values.cpu().numpy())


@dataclass(frozen=True, eq=False)
class _Columns:
    """Weights (K, M, d + 1), so that a softmax runs along contiguous models; and their sets."""

    weights: Array
    set_of: Ints

    def of(self, models: npt.NDArray[np.intp]) -> _Columns:
        return _Columns(self.weights[:, models], self.set_of[models])


def _nothing(design: Design, models: _Columns, *, gradient: bool, curvature: bool) -> Sums:
    n_columns, n_models = models.weights.shape[:2]
    double = design.total_weight
    return Sums(
        _zeros(design, (n_models,), like=double),
        _zeros(design, tuple(models.weights.shape), like=models.weights) if gradient else None,
        _zeros(design, (n_models, n_columns, n_columns), like=double) if curvature else None,
    )


def _zeros(design: Design, shape: tuple[int, ...], *, like: Array) -> Array:
    where = {} if design.xp is np else {"device": like.device}
    zeros: Array = design.xp.zeros(shape, dtype=like.dtype, **where)
    return zeros


def _add_block(design: Design, models: _Columns, block: tuple[int, int], total: Sums) -> None:
    start, stop = block
    x = design.read(start, stop)
    n_columns, n_models, width = models.weights.shape
    logits = x @ models.weights.reshape(-1, width).T
    step = max(16, _CACHED // logits.shape[1]) if design.xp is np else stop - start
    for first in range(start, stop, step):
        last = min(first + step, stop)
        z = logits[first - start : last - start].reshape(last - first, n_columns, n_models)
        weight = _row_weights(design, models.set_of, (first, last), like=z)
        part = _softmax_residual if n_columns > 1 else _logistic_residual
        part(design.xp, z, design.y[first:last], weight, total)
    if total.gradient is not None:
        total.gradient += (logits.T @ x).reshape(models.weights.shape)


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
    loss = xp.log1p(others + (truth - 1))
    if shift is not None:
        loss += shift
    total.loss += (weight * loss).sum(axis=0, dtype=xp.float64)
    norm = truth + others
    if total.curvature is not None:
        p = z / norm[:, None, :]
        p[rows, y] = truth / norm
        total.curvature += _covariance(xp, p, weight)
    factor = weight / norm
    z *= factor[:, None, :]
    z[rows, y] = -others * factor


def _covariance(xp: Any, p: Array, weight: Array) -> Array:  # noqa: ANN401
    """Weighted sum over the rows of diag(p) - p p', of probabilities (rows, K, M)."""
    weighted = p * weight[:, None, :]
    by_model = [_contiguous(xp, part.swapaxes(0, 2)) for part in (weighted, p)]
    products = by_model[0] @ by_model[1].swapaxes(1, 2)
    sums = weighted.sum(axis=0, dtype=xp.float64).T
    eye = xp.eye(p.shape[1], dtype=xp.float64, **({} if xp is np else {"device": p.device}))
    covariance: Array = sums[:, :, None] * eye - products
    return covariance


def _contiguous(xp: Any, values: Array) -> Array:  # noqa: ANN401
    return np.ascontiguousarray(values) if xp is np else values.contiguous()


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
        spread = (weight * wrong * (1 - wrong)).sum(axis=0, dtype=xp.float64)
        total.curvature += spread[:, None, None]
    xp.multiply(wrong, weight * sign, out=flat)
