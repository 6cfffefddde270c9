"""Who the evidence shows, and that it holds for few arms, many classes and lost predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_cases import ReportCase, draw_case, with_full_ledger

from featurebench.reporting import evidence as module
from featurebench.reporting.evidence import evidence_sections
from featurebench.reporting.evidence_figures import evidence_figures
from featurebench.reporting.render import render_html


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    return draw_case(Path(tmp_path_factory.mktemp("evidence")))


@pytest.fixture(scope="module")
def summary(case: ReportCase) -> dict[str, Any]:
    return case.summary()


def test_leads_are_the_reference_and_the_primary_arm(
    case: ReportCase, summary: dict[str, Any]
) -> None:
    primary = case.comparison.primary
    assert primary is not None
    leads = [case.comparison.reference, primary.arm_a]
    assert summary["pareto"]["leads"] == leads
    shown = summary["bands"]["panels"][0]["arms"]
    assert [arm["id"] for arm in shown[:2]] == leads
    assert [arm["is_lead"] for arm in shown] == [True, True, False, False, False]
    assert [arm["roc"]["low"] is not None for arm in shown] == [True, True, False, False, False]
    assert "dummy" not in {arm["id"] for arm in shown}
    assert [arm["id"] for arm in summary["bands"]["calibration"]] == leads
    assert (summary["patients"]["arm"], summary["patients"]["reference"]) == (leads[1], leads[0])


def test_without_a_primary_contrast_a_fine_tune_leads(case: ReportCase) -> None:
    contrasts = tuple(replace(c, primary=False) for c in case.comparison.contrasts)
    changed = replace(case, comparison=replace(case.comparison, contrasts=contrasts)).summary()
    kinds = {arm["id"]: arm["kind"] for arm in changed["arms"]}
    assert kinds[changed["pareto"]["leads"][1]] == "finetune"


def test_a_single_arm_has_curves_and_no_pair(case: ReportCase) -> None:
    one = case.comparison.arms[:1]
    alone = replace(
        case,
        comparison=replace(case.comparison, arms=one, contrasts=()),
        results=replace(case.results, runs=case.results.runs[:1]),
    ).summary()
    assert len(alone["bands"]["panels"][0]["arms"]) == 1
    assert alone["patients"] is None
    assert alone["gallery"]["changes"] == []
    assert 'id="curves"' in render_html(alone)


def test_an_arm_without_all_predictions_shows_no_evidence(
    case: ReportCase, summary: dict[str, Any]
) -> None:
    runs = list(case.results.runs)
    lost = runs[-1].y_prob.copy()
    lost[0, 3] = np.nan
    runs[-1] = replace(runs[-1], y_prob=lost)
    found = evidence_sections(
        case.comparison,
        replace(case.results, runs=tuple(runs)),
        case.manifest,
        arms=summary["arms"],
    )
    assert found["patients"] is None
    assert runs[-1].arm not in {arm["id"] for arm in found["gallery"]["arms"]}
    assert runs[-1].arm not in {arm["id"] for arm in found["decision"]["arms"]}


def test_each_class_has_its_panel_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = draw_case(tmp_path, classes=("a", "b", "c", "d"), repeats=1)
    monkeypatch.setattr(module, "MAX_CLASS_PANELS", 3)
    summary = case.summary()
    assert [panel["of"] for panel in summary["bands"]["panels"]] == ["a", "b", "c"]
    assert summary["bands"]["n_classes_left_out"] == 1
    assert {len(panel["arms"]) for panel in summary["bands"]["panels"]} == {2}
    assert summary["decision"] is None
    html = render_html(summary)
    assert "1 class more is not drawn." in html
    assert 'id="decision"' not in html


class TestFront:
    def test_cost_is_that_of_one_repeat_with_the_embedding(self, summary: dict[str, Any]) -> None:
        fronts = evidence_figures(summary)["pareto"]
        assert [item["axis"] for item in fronts] == ["wall-clock time", "processor time"]
        by_label = {arm["label"]: arm for arm in summary["arms"]}
        for _, arm in fronts[0]["front"]:
            cost = by_label[arm.label]
            one = cost["training_cost"]["wall_s"] / cost["n_repeats"]
            assert arm.seconds == pytest.approx(one + cost["extraction_cost"]["wall_s"])

    def test_processor_time_is_left_out_where_a_gpu_worked(self, case: ReportCase) -> None:
        fronts = evidence_figures(with_full_ledger(case).summary())["pareto"]
        assert [item["axis"] for item in fronts] == ["wall-clock time"]
