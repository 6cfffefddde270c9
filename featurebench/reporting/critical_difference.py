"""Average ranks on one axis, with bars that join arms which are not told apart (Demsar 2006)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featurebench.reporting import formats
from featurebench.reporting.svg import Scale, at, element, fluid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

# With its number, half the width of a phone holds this many characters.
_LABEL_CHARACTERS = 22
_RULER, _BAR, _ROW = 22.0, 9.0, 26.0
# Of the axis, in per cent of the width: the numbers of the outer arms stand beside it.
_ENDS = 20.0, 80.0


@dataclass(frozen=True)
class RankedArm:
    """An arm's place on the axis."""

    arm: str
    label: str
    rank: float


def critical_difference(summary: Mapping[str, Any]) -> Markup | None:
    """Return the diagram; None where arms are not compared by rank.

    The best arm is on the left. Arms of the better half have their labels on the left, the others
    on the right, each above its own line, so that text keeps its size on a narrow page.
    """
    ranks = summary["ranks"]
    if ranks is None:
        return None
    arms = ranked(ranks, summary["labels"])
    scale = Scale(1, len(arms), *_ENDS)
    groups = [[arm for arm in arms if arm.arm in clique] for clique in ranks["cliques"]]
    has_ruler = ranks["critical_difference"] <= len(arms) - 1
    top = _RULER + 22 if has_ruler else 20.0
    levels = bar_levels(groups)
    bars = top + 8
    first_row = bars + _BAR * (max(levels, default=-1) + 1) + _ROW
    parts = [
        *(_ruler(ranks["critical_difference"], scale) if has_ruler else []),
        *_axis(scale, len(arms), top),
        *_bars(groups, levels, scale, bars),
        *_labels(arms, scale, top, first_row),
    ]
    height = first_row + _ROW * ((len(arms) + 1) // 2 - 1) + 6
    return fluid(*parts, height=height, label=_in_words(arms, groups), class_="cd")


def ranked(ranks: Mapping[str, Any], labels: Mapping[str, str]) -> list[RankedArm]:
    """Return the arms from the best average rank to the worst."""
    arms = [
        RankedArm(arm, labels[arm], rank)
        for arm, rank in zip(ranks["arms"], ranks["average_ranks"], strict=True)
    ]
    return sorted(arms, key=lambda arm: (arm.rank, arm.label))


def bar_levels(groups: Sequence[Sequence[RankedArm]]) -> list[int]:
    """Give every group's bar the highest level where it touches no bar placed before."""
    placed: list[list[tuple[float, float]]] = []
    levels = []
    for group in groups:
        low, high = group[0].rank, group[-1].rank
        level = next(
            (
                i
                for i, taken in enumerate(placed)
                if all(high < other_low or low > other_high for other_low, other_high in taken)
            ),
            len(placed),
        )
        if level == len(placed):
            placed.append([])
        placed[level].append((low, high))
        levels.append(level)
    return levels


def _ruler(distance: float, scale: Scale) -> list[Markup]:
    left, right, y = scale(1), scale(1 + distance), _RULER - 4
    ends = [
        element("line", class_="axis", x1=at(x), x2=at(x), y1=y - 4, y2=y + 4)
        for x in (left, right)
    ]
    text = f"critical difference {distance:.2f}"
    return [
        element("line", class_="axis", x1=at(left), x2=at(right), y1=y, y2=y),
        *ends,
        element("text", text, class_="tick", x=at(left), y=y - 8),
    ]


def _axis(scale: Scale, k: int, y: float) -> list[Markup]:
    parts = [element("line", class_="axis", x1=at(scale(1)), x2=at(scale(k)), y1=y, y2=y)]
    every = 1 if k <= 12 else 2
    for rank in range(1, k + 1, every):
        x = at(scale(rank))
        parts.append(element("line", class_="axis", x1=x, x2=x, y1=y - 4, y2=y))
        parts.append(element("text", str(rank), class_="tick", x=x, y=y - 7, text_anchor="middle"))
    return parts


def _bars(
    groups: Sequence[Sequence[RankedArm]], levels: Sequence[int], scale: Scale, top: float
) -> list[Markup]:
    parts = []
    for group, level in zip(groups, levels, strict=True):
        y = top + _BAR * level
        left, right = scale(group[0].rank), scale(group[-1].rank)
        parts.append(element("line", class_="clique", x1=at(left), x2=at(right), y1=y, y2=y))
        parts += [
            element("circle", class_="member", cx=at(scale(arm.rank)), cy=y, r=3.5) for arm in group
        ]
    return parts


def _labels(arms: Sequence[RankedArm], scale: Scale, axis: float, first_row: float) -> list[Markup]:
    """Draw lines that do not cross: the outer arms of both sides have the upper rows."""
    half = (len(arms) + 1) // 2
    sides = (arms[:half], arms[half:][::-1])
    lines, texts = [], []
    for side, edge, anchor in zip(sides, (0, 100), ("start", "end"), strict=True):
        for row, arm in enumerate(side):
            x, y = at(scale(arm.rank)), first_row + _ROW * row
            lines.append(element("line", class_="leader", x1=x, x2=x, y1=axis, y2=y))
            lines.append(element("line", class_="leader", x1=at(edge), x2=x, y1=y, y2=y))
            label = formats.shorten(arm.label, _LABEL_CHARACTERS)
            text = f"{arm.rank:.2f}  {label}" if anchor == "start" else f"{label}  {arm.rank:.2f}"
            texts.append(
                element(
                    "text",
                    text,
                    element("title", arm.label),
                    class_="label",
                    x=at(edge),
                    y=y - 7,
                    text_anchor=anchor,
                )
            )
    return [*lines, *texts]


def _in_words(arms: Sequence[RankedArm], groups: Sequence[Sequence[RankedArm]]) -> str:
    told = ", ".join(f"{arm.label} {arm.rank:.2f}" for arm in arms)
    joined = "; ".join(", ".join(arm.label for arm in group) for group in groups)
    alike = f" Not told apart: {joined}." if joined else " All pairs are told apart."
    return f"Average ranks, 1 is best: {told}.{alike}"
