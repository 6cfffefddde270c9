"""compare_optima(): objectives of one fold against scikit-learn's, solved much more tightly."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.parallel import Parallel, delayed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.probes.cohort import Codes, Features, Task
    from featurebench.heads.logistic.solver import Models

    Floats = npt.NDArray[np.float64]
    Weights = tuple[Floats, Floats, int]

REFERENCE: dict[str, Any] = {"tol": 1e-8, "max_iter": 20_000}


def compare_optima(
    task: Task,
    Cs: Sequence[float],
    models: Models,
    peers: Mapping[str, dict[str, Any]],
    threads: int,
) -> list[dict[str, Any]]:
    """Compare the objectives and the held-out labels of the first fold at every penalty.

    The objective, the sum of cross-entropies plus |W|^2 / (2 C) on standardised features, is
    summed in float64. A gap is (objective - reference) / reference; the reference is scikit-learn's
    own solver on float64 rows with ``tol=1e-8``, so a negative gap is one that it left.

    Parameters
    ----------
    models
        Ours, those of the first fold first.
    peers
        Parameters of `LogisticRegression`, by name; fitted anew on the first fold.

    Returns
    -------
    list of dict
        One for each penalty, JSON-ready: ``C``, ``gap`` and ``labels_differing`` by name (ours is
        ``featurebench``), ``iterations`` of the scikit-learn fits by name.
    """
    train, test = task.splits[0]
    scaler = StandardScaler().fit(task.X[train].astype(np.float64))
    Z, held_out = (scaler.transform(task.X[rows].astype(np.float64)) for rows in (train, test))
    solvers = {"reference": REFERENCE, **peers}
    fits = {
        "featurebench": [
            (coef * scaler.scale_, intercept + coef @ scaler.mean_, 0)
            for coef, intercept in list(zip(models.coef, models.intercept, strict=True))[: len(Cs)]
        ]
    }
    for name, solver in solvers.items():
        rows = Z if name == "reference" else StandardScaler().fit_transform(task.X[train])
        fits[name] = _fit_all(rows, task.y[train], Cs, solver, threads)
    found = []
    for i, C in enumerate(Cs):
        weights = {name: each[i] for name, each in fits.items()}
        value = {n: _objective(Z, task.y[train], w, C) for n, w in weights.items()}
        label = {n: _scores(held_out, w).argmax(axis=1) for n, w in weights.items()}
        others = [name for name in weights if name != "reference"]
        found.append(
            {
                "C": C,
                "gap": {n: value[n] / value["reference"] - 1 for n in others},
                "labels_differing": {
                    n: int((label[n] != label["reference"]).sum()) for n in others
                },
                "n_labels": len(test),
                "iterations": {n: weights[n][2] for n in solvers},
            }
        )
    return found


def describe_optima(optima: Sequence[dict[str, Any]]) -> list[str]:
    """Say, for each side, how far it is from the reference at worst, and penalty by penalty."""
    n_labels = optima[0]["n_labels"]
    lines = [
        "first fold against scikit-learn with tol 1e-8 in float64, gap and labels that differ:"
    ]
    for name in optima[0]["gap"]:
        gaps = [each["gap"][name] for each in optima]
        labels = [each["labels_differing"][name] for each in optima]
        lines.append(
            f"  {name}: largest gap {max(gaps):.1e}, at most {max(labels)} of {n_labels} labels"
        )
    lines.append("  gap of featurebench by C: " + _by_penalty(optima, "gap", "featurebench", ".0e"))
    lines.append(
        "  iterations of the reference: " + _by_penalty(optima, "iterations", "reference", "d")
    )
    return lines


def _by_penalty(optima: Sequence[dict[str, Any]], key: str, name: str, form: str) -> str:
    return ", ".join(f"{each['C']:.2g}: {each[key][name]:{form}}" for each in optima)


def _fit_all(
    X: Features, y: Codes, Cs: Sequence[float], solver: dict[str, Any], threads: int
) -> list[Weights]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fits: list[Weights] = Parallel(n_jobs=threads)(
            # the weak penalties take longest
            delayed(_fit)(X, y, C, solver)
            for C in sorted(Cs, reverse=True)
        )
    order = np.argsort(np.argsort([-C for C in Cs]))
    return [fits[place] for place in order]


def _fit(X: Features, y: Codes, C: float, solver: dict[str, Any]) -> Weights:
    model = LogisticRegression(C=C, **solver).fit(X, y)
    coef, intercept = (part.astype(np.float64) for part in (model.coef_, model.intercept_))
    return coef, intercept, int(model.n_iter_.max())


def _scores(Z: Floats, weights: Weights) -> Floats:
    coef, intercept, _ = weights
    scores: Floats = Z @ coef.T + intercept
    return scores


def _objective(Z: Floats, y: Codes, weights: Weights, C: float) -> float:
    scores = _scores(Z, weights)
    loss = (logsumexp(scores, axis=1) - scores[np.arange(len(y)), y]).sum()
    return float(loss + (weights[0] ** 2).sum() / (2 * C))
