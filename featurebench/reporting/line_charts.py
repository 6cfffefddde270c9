"""Charts of lines over sizes and stages: few labels, and how far fine-tuning moved the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featurebench.reporting import drift_chart, learning_chart
from featurebench.reporting.legend import swatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEARNING_LINES = 5


def learning_panels(section: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the chart of each kind of size, with its legend; of many arms the best ones only."""
    if section is None:
        return []
    found = []
    for panel in section["panels"]:
        drawn = panel["arms"][:LEARNING_LINES]
        lines = [_learning_line(arm, colour) for colour, arm in enumerate(drawn)]
        chart = learning_chart.learning(lines, metric=section["metric"], unit=panel["unit"])
        legend = [(swatch(line.colour, line=True), line.label) for line in lines]
        found.append({"panel": panel, "chart": chart, "legend": legend})
    return found


def _learning_line(arm: Mapping[str, Any], colour: int) -> learning_chart.LearningLine:
    points = [point for point in arm["points"] if point["value"] is not None]
    return learning_chart.LearningLine(
        label=arm["label"],
        colour=colour,
        sizes=tuple(point["size"] for point in points),
        values=tuple(point["value"] for point in points),
        low=tuple(point["spread_low"] for point in points),
        high=tuple(point["spread_high"] for point in points),
        full=arm["full"],
    )


def drift_panels(
    section: Mapping[str, Any] | None, ranked: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the chart of each sequence of stages; of many arms the best ones only."""
    if section is None:
        return []
    places = {arm["id"]: place for place, arm in enumerate(ranked)}
    found = []
    for panel in section["panels"]:
        arms = sorted(panel["arms"], key=lambda arm: places[arm["id"]])
        lines = [_drift_line(arm, colour) for colour, arm in enumerate(arms[:LEARNING_LINES])]
        sources = dict.fromkeys(arm["source"] or arm["label"] for arm in arms)
        found.append(
            {
                "title": ", ".join(sources),
                "stages": panel["stages"],
                "arms": arms,
                "chart": drift_chart.drift(lines, panel["stages"]),
                "legend": [(swatch(line.colour, line=True), line.label) for line in lines],
            }
        )
    return found


def _drift_line(arm: Mapping[str, Any], colour: int) -> drift_chart.DriftLine:
    values, low, high = (
        tuple(point[key] for point in arm["points"]) for key in ("value", "low", "high")
    )
    return drift_chart.DriftLine(arm["label"], colour, values, low, high)
