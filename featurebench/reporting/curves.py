"""Charts of fixed proportions: ROC, precision-recall and calibration curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurebench.reporting.svg import Attributes, Scale, element, framed, polyline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

SIDE = 300.0
LEFT, TOP, BOTTOM = 44.0, 8.0, 36.0
PLOT = SIDE - LEFT - 8.0


@dataclass(frozen=True)
class Series:
    """One line of a plot with its colour's number.

    ``weights`` size the dots of `calibration`; ``low`` and ``high`` are the edges of a band, or
    the ends of a dot's interval, None where it has none.
    """

    label: str
    colour: int
    x: tuple[float, ...]
    y: tuple[float, ...]
    weights: tuple[float, ...] = ()
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()


def roc(series: Sequence[Series], *, label: str) -> Markup:
    """Return ROC curves in the unit square with their bands and the diagonal of chance."""
    frame = _unit_axes("1 − specificity", "sensitivity")
    return _square(*frame, _chance((0, 0), (1, 1)), *_lines(series), label=label, class_="roc")


def precision_recall(series: Sequence[Series], *, label: str, prevalence: float) -> Markup:
    """Return precision-recall curves with their bands and the level of chance."""
    frame = _unit_axes("recall", "precision")
    chance = _chance((0, prevalence), (1, prevalence))
    return _square(*frame, chance, *_lines(series), label=label, class_="roc")


def _lines(series: Sequence[Series]) -> list[Markup]:
    """Return the bands below the lines, so that no band hides a line.

    Where some lines have a band, those without are thinner.
    """
    x, y = unit_scales()
    has_bands = any(s.low for s in series)
    bands, lines = [], []
    for s in series:
        d = polyline((x(a), y(b)) for a, b in zip(s.x, s.y, strict=True))
        title = element("title", s.label)
        minor = " minor" if has_bands and not s.low else ""
        lines.append(element("path", title, class_=f"line s{s.colour} d{s.colour}{minor}", d=d))
        edges = [(a, low, high) for a, low, high in zip(s.x, s.low, s.high, strict=False)]
        around = [(x(a), y(high)) for a, _, high in edges if high is not None]
        around += [(x(a), y(low)) for a, low, _ in reversed(edges) if low is not None]
        if around:
            bands.append(
                element("path", class_=f"interval-band s{s.colour}", d=polyline(around) + "Z")
            )
    return [*bands, *lines]


def _chance(start: tuple[float, float], stop: tuple[float, float]) -> Markup:
    x, y = unit_scales()
    return element("path", class_="chance", d=polyline((x(a), y(b)) for a, b in (start, stop)))


def calibration(series: Sequence[Series], *, label: str, x_axis: str, y_axis: str) -> Markup:
    """Return observed against predicted frequency, with the intervals of the bins that have one.

    A dot's area is the bin's share of tiles.
    """
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
        ends = zip(s.x, s.low, s.high, strict=False)
        whiskers = [
            element("line", class_=f"spread s{s.colour}", x1=x(a), x2=x(a), y1=y(low), y2=y(high))
            for a, low, high in ends
            if low is not None and high is not None
        ]
        parts.append(element("g", element("title", s.label), *whiskers, line, *dots))
    frame = [*_unit_axes(x_axis, y_axis), _chance((0, 0), (1, 1))]
    return _square(*frame, *parts, label=label, class_="calibration")


def unit_scales() -> tuple[Scale, Scale]:
    """Return the scales of the unit square of `roc` and `calibration`."""
    return Scale(0, 1, LEFT, LEFT + PLOT), Scale(0, 1, TOP + PLOT, TOP)


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
    middle: Attributes = {"text_anchor": "middle", "class_": "direction"}
    parts.append(element("text", x_label, x=x(0.5), y=base + 29, **middle))
    turn = f"rotate(-90 {9} {y(0.5):.0f})"
    parts.append(element("text", y_label, x=9, y=y(0.5), transform=turn, **middle))
    return parts


def _square(*parts: Markup, label: str, class_: str) -> Markup:
    height = TOP + PLOT + BOTTOM
    return framed(*parts, width=SIDE, height=height, label=label, class_=class_)
