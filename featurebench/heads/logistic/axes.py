"""The axes along which models are solved: to them, back from them, and gradients along them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurebench.heads.logistic.passes import to_numpy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from featurebench.heads.logistic.design import Array, Design
    from featurebench.heads.logistic.passes import Ints
    from featurebench.heads.threads import Pool

    Array64 = npt.NDArray[np.float64]

# Models are rotated so many at a time, whatever the number of threads.
_ROWS = 16


def to_working(
    design: Design, rotated: Array, set_of: Ints, classes: Array, pool: Pool = map
) -> Array:
    """Weights on working rows of those along each model's own axes, both (M, K, d + 1)."""
    weights = design.xp.empty_like(rotated)

    def run(first: int) -> None:
        part = slice(first, first + _ROWS)
        sets = set_of[part]
        w = _along(classes[part] @ rotated[part], design.basis.T)
        w[..., :-1] *= design.scale[sets][:, None, :]
        w[..., -1] -= (w[..., :-1] @ design.mean[sets][:, :, None])[..., 0]
        weights[part] = w

    list(pool(run, range(0, len(set_of), _ROWS)))
    return weights


def penalty_of(design: Design, weights: Array, set_of: Ints) -> Array64:
    """Squared length of each model's weights as its set's features have them, shape (M,)."""
    own = weights[..., :-1] / design.scale[set_of][:, None, :]
    return to_numpy((own**2).sum(axis=(1, 2), dtype=design.xp.float64))


def to_rotated(design: Design, weights: Array, set_of: Ints, classes: Array) -> Array:
    """Undo `to_working`."""
    w = weights + 0
    w[..., -1] += (w[..., :-1] @ design.mean[set_of][:, :, None])[..., 0]
    w[..., :-1] /= design.scale[set_of][:, None, :]
    return classes.swapaxes(1, 2) @ _along(w, design.basis)


def rotate_gradient(
    design: Design, gradient: Array, set_of: Ints, classes: Array, pool: Pool
) -> Array:
    """Gradient along own axes, of the one by weights on working rows, both (M, K, d + 1)."""
    rotated = design.xp.zeros_like(gradient + 0)

    def run(first: int) -> None:
        part = slice(first, first + _ROWS)
        sets = set_of[part]
        g = gradient[part] + 0
        g[..., :-1] -= g[..., -1:] * design.mean[sets][:, None, :]
        g[..., :-1] *= design.scale[sets][:, None, :]
        rotated[part] = classes[part].swapaxes(1, 2) @ _along(g, design.basis)

    list(pool(run, range(0, len(set_of), _ROWS)))
    return rotated


def _along(rows: Array, basis: Array) -> Array:
    turned: Array = (rows.reshape(-1, len(basis)) @ basis).reshape(rows.shape)
    return turned
