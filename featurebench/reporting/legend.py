"""Which colour means what: classes, methods, and their samples for a legend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featurebench.reporting.svg import element

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

COLOURS = 8


def swatch(colour: int, *, line: bool = False) -> Markup:
    """Return a colour's sample for a legend."""
    if line:
        mark = element("path", class_=f"line s{colour} d{colour}", d="M0 5H26")
        return element("svg", mark, class_="swatch", width=26, height=10, aria_hidden="true")
    mark = element("rect", class_=f"fill s{colour}", width=12, height=12)
    return element("svg", mark, class_="swatch", width=12, height=12, aria_hidden="true")


def class_colours(names: Sequence[str]) -> list[int]:
    """Return the colour of each class."""
    return [k % COLOURS for k in range(len(names))]


def class_key(names: Sequence[str]) -> list[tuple[Markup, str]]:
    """Return the legend of the classes."""
    return [(swatch(k), name) for k, name in zip(class_colours(names), names, strict=True)]


def method_colours(arms: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Map arm ids to colours: a head keeps its colour in every panel, other arms have their own."""
    keys = [arm["method"] if arm["kind"] == "probe" else arm["id"] for arm in arms]
    numbers = {key: i % COLOURS for i, key in enumerate(dict.fromkeys(keys))}
    return {arm["id"]: numbers[key] for arm, key in zip(arms, keys, strict=True)}
