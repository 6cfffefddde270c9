"""Tests on simulated studies: the claim rule keeps its error rate, the naive ones do not."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from benchmarks.cohorts import (
    N_FEATURES,
    PENALTY,
    SCENARIOS,
    Scenario,
    draw_study,
    predict_out_of_fold,
)
from benchmarks.error_rates import METRICS, Finding, outcome_rates, rates, simulate, table

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
RULE, RULE_OF_3 = "claim rule, 10 x 5 folds", "claim rule, 3 x 5 folds"
NAIVE, ON_TILES = "naive paired t, 10 x 5 folds", "McNemar mid-p, or DeLong, on tiles"
SMALL = Scenario("small", "for a quick test", n_patients=20, n_tiles=4)


def test_a_study_keeps_patients_together_and_stratified() -> None:
    study = draw_study(BY_NAME["N2"], 0)
    for results, folds in ((study.results, 5), (study.two_folds, 2)):
        patients = results.patients
        assert patients is not None
        for row in results.test_fold:
            for fold in range(folds):
                inside = set(patients[row == fold])
                assert not inside & set(patients[row != fold])
                share = results.y_true[row == fold].mean()
                assert 0.4 <= share <= 0.6
    assert len({row.tobytes() for row in study.results.test_fold}) == 10


def test_mixed_patients_have_tiles_of_both_classes() -> None:
    results = draw_study(BY_NAME["N1"], 1).results
    of_first = results.y_true[results.patients == 0]
    assert set(of_first) == {0, 1}


def test_predictions_are_those_of_ridge_fitted_without_the_test_tiles() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, N_FEATURES)), np.arange(60) % 2
    test_fold = (np.arange(60)[None, :] // 7 % 3).astype(np.int16)
    found = predict_out_of_fold(X, y, test_fold, 0.0, rng)
    Z = np.column_stack([X, np.ones(60)])
    for fold in range(3):
        tested = test_fold[0] == fold
        peer = Ridge(alpha=PENALTY, fit_intercept=False).fit(Z[~tested], 2.0 * y[~tested] - 1)
        score = np.log(found[0, tested, 1] / found[0, tested, 0]) / 2
        np.testing.assert_allclose(score, peer.predict(Z[tested]), rtol=1e-4, atol=1e-5)


def test_the_seed_alone_decides_a_study() -> None:
    one, again, other = (draw_study(SMALL, seed).results for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.runs[1].y_prob, again.runs[1].y_prob)
    assert not np.array_equal(one.runs[1].y_prob, other.runs[1].y_prob)


def test_a_noisy_training_is_worse_and_a_larger_shift_better() -> None:
    def accuracy(scenario: Scenario) -> float:
        results = draw_study(scenario, 5).results
        called = results.runs[1].y_prob[:, :, 1] > 0.5
        return float((called == results.y_true).mean())

    plain = accuracy(BY_NAME["N2"])
    assert accuracy(BY_NAME["N5"]) < plain < accuracy(BY_NAME["P2"])


def test_every_test_is_run_on_both_metrics() -> None:
    found = simulate(SMALL, 3, n_boot=50)
    for metric, findings in found.items():
        assert len(findings) == 3
        named = rates(findings)
        assert {RULE, RULE_OF_3, NAIVE, ON_TILES, "5x2cv F"} <= set(named)
        assert all(0 <= share <= 1 for share in named.values())
        assert sum(outcome_rates(findings)[RULE].values()) == pytest.approx(1)
        assert metric in METRICS


def test_rates_count_what_is_not_estimable_as_not_rejected() -> None:
    findings = [Finding(0.0, {"a": True}, {}), Finding(0.0, {"a": True, "b": True}, {})]
    assert rates(findings) == {"a": 1.0, "b": 0.5}


def test_the_table_has_a_column_for_each_scenario() -> None:
    cells = {"N2": {"balanced_accuracy": {"t": 0.0512, "u": 0.5}, "roc_auc": {"t": 0.061}}}
    lines = table(cells).splitlines()
    assert lines[0] == "| test | N2 |"
    assert lines[2:] == ["| t | 5.1 / 6.1 |", "| u | 50.0 / - |"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["N2", "N3", "N7"])
def test_the_claim_rule_keeps_its_error_rate_and_the_naive_tests_do_not(name: str) -> None:
    """Of 400 studies; the bands are three Monte Carlo standard errors around 1 and 7 %."""
    for findings in simulate(BY_NAME[name], 400, jobs=2, n_boot=200).values():
        found = rates(findings)
        assert found[RULE] < 0.105
        assert found[RULE_OF_3] < 0.105
        assert found["corrected t, 10 x 5 folds"] < 0.11
        assert found[NAIVE] > 0.4
        assert found[ON_TILES] > 0.15


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_real_difference_is_found_and_never_called_equivalent() -> None:
    findings = simulate(BY_NAME["P2"], 200, jobs=2, n_boot=200)["balanced_accuracy"]
    assert rates(findings)[RULE] > 0.25
    claimed = outcome_rates(findings)[RULE]
    assert claimed.get("worse", 0) + claimed.get("equivalent", 0) <= 0.01
