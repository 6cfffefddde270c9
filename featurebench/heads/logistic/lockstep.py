"""Lockstep L-BFGS: all models of a multi-fold logistic regression, a pass over X at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.heads.logistic.axes import rotate_gradient, to_rotated, to_working
from featurebench.heads.logistic.pairs import CurvaturePairs
from featurebench.heads.logistic.passes import sum_up, to_numpy

if TYPE_CHECKING:
    from collections.abc import Callable

    from featurebench.heads.logistic.design import Array, Design
    from featurebench.heads.logistic.passes import Ints
    from featurebench.heads.threads import Pool

    Array64 = npt.NDArray[np.float64]

# So many columns of logits are computed side by side: more gain no speed, only memory.
SLOT_COLUMNS = 1024
_ARMIJO = 1e-4
# Ticks between two looks at the curvature p (1 - p), which changes slowly.
_REFRESH = 5
_HALVINGS = 20
# Near its minimum an objective's rounding hides by how much it falls; slopes then tell (Hager and
# Zhang's approximate Wolfe conditions, SIAM Journal on Optimization 16, 2005, section 2.1).
_HIDDEN = 1e-6
_FLATTER = 0.9
# Of the decrements of so many passes the largest counts: single ones jump up and down.
_LOOK_BACK = 5
# No model is taken to converge faster or slower, by the factor of its decrement from pass to pass.
_FASTEST, _SLOWEST = 0.5, 0.98
# Share of its mean curvature that a direction is trusted to have, and how far the gap that follows
# may be over the tolerance.
_FLAT = 0.1
_SLACK = 3.0
# Passes without a new least decrement or objective, after which float32 has no more to give.
_STALLED = 25
_FALL = 1e-7


@dataclass(frozen=True, eq=False)
class Solution:
    """Solved models.

    Parameters
    ----------
    weights
        On working rows, the intercept last, shape (n_models, K, d + 1).
    objective
        Sum of cross-entropies plus penalty, float64, shape (n_models,).
    gap
        Estimate of (objective - least objective) / objective, shape (n_models,).
    n_iter
        Passes over X that each model took part in, shape (n_models,).
    """

    weights: Array
    objective: Array64
    gap: Array64
    n_iter: Ints


def solve(
    design: Design,
    set_of: Ints,
    C: Array64,
    *,
    tol: float,
    max_iter: int,
    start: Callable[[int], Array] | None = None,
    pool: Pool = map,
    done: Callable[[int], None] | None = None,
) -> Solution:
    """Minimise every model's objective to a relative gap of about ``tol``.

    Models wait in a queue for free slots; a slot is free again when its model has converged. So
    the product over all columns stays wide whatever each model needs.

    Parameters
    ----------
    set_of, C
        Training set and inverse penalty of each model, shape (n_models,).
    tol
        Largest gap, as estimated from the Newton decrement and its rate of decrease.
    max_iter
        Most passes per model.
    start
        Gives the weights on working rows that model i starts from; the class shares by default.
    pool
        Maps a function over pieces of work, such as a thread pool's ``map``.
    done
        Called with the number of models that have converged.
    """
    n_columns = 1 if design.n_classes == 2 else design.n_classes
    n_models = len(C)
    found = Solution(
        design.xp.stack([_blank(design, n_columns)] * n_models),
        np.zeros(n_models),
        np.full(n_models, np.inf),
        np.zeros(n_models, dtype=np.int64),
    )
    queue = np.argsort(C, kind="stable").tolist()[::-1]
    slots = _Slots(design, min(n_models, max(1, SLOT_COLUMNS // n_columns)), n_columns, pool)

    def fill(slot: int) -> None:
        model = queue.pop()
        at = start(model) if start else from_shares(design, int(set_of[model]), n_columns)
        slots.fill(slot, model, int(set_of[model]), float(C[model]), at)

    for slot in range(slots.size):
        fill(slot)
    while slots.size:
        slots.tick()
        finished = slots.finished(tol, max_iter)
        for slot in finished.tolist():
            slots.unload(slot, found)
        if done is not None and len(finished):
            done(len(finished))
        refilled = finished[: len(queue)]
        for slot in refilled.tolist():
            fill(slot)
        slots.drop(finished[len(refilled) :])
    return found


def from_shares(design: Design, set_index: int, n_columns: int) -> Array:
    """Weights 0, and intercepts that give every row the class shares of the set."""
    weights = _blank(design, n_columns)
    log_share = design.xp.log(design.prior[set_index])
    if n_columns == 1:
        weights[:, -1] = log_share[1] - log_share[0]
    else:
        weights[:, -1] = log_share - log_share.mean()
    return weights


def _blank(design: Design, n_columns: int) -> Array:
    """Zeros, shape (K, d + 1)."""
    blank: Array = design.xp.stack([design.xp.zeros_like(design.spectrum)] * n_columns)
    return blank


class _Slots:
    """The models that are being solved, one per slot, in coordinates of their own.

    Along the features these are the design's eigenbasis; along the classes, the eigenvectors of
    the model's mean of diag(p) - p p'. There the Hessian is nearly diagonal: were p and x
    independent, it would be the Kronecker product of the two.
    """

    def __init__(self, design: Design, n_slots: int, n_columns: int, pool: Pool) -> None:
        self.design, self.pool = design, pool
        self.ticks = 0
        blank = _blank(design, n_columns)
        self.w = design.xp.stack([blank] * n_slots)
        self.g, self.p = design.xp.zeros_like(self.w), design.xp.zeros_like(self.w)
        self.classes = design.xp.stack([self._eye(n_columns)] * n_slots)
        self.curvature = self.w[:, :, 0] * 0
        self.pairs = CurvaturePairs(self.w, design.xp)
        self.model = np.zeros(n_slots, dtype=np.int64)
        self.set_of = np.zeros(n_slots, dtype=np.int64)
        self.C = np.ones(n_slots)
        self.f = np.full(n_slots, np.inf)
        self.slope, self.t = np.zeros(n_slots), np.ones(n_slots)
        self.fresh = np.ones(n_slots, dtype=bool)
        self.moved = np.zeros(n_slots, dtype=bool)
        self.n_iter = np.zeros(n_slots, dtype=np.int64)
        self.halvings = np.zeros(n_slots, dtype=np.int64)
        self.stalled = np.zeros(n_slots, dtype=np.int64)
        self.least = np.full(n_slots, np.inf)
        self.decrements = np.full((n_slots, _LOOK_BACK + 1), np.inf)
        # decrements after 1, 2, 4, ... passes, the last two of them, and after how many
        self.marks = np.full((n_slots, 2), np.inf)
        self.marked_at = np.zeros((n_slots, 2), dtype=np.int64)

    @property
    def size(self) -> int:
        return len(self.model)

    def fill(self, slot: int, model: int, set_index: int, C: float, weights: Array) -> None:
        self.model[slot], self.set_of[slot], self.C[slot] = model, set_index, C
        part = slice(slot, slot + 1)
        share = to_numpy(self.design.prior[set_index])
        seen = np.diag(share) - np.outer(share, share)
        if self.curvature.shape[1] == 1:
            seen = seen[1:, 1:]
        self.curvature[part], self.classes[part] = self._class_axes(seen[None])
        self.w[slot] = to_rotated(
            self.design, weights[None], self.set_of[part], self.classes[part]
        )[0]
        self.p[slot], self.g[slot] = 0, 0
        self.f[slot], self.slope[slot], self.t[slot] = np.inf, 0, 1
        self.fresh[slot], self.n_iter[slot], self.halvings[slot] = True, 0, 0
        self.stalled[slot], self.least[slot], self.decrements[slot] = 0, np.inf, np.inf
        self.marks[slot], self.marked_at[slot] = np.inf, 0
        self.pairs.forget(slot)

    def drop(self, slots: npt.NDArray[np.intp]) -> None:
        if not len(slots):
            return
        keep = np.setdiff1d(np.arange(self.size), slots)
        self.pairs.keep(keep)
        for name, value in vars(self).items():
            if hasattr(value, "dtype"):
                setattr(self, name, value[keep])

    def unload(self, slot: int, found: Solution) -> None:
        model = self.model[slot]
        part = slice(slot, slot + 1)
        found.weights[model] = to_working(
            self.design, self.w[part], self.set_of[part], self.classes[part]
        )[0]
        found.objective[model] = self.f[slot]
        found.gap[model] = self.gap()[slot]
        found.n_iter[model] = self.n_iter[slot]

    def tick(self) -> None:
        """Evaluate all models at their trial points; move those that improve enough."""
        look = self.ticks % _REFRESH == 1
        trial = self.w + self._like(self.t) * self.p
        f, g, seen = self._evaluate(trial, curvature=look)
        slope = to_numpy((self.p * g).sum(axis=(1, 2), dtype=self.design.xp.float64))
        lower = f <= self.f + _ARMIJO * self.t * self.slope
        hidden = (f <= self.f + _HIDDEN * np.abs(f)) & (abs(slope) <= _FLATTER * abs(self.slope))
        self.moved = self.fresh | lower | hidden
        s, y = trial - self.w, g - self.g
        at = self._mask(self.moved)
        self.w[at], self.g[at] = trial[at], g[at]
        self.f = np.where(self.moved, f, self.f)
        if seen is not None:
            s, y = self._turn(seen, s, y)
        self._direct(s, y, new_curvature=look)
        self.n_iter += 1
        self.halvings = np.where(self.moved, 0, self.halvings + 1)
        self.t = np.where(self.moved, 1.0, self.t / 2)
        self.fresh = self.fresh & ~self.moved
        self.ticks += 1

    def _turn(self, seen: Array64, s: Array, y: Array) -> tuple[Array, Array]:
        """Take up new axes along the classes; all that is in old ones goes along.

        Models that did not move keep theirs: what was seen where they did not stay may be as far
        off as the step was long, up to not being finite.
        """
        at, old = self._mask(self.moved), self.classes + 0
        self.curvature[at], self.classes[at] = self._class_axes(seen[self.moved])
        turn = self.classes.swapaxes(1, 2) @ old
        self.w, self.g, self.p = turn @ self.w, turn @ self.g, turn @ self.p
        self.pairs.turn(turn)
        return turn @ s, turn @ y

    def _class_axes(self, seen: Array64) -> tuple[Array, Array]:
        """Eigenvalues and eigenvectors of means of diag(p) - p p', both of shape (M, K[, K]).

        Along equal changes of all classes, which change nothing, the curvature is taken to be as
        in the mean.
        """
        n_columns = seen.shape[-1]
        if n_columns > 1:
            mean = np.trace(seen, axis1=1, axis2=2) / n_columns
            seen = seen + mean[:, None, None] / n_columns
        values, vectors = np.linalg.eigh(seen)
        return self._typed(values), self._typed(vectors)

    def _direct(self, s: Array, y: Array, *, new_curvature: bool) -> None:
        flat = (self.size, -1)
        h0 = self._initial_inverse()
        direction, slope = self.pairs.advance(
            s.reshape(flat),
            y.reshape(flat),
            self.g.reshape(flat),
            h0.reshape(flat),
            self.pool,
            moved=self.moved & ~self.fresh,
            h0_is_new=new_curvature or bool(self.fresh.any()),
        )
        at = self._mask(self.moved)
        self.p[at] = direction.reshape(self.p.shape)[at]
        self.slope = np.where(self.moved, slope, self.slope)
        decrement = -self.slope / 2 / np.maximum(np.abs(self.f), 1e-30)
        self._record(decrement)

    def _record(self, decrement: Array64) -> None:
        fallen = self.f < self.least - _FALL * np.abs(self.f)
        self.least = np.where(fallen, self.f, self.least)
        falling = fallen | (decrement < self.decrements.min(axis=1))
        self.stalled = np.where(falling, 0, self.stalled + 1)
        moved = self.moved[:, None]
        shifted = np.column_stack([self.decrements[:, 1:], decrement])
        self.decrements = np.where(moved, shifted, self.decrements)
        n_iter = self.n_iter + 1
        due = moved & (n_iter >= 2 * self.marked_at[:, 1])[:, None]
        self.marks = np.where(due, np.column_stack([self.marks[:, 1], decrement]), self.marks)
        shifted_at = np.column_stack([self.marked_at[:, 1], n_iter])
        self.marked_at = np.where(due, shifted_at, self.marked_at)

    def _initial_inverse(self) -> Array:
        """Diagonal of the inverse Hessian as the shared eigenbasis has it, shape (M, K, d + 1)."""
        design = self.design
        weight = design.total_weight[self.set_of][:, None] * self.curvature
        penalty = self._like(1 / self.C)
        hessian = self._typed(weight)[:, :, None] * design.spectrum + penalty
        hessian[..., -1] -= penalty[..., 0]
        return 1 / hessian.clip(1e-12, None)

    def _evaluate(self, trial: Array, *, curvature: bool) -> tuple[Array64, Array, Array64 | None]:
        """Objective and rotated gradient of every slot at its trial point."""
        design, set_of = self.design, self.set_of
        weights = to_working(design, trial, set_of, self.classes, self.pool)
        sums = sum_up(design, weights, set_of, self.pool, curvature=curvature)
        gradient = design.xp.asarray(sums.gradient).swapaxes(0, 1)
        rotated = rotate_gradient(design, gradient, set_of, self.classes, self.pool)
        penalty = self._like(1 / self.C)
        rotated[..., :-1] += penalty * trial[..., :-1]
        square = to_numpy((trial[..., :-1] ** 2).sum(axis=(1, 2), dtype=design.xp.float64))
        seen = None
        if sums.curvature is not None:
            seen = to_numpy(sums.curvature / design.total_weight[set_of][:, None, None])
        return to_numpy(sums.loss) + square / (2 * self.C), rotated, seen

    def gap(self) -> Array64:
        """Estimate the relative gap: the sum of the decrements to come at their present rate.

        The rate is that of half to three quarters of a model's passes; over a few it would be
        noise. Until there is one the gap is infinite.
        """
        first, last = self.marks[:, 0], self.decrements[:, -1]
        known = np.isfinite(first) & (first > 0)
        passes = np.maximum(self.n_iter - self.marked_at[:, 0], 1)
        rate = np.where(known, (last / np.where(known, first, 1)) ** (1 / passes), _SLOWEST)
        rate = np.clip(rate, 0, _SLOWEST)[:, None]
        seen = np.where(np.isfinite(self.decrements), self.decrements, 0)
        expected = (seen * rate ** np.arange(_LOOK_BACK, -1, -1)).max(axis=1)
        ahead = expected / (1 - np.maximum(rate[:, 0], _FASTEST))
        gap: Array64 = np.where(np.isfinite(first), ahead, np.inf)
        return gap

    def finished(self, tol: float, max_iter: int) -> npt.NDArray[np.intp]:
        """Slots whose model has converged, or will not get any further."""
        stuck = (self.n_iter >= max_iter) | (self.halvings >= _HALVINGS)
        stuck |= (self.stalled >= _STALLED) & (self.decrements[:, -1] < 1e-5)
        near = np.flatnonzero(self.moved & (self.gap() <= tol) & ~stuck)
        return np.union1d(near[self._cautious_gap(near) <= _SLACK * tol], np.flatnonzero(stuck))

    def _cautious_gap(self, slots: npt.NDArray[np.intp]) -> Array64:
        """Bound the gap of some slots by a Hessian that is hardly curved but by the penalty.

        Along a flat direction in which few steps were taken the quasi-Newton decrement is blind;
        this is not.
        """
        design, xp = self.design, self.design.xp
        weight = design.total_weight[self.set_of[slots]][:, None] * self.curvature[slots]
        penalty = self._like(1 / self.C[slots])
        hessian = self._typed(_FLAT * weight)[:, :, None] * design.spectrum + penalty
        hessian[..., -1] -= penalty[..., 0]
        square = (self.g[slots] ** 2 / hessian.clip(1e-12, None)).sum(axis=(1, 2), dtype=xp.float64)
        bound: Array64 = to_numpy(square) / 2 / np.maximum(np.abs(self.f[slots]), 1e-30)
        return bound

    def _like(self, values: Array64) -> Array:
        """Give one number per slot the type and shape to go with the weights."""
        return self._typed(values)[:, None, None]

    def _eye(self, n_columns: int) -> Array:
        return self._typed(np.eye(n_columns))

    def _typed(self, values: Any) -> Array:  # noqa: ANN401
        xp = self.design.xp
        if xp is np:
            return np.asarray(values, dtype=self.w.dtype)
        typed: Array = xp.as_tensor(values, dtype=self.w.dtype, device=self.w.device)
        return typed

    def _mask(self, slots: npt.NDArray[np.bool_]) -> Any:  # noqa: ANN401
        return slots if self.design.xp is np else self.design.xp.as_tensor(slots)
