"""Charts of the cohort and its folds: tiles per class, site, patient and fold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featurebench.reporting import counts, formats
from featurebench.reporting.legend import class_colours

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markupsafe import Markup


def classes_chart(data: Mapping[str, Any]) -> Markup:
    """Return tiles per class, each bar in its class's colour."""
    patients = data["patients_per_class"] or {}
    names = data["classes"]
    rows = [
        counts.BarRow(
            label=name,
            counts=tuple(data["tiles_per_class"][name] if k == j else 0 for j in range(len(names))),
            note=f"({formats.counted(patients[name], 'patient')})" if patients else "",
        )
        for k, name in enumerate(names)
    ]
    return counts.bars(rows, label="Tiles per class", series=class_colours(names))


def sites_chart(data: Mapping[str, Any]) -> Markup | None:
    """Return tiles per site, split by class; None where no site is recorded."""
    names = data["classes"]
    rows = [
        counts.BarRow(
            label=row["site"],
            counts=tuple(row["class_counts"][name] for name in names),
            note=""
            if row["n_patients"] is None
            else f"({formats.counted(row['n_patients'], 'patient')})",
        )
        for row in data["sites"]
    ]
    if not rows:
        return None
    return counts.bars(rows, label="Tiles per site and class", series=class_colours(names))


def patients_chart(data: Mapping[str, Any]) -> Markup | None:
    """Return the histogram of tiles per patient; None where patients are unknown or all alike."""
    spread = data["tiles_per_patient"]
    if spread is None or spread["min"] == spread["max"]:
        return None
    label = "Number of patients by their number of tiles"
    return counts.histogram(
        spread["edges"], spread["counts"], label=label, axis="tiles of a patient"
    )


def plan_chart(summary: Mapping[str, Any]) -> Markup:
    """Return the tested tiles of the first repeat's folds, split by class."""
    names = summary["data"]["classes"]
    rows = [
        counts.BarRow(
            label=f"Fold {row['fold'] + 1}"
            if summary["plan"]["scheme"] == "kfold"
            else "Test part",
            counts=tuple(row["class_counts"][name] for name in names),
            note=""
            if row["n_test_patients"] is None
            else f"({formats.counted(row['n_test_patients'], 'patient')})",
        )
        for row in summary["plan"]["folds"]
        if row["repeat"] == 0
    ]
    return counts.bars(rows, label="Tested tiles per fold and class", series=class_colours(names))


def example_tiles(data: Mapping[str, Any]) -> dict[str, dict[str | None, list[Mapping[str, Any]]]]:
    """Return the example tiles by class and site."""
    groups: dict[str, dict[str | None, list[Mapping[str, Any]]]] = {}
    for tile in data["example_tiles"]:
        groups.setdefault(tile["label"], {}).setdefault(tile["site"], []).append(tile)
    return groups
