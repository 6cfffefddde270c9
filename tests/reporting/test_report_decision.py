"""Net benefit by hand and by definition, its bands and chart; operating points by definition."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from report_cases import ReportCase, draw_case
from scipy import stats

from featurebench.comparison.design import Design
from featurebench.reporting.decision import THRESHOLDS, decision_section, net_benefit
from featurebench.reporting.decision_chart import decision
from featurebench.reporting.operating import (
    MEASURES,
    operating_limits,
    operating_section,
    share_interval,
)


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
        "arms": [
            {
                "id": "a",
                "label": "a <arm>",
                "values": [0.45, 0.3, 0.1],
                "low": [0.4, 0.2, -0.5],
                "high": [0.5, 0.4, 0.2],
                "ranges": [],
            },
            {"id": "b", "label": "b", "values": [0.4, 0.2, 0.0], "low": None, "high": None},
        ],
    }
    root = ET.fromstring(decision(section, [0, 1]))
    lines = [e for e in root.iter("path") if "line" in e.get("class", "").split()]
    chance = [e for e in root.iter("path") if e.get("class") == "chance"]
    assert lines[0].attrib["d"].count("L") == 2
    assert chance[0].attrib["d"].count("L") == 1
    assert "".join(lines[0].itertext()) == "a <arm>"
    (band,) = [e for e in root.iter("path") if "interval-band" in e.get("class", "")]
    edge = 280 - 38
    assert max(float(y) for y in re.findall(r" ([\d.]+)", band.attrib["d"])) == edge
    assert ["minor" in line.attrib["class"] for line in lines] == [False, True]


def test_a_decimal_threshold_is_reached_by_that_probability_in_single_precision() -> None:
    score = THRESHOLDS.astype(np.float32)
    found = net_benefit(np.ones(len(score)), score, THRESHOLDS)
    np.testing.assert_allclose(found, np.arange(len(score), 0, -1) / len(score))


def test_net_benefit_at_another_prevalence_is_that_of_tiles_in_these_shares() -> None:
    rng = np.random.default_rng(1)
    has, score = rng.random(200) < 0.4, rng.random(200)
    n_with, n_without = int(has.sum()), int((~has).sum())
    # So many copies that one tile in five has the condition.
    copies = np.where(has, n_without, 4 * n_with)
    expected = net_benefit(np.repeat(has, copies), np.repeat(score, copies), THRESHOLDS)
    found = net_benefit(has, score, THRESHOLDS, prevalence=0.2)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("prevalence", [None, 0.1])
def test_bands_repeat_whole_patients(case: ReportCase, prevalence: float | None) -> None:
    design = Design.of(case.results, n_boot=50, seed=0)
    run, other = case.results.runs[:2]
    found = decision_section(
        design,
        [({"id": "x", "label": "x"}, run), ({"id": "y", "label": "y"}, other)],
        case.results.classes,
        leads=["x"],
        prevalence=prevalence,
        alpha=0.1,
    )
    assert found is not None
    has, drawn = design.y_true == 1, []
    for weights in design.resamples.weights[1 + design.resamples.n_jackknife :]:
        copies = weights[design.clusters]
        drawn.append(
            np.mean(
                [
                    net_benefit(
                        np.repeat(has, copies),
                        np.repeat(p[:, 1], copies),
                        THRESHOLDS,
                        prevalence=prevalence,
                    )
                    for p in run.y_prob
                ],
                axis=0,
            )
        )
    first, second = found["arms"]
    np.testing.assert_allclose(first["low"], np.quantile(drawn, 0.05, axis=0), atol=1e-5)
    np.testing.assert_allclose(first["high"], np.quantile(drawn, 0.95, axis=0), atol=1e-5)
    assert (second["low"], second["high"]) == (None, None)
    assert found["n_resamples"] == 50
    assert found["is_declared"] == (prevalence is not None)


class TestOperatingPoint:
    @staticmethod
    def section(case: ReportCase, **options: Any) -> dict[str, Any]:
        design = Design.of(case.results, n_boot=10, seed=0)
        runs = [({"id": "x", "label": "x"}, case.results.runs[0])]
        found = operating_section(design, runs, case.results.classes, **options)
        assert found is not None
        return found

    def test_measures_are_shares_of_tiles_averaged_over_repeats(self, case: ReportCase) -> None:
        (arm,) = self.section(case, threshold=0.3)["arms"]
        has, run = case.results.y_true == 1, case.results.runs[0]
        called = [p[:, 1] >= np.float32(0.3) for p in run.y_prob]
        expected = {
            "sensitivity": np.mean([c[has].mean() for c in called]),
            "specificity": np.mean([(~c)[~has].mean() for c in called]),
            "ppv": np.mean([has[c].mean() for c in called]),
            "npv": np.mean([(~has)[~c].mean() for c in called]),
        }
        assert {name: arm[name]["value"] for name in MEASURES} == pytest.approx(expected)

    def test_intervals_leave_patients_out(self, case: ReportCase) -> None:
        (arm,) = self.section(case, threshold=0.3, alpha=0.1)["arms"]
        has, run, patients = case.results.y_true == 1, case.results.runs[0], case.results.patients
        assert patients is not None
        called = [p[:, 1] >= np.float32(0.3) for p in run.y_prob]
        without = [
            np.mean([c[has & (patients != patient)].mean() for c in called])
            for patient in np.unique(patients)
        ]
        value = arm["sensitivity"]["value"]
        error = np.sqrt((len(without) - 1) * np.var(without)) / (value * (1 - value))
        df = len(np.unique(patients[has])) - 1
        reach = stats.t.ppf(0.95, df) * error
        logit = np.log(value / (1 - value))
        expected = 1 / (1 + np.exp(-np.array([logit - reach, logit + reach])))
        ends = arm["sensitivity"]["ci_low"], arm["sensitivity"]["ci_high"]
        assert ends == pytest.approx(tuple(expected))

    def test_predictive_values_at_a_declared_prevalence_are_bayes(self, case: ReportCase) -> None:
        section = self.section(case, threshold=0.3, prevalence=0.02)
        (arm,) = section["arms"]
        run, has = case.results.runs[0], case.results.y_true == 1
        values = []
        for p in run.y_prob:
            called = p[:, 1] >= np.float32(0.3)
            hit, alarm = called[has].mean(), called[~has].mean()
            values.append(hit * 0.02 / (hit * 0.02 + alarm * 0.98))
        assert arm["ppv"]["value"] == pytest.approx(np.mean(values))
        assert (section["prevalence"], section["is_declared"]) == (0.02, True)

    def test_a_share_of_all_patients_has_the_exact_bound(self) -> None:
        found = share_interval(1.0, np.ones(20), 20, 0.05)
        expected = stats.binomtest(20, 20).proportion_ci(0.95, method="exact")
        assert (found["ci_low"], found["ci_high"]) == pytest.approx((expected.low, expected.high))
        none = share_interval(0.0, np.zeros(20), 20, 0.05)
        assert (none["ci_low"], none["ci_high"]) == pytest.approx((0, 1 - expected.low))

    def test_a_share_of_one_patient_or_none_has_no_interval(self) -> None:
        assert np.isnan(share_interval(0.5, np.array([np.nan]), 1, 0.05)["ci_low"])
        assert np.isnan(share_interval(float("nan"), np.array([]), 0, 0.05)["ci_high"])

    def test_intervals_hold_the_true_share_of_unequal_patients(self) -> None:
        rng = np.random.default_rng(0)
        truth = float(np.mean(1 / (1 + np.exp(-rng.normal(2, 1, 400_000)))))
        n_held, n_studies = 0, 600
        for _ in range(n_studies):
            size = np.maximum(1, rng.lognormal(2.5, 1, 20).astype(int))
            right = rng.binomial(size, 1 / (1 + np.exp(-rng.normal(2, 1, 20))))
            rest = (right.sum() - right) / (size.sum() - size)
            found = share_interval(right.sum() / size.sum(), rest, 20, 0.05)
            n_held += found["ci_low"] <= truth <= found["ci_high"]
        assert 0.90 <= n_held / n_studies <= 0.98

    def test_nothing_is_shown_that_was_not_declared(self, case: ReportCase) -> None:
        design = Design.of(case.results, n_boot=10, seed=0)
        runs = [({"id": "x", "label": "x"}, case.results.runs[0])]
        assert operating_section(design, runs, case.results.classes, threshold=None) is None
        assert operating_section(design, runs, ("a", "b", "c"), threshold=0.5) is None

    @pytest.mark.parametrize(
        ("n_classes", "declared", "said"),
        [
            (2, {}, "No operating point was declared"),
            (2, {"operating_point": {"threshold": 0.5}}, None),
            (3, {}, None),
            (3, {"operating_point": {"threshold": 0.5}}, "with 3 it is not shown"),
            (3, {"prevalence": 0.1}, "with 3 it is not shown"),
        ],
    )
    def test_limits_say_what_is_absent(
        self, n_classes: int, declared: dict[str, Any], said: str | None
    ) -> None:
        shown = declared if n_classes == 2 and declared else None
        summary = {
            "data": {"classes": ["a"] * n_classes},
            "settings": {"compare": declared},
            "operating_point": shown,
        }
        sentences = operating_limits(summary)
        assert (said is None) == (sentences == [])
        assert said is None or said in sentences[0]
