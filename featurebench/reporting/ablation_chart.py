"""The charts of a sweep: scores along one key, a mark per value of a second, panels of others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from featurebench.reporting import formats
from featurebench.reporting.ablation import key_text
from featurebench.reporting.svg import (
    Attributes,
    Scale,
    element,
    framed,
    padded,
    polyline,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from markupsafe import Markup

WIDTH, HEIGHT = 400.0, 264.0
LEFT, TOP, RIGHT, BOTTOM = 40.0, 24.0, 6.0, 56.0
LETTER = 6.3
# Marks of one place stand so far apart, at most, and within this share of the place.
DODGE, SHARE = 16.0, 0.7
COLOURS, SHAPES = 8, 4
# Strategies that differ in how deep the network learns, so that a line between them says something.
_DEPTH = re.compile(r"^(head|full|(last|from):.+)$")


@dataclass(frozen=True)
class Series:
    """Marks of one value of the second key; None where a combination has no score."""

    label: str
    number: int
    values: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True)
class Axes:
    """What all panels of a sweep share: names at the axes, places, and the range of scores."""

    metric: str
    x: str
    places: tuple[str, ...]
    ends: tuple[float, float]
    best: float


def sweeps(section: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return each sweep of the summary's section with its charts and their legend."""
    if section is None:
        return []
    return [
        {
            "design": design,
            "panels": sweep_panels(design, section["metric"]),
            "legend": sweep_legend(design),
        }
        for design in section["designs"]
    ]


def sweep_panels(design: Mapping[str, Any], metric: str) -> list[dict[str, Any]]:
    """Return the charts of one design, each with its title and its legend.

    All have the same axes, so that they can be compared by eye.
    """
    keys = {key["name"]: key for key in design["keys"]}
    axes, shared = design["axes"], _shared_axes(design, keys[design["axes"]["x"]], metric)
    panels: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in design["rows"]:
        panels.setdefault(tuple(row["values"][key] for key in axes["panels"]), []).append(row)
    second = axes["series"]
    found = []
    for values, rows in panels.items():
        names = keys[second]["values"] if second else [""]
        lines = [
            _series(name, i, [r for r in rows if not second or r["values"][second] == name], shared)
            for i, name in enumerate(names)
        ]
        named = zip(axes["panels"], values, strict=True)
        title = ", ".join(f"{keys[key]['label']} {value}" for key, value in named)
        found.append({"title": title, "chart": sweep(lines, shared, title)})
    return found


def sweep_legend(design: Mapping[str, Any]) -> list[tuple[Markup, str]]:
    """Return the mark of each value of the second key; empty where there is none."""
    second = design["axes"]["series"]
    key = next((key for key in design["keys"] if key["name"] == second), None)
    if key is None:
        return []
    size: Attributes = {"width": 12, "height": 12, "aria_hidden": "true"}
    return [
        (element("svg", _mark(6, 6, i), class_="swatch ablation", **size), value)
        for i, value in enumerate(key["values"])
    ]


def sweep(lines: Sequence[Series], axes: Axes, title: str) -> Markup:
    """Return one panel; marks are joined where the axis is one of numbers, or of depth."""
    ys = Scale(*axes.ends, HEIGHT - BOTTOM, TOP)
    slot = (WIDTH - LEFT - RIGHT) / len(axes.places)
    apart = min(DODGE, SHARE * slot / len(lines))
    parts = [*_frame(axes, ys, slot)]
    for i, line in enumerate(lines):
        shift = apart * (i - (len(lines) - 1) / 2)
        xs = [LEFT + slot * (place + 0.5) + shift for place in range(len(axes.places))]
        parts.append(_line(line, xs, ys, axes))
    label = f"{formats.metric_label(axes.metric)} by {key_text(axes.x)}"
    told = f"{label}, {title}" if title else label
    return framed(*parts, width=WIDTH, height=HEIGHT, label=told, class_="ablation")


def _shared_axes(design: Mapping[str, Any], x: Mapping[str, Any], metric: str) -> Axes:
    rows = [row for row in design["rows"] if row["value"] is not None]
    ends = [row[key] for row in rows for key in ("value", "ci_low", "ci_high")]
    return Axes(
        metric=metric,
        x=x["name"],
        places=tuple(x["values"]),
        ends=padded([end for end in ends if end is not None]),
        best=next(row["value"] for row in rows if row["is_best"]),
    )


