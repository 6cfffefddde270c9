"""Charts of fixed proportions: ROC and calibration curves, confusion matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurebench.reporting import formats
from featurebench.reporting.svg import Attributes, Scale, element, framed, polyline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

SIDE = 300.0
LEFT, TOP, BOTTOM = 44.0, 8.0, 36.0
PLOT = SIDE - LEFT - 8.0


@dataclass(frozen=True)
class Series:
    """One line of a plot with its colour's number; ``weights`` size the dots of `calibration`."""

    label: str
    colour: int
    x: tuple[float, ...]
    y: tuple[float, ...]
    weights: tuple[float, ...] = ()


def roc(series: Sequence[Series], *, label: str) -> Markup:
    """Return ROC curves in the unit square with the diagonal of chance."""
    x, y = unit_scales()
    lines = [
        element(
            "path",
            element("title", s.label),
            class_=f"line s{s.colour} d{s.colour}",
            d=polyline((x(a), y(b)) for a, b in zip(s.x, s.y, strict=True)),
        )
        for s in series
    ]
    frame = _unit_axes("1 − specificity", "sensitivity")
    return _square(*frame, *lines, label=label, class_="roc")


def calibration(series: Sequence[Series], *, label: str, x_axis: str, y_axis: str) -> Markup:
    """Return observed against predicted frequency; a dot's area is the bin's share of tiles."""
    x, y = unit_scales()
    parts = []
    for s in series:
        places = [(x(a), y(b)) for a, b in zip(s.x, s.y, strict=True)]
        line = element("path", class_=f"line s{s.colour} d{s.colour}", d=polyline(places))
        heaviest = max(s.weights, default=1.0) or 1.0
        dots = [
            element(
                "circle", class_=f"dot s{s.colour}", cx=a, cy=b, r=1.5 + 3.5 * (w / heaviest) ** 0.5
            )
            for (a, b), w in zip(places, s.weights, strict=True)
        ]
        parts.append(element("g", element("title", s.label), line, *dots))
    return _square(*_unit_axes(x_axis, y_axis), *parts, label=label, class_="calibration")


def unit_scales() -> tuple[Scale, Scale]:
    """Return the scales of the unit square of `roc` and `calibration`."""
    return Scale(0, 1, LEFT, LEFT + PLOT), Scale(0, 1, TOP + PLOT, TOP)


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], *, label: str) -> Markup:
    """Return a heat map: rows are the true classes, shade and per cent are shares of the row."""
    n = len(classes)
    cell = max(24.0, min(76.0, 240.0 / n))
    left, top, width = 88.0, 36.0, 88.0 + n * cell + 2
    parts = [_corner(left)]
    parts += [
        element("text", formats.shorten(name, max(3, int(cell // 6.5))), class_="tick", y=top - 6,
                x=left + (j + 0.5) * cell, text_anchor="middle")
        for j, name in enumerate(classes)
    ]  # fmt: skip
    for i, row in enumerate(matrix):
        y = top + i * cell
        name = formats.shorten(classes[i], 12)
        parts.append(
            element("text", name, class_="tick", x=left - 8, y=y + cell / 2 + 4, text_anchor="end")
        )
        total = sum(row) or 1
        parts += [
            _cell(number, number / total, left + j * cell, y, cell) for j, number in enumerate(row)
        ]
    height = top + n * cell + 2
    return framed(*parts, width=width, height=height, label=label, class_="confusion")


def _corner(left: float) -> Markup:
    arrow = element("text", "true ↓", class_="direction", x=left - 8, y=30, text_anchor="end")
    return element("g", arrow, element("text", "predicted →", class_="direction", x=left, y=12))


def _cell(number: int, share: float, x: float, y: float, size: float) -> Markup:
    box: Attributes = {"x": x, "y": y, "width": size, "height": size}
    middle: Attributes = {"x": x + size / 2, "text_anchor": "middle"}
    parts = [element("rect", class_="cell", fill_opacity=round(0.75 * share, 2), **box)]
    if size >= 44:
        parts += [
            element("text", formats.count(number), class_="count", y=y + size / 2 - 1, **middle),
            element("text", formats.percent(share), class_="share", y=y + size / 2 + 14, **middle),
        ]
    elif size >= 28:
        parts.append(element("text", str(number), class_="share", y=y + size / 2 + 4, **middle))
    return element("g", element("title", f"{number} ({formats.percent(share)})"), *parts)


def _unit_axes(x_label: str, y_label: str) -> list[Markup]:
    x, y = unit_scales()
    base = TOP + PLOT
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        text = f"{tick:g}"
        parts += [
            element("line", class_="grid", x1=x(tick), x2=x(tick), y1=TOP, y2=base),
            element("line", class_="grid", x1=LEFT, x2=LEFT + PLOT, y1=y(tick), y2=y(tick)),
            element("text", text, class_="tick", x=x(tick), y=base + 14, text_anchor="middle"),
        ]
        if tick not in (0.0,):
            parts.append(
                element("text", text, class_="tick", x=LEFT - 5, y=y(tick) + 4, text_anchor="end")
            )
    parts.append(element("path", class_="chance", d=polyline([(x(0), y(0)), (x(1), y(1))])))
    middle: Attributes = {"text_anchor": "middle", "class_": "direction"}
    parts.append(element("text", x_label, x=x(0.5), y=base + 29, **middle))
    turn = f"rotate(-90 {9} {y(0.5):.0f})"
    parts.append(element("text", y_label, x=9, y=y(0.5), transform=turn, **middle))
    return parts


def _square(*parts: Markup, label: str, class_: str) -> Markup:
    height = TOP + PLOT + BOTTOM
    return framed(*parts, width=SIDE, height=height, label=label, class_=class_)
