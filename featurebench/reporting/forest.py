"""Differences from the reference as marks in a table's rows: every test, zero, the margin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featurebench.reporting import formats
from featurebench.reporting.ranking import better_sign
from featurebench.reporting.svg import Attributes, Scale, arrow_at, at, element, padded, stretched

if TYPE_CHECKING:
    from markupsafe import Markup

Contrast = Mapping[str, Any]
START, STOP = 1.5, 98.5
MIDDLE = "50%"
# The tests stand one above the other, so that none hides another's interval.
PLACES = {"by_patients": -5, "by_folds": 6, "by_sites": 13}
# How an outcome is drawn: in a colour and filled, filled, or hollow where nothing was shown.
TONES = {"better": "better", "worse": "worse", "not resolved": "open", "not claimed": "open"}


@dataclass(frozen=True)
class ForestRow:
    """One line of `Forest`; the reference has no contrast."""

    arm: Mapping[str, Any]
    contrast: Contrast | None
    plot: Markup


@dataclass(frozen=True)
class Forest:
    """Rows from the best arm to the worst, the axis below them, and the tests as of `tests_of`."""

    rows: tuple[ForestRow, ...]
    axis: Markup
    tests: Mapping[str, str]


def tests_of(contrasts: Sequence[Contrast]) -> dict[str, str]:
    """Return what the tests to be shown are over, by their field of a contrast.

    The test over sites is shown where a claim asks for it.
    """
    units = {"by_patients": contrasts[0]["by_patients"]["unit"], "by_folds": "folds"}
    asked = any(c["rule"] == "folds, patients and sites" for c in contrasts)
    return units | ({"by_sites": "sites"} if asked else {})


def forest_of(summary: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]) -> Forest | None:
    """Return the differences in the order of the arms, the reference among them; None without."""
    contrasts = {c["arm_a"]: c for c in summary["comparisons"]}
    if not contrasts:
        return None
    baselines = {arm["id"] for arm in arms if arm["kind"] == "baseline"}
    metric = summary["metric"]
    shown = [c for name, c in contrasts.items() if name not in baselines]
    scale = forest_scale(shown or list(contrasts.values()), metric["margin"])
    tests = tests_of(list(contrasts.values()))
    rows = [
        ForestRow(arm, (c := contrasts.get(arm["id"])), row_plot(c, scale, metric))
        for arm in arms
        if arm["id"] in contrasts or arm["id"] == summary["reference"]
    ]
    return Forest(tuple(rows), difference_axis(scale, metric["name"], better_sign(summary)), tests)


def forest_scale(contrasts: Sequence[Contrast], margin: float) -> Scale:
    """Return a scale that holds zero, the margin and the intervals over patients.

    Those of other tests may widen it by half on either side: with few folds or sites they can be
    so wide that nothing else could be read, and are cut off instead.
    """
    ends = [x for c in contrasts for x in (c["difference"], *_ends(c["by_patients"]))]
    low, high = padded([*(x for x in ends if x is not None), -1.6 * margin, 1.6 * margin, 0.0])
    room = (high - low) / 2
    others = [c[test] for c in contrasts for test in tests_of([c]) if test != "by_patients"]
    wide = [x for evidence in others for x in _ends(evidence) if x is not None]
    low = min([low, *(max(x, low - room) for x in wide)])
    high = max([high, *(min(x, high + room) for x in wide)])
    return Scale(low, high, START, STOP)


def row_plot(contrast: Contrast | None, scale: Scale, metric: Mapping[str, Any]) -> Markup:
    """Return one row's marks; those of the reference, which has no contrast, are the grid only."""
    parts = _ground(scale, metric["margin"], formats.factor_of(metric["name"]))
    if contrast is None:
        return stretched(*parts, class_="reference")
    # Patients last, whose point is the largest.
    for test in reversed(tests_of([contrast])):
        parts += interval_marks(contrast[test], scale, y=PLACES[test], class_=class_of(test))
    return stretched(*parts, class_=tone(contrast["outcome"]))