def _series(label: str, number: int, rows: Sequence[Mapping[str, Any]], axes: Axes) -> Series:
    by_place = {row["values"][axes.x]: row for row in rows}
    values, low, high = (
        tuple(by_place.get(place, {}).get(key) for place in axes.places)
        for key in ("value", "ci_low", "ci_high")
    )
    return Series(label, number, values, low, high)


def _frame(axes: Axes, ys: Scale, slot: float) -> Iterator[Markup]:
    base = HEIGHT - BOTTOM
    for tick in ys.ticks(7):
        y = ys(tick)
        yield element("line", class_="grid", x1=LEFT, x2=WIDTH, y1=y, y2=y)
        yield element("text", f"{tick:.3g}", class_="tick", x=LEFT - 5, y=y + 4, text_anchor="end")
    yield element("line", class_="axis", x1=LEFT, x2=WIDTH, y1=base, y2=base)
    yield element("text", formats.metric_label(axes.metric), class_="direction", x=0, y=12)
    yield element(
        "text", key_text(axes.x), class_="direction", x=WIDTH, y=HEIGHT - 6, text_anchor="end"
    )
    yield from _places(axes.places, slot)


def _places(places: Sequence[str], slot: float) -> Iterator[Markup]:
    """Write the values at the axis, in two lines by turns where one has not the room."""
    turns = 2 if max(map(len, places)) * LETTER > slot else 1
    room = int(turns * slot / LETTER)
    base = HEIGHT - BOTTOM
    for i, name in enumerate(places):
        x = LEFT + slot * (i + 0.5)
        y = base + 16 + 14 * (i % turns)
        text = formats.shorten(name, max(room, 3))
        title = element("title", name)
        yield element("line", class_="axis", x1=x, x2=x, y1=base, y2=base + 4)
        yield element("text", title, text, class_="tick", x=x, y=y, text_anchor="middle")


def _line(line: Series, xs: Sequence[float], ys: Scale, axes: Axes) -> Markup:
    colour = f"s{line.number % COLOURS}"
    known = [
        (x, ys(value)) if value is not None else None
        for x, value in zip(xs, line.values, strict=True)
    ]
    parts = [element("title", line.label)] if line.label else []
    joined = [
        _is_joined(place) and at is not None for place, at in zip(axes.places, known, strict=True)
    ]
    for is_joined, stretch in groupby(range(len(xs)), key=lambda i: joined[i]):
        points = [at for i in stretch if (at := known[i]) is not None]
        if is_joined and len(points) > 1:
            parts.append(element("path", class_=f"line {colour}", d=polyline(points)))
    for at, value, low, high in zip(known, line.values, line.low, line.high, strict=True):
        if at is None:
            continue
        x, y = at
        if low is not None and high is not None:
            ends: Attributes = {"x1": x, "x2": x, "y1": ys(low), "y2": ys(high)}
            parts.append(element("line", class_=f"spread {colour}", **ends))
        if value == axes.best:
            parts.append(element("circle", class_="ring", cx=x, cy=y, r=7.5))
        parts.append(_mark(x, y, line.number))
    return element("g", *parts)


def _is_joined(place: str) -> bool:
    try:
        float(place)
    except ValueError:
        return bool(_DEPTH.match(place))
    return True


def _mark(x: float, y: float, number: int) -> Markup:
    """Return a series' mark: its shape tells it where colours do not."""
    class_ = f"dot s{number % COLOURS}"
    shape = number % SHAPES
    if shape == 0:
        return element("circle", class_=class_, cx=x, cy=y, r=3.8)
    corners = {
        1: ((-3.4, -3.4), (3.4, -3.4), (3.4, 3.4), (-3.4, 3.4)),
        2: ((0, -5), (4.6, 3.6), (-4.6, 3.6)),
        3: ((0, -5), (5, 0), (0, 5), (-5, 0)),
    }[shape]
    path = polyline((float(x + dx), float(y + dy)) for dx, dy in corners)
    return element("path", class_=class_, d=f"{path}Z")
