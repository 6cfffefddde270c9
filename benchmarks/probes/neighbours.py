"""Nearest neighbours of all folds: one search against scikit-learn's and faiss's of each fold."""

from __future__ import annotations

import warnings
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_info

from benchmarks.probes.clock import Section, Way, folds, kernels
from benchmarks.probes.cohort import make_task
from featurebench.heads.features import l2_normalise
from featurebench.heads.neighbours import KnnProbe

if TYPE_CHECKING:
    from benchmarks.probes.clock import Clock
    from benchmarks.probes.cohort import Task
    from benchmarks.probes.settings import Settings

    Labels = npt.NDArray[np.int64]

K = 20
OURS = "featurebench"


def knn(settings: Settings, clock: Clock) -> Section:
    """Time 20 neighbours by cosine on 5 x 5 folds, and compare the labels."""
    task = make_task(settings.shape, repeats=5, seed=settings.seed)
    threads = settings.threads
    ways = [
        Way(OURS, partial(search_once, threads=threads)),
        Way("KNeighborsClassifier, brute", partial(search_brute, threads=threads)),
    ]
    faiss = find_faiss()
    if faiss is not None:
        ways.append(Way("faiss IndexFlatIP", partial(search_faiss, faiss=faiss, threads=threads)))
    timings, found = clock.time(ways, task)
    ours, truth = np.concatenate(found[OURS]), np.concatenate([task.y[t] for _, t in task.splits])
    lines = [f"held-out accuracy {(ours == truth).mean():.4f}"]
    same = {}
    for way in ways[1:]:
        same[way.name] = float((np.concatenate(found[way.name]) == ours).mean())
        lines.append(f"labels as those of {way.name}: {same[way.name]:.4%}")
    if faiss is None:
        lines.append("faiss is not installed (pip install faiss-cpu): left out")
    # faiss brings a BLAS of its own, which may not know a new processor
    lines.append(f"linear algebra: {kernels(threadpool_info())}")
    facts = {"accuracy": float((ours == truth).mean()), "same_labels": same}
    return Section(f"{K} nearest by cosine, {folds(len(task.splits))}", timings, lines, facts)


def search_once(task: Task, threads: int) -> list[Labels]:
    """Predict the held-out rows of all folds from one search."""
    head = KnnProbe(K, n_jobs=threads)
    found = head.predict_folds(task.X, task.y, task.folds, n_classes=task.n_classes)
    return [each.y_prob.argmax(axis=1) for each in found]


def search_brute(task: Task, threads: int) -> list[Labels]:
    """Do the same with scikit-learn, fold by fold."""
    model = KNeighborsClassifier(K, algorithm="brute", metric="cosine", n_jobs=threads)
    return [
        model.fit(task.X[train], task.y[train]).predict(task.X[test]) for train, test in task.splits
    ]


def search_faiss(task: Task, faiss: Any, threads: int) -> list[Labels]:  # noqa: ANN401
    """Do the same with faiss's flat index of inner products, fold by fold."""
    faiss.omp_set_num_threads(threads)
    rows = l2_normalise(task.X)
    found = []
    for train, test in task.splits:
        index = faiss.IndexFlatIP(rows.shape[1])
        index.add(rows[train])
        _, nearest = index.search(rows[test], K)
        found.append(_vote(task.y[train][nearest], task.n_classes))
    return found


def find_faiss() -> Any:  # noqa: ANN401
    """Import faiss, or give None where it is not installed."""
    if find_spec("faiss") is None:
        return None
    with warnings.catch_warnings():
        # its wrappers name no module
        warnings.simplefilter("ignore", DeprecationWarning)
        return import_module("faiss")


def _vote(codes: Labels, n_classes: int) -> Labels:
    place = np.arange(len(codes))[:, None] * n_classes + codes
    votes = np.bincount(place.ravel(), minlength=len(codes) * n_classes)
    labels: Labels = votes.reshape(-1, n_classes).argmax(axis=1)
    return labels
