"""The chart of scores against the number of labels, one line per arm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurebench.reporting import formats
from featurebench.reporting.svg import Attributes, Scale, element, framed, padded, polyline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

WIDTH, HEIGHT = 400.0, 300.0
LEFT, TOP, RIGHT, BOTTOM = 44.0, 22.0, 14.0, 40.0
TICK_ROOM = 26.0
# So many pixels the whiskers of neighbouring arms stand apart.
DODGE = 3.0


@dataclass(frozen=True)
class LearningLine:
    """One arm of `learning`: its values at some sizes, their spread, and the full-data value."""

    label: str
    colour: int
    sizes: tuple[int, ...]
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    full: float | None


def learning(lines: Sequence[LearningLine], *, metric: str, unit: str) -> Markup:
    """Return scores against sizes (logarithmic), the full-data value of each arm dashed."""
    sizes = sorted({size for line in lines for size in line.sizes})
    xs = Scale(sizes[0], sizes[-1], LEFT + 14, WIDTH - RIGHT - 10, log=True)
    ends = [v for line in lines for v in (*line.low, *line.high, *line.values)]
    ends += [line.full for line in lines if line.full is not None]
    ys = Scale(*padded(ends), HEIGHT - BOTTOM, TOP)
    parts = [*_axes(xs, ys, sizes, metric, unit)]
    parts += [_full(line, ys) for line in lines if line.full is not None]
    for i, line in enumerate(lines):
        parts.append(_line(line, xs, ys, DODGE * (i - (len(lines) - 1) / 2)))
    label = f"{formats.metric_label(metric)} against the number of {unit} trained on"
    return framed(*parts, width=WIDTH, height=HEIGHT, label=label, class_="learning")


def spaced(sizes: Sequence[int], xs: Scale, room: float = TICK_ROOM) -> list[int]:
    """Return the sizes to be written at the axis: the largest, and others with room between."""
    kept: list[int] = []
    for size in reversed(sizes):
        if not kept or xs(kept[-1]) - xs(size) >= room:
            kept.append(size)
    return kept[::-1]


def _axes(xs: Scale, ys: Scale, sizes: Sequence[int], metric: str, unit: str) -> list[Markup]:
    base = HEIGHT - BOTTOM
    parts = []
    for tick in ys.ticks(5):
        y = ys(tick)
        parts += [
            element("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y),
            element("text", f"{tick:.3g}", class_="tick", x=LEFT - 5, y=y + 4, text_anchor="end"),
        ]
    for size in spaced(sizes, xs):
        x = xs(size)
        parts += [
            element("line", class_="axis", x1=x, x2=x, y1=base, y2=base + 4),
            element("text", str(size), class_="tick", x=x, y=base + 16, text_anchor="middle"),
        ]
    title = formats.metric_label(metric)
    parts += [
        element("line", class_="axis", x1=LEFT, x2=WIDTH - RIGHT, y1=base, y2=base),
        element("text", title, class_="direction", x=0, y=12),
        element("text", unit, class_="direction", x=WIDTH - RIGHT, y=base + 33, text_anchor="end"),
    ]
    return parts


def _full(line: LearningLine, ys: Scale) -> Markup:
    y = ys(line.full or 0.0)
    title = element("title", f"{line.label}, all labels: {formats.score(line.full)}")
    across: Attributes = {"x1": LEFT, "x2": WIDTH - RIGHT, "y1": y, "y2": y}
    return element("line", title, class_=f"full s{line.colour}", **across)


def _line(line: LearningLine, xs: Scale, ys: Scale, shift: float) -> Markup:
    places = [(xs(s) + shift, ys(v)) for s, v in zip(line.sizes, line.values, strict=True)]
    colour = f"s{line.colour}"
    parts = [
        element("title", line.label),
        element("path", class_=f"line {colour} d{line.colour}", d=polyline(places)),
    ]
    for (x, y), low, high in zip(places, line.low, line.high, strict=True):
        parts += [
            element("line", class_=f"spread {colour}", x1=x, x2=x, y1=ys(low), y2=ys(high)),
            element("circle", class_=f"dot {colour}", cx=x, cy=y, r=3),
        ]
    return element("g", *parts)
