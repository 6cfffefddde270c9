"""Logistic regressions of all folds and penalties: ours against scikit-learn's grid search."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.probes.agreement import compare_optima, describe_optima
from benchmarks.probes.clock import Section, Way, folds
from benchmarks.probes.cohort import make_task
from featurebench.heads.logistic.probe import LinearModel, predict_candidates
from featurebench.heads.logistic.solver import Problem, solve_logistic
from featurebench.heads.rows import RowSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.probes.clock import Clock
    from benchmarks.probes.cohort import Task
    from benchmarks.probes.settings import Settings
    from featurebench.heads.logistic.solver import Models

    Floats = npt.NDArray[np.float64]

# The range in which held-out accuracy is best, and one that goes far into overfitting.
USEFUL = tuple(np.geomspace(1e-4, 5e-3, 4).tolist())
GRID = tuple(np.logspace(-4, 1, 10).tolist())
OURS = "featurebench"
PEERS: dict[str, dict[str, Any]] = {
    "GridSearchCV, tol 1e-8": {"tol": 1e-8, "max_iter": 10_000},
    "GridSearchCV, tol 1e-6": {"tol": 1e-6, "max_iter": 10_000},
    "GridSearchCV, defaults": {},
}


@dataclass(frozen=True, eq=False)
class Solved:
    """Models, fold by fold and penalty by penalty, and their held-out accuracies.

    Parameters
    ----------
    accuracy
        Shape (n_folds, n_penalties).
    """

    models: Models
    accuracy: Floats


def useful(settings: Settings, clock: Clock) -> Section:
    """Time four useful penalties on 5 x 5 folds."""
    return _compare(settings, clock, USEFUL, repeats=5)


def grid(settings: Settings, clock: Clock) -> Section:
    """Time ten penalties from strong to weak on 5 folds."""
    return _compare(settings, clock, GRID, repeats=1)


def solve_ours(task: Task, Cs: Sequence[float], threads: int) -> Solved:
    """Solve all folds and penalties at once, and predict all held-out rows."""
    n_folds = len(task.splits)
    problem = Problem(
        task.sets, np.repeat(np.arange(n_folds), len(Cs)), np.tile(Cs, n_folds), task.n_classes
    )
    models = solve_logistic(RowSource(task.X), task.y, problem, threads=threads)
    codes = np.arange(task.n_classes)
    accuracy = np.empty((n_folds, len(Cs)))
    for i, (_, test) in enumerate(task.splits):
        at = range(i * len(Cs), (i + 1) * len(Cs))
        fold = [LinearModel(models.coef[j], models.intercept[j], codes, task.n_classes) for j in at]
        labels = predict_candidates(fold, task.X[test]).argmax(axis=2)
        accuracy[i] = (labels == task.y[test]).mean(axis=1)
    return Solved(models, accuracy)


def search_grid(task: Task, Cs: Sequence[float], threads: int, *, solver: dict[str, Any]) -> Floats:
    """Do the same with scikit-learn: held-out accuracies, shape (n_folds, n_penalties)."""
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(**solver)),
        {"logisticregression__C": list(Cs)},
        cv=list(task.splits),
        n_jobs=threads,
        refit=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = search.fit(task.X, task.y).cv_results_
    return np.array([found[f"split{i}_test_score"] for i in range(len(task.splits))])


def _compare(settings: Settings, clock: Clock, Cs: Sequence[float], *, repeats: int) -> Section:
    task = make_task(settings.shape, repeats=repeats, seed=settings.seed)
    ways = [Way(OURS, lambda part: solve_ours(part, Cs, settings.threads))]
    for name, solver in PEERS.items():
        search = partial(search_grid, Cs=Cs, threads=settings.threads, solver=solver)
        ways.append(Way(name, search, settings.peer_folds))
    timings, found = clock.time(ways, task)
    solved: Solved = found[OURS]
    lines, facts = _describe_accuracy(Cs, found)
    if settings.check:
        clock.say("  comparing the optima of one fold")
        optima = compare_optima(task, Cs, solved.models, PEERS, settings.threads)
        lines += describe_optima(optima)
        facts["optima"] = optima
    n_models = len(Cs) * len(task.splits)
    title = (
        f"logistic regression, {folds(len(task.splits))} x {len(Cs)} penalties = {n_models} fits"
    )
    return Section(title, timings, lines, facts)


def _describe_accuracy(
    Cs: Sequence[float], found: dict[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    accuracy = found[OURS].accuracy
    means = accuracy.mean(axis=0).tolist()
    lines = [
        "held-out accuracy by C: "
        + ", ".join(f"{C:.2g}: {mean:.4f}" for C, mean in zip(Cs, means, strict=True))
    ]
    apart = {}
    for name in PEERS:
        peer = found[name]
        apart[name] = float(np.abs(peer - accuracy[: len(peer)]).max())
        lines.append(f"largest difference of a fold's accuracy, {name}: {apart[name]:.1e}")
    facts = {
        "C": list(Cs),
        "accuracy": means,
        "largest_difference": apart,
        "n_iter": found[OURS].models.n_iter.tolist(),
        "largest_estimated_gap": float(found[OURS].models.gap.max()),
    }
    return lines, facts
