"""Charts of the differences by patient, and of what makes them vary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featurebench.reporting import formats
from featurebench.reporting.svg import Scale, at, element, fluid, padded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

HEIGHT, TOP = 170.0, 22.0
LEFT = 11.0
PARTS = {
    "patients": "between patients",
    "splits": "between splits into folds",
    "seeds": "between seeds",
    "residual": "the rest: a patient in one split and training",
}


def difference_bars(section: Mapping[str, Any]) -> Markup:
    """Return a bar for each patient, from the largest loss to the largest gain of the arm."""
    sign = 1 if section["greater_is_better"] else -1
    values = sorted((value for value in section["values"]), key=lambda value: sign * value)
    factor = formats.factor_of(section["metric"])
    ys = Scale(*padded([0.0, *(factor * value for value in values)]), TOP + HEIGHT, TOP)
    parts = [*_axis(ys)]
    for wanted, class_ in ((-1, "worse"), (1, "better")):
        path = _bars([factor * value for value in values], ys, wanted * sign)
        if path:
            parts.append(_stretched(path, len(values), class_))
    parts.append(element("line", class_="zero", x1=at(LEFT), x2="100%", y1=ys(0), y2=ys(0)))
    parts += _directions(TOP + HEIGHT + 16)
    label = (
        f"Difference in {formats.metric_phrase(section['metric'])} of each patient: better for "
        f"{section['n_better']}, equal for {section['n_equal']}, worse for {section['n_worse']}"
    )
    return fluid(*parts, height=TOP + HEIGHT + 22, label=label, class_="by-patient")


def _bars(values: Sequence[float], ys: Scale, sign: int) -> str:
    """Return path data of the bars on one side, one unit of width for each patient."""
    base = f"{ys(0):.1f}"
    gap = 0.0 if len(values) > 150 else 0.12
    return "".join(
        f"M{i + gap:g} {base}V{ys(value):.1f}H{i + 1 - gap:g}V{base}Z"
        for i, value in enumerate(values)
        if sign * value > 0
    )


def _stretched(path: str, n: int, class_: str) -> Markup:
    """Stretch a drawing n units wide to the plot's width; heights stay as they are."""
    bars = element("path", class_=class_, d=path)
    bottom = TOP + HEIGHT
    return element(
        "svg", bars, x=at(LEFT), y=0, width=at(100 - LEFT), height=bottom,
        viewBox=f"0 0 {n} {bottom:g}", preserveAspectRatio="none",
    )  # fmt: skip


def _axis(ys: Scale) -> list[Markup]:
    parts = []
    for tick in ys.ticks(5):
        y, text = ys(tick), formats.minus(f"{tick:+.3g}") if tick else "0"
        parts += [
            element("line", class_="grid", x1=at(LEFT), x2="100%", y1=y, y2=y),
            element("text", text, class_="tick", x=at(LEFT - 1), y=y + 4, text_anchor="end"),
        ]
    return parts


def _directions(y: float) -> list[Markup]:
    return [
        element("text", "← worse", class_="direction", x=at(LEFT), y=y),
        element("text", "better →", class_="direction", x="100%", y=y, text_anchor="end"),
    ]


def component_bar(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the bar of the parts of the variance with its legend; None without."""
    if found is None:
        return None
    parts, legend, x = [], [], 0.0
    for number, (key, name) in enumerate(PARTS.items()):
        if key not in found["shares"]:
            continue
        share = 100 * found["shares"][key]
        fill = f"fill s{_COLOURS[number]}"
        parts.append(
            element("rect", class_=f"{fill} outlined", x=at(x), width=at(share), y=0, height=22)
        )
        if share > 12:
            middle, text = at(x + share / 2), formats.percent(share / 100)
            parts.append(
                element("text", text, class_="inside", x=middle, y=15, text_anchor="middle")
            )
        sample = element("rect", class_=fill, width=12, height=12)
        box = element("svg", sample, class_="swatch", width=12, height=12, aria_hidden="true")
        legend.append((box, name, found["shares"][key], found["sds"][key]))
        x += share
    told = ", ".join(f"{name} {formats.percent(share)}" for _, name, share, _ in legend)
    return {
        "bar": fluid(*parts, height=22, label=f"Parts of the variance: {told}", class_="parts"),
        "legend": legend,
    }


_COLOURS = (0, 4, 2, 6)
