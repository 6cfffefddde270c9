"""solve_logistic(): penalised logistic regressions on many training sets of one X, at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.heads.logistic.axes import penalty_of
from featurebench.heads.logistic.design import KEEP_BYTES, in_double, lay_out, on_device
from featurebench.heads.logistic.lockstep import Solution, solve
from featurebench.heads.logistic.passes import sum_up, to_numpy
from featurebench.heads.threads import own_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from featurebench.heads.logistic.design import Design
    from featurebench.heads.rows import RowSource

    Array64 = npt.NDArray[np.float64]

# Fewer models than this are not worth a model of all rows to start from.
_WARM_FROM = 4
_ROUGH = 1e-4
# float32 sums that differ from float64 ones by more are not trusted, nor are gaps below
_TRUSTED = 1e-6
_LEAST_GAP = 1e-7


@dataclass(frozen=True, eq=False)
class Problem:
    """Training sets and penalties to be solved on one X.

    Parameters
    ----------
    sets
        1 where a row is in a training set, uint8, shape (n, n_sets); each has all the classes.
    set_of, C
        Training set and inverse penalty of each model, shape (n_models,).
    n_classes
        Classes of y, coded 0 to n_classes - 1.
    standardise
        Whether each set sees features of mean 0 and variance 1 on its own rows.
    row_weight
        Sample weights, float64, shape (n,), or None for ones.
    class_weight
        Weight of each class in each set, float64, shape (n_sets, n_classes), or None for ones.
    """

    sets: npt.NDArray[np.uint8]
    set_of: npt.NDArray[np.int64]
    C: npt.NDArray[np.float64]
    n_classes: int
    standardise: bool = True
    row_weight: npt.NDArray[np.float64] | None = None
    class_weight: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Models:
    """Solved models; with two classes K is 1, and the decision is for the second class.

    Parameters
    ----------
    coef, intercept
        On the features of X as they are, float64, shapes (n_models, K, d) and (n_models, K).
    objective
        Sum of cross-entropies plus penalty, shape (n_models,).
    gap
        Estimate of (objective - least objective) / objective, shape (n_models,).
    n_iter
        Passes over X that each model took part in, shape (n_models,).
    """

    coef: npt.NDArray[np.float64]
    intercept: npt.NDArray[np.float64]
    objective: npt.NDArray[np.float64]
    gap: npt.NDArray[np.float64]
    n_iter: npt.NDArray[np.int64]


def solve_logistic(
    source: RowSource,
    y: npt.NDArray[np.int64],
    problem: Problem,
    *,
    tol: float = 2e-7,
    max_iter: int = 1000,
    threads: int | None = None,
    device: str = "cpu",
    keep_bytes: int = KEEP_BYTES,
    done: Callable[[int], None] | None = None,
) -> Models:
    """Minimise ``sum of w_i CE(x_i, y_i) + |W|^2 / (2 C)`` for every model, intercepts free.

    That is the objective of scikit-learn's `LogisticRegression`: one column of weights for two
    classes, a softmax over one column per class for more. All models take part in each pass over
    the rows; they start from a model of all rows with their penalty. Work is done in float32,
    the objectives are then summed in float64, and models that float32 could not solve to ``tol``
    are finished in float64.

    Parameters
    ----------
    source
        Rows of X, shape (n, d), finite. Memory used beside X: a copy in float32 if it is smaller
        than ``keep_bytes``, about 50 vectors of d + 1 float32 for each of up to 1024 columns being
        solved, and the solutions.
    y
        Codes, shape (n,).
    problem
        What is to be solved.
    tol
        Relative gap at which a model has converged, as estimated.
    max_iter
        Most passes per model.
    threads
        Threads for the products; as many as BLAS has now if None. Results do not depend on it.
    device
        ``cpu``, or a device of torch, such as ``cuda``.
    done
        Called with the number of models solved.
    """
    with own_threads(threads if device == "cpu" else 1) as pool:
        design = lay_out(
            source,
            y,
            _with_union(problem.sets),
            n_classes=problem.n_classes,
            standardise=problem.standardise,
            row_weight=problem.row_weight,
            class_weight=_of_union(problem.class_weight),
            keep_bytes=keep_bytes,
            pool=pool,
        )
        placed = design if device == "cpu" else on_device(design, device)
        settings: dict[str, Any] = {"tol": tol, "max_iter": max_iter, "pool": pool}
        single = settings | {"tol": max(tol, _LEAST_GAP)}
        start = _warm_start(placed, problem, single)
        found = solve(placed, problem.set_of, problem.C, start=start, done=done, **single)
        found = _finish_in_double(design, problem, found, settings)
    return _on_raw_features(design, found)


def _with_union(sets: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Add the set of all rows that are in any set."""
    return np.column_stack([sets, sets.any(axis=1).astype(np.uint8)])


def _of_union(class_weight: Array64 | None) -> Array64 | None:
    if class_weight is None:
        return None
    return np.vstack([class_weight, class_weight.mean(axis=0)])


def _warm_start(
    design: Design, problem: Problem, settings: dict[str, Any]
) -> Callable[[int], Any] | None:
    """Solve the union of the sets once per penalty, roughly; models start from there."""
    penalties, which = np.unique(problem.C, return_inverse=True)
    if len(problem.C) < _WARM_FROM * len(penalties):
        return None
    union = np.full(len(penalties), problem.sets.shape[1])
    rough = solve(design, union, penalties, **(settings | {"tol": _ROUGH}))
    return lambda model: rough.weights[which[model]]


def _finish_in_double(
    design: Design, problem: Problem, found: Solution, settings: dict[str, Any]
) -> Solution:
    """Sum the objectives in float64; go on in float64 with models that are not what they seem."""
    double = in_double(design)
    weights = to_numpy(found.weights).astype(np.float64)
    sums = sum_up(double, weights, problem.set_of, settings["pool"], gradient=False)
    objective = sums.loss + penalty_of(double, weights, problem.set_of) / (2 * problem.C)
    off = np.abs(objective - found.objective) > _TRUSTED * np.abs(objective)
    gap, n_iter = np.maximum(found.gap, _LEAST_GAP), found.n_iter.copy()
    off |= (gap > settings["tol"]) & (n_iter < settings["max_iter"])
    at = np.flatnonzero(off)
    if len(at):
        # without the curvature pairs so far, decrements are too small at first
        again = solve(
            double,
            problem.set_of[at],
            problem.C[at],
            start=weights[at].__getitem__,
            **(settings | {"tol": settings["tol"] / 10}),
        )
        weights[at], objective[at], gap[at] = again.weights, again.objective, again.gap
        n_iter[at] += again.n_iter
    return Solution(weights, objective, gap, n_iter)


def _on_raw_features(design: Design, found: Solution) -> Models:
    """Give weights on working rows as coefficients of the features of X."""
    coef = np.asarray(found.weights[..., :-1], dtype=np.float64) / design.spread
    intercept = found.weights[..., -1] - coef @ design.centre
    return Models(coef, intercept, found.objective, found.gap, found.n_iter)
