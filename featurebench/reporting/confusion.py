"""Confusion matrices as tables: counts, shares of the true class, and links to the tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featurebench.reporting import formats

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# So many steps of shade can be told apart; a number stands in every cell anyway.
SHADES = 10
# More classes than this are numbered in the head of the columns, which would not hold their names.
NAMED = 4


@dataclass(frozen=True)
class Cell:
    """One cell: how often ``true`` was called ``called``, and where such tiles are shown."""

    count: int
    share: str
    shade: int
    is_right: bool
    says: str
    anchor: str


@dataclass(frozen=True)
class Matrix:
    """One arm's confusion matrix; ``heads`` are what the columns are called."""

    arm: Mapping[str, Any]
    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def matrices(summary: Mapping[str, Any], ranked: Sequence[Mapping[str, Any]]) -> list[Matrix]:
    """Return the matrices of all arms, in the order in which arms are shown."""
    places = {arm["id"]: place for place, arm in enumerate(summary["arms"])}
    classes = summary["data"]["classes"]
    return [matrix_of(arm, classes, place=places[arm["id"]]) for arm in ranked]


def matrix_of(arm: Mapping[str, Any], classes: Sequence[str], *, place: int) -> Matrix:
    """Lay one arm's matrix out; ``place`` is the arm's among the arms of the summary."""
    numbered = len(classes) > NAMED
    names = [f"{i + 1} {name}" if numbered else name for i, name in enumerate(classes)]
    heads = tuple(str(i + 1) for i in range(len(classes))) if numbered else tuple(classes)
    rows = tuple(
        (names[i], tuple(_cell(row, i, j, classes, place) for j in range(len(classes))))
        for i, row in enumerate(arm["confusion"])
    )
    return Matrix(arm, heads, rows)


def tiles_anchor(place: int, true: int, called: int) -> str:
    """Name the place where an arm's tiles of one class that were called another are shown."""
    return f"tiles-{place}-{true}-{called}"


def tiles_shown(gallery: Mapping[str, Any] | None) -> frozenset[str]:
    """Return the anchors of the cells whose tiles the gallery has; none without a gallery."""
    arms = (gallery or {"arms": []})["arms"]
    return frozenset(
        tiles_anchor(arm["place"], cell["true"], cell["called"])
        for arm in arms
        for cell in arm["cells"]
    )


def _cell(row: Sequence[int], true: int, called: int, classes: Sequence[str], place: int) -> Cell:
    share = row[called] / (sum(row) or 1)
    return Cell(
        count=row[called],
        share=formats.percent(share),
        shade=round(SHADES * share),
        is_right=true == called,
        says=f"{classes[true]} called {classes[called]}",
        anchor=tiles_anchor(place, true, called),
    )
