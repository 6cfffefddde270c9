"""Scores of an arm in every fold, or with every seed, as dots in a table's rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featurebench.reporting.ranking import value_of
from featurebench.reporting.svg import Scale, arrow_at, at, element, padded, stretched

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

START, STOP = 1.5, 98.5
MIDDLE = "50%"


@dataclass(frozen=True)
class Strip:
    """One line of `Strips`: an arm's values and the one that sums them up."""

    arm: Mapping[str, Any]
    values: tuple[float, ...]
    value: float | None
    plot: Markup


@dataclass(frozen=True)
class Strips:
    """Strips on one scale, and the axis below them."""

    rows: tuple[Strip, ...]
    axis: Markup


def fold_scores_of(summary: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]) -> Strips:
    """Return every arm's values of the declared metric, a dot for each fold."""
    metric = summary["metric"]["name"]
    values = [
        [s["value"] for s in arm["fold_scores"] if s["metric"] == metric and s["value"] is not None]
        for arm in arms
    ]
    return strips(arms, values, [value_of(arm, metric) for arm in arms])


def seeds_strips(section: Mapping[str, Any] | None) -> Strips | None:
    """Return the scores of every arm that was trained with several seeds, a dot for each."""
    if section is None:
        return None
    values = [
        [s["value"] for s in arm["seeds"] if s["value"] is not None] for arm in section["arms"]
    ]
    return strips(section["arms"], values, [arm["mean"] for arm in section["arms"]])


def strips(
    arms: Sequence[Mapping[str, Any]],
    values: Sequence[Sequence[float]],
    centres: Sequence[float | None],
) -> Strips:
    """Lay the arms' values out on one scale.

    A baseline does not widen it, since it would squeeze all others; an arrow points to it.
    """
    rows = list(zip(arms, values, centres, strict=True))
    scale = strip_scale([row for row in rows if row[0].get("kind") != "baseline"] or rows)
    return Strips(
        tuple(
            Strip(arm, tuple(each), centre, _plot(each, centre, scale))
            for arm, each, centre in rows
        ),
        _axis(scale),
    )


def strip_scale(rows: Sequence[tuple[Any, Sequence[float], float | None]]) -> Scale:
    """Return the scale that holds all values of the rows."""
    ends = [v for _, each, centre in rows for v in (*each, centre) if v is not None]
    return Scale(*padded(ends or [0.0, 1.0]), START, STOP)


def _plot(values: Sequence[float], centre: float | None, scale: Scale) -> Markup:
    parts = [
        element("line", class_="grid", x1=at(scale(t)), x2=at(scale(t)), y1=0, y2="100%")
        for t in scale.ticks(6)
    ]
    inside = [v for v in values if scale.low <= v <= scale.high]
    parts += [element("circle", class_="dot", cx=at(scale(v)), cy=MIDDLE, r=4.5) for v in inside]
    if len(inside) < len(values):
        to_left = min(values) < scale.low
        parts.append(arrow_at(START if to_left else STOP, MIDDLE, to_left=to_left))
    if centre is not None and scale.low <= centre <= scale.high:
        x = at(scale(centre))
        bar = element("line", class_="mean", x1=x, x2=x, y1=-9, y2=9)
        parts.append(element("svg", bar, y=MIDDLE, overflow="visible", height=1, width="100%"))
    return stretched(*parts, class_="folds")


def _axis(scale: Scale) -> Markup:
    ticks = [
        element("text", f"{t:.3g}", class_="tick", x=at(scale(t)), y=13, text_anchor="middle")
        for t in scale.ticks(6)
    ]
    return stretched(*ticks, class_="axis-row")
