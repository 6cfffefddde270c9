"""Why nothing may be claimed from a comparison, whatever its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from featurebench.comparison.design import Design
    from featurebench.results import ArmKind, ResultsTable

# With 5 units, the exact sign-flip test gives no p-value below 2 / 2 ** 5 = 0.0625.
FEWEST_UNITS = 6
# The variation between the patients of a class cannot be seen in one of them.
FEWEST_PER_CLASS = 2
_KINDS: dict[ArmKind, str] = {"probe": "frozen probe", "finetune": "fine-tuned network"}


def bars(results: ResultsTable, design: Design) -> tuple[str, ...]:
    """Collect the reasons why nothing may be claimed, one sentence each; () where there is none.

    They are of the kind that no test allows for: patients that are unknown; patients or slides on
    both sides of a fold, so that scores are too high; one test set, which does not show how
    training varies; too few patients, altogether or of one class, for any test over patients;
    every arm of one kind failed, so that what was to be compared is not there. Everything milder
    is a caveat.

    Parameters
    ----------
    results
        Runs and failures.
    design
        Folds and units of these results.
    """
    return (
        *_about_folds(results, design),
        *_about_numbers(design),
        *_about_classes(results, design),
        *_about_failures(results),
    )


def _about_folds(results: ResultsTable, design: Design) -> list[str]:
    found = []
    if design.unit == "tiles":
        found.append(
            "It is not known which tiles are of one patient, so what is measured is described and "
            "not tested: give patient_id, each tile its own where no two are of one patient."
        )
    torn = design.unit != "tiles" and not design.grouped
    if torn or _slide_is_torn(results):
        found.append(
            f"Some {design.unit if torn else 'slides'} have tiles on both sides of a fold, so "
            "scores are too high, most of all those of flexible arms."
        )
    if len(design.test_fold) * design.n_folds == 1:
        found.append(
            "With one test set every arm was trained once, and nothing shows how another training "
            "would differ: cross-validation with repeats (splits.folds, splits.repeats) does."
        )
    return found


def _slide_is_torn(results: ResultsTable) -> bool:
    """Tell whether a slide is tested in one fold and not in the same with all of its tiles."""
    if results.slides is None:
        return False
    known = results.slides >= 0
    _, first, at = np.unique(results.slides[known], return_index=True, return_inverse=True)
    side = np.maximum(results.test_fold[:, known], -1)
    return bool((side != side[:, first[at]]).any())


def _about_numbers(design: Design) -> list[str]:
    if design.n_units >= FEWEST_UNITS:
        return []
    verb = "was" if design.n_units == 1 else "were"
    return [
        f"Only {_counted(design.n_units, design.unit)} {verb} tested, and with fewer than "
        f"{FEWEST_UNITS} not even differences of one sign in all of them are rare by chance."
    ]


def _about_classes(results: ResultsTable, design: Design) -> list[str]:
    tested = (design.test_fold >= 0).any(axis=0)
    found = []
    for code, name in enumerate(results.classes):
        rows = tested & (design.y_true == code)
        n_units = len(np.unique(design.clusters[rows]))
        if n_units < FEWEST_PER_CLASS:
            found.append(
                f"Class {name} was tested on {_counted(n_units, design.unit)} only, so how far its "
                f"recall varies between {design.unit} cannot be seen."
            )
    return found


def _about_failures(results: ResultsTable) -> list[str]:
    there = {run.kind for run in results.runs}
    lost = {failure.kind for failure in results.failures} - there
    return [
        f"Every {name} failed, so there is none to compare."
        for kind, name in _KINDS.items()
        if kind in lost
    ]


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit[:-1] if number == 1 else unit}"
