"""Charts of counts: bars that are split into segments, histograms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurebench.reporting import formats
from featurebench.reporting.svg import Attributes, Scale, at, element, fluid, number_at_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

ROW = 38


@dataclass(frozen=True)
class BarRow:
    """One line of `bars`: a labelled count, split into segments."""

    label: str
    counts: tuple[int, ...]
    note: str = ""


def bars(rows: Sequence[BarRow], *, label: str, series: Sequence[int] = (0,)) -> Markup:
    """Return horizontal bars with counts; segments take the colours numbered in ``series``."""
    longest = max((sum(row.counts) for row in rows), default=0) or 1
    parts = [_bar_row(row, i * ROW, longest, series) for i, row in enumerate(rows)]
    return fluid(*parts, height=len(rows) * ROW, label=label, class_="bars")


def _bar_row(row: BarRow, top: float, longest: int, series: Sequence[int]) -> Markup:
    text = formats.count(sum(row.counts)) + (f"  {row.note}" if row.note else "")
    parts = [
        element("text", formats.shorten(row.label, 36), class_="label", x=0, y=top + 13),
        number_at_end(text, top + 13),
    ]
    x = 0.0
    for number, colour in zip(row.counts, series, strict=False):
        width = 100 * number / longest
        if number:
            shape: Attributes = {"x": at(x), "y": top + 19, "width": at(width), "height": 11}
            parts.append(element("rect", class_=f"fill s{colour}", **shape))
        x += width
    return element("g", *parts)


def histogram(edges: Sequence[float], counts: Sequence[int], *, label: str, axis: str) -> Markup:
    """Return vertical bars of counts between ``edges`` (one more than counts)."""
    scale = Scale(edges[0], edges[-1], 0.5, 99.5)
    tallest = max(counts, default=0) or 1
    height, top = 110.0, 16.0
    parts = []
    for low, high, number in zip(edges[:-1], edges[1:], counts, strict=True):
        if not number:
            continue
        x, width, size = scale(low), scale(high) - scale(low), number / tallest * height
        shape: Attributes = {
            "x": at(x),
            "y": top + height - size,
            "width": at(width),
            "height": size,
        }
        centre = at(x + width / 2)
        parts.append(element("rect", class_="fill s0 outlined", **shape))
        text = formats.count(number)
        y = top + height - size - 4
        parts.append(element("text", text, class_="tick", x=centre, y=y, text_anchor="middle"))
    base = top + height
    parts.append(element("line", class_="axis", x1=0, x2="100%", y1=base, y2=base))
    ends = ((edges[0], "0", "start"), (edges[-1], "100%", "end"))
    for value, x_end, anchor in ends:
        text = f"{value:g}"
        parts.append(element("text", text, class_="tick", x=x_end, y=base + 15, text_anchor=anchor))
    parts.append(
        element("text", axis, class_="direction", x="50%", y=base + 15, text_anchor="middle")
    )
    return fluid(*parts, height=base + 20, label=label, class_="histogram")
