"""How the arms do with fewer labels: the learning curves as a plain dict."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.metrics import GREATER_IS_BETTER
from featurebench.reporting.formats import magnitude, metric_phrase
from featurebench.reporting.turning import turn_sentences, turning_point

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from featurebench.results import LearningCurve, SizeSummary

    Arm = Mapping[str, Any]

UNITS: Mapping[str, str] = {
    "patients": "patients",
    "tiles": "tiles",
    "shots": "tiles per class",
    "patient_shots": "tiles per class, of different patients",
}
"""What the sizes of each kind count."""


@dataclass(frozen=True)
class _Goal:
    """What the curves are about: a metric, and how near to full data is near enough."""

    metric: str
    margin: float

    @property
    def sign(self) -> int:
        return 1 if GREATER_IS_BETTER[self.metric] else -1


def learning_section(
    curves: Sequence[LearningCurve], *, arms: Sequence[Arm], metric: str, margin: float
) -> dict[str, Any] | None:
    """Return the curves by what they count; None if there are none.

    Parameters
    ----------
    curves
        In any order; those of arms that are not in the report are left out.
    arms
        The summary's arms.
    metric
        The declared one. Where a curve lacks it, the first that all curves have stands for it.
    margin
        Distance from the full-data value that counts as reached, in the metric's unit; 0 where
        none was declared.
    """
    by_arm = {curve.arm: curve for curve in curves}
    shown = [(arm, by_arm[arm["id"]]) for arm in arms if arm["id"] in by_arm]
    common = _common_metrics([curve for _, curve in shown])
    if not common:
        return None
    # a margin is in the units of the metric that it was declared for
    goal = _Goal(metric, margin) if metric in common else _Goal(common[0], 0.0)
    shown.sort(key=lambda pair: _rank(full_value(pair[0]["fold_scores"], goal.metric), goal))
    panels = [_panel(kind, shown, goal) for kind in UNITS]
    panels = [panel for panel in panels if panel["arms"]]
    for panel in panels:
        panel["crossing"] = turning_point(panel, shown, metric=goal.metric, sign=goal.sign)
    return {
        "metric": goal.metric,
        "margin": goal.margin,
        "full_tiles": shown[0][1].full_tiles,
        "full_patients": shown[0][1].full_patients,
        "draws": shown[0][1].settings.get("draws"),
        "sentences": [
            text for panel in panels for text in (*_sentences(panel, goal), *turn_sentences(panel))
        ],
        "panels": panels,
        "left_out": [
            {"arm": arm["label"], "unit": UNITS.get(each.kind, each.kind)} | asdict(each)
            for arm, curve in shown
            for each in curve.left_out
        ],
    }


def full_value(fold_scores: Iterable[Mapping[str, Any]], metric: str) -> float | None:
    """Return an arm's value with all labels: the mean over folds of a repeat, then over repeats.

    A curve's points are averaged in the same way, so the two can be compared.
    """
    by_repeat: dict[int, list[float]] = {}
    for score in fold_scores:
        value = score["value"]
        if score["metric"] == metric and value is not None and not math.isnan(value):
            by_repeat.setdefault(score["repeat"], []).append(value)
    if not by_repeat:
        return None
    return float(np.mean([np.mean(values) for values in by_repeat.values()]))


def reached_from(
    points: Sequence[SizeSummary], full: float | None, *, margin: float, sign: int
) -> int | None:
    """Return the size from which on every size is within the margin of the full-data value.

    Parameters
    ----------
    points
        Of one kind, sizes ascending.
    sign
        1 where a larger value of the metric is better, else -1.

    Returns
    -------
    int or None
        None if the largest size is not within the margin, or the full-data value is undefined.
    """
    reached = None
    for point in reversed(points):
        # A value exactly at the margin is within it, whatever its rounding.
        if full is None or not sign * (point.value - full) >= -margin - 1e-9:
            break
        reached = point.size
    return reached


def _common_metrics(curves: Sequence[LearningCurve]) -> list[str]:
    first = curves[0].metrics if curves else ()
    return [name for name in first if all(name in curve.metrics for curve in curves)]


def _rank(value: float | None, goal: _Goal) -> tuple[bool, float]:
    return (value is None, 0.0 if value is None else -goal.sign * value)


def _panel(kind: str, shown: Sequence[tuple[Arm, LearningCurve]], goal: _Goal) -> dict[str, Any]:
    rows = []
    for arm, curve in shown:
        points = [point for point in curve.by_size(goal.metric) if point.kind == kind]
        if not points:
            continue
        full = full_value(arm["fold_scores"], goal.metric)
        rows.append(
            {key: arm[key] for key in ("id", "label", "kind", "method", "source")}
            | {
                "full": full,
                "reached": reached_from(points, full, margin=goal.margin, sign=goal.sign),
                "points": [asdict(point) for point in points],
            }
        )
    sizes = sorted({point["size"] for row in rows for point in row["points"]})
    return {"kind": kind, "unit": UNITS[kind], "sizes": sizes, "arms": rows}


def _sentences(panel: Mapping[str, Any], goal: _Goal) -> Iterator[str]:
    """Say of the best arm, by its full-data value, how few labels come near that value."""
    best = panel["arms"][0]
    if best["full"] is None:
        return
    near = f"its full-data {metric_phrase(goal.metric)}"
    at = f"at {near}"
    if goal.margin:
        near = at = f"within {magnitude(goal.margin, goal.metric)} of {near}"
    if best["reached"] is not None:
        yield f"{best['label']} reaches {near} with {best['reached']} {panel['unit']}."
        return
    most = best["points"][-1]["size"]
    yield f"{best['label']} is not yet {at} with {most} {panel['unit']}."
