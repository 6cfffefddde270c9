"""The chart of what each arm costs against how it scores, with the front that none beats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurebench.reporting import formats
from featurebench.reporting.svg import Attributes, Scale, at, element, fluid, padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

HEIGHT, TOP = 280.0, 16.0
LEFT, RIGHT = 10.0, 96.0
# Widths in pixels at which no two numbers may touch: a phone, and what a desktop gives.
WIDTHS = (300.0, 420.0, 560.0, 760.0, 1100.0)
LEAST = 1e-3
_MARK, _LETTER, _TALL = 6.0, 7.0, 12.0
# Where a number may stand beside its mark, in pixels, the first place that is free.
_PLACES = (
    *((11, -7), (-11, -7), (0, -10), (0, 20), (12, 4), (-12, 4), (12, 16), (-12, 16)),
    *((0, -22), (0, 32), (22, 4), (-22, 4), (0, -34), (0, 44)),
)


@dataclass(frozen=True)
class Arm:
    """One mark: what an arm cost in seconds and how it scored."""

    label: str
    kind: str
    seconds: float
    value: float
    ci_low: float | None = None
    ci_high: float | None = None
    is_reference: bool = False


@dataclass(frozen=True)
class Pareto:
    """The chart, and the arms on the front with their numbers in it, from the cheapest."""

    chart: Markup
    front: tuple[tuple[int, Arm], ...]


def pareto(arms: Sequence[Arm], *, metric: str, better: int, axis: str) -> Pareto | None:
    """Return time (logarithmic) against score, the front drawn and its arms numbered.

    Parameters
    ----------
    arms
        Those to draw; without any there is no chart.
    metric
        Of the scores.
    better
        1 where a larger score is better, -1 where a smaller one is.
    axis
        What the seconds are, such as "wall-clock time".
    """
    if not arms:
        return None
    walls = [max(arm.seconds, LEAST) for arm in arms]
    xs = Scale(min(walls) / 1.6, max(walls) * 1.6, LEFT, RIGHT, log=True)
    ends = [v for a in arms for v in (a.value, a.ci_low, a.ci_high) if v is not None]
    ys = Scale(*padded(ends), TOP + HEIGHT, TOP)
    front = undominated(arms, better)
    numbered = {id(arm): number for number, arm in enumerate(front, 1)}
    parts = [*_axes(xs, ys, axis), *_front_line(front, xs, ys)]
    parts += [_mark(arm, xs, ys, id(arm) in numbered) for arm in arms]
    parts += _numbers(front, arms, xs, ys)
    label = f"{axis.capitalize()} against {formats.metric_phrase(metric)}, one mark per arm"
    chart = fluid(*parts, height=TOP + HEIGHT + 40, label=label, class_="scatter pareto")
    return Pareto(chart, tuple(enumerate(front, 1)))


def undominated(arms: Sequence[Arm], better: int) -> list[Arm]:
    """Return the arms for which no other is both as cheap and better, cheapest first."""
    front: list[Arm] = []
    for arm in sorted(arms, key=lambda each: (each.seconds, -better * each.value)):
        if not front or better * arm.value > better * front[-1].value:
            front.append(arm)
    return front


def time_ticks(low: float, high: float) -> list[float]:
    """Return at most six round times in seconds: 1, 2, 5, 10, 20, 30 s, minutes, hours."""
    steps = (1, 2, 5, 10, 20, 30)
    times = [0.01, 0.1, *(s * unit for unit in (1, 60) for s in steps)]
    times += [3600.0 * s for s in (1, 2, 5, 10, 24, 48, 120, 240)]
    inside = [t for t in times if low <= t <= high]
    every = -(-len(inside) // 6) or 1
    return inside[::every]


def number_places(
    points: Sequence[tuple[float, float]], marks: Sequence[tuple[float, float]]
) -> list[tuple[int, int]]:
    """Choose where the number of each point stands, so that none touches another or a mark.

    Parameters
    ----------
    points, marks
        x in per cent of the width and y in pixels: of the marks to be numbered, and of all.

    Returns
    -------
    list of tuple
        Shift of each number's baseline from its mark, in pixels; where no place is free at all
        widths, the first one.
    """
    taken: list[tuple[float, float, int, int]] = []
    for x, y in points:
        free = (
            (dx, dy)
            for dx, dy in _PLACES
            if all(_is_free(x, y, (dx, dy), (taken, marks), width) for width in WIDTHS)
        )
        dx, dy = next(free, _PLACES[0])
        taken.append((x, y, dx, dy))
    return [(dx, dy) for _, _, dx, dy in taken]


def _is_free(
    x: float,
    y: float,
    shift: tuple[int, int],
    occupied: tuple[Sequence[tuple[float, float, int, int]], Sequence[tuple[float, float]]],
    width: float,
) -> bool:
    taken, marks = occupied
    left, middle = x * width / 100 + shift[0], y + shift[1] - _TALL / 3
    for other_x, other_y, dx, dy in taken:
        across = abs(other_x * width / 100 + dx - left)
        if across < 2 * _LETTER and abs(other_y + dy - _TALL / 3 - middle) < _TALL:
            return False
    return not any(
        abs(mark_x * width / 100 - left) < _LETTER + _MARK / 2
        and abs(mark_y - middle) < _TALL / 2 + _MARK / 2
        for mark_x, mark_y in marks
    )


def _axes(xs: Scale, ys: Scale, axis: str) -> list[Markup]:
    base, parts = TOP + HEIGHT, []
    for tick in ys.ticks(5):
        y = ys(tick)
        parts += [
            element("line", class_="grid", x1=at(LEFT - 2), x2="100%", y1=y, y2=y),
            element("text", f"{tick:.3g}", class_="tick", x=0, y=y + 4),
        ]
    for tick in time_ticks(xs.low, xs.high):
        x, text = at(xs(tick)), formats.seconds(tick)
        parts += [
            element("line", class_="grid", x1=x, x2=x, y1=TOP, y2=base),
            element("text", text, class_="tick", x=x, y=base + 16, text_anchor="middle"),
        ]
    below: Attributes = {"x": "100%", "y": base + 34, "text_anchor": "end"}
    parts.append(element("text", f"{axis}, logarithmic", class_="direction", **below))
    return parts


def _front_line(front: Sequence[Arm], xs: Scale, ys: Scale) -> list[Markup]:
    """Return the steps from each arm of the front to the next, and on to the right edge."""
    parts = []
    for i, arm in enumerate(front):
        x, y = xs(max(arm.seconds, LEAST)), ys(arm.value)
        stop = xs(max(front[i + 1].seconds, LEAST)) if i + 1 < len(front) else 100.0
        parts.append(element("line", class_="step", x1=at(x), x2=at(stop), y1=y, y2=y))
        if i + 1 < len(front):
            rise = ys(front[i + 1].value)
            parts.append(element("line", class_="step", x1=at(stop), x2=at(stop), y1=y, y2=rise))
    return parts


def _mark(arm: Arm, xs: Scale, ys: Scale, on_front: bool) -> Markup:
    x, y = at(xs(max(arm.seconds, LEAST))), ys(arm.value)
    title = f"{arm.label}: {formats.score(arm.value)} in {formats.seconds(arm.seconds)}"
    parts = [element("title", title)]
    if arm.ci_low is not None and arm.ci_high is not None:
        whisker: Attributes = {"x1": x, "x2": x, "y1": ys(arm.ci_low), "y2": ys(arm.ci_high)}
        parts.append(element("line", class_="whisker", **whisker))
    parts.append(_symbol(arm.kind, x, y))
    return element("g", *parts, class_=f"mark {arm.kind}{' front' if on_front else ''}")


def _symbol(kind: str, x: str, y: float) -> Markup:
    if kind == "probe":
        return element("circle", class_="point", cx=x, cy=y, r=5.5)
    turn = "rotate(45)" if kind == "finetune" else None
    square = element("rect", class_="point", x=-5, y=-5, width=10, height=10, transform=turn)
    return element("svg", square, x=x, y=y, overflow="visible", width=1, height=1)


def _numbers(front: Sequence[Arm], arms: Sequence[Arm], xs: Scale, ys: Scale) -> list[Markup]:
    points, marks = (
        [(xs(max(arm.seconds, LEAST)), ys(arm.value)) for arm in group] for group in (front, arms)
    )
    return [
        element(
            "text", str(number), class_="label", x=at(x), y=y, dx=dx, dy=dy, text_anchor="middle"
        )
        for number, ((x, y), (dx, dy)) in enumerate(
            zip(points, number_places(points, marks), strict=True), 1
        )
    ]
