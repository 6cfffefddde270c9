"""The chart of decision curves: net benefit at each threshold, with treating all and none."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from featurebench.reporting.svg import Attributes, Scale, element, framed, polyline

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from markupsafe import Markup

WIDTH, HEIGHT = 460.0, 280.0
LEFT, TOP, RIGHT, BOTTOM = 44.0, 12.0, 8.0, 38.0
# Below zero nobody would act; so much of it is shown as a share of the prevalence.
BELOW = 0.15


def decision(section: Mapping[str, Any], colours: Sequence[int]) -> Markup:
    """Return the arms' curves, with treating all (falling) and none (the line at zero).

    Bands lie below all lines; where some arms have one, the lines of those without are thinner.
    """
    tops = [max(arm["high"] or arm["values"]) for arm in section["arms"]]
    top = max([section["prevalence"], *tops])
    ys = Scale(-BELOW * section["prevalence"], 1.05 * top, HEIGHT - BOTTOM, TOP)
    xs = Scale(0.0, 1.0, LEFT, WIDTH - RIGHT)
    thresholds = section["thresholds"]
    parts = [*_axes(xs, ys)]
    treat_all = _visible(zip(thresholds, section["treat_all"], strict=True), xs, ys)
    parts += [element("path", element("title", "treat all"), class_="chance", d=d)
              for d in treat_all]  # fmt: skip
    coloured = list(zip(section["arms"], colours, strict=True))
    has_bands = any(arm["low"] for arm, _ in coloured)
    parts += [
        element("path", class_=f"interval-band s{colour}", d=_band(thresholds, arm, xs, ys))
        for arm, colour in coloured
        if arm["low"]
    ]
    for arm, colour in coloured:
        title = element("title", arm["label"])
        minor = " minor" if has_bands and not arm["low"] else ""
        for d in _visible(zip(thresholds, arm["values"], strict=True), xs, ys):
            parts.append(element("path", title, class_=f"line s{colour} d{colour}{minor}", d=d))
    label = f"Net benefit of acting on the probability of {section['of']}, by threshold"
    return framed(*parts, width=WIDTH, height=HEIGHT, label=label, class_="decision")


def _band(thresholds: Sequence[float], arm: Mapping[str, Any], xs: Scale, ys: Scale) -> str:
    """Return path data around a band, cut at the plot's lower edge."""
    edges = list(zip(thresholds, arm["low"], arm["high"], strict=True))
    around = [(xs(t), ys(max(high, ys.low))) for t, _, high in edges]
    around += [(xs(t), ys(max(low, ys.low))) for t, low, _ in reversed(edges)]
    return polyline(around) + "Z"


def _visible(points: Iterable[tuple[float, float]], xs: Scale, ys: Scale) -> list[str]:
    """Return path data of the stretches that lie within the plot."""
    paths = []
    for inside, stretch in groupby(points, key=lambda point: point[1] >= ys.low):
        if inside:
            paths.append(polyline((xs(x), ys(y)) for x, y in stretch))
    return paths


def _axes(xs: Scale, ys: Scale) -> list[Markup]:
    base, parts = HEIGHT - BOTTOM, []
    for tick in ys.ticks(5):
        class_ = "zero" if tick == 0 else "grid"
        y, x1, x2 = ys(tick), LEFT, WIDTH - RIGHT
        parts += [
            element("line", class_=class_, x1=x1, x2=x2, y1=y, y2=y),
            element("text", f"{tick:.2g}", class_="tick", x=LEFT - 5, y=y + 4, text_anchor="end"),
        ]
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        x = xs(tick)
        parts += [
            element("line", class_="grid", x1=x, x2=x, y1=TOP, y2=base),
            element("text", f"{tick:g}", class_="tick", x=x, y=base + 14, text_anchor="middle"),
        ]
    middle: Attributes = {"text_anchor": "middle", "class_": "direction"}
    turn = f"rotate(-90 {9} {ys(0.5 * ys.high):.0f})"
    parts += [
        element("text", "threshold probability", x=xs(0.5), y=base + 31, **middle),
        element("text", "net benefit", x=9, y=ys(0.5 * ys.high), transform=turn, **middle),
    ]
    return parts
