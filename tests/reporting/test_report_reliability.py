"""Calibration slope and intercept against statsmodels and refits without each patient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import statsmodels.api as sm
from report_cases import ReportCase, draw_case
from scipy import stats
from scipy.special import expit

from featurebench.comparison.design import Design
from featurebench.reporting.reliability import (
    recalibration,
    recalibration_section,
    reliability,
)

Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    return draw_case(Path(tmp_path_factory.mktemp("reliability")))


@pytest.fixture(scope="module")
def design(case: ReportCase) -> Design:
    return Design.of(case.results, n_boot=10, seed=0)


class TestRecalibration:
    @staticmethod
    def draw(n_patients: int, seed: int = 0) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
        """Outcome, a linear predictor that is too extreme, and patients of unequal size."""
        rng = np.random.default_rng(seed)
        units = np.repeat(
            np.arange(n_patients), np.maximum(1, rng.lognormal(2.5, 1, n_patients).astype(int))
        )
        true = rng.normal(0, 1.2, len(units)) + rng.normal(0, 0.8, n_patients)[units]
        outcome = (rng.random(len(units)) < expit(true)).astype(np.float64)
        return outcome, (true - 0.3) / 0.7, units

    def test_estimates_are_those_of_statsmodels(self) -> None:
        outcome, predictor, units = self.draw(40)
        found = recalibration(outcome, expit(predictor), units, alpha=0.05)
        family = sm.families.Binomial()
        large = sm.GLM(outcome, np.ones(len(outcome)), family=family, offset=predictor).fit()
        slope = sm.Logit(outcome, sm.add_constant(predictor)).fit(disp=False)
        assert found["intercept"]["value"] == pytest.approx(large.params[0], abs=1e-7)
        assert found["slope"]["value"] == pytest.approx(slope.params[1], abs=1e-7)

    def test_error_is_that_of_refits_without_each_patient(self) -> None:
        outcome, predictor, units = self.draw(40)
        found = recalibration(outcome, expit(predictor), units, alpha=0.05)
        refits = [
            sm.Logit(outcome[units != p], sm.add_constant(predictor[units != p]))
            .fit(disp=False)
            .params[1]
            for p in range(40)
        ]
        error = np.sqrt(39 * np.var(refits))
        both = (len(np.unique(units[outcome == side])) for side in (0, 1))
        half = (found["slope"]["ci_high"] - found["slope"]["ci_low"]) / 2
        assert half / stats.t.ppf(0.975, min(both) - 1) == pytest.approx(error, rel=0.03)

    def test_intervals_hold_what_is_true(self) -> None:
        held = {"intercept": 0, "slope": 0}
        for seed in range(300):
            outcome, predictor, units = self.draw(20, seed)
            found = recalibration(outcome, expit(predictor), units, alpha=0.05)
            held["slope"] += found["slope"]["ci_low"] <= 0.7 <= found["slope"]["ci_high"]
            right = recalibration(outcome, expit(0.7 * predictor + 0.3), units, alpha=0.05)
            held["intercept"] += right["intercept"]["ci_low"] <= 0 <= right["intercept"]["ci_high"]
        assert min(held.values()) >= 0.90 * 300

    def test_rows_of_one_patient_count_once(self) -> None:
        outcome, predictor, units = self.draw(30)
        once = recalibration(outcome, expit(predictor), units, alpha=0.05)
        twice = recalibration(
            np.tile(outcome, 2), expit(np.tile(predictor, 2)), np.tile(units, 2), alpha=0.05
        )
        for name in ("intercept", "slope"):
            assert twice[name] == pytest.approx(once[name])

    @pytest.mark.parametrize(
        ("outcome", "probability", "undefined"),
        [
            ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], {"slope"}),
            ([0, 1, 1, 0], [0.3, 0.3, 0.3, 0.3], {"slope"}),
            ([1, 1, 1, 1], [0.2, 0.3, 0.4, 0.5], {"slope", "intercept"}),
        ],
    )
    def test_what_has_no_maximum_is_undefined(
        self, outcome: list[int], probability: list[float], undefined: set[str]
    ) -> None:
        found = recalibration(outcome, probability, [0, 1, 2, 3], alpha=0.05)
        assert {name for name, each in found.items() if np.isnan(each["value"])} == undefined

    def test_certain_probabilities_are_clipped(self) -> None:
        rng = np.random.default_rng(0)
        probability = rng.integers(0, 2, 400).astype(float)
        outcome = (rng.random(400) < 0.2 + 0.6 * probability).astype(float)
        found = recalibration(outcome, probability, np.arange(400) // 10, alpha=0.05)
        reach = np.log((1 - 2**-23) / 2**-23)
        shares = [outcome[probability == side].mean() for side in (0, 1)]
        low, high = (np.log(share / (1 - share)) for share in shares)
        assert found["slope"]["value"] == pytest.approx((high - low) / (2 * reach), rel=1e-6)

    def test_bounds_need_two_patients_with_and_without(self) -> None:
        outcome = np.array([1.0, 1, 0, 0, 0, 1])
        found = recalibration(
            outcome, [0.6, 0.4, 0.5, 0.3, 0.6, 0.7], [0, 0, 1, 2, 3, 0], alpha=0.05
        )
        assert np.isfinite(found["slope"]["value"])
        assert np.isnan(found["slope"]["ci_low"])

    def test_section_takes_all_repeats_of_every_arm(self, case: ReportCase, design: Design) -> None:
        arms = [({"id": run.arm, "label": run.arm}, run) for run in case.results.runs]
        section = recalibration_section(design, arms, case.results.classes)
        assert section is not None
        run = case.results.runs[0]
        expected = recalibration(
            np.tile(case.results.y_true == 1, run.n_repeats),
            np.concatenate([p[:, 1] for p in run.y_prob]),
            np.tile(design.clusters, run.n_repeats),
            alpha=0.05,
        )
        first = section["arms"][0]
        assert (section["of"], section["unit"]) == ("malignant", "patients")
        assert first["slope"] == pytest.approx(expected["slope"])
        assert first["intercept"] == pytest.approx(expected["intercept"])
        assert recalibration_section(design, [], case.results.classes) is None


def test_single_precision_on_an_edge_is_in_the_bin_that_ends_there(
    case: ReportCase, design: Design
) -> None:
    run = case.results.runs[0]
    edges = np.resize(np.arange(1, 11) / 10, run.y_prob.shape[:2]).astype(np.float32)
    found = reliability(design, replace(run, y_prob=np.stack([1 - edges, edges], axis=2)))
    assert found["predicted"] == pytest.approx([k / 10 for k in range(1, 11)], abs=1e-4)
