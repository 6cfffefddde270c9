"""Boosted trees: LightGBMProbe's defaults against LightGBM's own, on the same folds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score

from benchmarks.probes.clock import Section, Way, folds
from benchmarks.probes.cohort import make_task
from featurebench.heads.boosting import LightGBMProbe

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

    from benchmarks.probes.clock import Clock
    from benchmarks.probes.cohort import Task
    from benchmarks.probes.settings import Settings

OURS = "featurebench"
PEER = "LGBMClassifier, defaults"


def lightgbm(settings: Settings, clock: Clock) -> Section:
    """Time so many rounds without early stopping, and compare the balanced accuracies."""
    from lightgbm import LGBMClassifier

    task = make_task(settings.shape, seed=settings.seed).first(settings.tree_folds)
    shared: dict[str, Any] = {
        "n_estimators": settings.trees,
        "n_jobs": settings.tree_threads,
        "random_state": settings.seed,
    }
    heads = {
        OURS: LightGBMProbe(early_stopping_rounds=None, **shared),
        PEER: LGBMClassifier(verbosity=-1, **shared),
    }
    ways = [Way(name, partial(score_folds, head=head)) for name, head in heads.items()]
    timings, found = clock.time(ways, task)
    means = {name: float(np.mean(scores)) for name, scores in found.items()}
    lines = [
        f"balanced accuracy {means[OURS]:.4f}, {PEER} {means[PEER]:.4f}, "
        f"difference {means[OURS] - means[PEER]:+.4f}"
    ]
    facts = {"balanced_accuracy": means, "by_fold": found}
    title = f"LightGBM, {folds(len(task.splits))} x {settings.trees} rounds"
    return Section(title, timings, lines, facts)


def score_folds(task: Task, head: ClassifierMixin) -> list[float]:
    """Fit every fold and give the balanced accuracy of its held-out rows."""
    scores = []
    for train, test in task.splits:
        fitted = clone(head).fit(task.X[train], task.y[train])
        scores.append(float(balanced_accuracy_score(task.y[test], fitted.predict(task.X[test]))))
    return scores
