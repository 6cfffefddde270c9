"""The chart of a network's likeness to its start at each stage, one line per arm."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from featurebench.reporting import formats
from featurebench.reporting.svg import Attributes, Scale, element, framed, polyline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

WIDTH, HEIGHT = 400.0, 240.0
LEFT, TOP, RIGHT, BOTTOM = 36.0, 24.0, 22.0, 40.0
LETTER, GAP = 6.0, 8.0
# So many pixels the whiskers of neighbouring arms stand apart.
DODGE = 3.0


@dataclass(frozen=True)
class DriftLine:
    """One arm of `drift`: mean, lowest and highest value at each stage; None where undefined."""

    label: str
    colour: int
    values: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


def drift(lines: Sequence[DriftLine], stages: Sequence[str]) -> Markup:
    """Return CKA from the first stage to the last; a line breaks where it is undefined.

    The axis always shows 0 to 1, so that charts of different networks can be compared by eye.
    """
    lowest = min([0.0, *(v for line in lines for v in line.low if v is not None)])
    ys = Scale(lowest, 1.0, HEIGHT - BOTTOM, TOP)
    xs = Scale(0, len(stages) - 1, LEFT + 18, WIDTH - RIGHT)
    parts = [*_axes(xs, ys, stages)]
    for i, line in enumerate(lines):
        parts.append(_line(line, xs, ys, DODGE * (i - (len(lines) - 1) / 2)))
    label = "Likeness of the features to those before fine-tuning, from the first stage to the last"
    return framed(*parts, width=WIDTH, height=HEIGHT, label=label, class_="drift")


def stage_ticks(stages: Sequence[str], xs: Scale) -> list[tuple[int, str]]:
    """Return the stages to be written at the axis: the last, and others with room between.

    Of a dotted name the last part is written if it says more than a number.
    """
    kept: list[tuple[int, str]] = []
    for i in reversed(range(len(stages))):
        name = stages[i].rpartition(".")[2]
        text = formats.shorten(stages[i] if name.isdigit() else name, 14)
        room = LETTER * (len(text) + len(kept[-1][1])) / 2 + GAP if kept else 0.0
        if not kept or xs(kept[-1][0]) - xs(i) >= room:
            kept.append((i, text))
    return kept[::-1]


def _axes(xs: Scale, ys: Scale, stages: Sequence[str]) -> list[Markup]:
    base = HEIGHT - BOTTOM
    parts = []
    for tick in ys.ticks(5):
        y = ys(tick)
        parts += [
            element("line", class_="grid", x1=LEFT, x2=WIDTH, y1=y, y2=y),
            element("text", f"{tick:.3g}", class_="tick", x=LEFT - 5, y=y + 4, text_anchor="end"),
        ]
    for i, text in stage_ticks(stages, xs):
        name = element("title", stages[i])
        place: Attributes = {"x": xs(i), "y": base + 16, "text_anchor": "middle"}
        parts.append(element("text", name, text, class_="tick", **place))
    for i in range(len(stages)):
        parts.append(element("line", class_="axis", x1=xs(i), x2=xs(i), y1=base, y2=base + 4))
    deeper: Attributes = {"x": WIDTH, "y": base + 33, "text_anchor": "end"}
    return [
        *parts,
        element("line", class_="axis", x1=LEFT, x2=WIDTH, y1=base, y2=base),
        element("text", "CKA to the frozen network", class_="direction", x=0, y=12),
        element("text", "deeper →", class_="direction", **deeper),
    ]


def _line(line: DriftLine, xs: Scale, ys: Scale, shift: float) -> Markup:
    colour = f"s{line.colour}"
    places = [
        None if value is None else (xs(i) + shift, ys(value)) for i, value in enumerate(line.values)
    ]
    parts = [element("title", line.label)]
    for is_gap, stretch in groupby(places, key=lambda place: place is None):
        if not is_gap:
            path = polyline(place for place in stretch if place is not None)
            parts.append(element("path", class_=f"line {colour} d{line.colour}", d=path))
    for place, low, high in zip(places, line.low, line.high, strict=True):
        if place is None or low is None or high is None:
            continue
        x, y = place
        parts += [
            element("line", class_=f"spread {colour}", x1=x, x2=x, y1=ys(low), y2=ys(high)),
            element("circle", class_=f"dot {colour}", cx=x, cy=y, r=3),
        ]
    return element("g", *parts)