def class_of(test: str) -> str:
    """Return the style of a test's marks."""
    return test.replace("_", "-")


def tone(outcome: str) -> str:
    """Return how an outcome is drawn: better, worse, shown (a claim about size) or open."""
    return TONES.get(outcome, "shown")


def interval_marks(
    evidence: Mapping[str, Any], scale: Scale, *, y: float, class_: str
) -> list[Markup]:
    """Return an interval with its estimate, arrows where it leaves the scale."""
    low, high = _ends(evidence)
    return [
        *_line(low, high, scale, y, class_),
        *_point(evidence["difference"], scale, y, class_),
    ]


def _ends(evidence: Mapping[str, Any]) -> tuple[float | None, float | None]:
    return evidence["ci_low"], evidence["ci_high"]


def _line(
    low: float | None, high: float | None, scale: Scale, y: float, class_: str
) -> list[Markup]:
    if low is None or high is None or high < scale.low or low > scale.high:
        return []
    x1, x2 = scale(max(low, scale.low)), scale(min(high, scale.high))
    shape: Attributes = {"x1": at(x1), "x2": at(x2), "y1": MIDDLE, "y2": MIDDLE}
    parts = [element("line", class_=f"whisker {class_}", **shape)]
    if low < scale.low:
        parts.append(arrow_at(x1, MIDDLE, to_left=True))
    if high > scale.high:
        parts.append(arrow_at(x2, MIDDLE, to_left=False))
    return [element("g", *parts, transform=f"translate(0 {y})")]


def _point(value: float | None, scale: Scale, y: float, class_: str) -> list[Markup]:
    if value is None:
        return []
    if not scale.low <= value <= scale.high:
        is_left = value < scale.low
        mark = arrow_at(START if is_left else STOP, MIDDLE, to_left=is_left)
    else:
        radius = 5 if class_ == "by-patients" else 2.5
        mark = element("circle", class_=f"point {class_}", cx=at(scale(value)), cy=MIDDLE, r=radius)
    return [element("g", mark, transform=f"translate(0 {y})")]


def _ground(scale: Scale, margin: float, factor: float) -> list[Markup]:
    left, right = scale(-margin), scale(margin)
    full: Attributes = {"y": 0, "height": "100%"}
    parts = []
    if margin:
        parts.append(element("rect", class_="band", x=at(left), width=at(right - left), **full))
    for tick in difference_ticks(scale, factor):
        x = at(scale(tick / factor))
        class_ = "zero" if tick == 0 else "grid"
        parts.append(element("line", class_=class_, x1=x, x2=x, y1=0, y2="100%"))
    return parts


def difference_ticks(scale: Scale, factor: float) -> list[float]:
    """Return round values in the unit that differences are written in."""
    return Scale(scale.low * factor, scale.high * factor, 0, 1).ticks(5)


def difference_axis(scale: Scale, metric: str, better: int) -> Markup:
    """Return the axis: signed ticks, and on which side is better."""
    factor = formats.factor_of(metric)
    parts = []
    for tick in difference_ticks(scale, factor):
        text = formats.minus(f"{tick:+.3g}") if tick else "0"
        x = at(scale(tick / factor))
        parts.append(element("text", text, class_="tick", x=x, y=13, text_anchor="middle"))
    left, right = ("← worse", "better →") if better > 0 else ("← better", "worse →")
    parts += [
        element("text", left, class_="direction", x=0, y=30),
        element("text", right, class_="direction", x="100%", y=30, text_anchor="end"),
    ]
    return stretched(*parts, class_="axis-row")


def primary_plots(
    contrast: Contrast, scale: Scale, metric: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return one row for each of the tests, with its marks and its numbers."""
    factor = formats.factor_of(metric["name"])
    return [
        {
            "unit": unit,
            "evidence": contrast[test],
            "plot": stretched(
                *_ground(scale, metric["margin"], factor),
                *interval_marks(contrast[test], scale, y=0, class_=class_of(test)),
                class_=tone(contrast["outcome"]),
            ),
        }
        for test, unit in tests_of([contrast]).items()
    ]
