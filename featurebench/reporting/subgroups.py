"""Scores by class, site or scanner, as a plain dict and as marks in a table's rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from featurebench.comparison.subgroups import CLASS, FEW_PATIENTS
from featurebench.metrics import GREATER_IS_BETTER
from featurebench.reporting.svg import Attributes, Scale, at, element, padded, stretched

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    from featurebench.comparison import Comparison

MAX_ARMS = 6
START, STOP = 1.5, 98.5
# The two arms stand one above the other, so that neither hides the other's interval.
_SHIFTS = (-6, 7)
_RECORDED = ("column", "value", "arm", "metric", "n_tiles", "n_patients")


def subgroups_section(comparison: Comparison, shown: Sequence[str]) -> dict[str, Any] | None:
    """Return the scores by subgroup; None where there are none.

    Parameters
    ----------
    comparison
        Whose ``subgroups`` are read.
    shown
        Names of the arms to be shown, the leads first; of more than six the first.

    Returns
    -------
    dict or None
        ``columns``: for each its ``metric``, the ``arms`` shown, ``rows`` (value, counts, warning,
        one estimate per arm) and ``gaps`` (per arm: between the best and the worst group of ten
        patients or more that has tiles of several classes); ``scores``: every arm's, one record
        each.
    """
    if not comparison.subgroups:
        return None
    arms = list(shown[:MAX_ARMS])
    columns = list(dict.fromkeys(each.column for each in comparison.subgroups))
    return {
        "columns": [_column(comparison, column, arms) for column in columns],
        "n_left_out": len(comparison.arms) - len(arms),
        "scores": [
            {
                **{key: getattr(each, key) for key in _RECORDED},
                "score": each.estimate.value,
                "ci_low": each.estimate.ci_low,
                "ci_high": each.estimate.ci_high,
                "warning": each.warning,
            }
            for each in comparison.subgroups
        ],
    }


def _column(comparison: Comparison, column: str, arms: Sequence[str]) -> dict[str, Any]:
    groups = [each for each in comparison.subgroups if each.column == column]
    by_place = {(each.value, each.arm): each for each in groups}
    rows = []
    for value in dict.fromkeys(each.value for each in groups):
        found = [by_place[value, arm] for arm in arms]
        row = {key: getattr(found[0], key) for key in ("value", "n_tiles", "n_patients", "warning")}
        rows.append(row | {"cells": [asdict(each.estimate) for each in found]})
    metric = groups[0].metric
    return {
        "column": column,
        "metric": metric,
        "is_class": column == CLASS,
        "arms": list(arms),
        "rows": rows,
        "gaps": [_gap(rows, place, metric) for place in range(len(arms))],
    }


def _gap(rows: Sequence[Mapping[str, Any]], place: int, metric: str) -> dict[str, Any] | None:
    """Return the gap between the best and the worst group that can be relied on."""
    sign = 1 if GREATER_IS_BETTER[metric] else -1
    values = [
        (sign * row["cells"][place]["value"], row["value"])
        for row in rows
        if not row["warning"] and row["cells"][place]["value"] == row["cells"][place]["value"]
    ]
    if len(values) < 2:
        return None
    best, worst = max(values), min(values)
    return {"value": best[0] - worst[0], "best": best[1], "worst": worst[1]}


def subgroup_tables(section: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return each column's rows with the marks of the leads, and the axis below them."""
    if section is None:
        return []
    return [_table(column) for column in section["columns"]]


def _table(column: Mapping[str, Any]) -> dict[str, Any]:
    leads = len(column["arms"][:2])
    cells = [cell for row in column["rows"] for cell in row["cells"][:leads]]
    ends = [cell[key] for cell in cells for key in ("value", "ci_low", "ci_high")]
    scale = Scale(*padded([e for e in ends if e is not None] or [0.0, 1.0]), START, STOP)
    return {
        "column": column,
        "few": FEW_PATIENTS,
        "plots": [_plot(row["cells"][:leads], scale) for row in column["rows"]],
        "axis": _axis(scale),
    }


def _plot(cells: Sequence[Mapping[str, Any]], scale: Scale) -> Markup:
    parts = [
        element("line", class_="grid", x1=at(scale(t)), x2=at(scale(t)), y1=0, y2="100%")
        for t in scale.ticks(5)
    ]
    for number, cell in enumerate(cells):
        if cell["value"] is not None:
            shift = _SHIFTS[number] if len(cells) > 1 else 0
            parts.append(_marks(cell, scale, number, shift))
    return stretched(*parts, class_="groups")


def _marks(cell: Mapping[str, Any], scale: Scale, number: int, shift: int) -> Markup:
    parts = []
    middle: Attributes = {"y1": "50%", "y2": "50%"}
    if cell["ci_low"] is not None and cell["ci_high"] is not None:
        x1, x2 = at(scale(cell["ci_low"])), at(scale(cell["ci_high"]))
        parts.append(element("line", class_="whisker", x1=x1, x2=x2, **middle))
    x = at(scale(cell["value"]))
    if number == 0:
        parts.append(element("circle", class_="point", cx=x, cy="50%", r=4.5))
    else:
        diamond = element("path", class_="point", d="M0-6L6 0L0 6L-6 0Z")
        parts.append(element("svg", diamond, x=x, y="50%", overflow="visible", width=1, height=1))
    return element("g", *parts, class_=f"s{number}", transform=f"translate(0 {shift})")


def _axis(scale: Scale) -> Markup:
    ticks = [
        element("text", f"{t:.3g}", class_="tick", x=at(scale(t)), y=13, text_anchor="middle")
        for t in scale.ticks(5)
    ]
    return stretched(*ticks, class_="axis-row")


def mark_sample(number: int) -> Markup:
    """Return the sample of a lead's mark for the legend."""
    line = element("line", class_="whisker", x1=0, x2=26, y1=7, y2=7)
    point = (
        element("circle", class_="point", cx=13, cy=7, r=4.5)
        if number == 0
        else element("path", class_="point", d="M13 1L19 7L13 13L7 7Z")
    )
    group = element("g", line, point, class_=f"s{number}")
    shape: Attributes = {"width": 26, "height": 14, "aria_hidden": "true"}
    return element("svg", group, class_="swatch groups", **shape)
