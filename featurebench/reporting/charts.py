"""Charts with a line per arm: differences from the reference, scores in every fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurebench.reporting import formats
from featurebench.reporting.svg import Scale, at, element, fluid, number_at_end, padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

ROW = 36
LABEL_Y, MARK_Y = 12, 25
AXIS = 34
LEFT = 1.5
FOREST_RIGHT, FOLDS_RIGHT = 60.0, 88.0


@dataclass(frozen=True)
class DifferenceRow:
    """One line of `forest`: an arm's difference from the reference, in the metric's own unit."""

    label: str
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    outcome: str
    is_baseline: bool = False


@dataclass(frozen=True)
class DotRow:
    """One line of `fold_scores`: an arm's value in every fold and their summary."""

    label: str
    values: tuple[float, ...]
    value: float | None
    is_baseline: bool = False


def forest(rows: Sequence[DifferenceRow], *, metric: str, margin: float, better: int) -> Markup:
    """Return the plot of differences from the reference with intervals and the margin's band.

    Parameters
    ----------
    rows
        From top to bottom.
    margin
        Half-width of the band around zero, in the metric's unit.
    better
        1 where a larger value of the metric is better, -1 where a smaller one is.
    """
    scale = forest_scale(rows, margin)
    bottom = len(rows) * ROW
    band = (scale(-margin), scale(margin))
    parts = [
        element("rect", class_="band", x=at(band[0]), width=at(band[1] - band[0]), height=bottom),
        *_difference_axis(scale, metric, bottom),
        *(_difference_row(row, i * ROW, scale, metric) for i, row in enumerate(rows)),
        *_directions(bottom + 30, better),
    ]
    label = f"Differences in {formats.metric_label(metric)} from the reference, with intervals"
    return fluid(*parts, height=bottom + AXIS + 4, label=label, class_="forest")


def forest_scale(rows: Sequence[DifferenceRow], margin: float) -> Scale:
    """Return the scale of `forest`: holds zero, the margin and all intervals but a baseline's.

    A baseline is so far below the others that it would squeeze them; an arrow points to it.
    """
    shown = [row for row in rows if not row.is_baseline] or rows
    ends = [x for r in shown for x in (r.difference, r.ci_low, r.ci_high) if x is not None]
    low, high = padded([*ends, -1.6 * margin, 1.6 * margin, 0.0])
    return Scale(low, high, LEFT, FOREST_RIGHT)


def _difference_axis(scale: Scale, metric: str, bottom: float) -> list[Markup]:
    factor = formats.factor_of(metric)
    scaled = Scale(scale.low * factor, scale.high * factor, scale.start, scale.stop)
    parts = []
    for tick in scaled.ticks(6):
        x = at(scaled(tick))
        text = f"{tick:+.3g}".replace("-", formats.MINUS) if tick else "0"
        parts += [
            element("line", class_="zero" if tick == 0 else "grid", x1=x, x2=x, y1=0, y2=bottom),
            element("text", text, class_="tick", x=x, y=bottom + 14, text_anchor="middle"),
        ]
    return parts


def _difference_row(row: DifferenceRow, top: float, scale: Scale, metric: str) -> Markup:
    number = formats.difference(row.difference, row.ci_low, row.ci_high, metric, unit=False)
    p = element("tspan", "  " + formats.p_statement(row.p_value), class_="extra")
    title = element("title", f"{row.label}: {number}; {row.outcome}")
    texts = [
        element("text", formats.shorten(row.label, 48), class_="label", x=0, y=top + LABEL_Y),
        number_at_end(number, top + MARK_Y + 4, p),
    ]
    marks = _interval_mark(row.difference, row.ci_low, row.ci_high, scale, top + MARK_Y)
    outcome = row.outcome.replace(" ", "-")
    return element("g", title, *texts, *marks, class_=f"row {outcome}")


def _interval_mark(
    value: float | None, low: float | None, high: float | None, scale: Scale, y: float
) -> list[Markup]:
    parts = []
    if low is not None and high is not None and scale.low < high and low < scale.high:
        x1, x2 = at(scale(max(low, scale.low))), at(scale(min(high, scale.high)))
        parts.append(element("line", class_="whisker", x1=x1, x2=x2, y1=y, y2=y))
    if value is not None and scale.low <= value <= scale.high:
        parts.append(element("circle", class_="point", cx=at(scale(value)), cy=y, r=5))
    elif value is not None:
        parts.append(_beyond(value < scale.low, scale, y))
    return parts


def _beyond(is_left: bool, scale: Scale, y: float) -> Markup:
    """Return the arrow at the edge that stands for a value off the scale."""
    tip, x = ("M8 -5L0 0L8 5Z", 0.0) if is_left else ("M-8 -5L0 0L-8 5Z", scale.stop)
    arrow = element("path", class_="arrow", d=tip)
    return element("svg", arrow, x=at(x), y=y, width=1, height=1, overflow="visible")


def _directions(y: float, better: int) -> list[Markup]:
    worse_text, better_text, right = "← worse", "better →", at(FOREST_RIGHT)
    if better < 0:
        worse_text, better_text = "← better", "worse →"
    return [
        element("text", worse_text, class_="direction", x=0, y=y),
        element("text", better_text, class_="direction", x=right, y=y, text_anchor="end"),
    ]


def fold_scores(rows: Sequence[DotRow], *, metric: str, each: str = "in every fold") -> Markup:
    """Return one strip per arm: a dot per fold (or seed) and a bar at the arm's value."""
    shown = [row for row in rows if not row.is_baseline] or rows
    values = [v for row in shown for v in (*row.values, row.value) if v is not None]
    scale = Scale(*padded(values or [0.0, 1.0]), LEFT, FOLDS_RIGHT)
    bottom = len(rows) * ROW
    parts = [*_score_axis(scale, bottom)]
    parts += [_dot_row(row, i * ROW, scale) for i, row in enumerate(rows)]
    label = f"{formats.metric_label(metric)} of every arm {each}"
    return fluid(*parts, height=bottom + 22, label=label, class_="folds")


def _score_axis(scale: Scale, bottom: float) -> list[Markup]:
    parts = []
    for tick in scale.ticks(6):
        x = at(scale(tick))
        parts += [
            element("line", class_="grid", x1=x, x2=x, y1=0, y2=bottom),
            element("text", f"{tick:.3g}", class_="tick", x=x, y=bottom + 14, text_anchor="middle"),
        ]
    return parts


def _dot_row(row: DotRow, top: float, scale: Scale) -> Markup:
    y = top + MARK_Y
    parts = [element("text", formats.shorten(row.label, 48), class_="label", x=0, y=top + LABEL_Y)]
    inside = [v for v in row.values if scale.low <= v <= scale.high]
    parts += [element("circle", class_="dot", cx=at(scale(v)), cy=y, r=4.5) for v in inside]
    if len(inside) < len(row.values):
        parts.append(_beyond(min(row.values) < scale.low, scale, y))
    if row.value is not None:
        parts.append(number_at_end(formats.score(row.value), top + MARK_Y + 4))
        if scale.low <= row.value <= scale.high:
            x = at(scale(row.value))
            parts.append(element("line", class_="mean", x1=x, x2=x, y1=y - 8, y2=y + 8))
    return element("g", *parts, class_="row")
