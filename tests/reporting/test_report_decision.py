"""Net benefit against hand-computed values and the definition; the decision curve's chart."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from report_cases import ReportCase, draw_case

from featurebench.comparison.design import Design
from featurebench.reporting.decision import THRESHOLDS, decision_section, net_benefit
from featurebench.reporting.decision_chart import decision


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    return draw_case(Path(tmp_path_factory.mktemp("decision")))


def test_net_benefit_by_hand() -> None:
    # At 0.2 all four of five are treated: 2 hits, 2 false ones at odds of a quarter.
    has = [True, True, False, False, False]
    score = [0.9, 0.3, 0.8, 0.25, 0.1]
    found = net_benefit(has, score, [0.2, 0.5, 0.85])
    assert found.tolist() == pytest.approx([(2 - 2 * 0.25) / 5, (1 - 1) / 5, 1 / 5])


def test_net_benefit_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    has, score = rng.random(300) < 0.3, rng.random(300).round(2)
    for t, value in zip(THRESHOLDS, net_benefit(has, score, THRESHOLDS), strict=True):
        treated = score >= t
        hits, alarms = np.sum(treated & has), np.sum(treated & ~has)
        assert value == pytest.approx(hits / 300 - alarms / 300 * t / (1 - t))


def test_treating_all_and_none_are_the_limits(case: ReportCase) -> None:
    design = Design.of(case.results, n_boot=10, seed=0)
    summary_arm = {"id": "x", "label": "x"}
    run = case.results.runs[0]
    found = decision_section(design, [(summary_arm, run)], case.results.classes)
    assert found is not None
    rows = design.rows(0)
    everyone = net_benefit(design.y_true[rows] == 1, np.ones(len(rows)), THRESHOLDS)
    np.testing.assert_allclose(found["treat_all"], everyone, atol=1e-5)
    assert found["prevalence"] == pytest.approx(np.mean(design.y_true == 1))
    expected = np.mean(
        [net_benefit(design.y_true == 1, p[:, 1], THRESHOLDS) for p in run.y_prob], axis=0
    )
    np.testing.assert_allclose(found["arms"][0]["values"], expected, atol=1e-5)


def test_ranges_are_where_the_arm_beats_both(case: ReportCase) -> None:
    design = Design.of(case.results, n_boot=10, seed=0)
    run = case.results.runs[0]
    found = decision_section(design, [({"id": "x", "label": "x"}, run)], case.results.classes)
    assert found is not None
    (arm,) = found["arms"]
    assert arm["ranges"]
    inside = np.zeros(len(THRESHOLDS), dtype=bool)
    for low, high in arm["ranges"]:
        assert high - low >= 0.04 - 1e-9
        inside |= (low - 1e-9 <= THRESHOLDS) & (high + 1e-9 >= THRESHOLDS)
    best = np.maximum(found["treat_all"], 0)
    assert np.all(np.array(arm["values"])[inside] >= best[inside] - 1e-5)


def test_a_constant_forecast_is_useful_nowhere(case: ReportCase) -> None:
    design = Design.of(case.results, n_boot=10, seed=0)
    dummy = next(run for run in case.results.runs if run.arm == "dummy")
    flat = type(dummy)(**{**vars(dummy), "y_prob": np.full_like(dummy.y_prob, 0.5)})
    found = decision_section(design, [({"id": "d", "label": "d"}, flat)], case.results.classes)
    assert found is not None
    assert found["arms"][0]["ranges"] == []


def test_only_two_classes_have_a_decision_curve(case: ReportCase) -> None:
    design = Design.of(case.results, n_boot=10, seed=0)
    assert decision_section(design, [], case.results.classes) is None
    runs = [({"id": "x", "label": "x"}, case.results.runs[0])]
    assert decision_section(design, runs, ("a", "b", "c")) is None


def test_chart_cuts_curves_below_the_plot() -> None:
    section = {
        "of": "tumour",
        "prevalence": 0.5,
        "thresholds": [0.1, 0.5, 0.9],
        "treat_all": [0.44, 0.0, -4.0],
        "arms": [{"id": "a", "label": "a <arm>", "values": [0.45, 0.3, 0.1], "ranges": []}],
    }
    root = ET.fromstring(decision(section, [0]))
    lines = [e for e in root.iter("path") if "line" in e.get("class", "").split()]
    chance = [e for e in root.iter("path") if e.get("class") == "chance"]
    assert lines[0].attrib["d"].count("L") == 2
    assert chance[0].attrib["d"].count("L") == 1
    assert "".join(lines[0].itertext()) == "a <arm>"
