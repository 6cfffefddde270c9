"""The chart of what each arm costs against how it scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurebench.reporting import formats
from featurebench.reporting.svg import Attributes, Scale, at, element, fluid, padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

HEIGHT, TOP = 300.0, 14.0


@dataclass(frozen=True)
class CostPoint:
    """One mark of `cost_scatter`: what an arm cost and how it scored."""

    label: str
    kind: str
    wall_s: float
    value: float
    ci_low: float | None = None
    ci_high: float | None = None


def cost_scatter(points: Sequence[CostPoint], *, metric: str, better: int) -> Markup:
    """Return wall-clock time (logarithmic) against score; arms that none beats are named."""
    walls = [max(p.wall_s, 1e-3) for p in points]
    xs = Scale(min(walls) / 1.6, max(walls) * 1.6, 9, 97, log=True)
    ends = [v for p in points for v in (p.value, p.ci_low, p.ci_high) if v is not None]
    ys = Scale(*padded(ends), TOP + HEIGHT, TOP)
    front = undominated(points, better)
    parts = [*_scatter_axes(xs, ys, TOP, TOP + HEIGHT)]
    parts += [_scatter_mark(p, xs, ys, p in front) for p in points]
    parts += _front_labels(front, xs, ys)
    label = f"Seconds of work against {formats.metric_label(metric)}, one mark per arm"
    return fluid(*parts, height=TOP + HEIGHT + 40, label=label, class_="scatter")


def undominated(points: Sequence[CostPoint], better: int) -> list[CostPoint]:
    """Return the arms for which no other is both as cheap and better, cheapest first."""
    front: list[CostPoint] = []
    for point in sorted(points, key=lambda p: (p.wall_s, -better * p.value)):
        if not front or better * point.value > better * front[-1].value:
            front.append(point)
    return front


def _scatter_axes(xs: Scale, ys: Scale, top: float, base: float) -> list[Markup]:
    parts = []
    for tick in ys.ticks(5):
        y = ys(tick)
        parts += [
            element("line", class_="grid", x1=0, x2="100%", y1=y, y2=y),
            element("text", f"{tick:.3g}", class_="tick", x=0, y=y - 4),
        ]
    for tick in time_ticks(xs.low, xs.high):
        x, text = at(xs(tick)), formats.seconds(tick)
        parts += [
            element("line", class_="grid", x1=x, x2=x, y1=top, y2=base),
            element("text", text, class_="tick", x=x, y=base + 16, text_anchor="middle"),
        ]
    text = "wall-clock time, logarithmic"
    parts.append(
        element("text", text, class_="direction", x="100%", y=base + 34, text_anchor="end")
    )
    return parts


def time_ticks(low: float, high: float) -> list[float]:
    """Return at most six round times in seconds: 1, 2, 5, 10, 20, 30 s, minutes, hours."""
    steps = (1, 2, 5, 10, 20, 30)
    times = [0.01, 0.1, *(s * unit for unit in (1, 60) for s in steps)]
    times += [3600.0 * s for s in (1, 2, 5, 10, 24, 48, 120, 240)]
    inside = [t for t in times if low <= t <= high]
    every = -(-len(inside) // 6) or 1
    return inside[::every]


def _scatter_mark(point: CostPoint, xs: Scale, ys: Scale, on_front: bool) -> Markup:
    x, y = at(xs(max(point.wall_s, 1e-3))), ys(point.value)
    title = f"{point.label}: {formats.score(point.value)} in {formats.seconds(point.wall_s)}"
    parts = [element("title", title)]
    if point.ci_low is not None and point.ci_high is not None:
        whisker: Attributes = {"x1": x, "x2": x, "y1": ys(point.ci_low), "y2": ys(point.ci_high)}
        parts.append(element("line", class_="whisker", **whisker))
    parts.append(_symbol(point.kind, x, y))
    return element("g", *parts, class_=f"mark {point.kind}{' front' if on_front else ''}")


def _symbol(kind: str, x: str, y: float) -> Markup:
    if kind == "probe":
        return element("circle", class_="point", cx=x, cy=y, r=5.5)
    turn = "rotate(45)" if kind == "finetune" else None
    square = element("rect", class_="point", x=-5, y=-5, width=10, height=10, transform=turn)
    return element("svg", square, x=x, y=y, overflow="visible", width=1, height=1)


def _front_labels(front: Sequence[CostPoint], xs: Scale, ys: Scale) -> list[Markup]:
    """Return the names of the marks, from the top, each at least a line below the one before."""
    labels: list[Markup] = []
    lowest = -math.inf
    for point in sorted(front, key=lambda p: ys(p.value)):
        x = xs(max(point.wall_s, 1e-3))
        lowest = max(ys(point.value) - 9, lowest + 15)
        is_left = x < 50
        side: Attributes = {
            "text_anchor": "start" if is_left else "end",
            "dx": 9 if is_left else -9,
        }
        text = formats.shorten(point.label, 42)
        labels.append(element("text", text, class_="label", x=at(x), y=lowest, **side))
    return labels
