"""Ridge classifiers of all folds and penalties: shared sums against scikit-learn's grid search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.probes.clock import Section, Way, folds
from benchmarks.probes.cohort import make_task
from featurebench.heads.manyfold import Job
from featurebench.heads.ridge import _solve
from featurebench.heads.rows import RowSource
from featurebench.heads.sums import FoldSums
from featurebench.heads.threads import own_threads

if TYPE_CHECKING:
    from benchmarks.probes.clock import Clock
    from benchmarks.probes.cohort import Task
    from benchmarks.probes.settings import Settings

    Labels = npt.NDArray[np.int64]

# The range of RidgeProbe's own defaults.
ALPHAS = tuple(np.logspace(6, -1, 10).tolist())
OURS = "featurebench"
PEER = "GridSearchCV, RidgeClassifier"


def ridge(settings: Settings, clock: Clock) -> Section:
    """Time ten penalties on 5 x 5 folds, and compare the labels of the first fold."""
    task = make_task(settings.shape, repeats=5, seed=settings.seed)
    ways = [
        Way(OURS, label_held_out),
        Way(PEER, lambda part: search_alphas(part, settings.threads), settings.peer_folds),
    ]
    timings, found = clock.time(ways, task)
    labels: list[Labels] = found[OURS]
    accuracy = _accuracy(task, labels)
    apart = float(np.abs(found[PEER] - accuracy[: len(found[PEER])]).max())
    facts: dict[str, Any] = {
        "alpha": list(ALPHAS),
        "accuracy": accuracy.mean(axis=0).tolist(),
        "largest_difference": apart,
    }
    lines = [f"best held-out accuracy {accuracy.mean(axis=0).max():.4f}"]
    lines.append(f"largest difference of a fold's accuracy: {apart:.1e}")
    if settings.check:
        differing = [int(n) for n in (labels[0] != _label_one_by_one(task)).sum(axis=1)]
        n_labels = len(task.splits[0][1])
        facts |= {"labels_differing": differing, "n_labels": n_labels}
        lines.append(f"labels of the first fold that differ, by penalty: {differing} of {n_labels}")
    n_fits = len(ALPHAS) * len(task.splits)
    title = f"ridge, {folds(len(task.splits))} x {len(ALPHAS)} penalties = {n_fits} fits"
    return Section(title, timings, lines, facts)


def label_held_out(task: Task) -> list[Labels]:
    """Predict all held-out rows, of each fold (n_alphas, n_test), from sums that folds share.

    These are the fits of `RidgeProbe` without the sigmoids and without the choice of a penalty.
    """
    source = RowSource(task.X)
    jobs = [Job(train, test, ALPHAS) for train, test in task.splits]
    sums = FoldSums(source, task.y, task.n_classes)

    def run(job: Job) -> Labels:
        (moments,) = sums.of_jobs([job])
        labels: Labels = _solve(moments, ALPHAS, scale=True).scores(source, job.test).argmax(axis=2)
        return labels

    with own_threads() as pool:
        sums.expect(jobs)
        return list(pool(run, jobs))


def search_alphas(task: Task, threads: int) -> npt.NDArray[np.float64]:
    """Do the same with scikit-learn: held-out accuracies, shape (n_folds, n_alphas)."""
    search = GridSearchCV(
        make_pipeline(StandardScaler(), RidgeClassifier()),
        {"ridgeclassifier__alpha": list(ALPHAS)},
        cv=list(task.splits),
        n_jobs=threads,
        refit=False,
    )
    found = search.fit(task.X, task.y).cv_results_
    return np.array([found[f"split{i}_test_score"] for i in range(len(task.splits))])


def _accuracy(task: Task, labels: list[Labels]) -> npt.NDArray[np.float64]:
    return np.array(
        [
            (each == task.y[test]).mean(axis=1)
            for each, (_, test) in zip(labels, task.splits, strict=True)
        ]
    )


def _label_one_by_one(task: Task) -> Labels:
    train, test = task.splits[0]
    models = [make_pipeline(StandardScaler(), RidgeClassifier(alpha)) for alpha in ALPHAS]
    return np.stack(
        [model.fit(task.X[train], task.y[train]).predict(task.X[test]) for model in models]
    )
