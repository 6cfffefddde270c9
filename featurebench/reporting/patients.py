"""The primary contrast patient by patient: for how many of them which arm does better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.comparison.contributions import LINEAR, tile_contributions
from featurebench.metrics import GREATER_IS_BETTER, tile_losses
from featurebench.stats import patient_split_components

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from featurebench.comparison.design import Design
    from featurebench.results import RunResult

    Floats = npt.NDArray[np.float64]
    Pair = tuple[RunResult, RunResult]

# Differences that agree in exact arithmetic are ties.
_TIE = 1e-9
PARTS = ("patients", "splits", "seeds", "residual")


def patients_section(
    design: Design, pair: Pair, metric: str, replicas: Sequence[RunResult] = ()
) -> dict[str, Any] | None:
    """Return the difference between two arms for each patient; None where none are known.

    Where the metric is a mean over tiles, a patient's difference is the mean over its tiles with
    the weights that the metric gives them; for every other metric it is that of the share of tiles
    called right. Patients are in ascending order of their difference and are not named.

    Parameters
    ----------
    design
        Folds and patients.
    pair
        The arm and the reference; repeats that both have are averaged.
    metric
        The declared one.
    replicas
        The arm's runs with other seeds; only the components of variance use them.

    Returns
    -------
    dict or None
        ``metric`` of the differences, ``values`` (arm minus reference, in its unit), how many are
        ``n_better``, ``n_equal`` and ``n_worse`` for the arm, ``share_better`` with ties counted
        half, and the ``components`` of their variance, as of `components`.
    """
    if design.unit != "patients":
        return None
    of = metric if metric in LINEAR else "accuracy"
    n_repeats = min(run.n_repeats for run in pair)
    values = patient_differences(design, pair, of, n_repeats)
    gains = values if GREATER_IS_BETTER[of] else -values
    n_better, n_worse = int(np.sum(gains > _TIE)), int(np.sum(gains < -_TIE))
    n_equal = len(values) - n_better - n_worse
    return {
        "arm": pair[0].arm,
        "reference": pair[1].arm,
        "metric": of,
        "greater_is_better": GREATER_IS_BETTER[of],
        "n_repeats": n_repeats,
        "values": [round(float(value), 5) for value in np.sort(values)],
        "n_better": n_better,
        "n_equal": n_equal,
        "n_worse": n_worse,
        "share_better": (n_better + n_equal / 2) / len(values),
        "components": components(design, pair, of, replicas),
    }


def patient_differences(design: Design, pair: Pair, metric: str, n_repeats: int) -> Floats:
    """Return arm minus reference for each tested patient, shape (n_units,), in their order."""
    parts, shares = tile_contributions(design, pair, metric, n_repeats)
    weight = shares.mean(axis=1)
    tested = weight > 0
    return np.asarray(parts.mean(axis=1)[tested] / weight[tested], dtype=np.float64)


def components(
    design: Design, pair: Pair, metric: str, replicas: Sequence[RunResult] = ()
) -> dict[str, Any] | None:
    """Split the variance of one patient's difference in one split into folds, with one seed.

    Returns
    -------
    dict or None
        ``sd`` of a single difference; of each part that could be told apart its standard
        deviation in ``sds`` and its share of the variance in ``shares``; numbers of patients,
        repeats and seeds. None with one repeat and one seed, or where nothing varies.
    """
    arms, reference = [pair[0], *replicas], pair[1]
    n_repeats = min(run.n_repeats for run in (*arms, reference))
    if n_repeats == 1:
        n_repeats = min(run.n_repeats for run in pair)
        arms = arms if n_repeats == 1 else [pair[0]]
    table = np.array(
        [
            [_of_repeat(design, (arm, reference), metric, repeat) for repeat in range(n_repeats)]
            for arm in arms
        ]
    )
    variances = _variances(table)
    total = sum(variances.values())
    if not total > 0:
        return None
    return {
        "sd": float(np.sqrt(total)),
        "sds": {key: float(np.sqrt(variance)) for key, variance in variances.items()},
        "shares": {key: variance / total for key, variance in variances.items()},
        "n_patients": int(np.sum(~np.isnan(table).any(axis=(0, 1)))),
        "n_repeats": n_repeats,
        "n_seeds": len(arms),
    }


def _variances(table: Floats) -> dict[str, float]:
    """Return the parts that a table of seeds, repeats and patients can tell apart."""
    n_seeds, n_repeats, _ = table.shape
    if n_seeds == n_repeats == 1:
        return {}
    if n_repeats == 1:
        found = patient_split_components(table[:, 0])
        parts = {"patients": found.patients, "seeds": found.splits, "residual": found.residual}
    else:
        found = patient_split_components(table)
        parts = {key: float(getattr(found, key)) for key in PARTS}
    return {key: value for key, value in parts.items() if not np.isnan(value)}


def _of_repeat(design: Design, pair: Pair, metric: str, repeat: int) -> Floats:
    """Return the patients' mean differences in one repeat; NaN where a patient is not tested."""
    rows = design.rows(repeat)
    y_true, units = design.y_true[rows], design.clusters[rows]
    first, second = (_tile_values(metric, y_true, run.y_prob[repeat, rows]) for run in pair)
    sums = np.bincount(units, first - second, minlength=design.n_units)
    counts = np.bincount(units, minlength=design.n_units)
    found = np.full(design.n_units, np.nan)
    np.divide(sums, counts, out=found, where=counts > 0)
    return found


def _tile_values(
    metric: str, y_true: npt.NDArray[np.int64], y_prob: npt.NDArray[np.float32]
) -> Floats:
    if metric in {"log_loss", "brier"}:
        return tile_losses(metric, y_true, y_prob)
    return np.asarray(y_prob.argmax(axis=1) == y_true, dtype=np.float64)
