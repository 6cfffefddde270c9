"""Subgroups in the report: gaps by hand, marks, the CSV table and which arms are shown."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from report_cases import ReportCase, draw_case

from featurebench.comparison.design import Design
from featurebench.comparison.subgroups import subgroup_columns, subgroup_scores
from featurebench.reporting import write_report
from featurebench.reporting.render import render_html
from featurebench.reporting.subgroups import subgroup_tables, subgroups_section


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    drawn = draw_case(Path(tmp_path_factory.mktemp("subgroups")))
    design = Design.of(drawn.results, n_boot=50, seed=0)
    found = subgroup_scores(
        design, drawn.results.runs, "balanced_accuracy", subgroup_columns(drawn.manifest)
    )
    return replace(drawn, comparison=replace(drawn.comparison, subgroups=found))


@pytest.fixture(scope="module")
def summary(case: ReportCase) -> dict[str, Any]:
    return case.summary()


def test_none_without_subgroups(case: ReportCase) -> None:
    assert subgroups_section(replace(case.comparison, subgroups=()), ["a"]) is None
    assert subgroup_tables(None) == []


def test_leads_come_first_and_six_arms_are_shown(case: ReportCase, summary: dict[str, Any]) -> None:
    column = summary["subgroups"]["columns"][1]
    primary = case.comparison.primary
    assert primary is not None
    assert column["arms"][:2] == [case.comparison.reference, primary.arm_a]
    assert len(column["arms"]) == 6
    assert "dummy" not in column["arms"]
    assert summary["subgroups"]["n_left_out"] == len(case.comparison.arms) - 6


def test_cells_are_the_scores(case: ReportCase, summary: dict[str, Any]) -> None:
    by_place = {(g.column, g.value, g.arm): g for g in case.comparison.subgroups}
    for column in summary["subgroups"]["columns"]:
        for row in column["rows"]:
            for arm, cell in zip(column["arms"], row["cells"], strict=True):
                group = by_place[column["column"], row["value"], arm]
                assert cell["value"] == group.estimate.value
                assert row["n_patients"] == group.n_patients


def test_gap_is_between_the_groups_that_can_be_relied_on(case: ReportCase) -> None:
    names = [case.comparison.reference]
    groups = [
        replace(g, warning="fewer than 10 patients" if g.value == "site-1" else "")
        for g in case.comparison.subgroups
    ]
    section = subgroups_section(replace(case.comparison, subgroups=tuple(groups)), names)
    assert section is not None
    values = {g.value: g.estimate.value for g in groups if g.column == "site" and g.arm == names[0]}
    (gap,) = section["columns"][1]["gaps"]
    kept = {name: value for name, value in values.items() if name != "site-1"}
    assert gap["value"] == pytest.approx(max(kept.values()) - min(kept.values()))
    assert kept[gap["best"]] == max(kept.values())
    alone = [replace(g, warning="few") for g in groups]
    section = subgroups_section(replace(case.comparison, subgroups=tuple(alone)), names)
    assert section is not None
    assert section["columns"][0]["gaps"] == [None]


def test_marks_stand_on_one_scale(summary: dict[str, Any]) -> None:
    table = subgroup_tables(summary["subgroups"])[1]
    assert len(table["plots"]) == len(table["column"]["rows"]) == 3
    places = []
    for plot, row in zip(table["plots"], table["column"]["rows"], strict=True):
        root = ET.fromstring(plot)
        (circle,) = root.iter("circle")
        places.append((row["cells"][0]["value"], float(circle.attrib["cx"][:-1])))
        assert len([e for e in root.iter("line") if e.get("class") == "whisker"]) == 2
    ordered = sorted(places)
    assert [place for _, place in ordered] == sorted(place for _, place in places)


def test_csv_has_every_arm_in_every_group(case: ReportCase, tmp_path: Path) -> None:
    summary = case.summary()
    write_report(summary, tmp_path)
    text = (tmp_path / "subgroups.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(case.comparison.subgroups)
    assert set(rows[0]) >= {"column", "value", "arm", "metric", "ci_low", "n_patients", "warning"}
    first = case.comparison.subgroups[0]
    assert (rows[0]["column"], rows[0]["value"]) == ("class", "benign")
    assert float(rows[0]["score"]) == pytest.approx(first.estimate.value)


def test_report_says_what_a_class_score_is(summary: dict[str, Any]) -> None:
    html = render_html(summary)
    assert "Within one true class the score is the recall" in html
    assert "By site: balanced accuracy" in html
    assert 'id="subgroups-title"' in html
