"""Differences by patient against sums by hand; their parts of variance; the charts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt
import pytest
from report_cases import ReportCase, draw_case
from sklearn.metrics import balanced_accuracy_score

from featurebench.comparison.design import Design
from featurebench.reporting.patients import patient_differences, patients_section
from featurebench.reporting.patients_chart import component_bar, difference_bars

if TYPE_CHECKING:
    from featurebench.results import RunResult


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    return draw_case(Path(tmp_path_factory.mktemp("patients")))


@pytest.fixture(scope="module")
def design(case: ReportCase) -> Design:
    return Design.of(case.results, n_boot=10, seed=0)


def pair_of(case: ReportCase) -> tuple[RunResult, RunResult]:
    return case.results.runs[-1], case.results.runs[0]


def right(run: RunResult, y: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    return np.asarray(run.y_prob.argmax(axis=2) == y)


def test_a_patients_value_is_its_mean_over_tiles_and_repeats(
    case: ReportCase, design: Design
) -> None:
    arm, reference = pair_of(case)
    y, patients = case.results.y_true, case.results.patients
    assert patients is not None
    gain = right(arm, y).astype(float) - right(reference, y)
    expected = [gain[:, patients == p].mean() for p in range(40)]
    found = patient_differences(design, (arm, reference), "balanced_accuracy", 2)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    section = patients_section(design, (arm, reference), "balanced_accuracy")
    assert section is not None
    np.testing.assert_allclose(section["values"], np.sort(expected), atol=1e-5)
    assert section["n_better"] == np.sum(np.array(expected) > 1e-9)
    assert section["n_better"] + section["n_equal"] + section["n_worse"] == 40
    share = (section["n_better"] + section["n_equal"] / 2) / 40
    assert section["share_better"] == pytest.approx(share)


def test_patients_average_to_the_difference_of_their_class(
    case: ReportCase, design: Design
) -> None:
    arm, reference = pair_of(case)
    y, patients = case.results.y_true, case.results.patients
    assert patients is not None
    values = patient_differences(design, (arm, reference), "balanced_accuracy", 2)
    labels = np.array([y[patients == p][0] for p in range(40)])
    sizes = np.bincount(patients)
    by_class = [
        np.average(values[labels == k], weights=sizes[labels == k]) for k in np.unique(labels)
    ]
    scores = [
        np.mean([balanced_accuracy_score(y, p.argmax(axis=1)) for p in run.y_prob])
        for run in (arm, reference)
    ]
    assert np.mean(by_class) == pytest.approx(scores[0] - scores[1])


def test_where_less_is_better_the_sign_of_a_gain_turns(case: ReportCase, design: Design) -> None:
    section = patients_section(design, pair_of(case), "log_loss")
    assert section is not None
    values = np.array(section["values"])
    assert section["greater_is_better"] is False
    assert section["n_better"] == np.sum(values < 0)
    root = ET.fromstring(difference_bars(section))
    better = next(e for e in root.iter("path") if e.get("class") == "better")
    assert better.attrib["d"].count("M") == section["n_better"]


def test_ranks_are_not_taken_apart_by_patient(case: ReportCase, design: Design) -> None:
    section = patients_section(design, pair_of(case), "roc_auc")
    assert section is not None
    assert section["metric"] == "accuracy"


def test_without_patients_there_is_no_section(case: ReportCase) -> None:
    unknown = replace(case.results, patients=None)
    design = Design.of(unknown, n_boot=2, seed=0)
    assert patients_section(design, pair_of(case), "accuracy") is None


def test_components_are_those_of_a_two_way_analysis(case: ReportCase, design: Design) -> None:
    arm, reference = pair_of(case)
    y, patients = case.results.y_true, case.results.patients
    assert patients is not None
    gain = right(arm, y).astype(float) - right(reference, y)
    table = np.stack(
        [[g[patients == p].mean() for p in range(40)] for g in gain]
    )  # repeats by patients
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    rest = table - rows[:, None] - columns + table.mean()
    residual = np.sum(rest**2) / 39
    between = max(columns.var(ddof=1) - residual / 2, 0)
    splits = max(rows.var(ddof=1) - residual / 40, 0)
    section = patients_section(design, (arm, reference), "accuracy")
    assert section is not None
    found = section["components"]
    assert found["sds"]["patients"] ** 2 == pytest.approx(between)
    assert found["sds"]["splits"] ** 2 == pytest.approx(splits)
    assert found["sds"]["residual"] ** 2 == pytest.approx(residual)
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert (found["n_repeats"], found["n_seeds"]) == (2, 1)


def test_other_seeds_have_a_part_of_their_own(case: ReportCase, design: Design) -> None:
    arm, reference = pair_of(case)
    replica = replace(arm, seed=1, y_prob=case.results.runs[1].y_prob)
    with_seeds = patients_section(design, (arm, reference), "accuracy", [replica])
    assert with_seeds is not None
    assert set(with_seeds["components"]["shares"]) == {"patients", "splits", "seeds", "residual"}
    once = tuple(replace(run, y_prob=run.y_prob[:1]) for run in (arm, reference, replica))
    single = patients_section(design, (once[0], once[1]), "accuracy", once[2:])
    assert single is not None
    assert set(single["components"]["shares"]) == {"patients", "seeds", "residual"}
    alone = patients_section(design, (once[0], once[1]), "accuracy")
    assert alone is not None
    assert alone["components"] is None


def test_bars_stand_on_zero_and_add_up_in_the_legend(case: ReportCase, design: Design) -> None:
    section = patients_section(design, pair_of(case), "accuracy")
    assert section is not None
    root = ET.fromstring(difference_bars(section))
    paths = {e.get("class"): e.attrib["d"] for e in root.iter("path")}
    assert paths["better"].count("M") == section["n_better"]
    assert paths["worse"].count("M") == section["n_worse"]
    label = root.attrib["aria-label"]
    assert f"better for {section['n_better']}, equal for {section['n_equal']}" in label
    bar = component_bar(section["components"])
    assert bar is not None
    widths = [float(e.attrib["width"][:-1]) for e in ET.fromstring(bar["bar"]).iter("rect")]
    assert sum(widths) == pytest.approx(100, abs=0.1)
    assert next(name for _, name, _, _ in bar["legend"]) == "between patients"
    assert component_bar(None) is None
