"""CurvaturePairs: the limited memory of many models, and the quasi-Newton directions it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.heads.logistic.passes import to_numpy

if TYPE_CHECKING:
    from featurebench.heads.logistic.design import Array
    from featurebench.heads.threads import Pool

    Bools = npt.NDArray[np.bool_]
    Array64 = npt.NDArray[np.float64]

MEMORY = 10
# Models are worked on so many at a time, whatever the number of threads.
_CHUNK = 16


class CurvaturePairs:
    """Steps s and gradient changes y of M models with N weights each, the last `MEMORY` of them.

    Inner products are kept beside the pairs, so that a direction costs two readings of each
    (Byrd, Nocedal and Schnabel, Representations of quasi-Newton matrices and their use in limited
    memory methods, Mathematical Programming 63, 1994, equation 3.1).

    Parameters
    ----------
    like
        An array (M, K, d + 1) of the type and on the device of the work.
    """

    def __init__(self, like: Array, xp: Any) -> None:  # noqa: ANN401
        n_models = len(like)
        self.xp = xp
        self.s = xp.stack([xp.zeros_like(like.reshape(n_models, -1))] * MEMORY, axis=1)
        self.y = xp.zeros_like(self.s)
        self.sy = np.zeros((n_models, MEMORY, MEMORY))
        self.yhy = np.zeros((n_models, MEMORY, MEMORY))
        self.newest = 0

    def forget(self, model: int) -> None:
        """Drop a model's pairs."""
        self.s[model], self.y[model], self.sy[model], self.yhy[model] = 0, 0, 0, 0

    def keep(self, models: npt.NDArray[np.intp]) -> None:
        """Drop all other models."""
        self.s, self.y = self.s[models], self.y[models]
        self.sy, self.yhy = self.sy[models], self.yhy[models]

    def turn(self, axes: Array) -> None:
        """Give all pairs along new axes of the classes; ``axes`` (M, K, K) takes old to new."""
        n_models, n_columns = axes.shape[:2]
        shape = (n_models, MEMORY, n_columns, -1)
        for pairs in (self.s, self.y):
            pairs[:] = (axes[:, None] @ pairs.reshape(shape)).reshape(pairs.shape)

    def advance(
        self,
        s: Array,
        y: Array,
        g: Array,
        h0: Array,
        pool: Pool,
        *,
        moved: Bools,
        h0_is_new: bool,
    ) -> tuple[Array, Array64]:
        """Add a pair to each model that moved, and give the next directions.

        Parameters
        ----------
        s, y
            The pairs, shape (M, N).
        g, h0
            Gradients and diagonals of the initial inverse Hessian, shape (M, N).
        moved
            Which models have a new pair, shape (M,).
        h0_is_new
            Whether ``h0`` differs from the last call's.

        Returns
        -------
        direction, slope
            -H g, shape (M, N), and g . direction, shape (M,), below 0.
        """
        self.newest = (self.newest + 1) % MEMORY
        direction = self.xp.empty_like(g)
        slope = np.zeros(len(g))

        def run(first: int) -> None:
            part = slice(first, first + _CHUNK)
            self._add(part, s[part], y[part], h0[part], moved[part], h0_is_new=h0_is_new)
            step = self._direction(part, g[part], h0[part])
            direction[part] = step
            slope[part] = to_numpy((step * g[part]).sum(axis=1, dtype=self.xp.float64))

        list(pool(run, range(0, len(g), _CHUNK)))
        return direction, slope

    def _add(
        self, part: slice, s: Array, y: Array, h0: Array, moved: Bools, *, h0_is_new: bool
    ) -> None:
        place = self.newest
        dots = [to_numpy((a * b).sum(axis=1)) for a, b in ((s, y), (s, s), (y, y))]
        # the product of the squares may be more than a float32 holds
        good = moved & (dots[0] > 1e-7 * np.sqrt(dots[1]) * np.sqrt(dots[2]))
        chosen = self.xp.asarray(good[:, None])
        if self.xp is not np:
            chosen = chosen.to(s.device)
        zero = self.xp.zeros_like(s)
        S, Y = self.s[part], self.y[part]
        S[:, place] = self.xp.where(chosen, s, zero)
        Y[:, place] = self.xp.where(chosen, y, zero)
        self.sy[part, :, place] = to_numpy((S @ Y[:, place, :, None])[..., 0])
        if h0_is_new:
            self.yhy[part] = to_numpy((Y * h0[:, None, :]) @ Y.swapaxes(1, 2))
        else:
            column = to_numpy((Y @ (h0 * Y[:, place])[..., None])[..., 0])
            self.yhy[part, :, place] = column
            self.yhy[part, place, :] = column

    def _direction(self, part: slice, g: Array, h0: Array) -> Array:
        order = np.arange(self.newest + 1, self.newest + 1 + MEMORY) % MEMORY
        sy, yhy = self.sy[part][:, order][:, :, order], self.yhy[part][:, order][:, :, order]
        S, Y = self.s[part], self.y[part]
        diag = np.einsum("mii->mi", sy).copy()
        empty = diag <= 0
        gamma = _scaling(diag, np.einsum("mii->mi", yhy), empty)
        upper = np.triu(sy)
        upper[:, np.arange(MEMORY), np.arange(MEMORY)] = np.where(empty, 1.0, diag)
        scale = self._like(gamma[:, None], g)
        hg = scale * h0 * g
        # (Y . Hg) in float64 from here on: small systems whose digits matter
        sg = to_numpy((S @ g[..., None])[..., 0])[:, order, None].astype(np.float64)
        yhg = to_numpy((Y @ hg[..., None])[..., 0])[:, order, None].astype(np.float64)
        u = np.linalg.solve(upper, sg)
        right = np.where(empty, 0, diag)[..., None] * u + gamma[:, None, None] * (yhy @ u) - yhg
        v = np.linalg.solve(upper.swapaxes(1, 2), right)
        back = np.argsort(order)
        along_s = (self._like(v[:, back].swapaxes(1, 2), g) @ S)[:, 0]
        along_y = (self._like(u[:, back].swapaxes(1, 2), g) @ Y)[:, 0]
        return -(hg + along_s - scale * h0 * along_y)

    def _like(self, values: npt.NDArray[Any], g: Array) -> Array:
        if self.xp is np:
            return values.astype(g.dtype)
        converted: Array = self.xp.as_tensor(values, dtype=g.dtype, device=g.device)
        return converted


def _scaling(diag: Array64, yhy_diag: Array64, empty: Bools) -> Array64:
    """Scale of the initial inverse Hessian that fits the newest pair of each model."""
    newest = MEMORY - 1 - np.argmax(~empty[:, ::-1], axis=1)
    rows = np.arange(len(diag))
    none = empty.all(axis=1)
    return np.where(none, 1.0, diag[rows, newest] / np.where(none, 1.0, yhy_diag[rows, newest]))
