"""The few pieces that every chart is drawn from: escaped elements, scales and round ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from featurebench.reporting.formats import minus_signs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Number = float | int
Attributes = dict[str, str | Number | None]


def element(name: str, *children: str, **attributes: str | Number | None) -> Markup:
    """Return one SVG element; text children and attribute values are escaped.

    Attribute names are given with underscores (``text_anchor``; ``class_`` for ``class``);
    attributes that are None are left out, numbers are rounded to two decimals.
    """
    pairs = (
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{''.join(pairs)}>{join(children)}</{name}>")


def join(children: Iterable[str]) -> Markup:
    """Concatenate children; those that are plain text are escaped, with true minus signs."""
    return Markup("").join(
        child if isinstance(child, Markup) else minus_signs(child) for child in children
    )


def fluid(*children: str, height: Number, label: str, class_: str) -> Markup:
    """Return a figure as wide as its box: x in per cent, y in pixels, so text keeps its size."""
    shape: Attributes = {"width": "100%", "height": height}
    return element(
        "svg", *children, class_=f"chart {class_}", role="img", aria_label=label, **shape
    )


def framed(*children: str, width: Number, height: Number, label: str, class_: str) -> Markup:
    """Return a figure of fixed proportions that shrinks with its box."""
    view = f"0 0 {_plain(width)} {_plain(height)}"
    shape: Attributes = {"width": width, "height": height, "viewBox": view}
    return element(
        "svg", *children, class_=f"chart {class_}", role="img", aria_label=label, **shape
    )


def stretched(*children: str, class_: str) -> Markup:
    """Return marks that fill a table's cell, x and y in per cent; its row says it in words too."""
    shape: Attributes = {"width": "100%", "height": "100%", "aria_hidden": "true"}
    return element("svg", *children, class_=f"rowplot {class_}", **shape)


def arrow_at(x: Number, y: str, *, to_left: bool) -> Markup:
    """Return the arrow for a value off the scale, its tip at x per cent."""
    tip = "M8 -5L0 0L8 5Z" if to_left else "M-8 -5L0 0L-8 5Z"
    arrow = element("path", class_="arrow", d=tip)
    return element("svg", arrow, x=at(x), y=y, width=1, height=1, overflow="visible")


def at(percent: Number) -> str:
    """Return a position in per cent of the figure's width."""
    return f"{_plain(percent)}%"


def number_at_end(text: str, y: Number, *more: str) -> Markup:
    """Return a number at the right edge."""
    return element("text", text, *more, class_="number", x="100%", y=y, text_anchor="end")


@dataclass(frozen=True)
class Scale:
    """Maps ``low..high`` linearly (or by logarithm) to ``start..stop``; values outside are kept."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value."""
        low, high, value = (_log(x) if self.log else x for x in (self.low, self.high, value))
        share = 0.5 if high == low else (value - low) / (high - low)
        return self.start + share * (self.stop - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Return round values within the domain of a linear scale."""
        return round_ticks(self.low, self.high, about)


def round_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten between ``low`` and ``high``."""
    if not high > low:
        return [low]
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def padded(
    values: Sequence[float], share: float = 0.05, floor: float = 1e-9
) -> tuple[float, float]:
    """Return the values' range, widened on both sides by a share of it."""
    low, high = min(values), max(values)
    pad = max((high - low) * share, floor)
    return low - pad, high + pad


def polyline(points: Iterable[tuple[float, float]]) -> str:
    """Return path data through the points."""
    pairs = [f"{_plain(x)} {_plain(y)}" for x, y in points]
    return "M" + "L".join(pairs) if pairs else ""


def _log(value: float) -> float:
    return math.log10(max(value, 1e-12))


def _plain(value: str | Number) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
