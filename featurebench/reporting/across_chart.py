"""Effects by data set as marks in a table's rows, with the random-effects mean as a diamond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featurebench.reporting import formats
from featurebench.reporting.forest import (
    MIDDLE,
    START,
    STOP,
    difference_axis,
    difference_ticks,
    interval_marks,
    tone,
)
from featurebench.reporting.ranking import better_sign
from featurebench.reporting.svg import (
    Attributes,
    Scale,
    arrow_at,
    at,
    element,
    padded,
    stretched,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

# Half the height of the diamond, and of the square of a data set that counts most, in pixels.
_DIAMOND, _SQUARE = 8, 7


@dataclass(frozen=True)
class EffectRow:
    """One data set: its effect as in the summary, which data set it is, and its marks."""

    effect: Mapping[str, Any]
    data_set: Mapping[str, Any]
    plot: Markup


@dataclass(frozen=True)
class AcrossForest:
    """Rows of data sets, the mean's marks and those of one more data set, and the axis."""

    rows: tuple[EffectRow, ...]
    mean: Markup | None
    prediction: Markup | None
    axis: Markup


def across_forest(summary: Mapping[str, Any]) -> AcrossForest | None:
    """Return the effects in the order of the data sets; None where no data set has one."""
    effects, mean, metric = summary["effects"], summary["mean"], summary["metric"]
    known = [effect["evidence"] for effect in effects if effect["evidence"]]
    scale = effect_scale(known, mean, metric["margin"])
    if scale is None:
        return None
    heaviest = max((effect["weight"] or 0 for effect in effects), default=0)
    rows = tuple(
        EffectRow(effect, data_set, _effect_plot(effect, scale, metric, heaviest))
        for effect, data_set in zip(effects, summary["data_sets"], strict=True)
    )
    ground = _ground(scale, metric)
    return AcrossForest(
        rows,
        None if mean is None else _mean_plot(summary, scale, ground),
        None if mean is None else _prediction_plot(mean, scale, ground),
        difference_axis(scale, metric["name"], better_sign(summary)),
    )


def effect_scale(
    known: Sequence[Mapping[str, Any]], mean: Mapping[str, Any] | None, margin: float
) -> Scale | None:
    """Return a scale that holds zero, the margin, and every interval as far as it can be read.

    What lies further beyond the estimates than one and a half times their range is cut off, with
    an arrow: one imprecise data set would else hide all others.
    """
    centres = [e["difference"] for e in known if e["difference"] is not None]
    centres += [] if mean is None else [mean["mean"]]
    if not centres:
        return None
    low, high = padded([*centres, -1.6 * margin, 1.6 * margin, 0.0])
    room = 1.5 * (high - low)
    ends = [x for e in known for x in (e["ci_low"], e["ci_high"]) if x is not None]
    ends += [] if mean is None else [mean["ci_low"], mean["ci_high"]]
    lowest = min([low, *(max(x, low - room) for x in ends)])
    highest = max([high, *(min(x, high + room) for x in ends)])
    return Scale(lowest, highest, START, STOP)


def _effect_plot(
    effect: Mapping[str, Any], scale: Scale, metric: Mapping[str, Any], heaviest: float
) -> Markup:
    parts = _ground(scale, metric)
    evidence = effect["evidence"]
    if evidence is not None:
        parts += interval_marks({**evidence, "difference": None}, scale, y=0, class_="by-folds")
        parts += _square(evidence["difference"], scale, effect["weight"], heaviest)
    is_used = evidence is not None and not effect["left_out"]
    return stretched(*parts, class_=tone(effect["outcome"]) if is_used else "open")


def _square(
    value: float | None, scale: Scale, weight: float | None, heaviest: float
) -> list[Markup]:
    """Mark an estimate by a square whose area is the weight, or a ring without a weight."""
    if value is None or not scale.low <= value <= scale.high:
        return []
    x = at(scale(value))
    if not weight or not heaviest:
        return [element("circle", class_="point", cx=x, cy=MIDDLE, r=4)]
    half = max(2.5, _SQUARE * (weight / heaviest) ** 0.5)
    box: Attributes = {"x": -half, "y": -half, "width": 2 * half, "height": 2 * half}
    square = element("rect", class_="point square", **box)
    return [element("svg", square, x=x, y=MIDDLE, width=1, height=1, overflow="visible")]


def _mean_plot(summary: Mapping[str, Any], scale: Scale, ground: Sequence[Markup]) -> Markup:
    """Draw the mean as a diamond as wide as its interval, cut off where that leaves the scale."""
    mean = summary["mean"]
    low, middle, high = (
        100 * (value - scale.low) / (scale.high - scale.low)
        for value in (mean["ci_low"], mean["mean"], mean["ci_high"])
    )
    outline = f"M{low:.2f} 50L{middle:.2f} 0L{high:.2f} 50L{middle:.2f} 100Z"
    box: Attributes = {"x": at(START), "width": at(STOP - START), "height": 2 * _DIAMOND}
    diamond = element(
        "svg",
        element("path", class_="diamond", d=outline),
        viewBox="0 0 100 100",
        preserveAspectRatio="none",
        y=MIDDLE,
        **box,
    )
    parts = [element("g", diamond, transform=f"translate(0 {-_DIAMOND})")]
    parts += [arrow_at(0, MIDDLE, to_left=True)] if low < 0 else []
    parts += [arrow_at(100, MIDDLE, to_left=False)] if high > 100 else []
    return stretched(*ground, *parts, class_=tone(summary["outcome"]))


def _prediction_plot(
    mean: Mapping[str, Any], scale: Scale, ground: Sequence[Markup]
) -> Markup | None:
    if mean["prediction_low"] is None:
        return None
    ends = {"ci_low": mean["prediction_low"], "ci_high": mean["prediction_high"]}
    marks = interval_marks({**ends, "difference": None}, scale, y=0, class_="by-folds further")
    return stretched(*ground, *marks, class_="open")


def _ground(scale: Scale, metric: Mapping[str, Any]) -> list[Markup]:
    """Draw what every row stands on: the margin's band, the grid and zero."""
    margin, factor = metric["margin"], formats.factor_of(metric["name"])
    left, right = scale(-margin), scale(margin)
    box: Attributes = {"x": at(left), "width": at(right - left), "y": 0, "height": "100%"}
    parts = [element("rect", class_="band", **box)] if margin else []
    for tick in difference_ticks(scale, factor):
        x = at(scale(tick / factor))
        class_ = "zero" if tick == 0 else "grid"
        parts.append(element("line", class_=class_, x1=x, x2=x, y1=0, y2="100%"))
    return parts
