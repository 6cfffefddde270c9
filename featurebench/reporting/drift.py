"""How far fine-tuning moved each network from its start, by stage, as a plain dict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from featurebench.results import RunResult

    Arm = Mapping[str, Any]
    Folds = Sequence[Mapping[str, float | None]]


def drift_section(runs: Iterable[RunResult], *, arms: Sequence[Arm]) -> dict[str, Any] | None:
    """Return linear CKA by stage; None where no run has it.

    Parameters
    ----------
    runs
        Those with ``cka`` in the ``details`` of their folds are shown.
    arms
        The summary's arms.

    Returns
    -------
    dict or None
        ``panels``, one per sequence of stages, so one per architecture or kin: ``stages`` and
        ``arms``, each with its ``points`` in the order of the stages (``value``, the mean over
        folds, ``low`` and ``high``, their range; None where undefined) and its ``n_folds``.
    """
    found = {run.arm: _folds(run) for run in runs}
    panels: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for arm in arms:
        folds = found.get(arm["id"])
        if not folds:
            continue
        stages = tuple(dict.fromkeys(stage for fold in folds for stage in fold))
        row = {key: arm[key] for key in ("id", "label", "method", "source")}
        row |= {"n_folds": len(folds), "points": [_point(stage, folds) for stage in stages]}
        panels.setdefault(stages, []).append(row)
    if not panels:
        return None
    return {
        "panels": [{"stages": list(stages), "arms": rows} for stages, rows in panels.items()],
    }


def _folds(run: RunResult) -> Folds:
    return [fold["cka"] for fold in run.details.get("folds", ()) if fold.get("cka")]


def _point(stage: str, folds: Folds) -> dict[str, Any]:
    values = [value for fold in folds if (value := fold.get(stage)) is not None]
    if not values:
        return {"stage": stage, "value": None, "low": None, "high": None}
    return {
        "stage": stage,
        "value": float(np.mean(values)),
        "low": min(values),
        "high": max(values),
    }
