"""Tests on simulated studies: the claim rule keeps its error rate, the naive ones do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from benchmarks import error_rates
from benchmarks.cohorts import FOLDS, N_FEATURES, PENALTY, draw_study, predict_out_of_fold
from benchmarks.error_rates import (
    METRICS,
    NAIVE_10,
    Finding,
    coverage,
    outcome_rates,
    rates,
    simulate,
    summary,
)
from benchmarks.scenarios import REAL, SCENARIOS, TEXTBOOK, Scenario
from featurebench.comparison.barred import FEWEST_UNITS
from featurebench.comparison.rates import (
    ON_TILES,
    RULE_1,
    RULE_3,
    RULE_10,
    in_per_cent,
    rule_sentence,
    scenarios,
    spread,
)

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
SMALL = Scenario("small", "for a quick test", classes=(10, 10), n_tiles=4)
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", list(BY_NAME))
def test_a_study_is_as_its_scenario_says(name: str) -> None:
    scenario, results = BY_NAME[name], draw_study(BY_NAME[name], 0).results
    assert len(results.classes) == len(scenario.classes)
    assert (results.patients is None) == (not scenario.known)
    units = results.patients if results.groups is None else results.groups
    for row in results.test_fold:
        for fold in np.unique(row[row >= 0]):
            inside = row == fold
            if units is not None:
                assert not set(units[inside]) & set(units[~inside])
            if scenario.group == "patient_id":
                assert set(results.y_true[inside]) == set(range(len(scenario.classes)))
    assert len({row.tobytes() for row in results.test_fold}) == (1 if scenario.holdout else 10)
    for run in results.runs:
        assert np.isfinite(run.y_prob[results.test_fold >= 0]).all()


def test_real_cohorts_have_unequal_patients_and_wrong_labels() -> None:
    for scenario in (BY_NAME["R60"], BY_NAME["L60"], BY_NAME["B60"]):
        patients = draw_study(scenario, 1).results.patients
        assert patients is not None
        sizes = np.bincount(patients)
        assert sizes.max() > 20 * sizes.min()
        assert sizes.sum() ** 2 / (sizes**2).sum() < 0.6 * len(sizes)


def test_a_patient_of_one_label_has_it_on_all_tiles_and_some_are_wrong() -> None:
    results = draw_study(BY_NAME["L60"], 2).results
    assert results.patients is not None
    labels = [set(results.y_true[results.patients == patient]) for patient in range(60)]
    assert all(len(each) == 1 for each in labels)
    assert sorted(np.bincount([next(iter(each)) for each in labels])) == [5, 11, 44]
    mixed = draw_study(BY_NAME["R20"], 2).results
    assert mixed.patients is not None
    several = [len(set(mixed.y_true[mixed.patients == patient])) for patient in range(20)]
    assert max(several) == 3


def test_predictions_are_those_of_ridge_fitted_without_the_test_tiles() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, N_FEATURES)), rng.choice(3, size=90, p=[0.2, 0.3, 0.5])
    test_fold = (np.arange(90)[None, :] // 7 % 3).astype(np.int16)
    found = predict_out_of_fold(X, y, test_fold, 0.0, rng)
    Z = np.column_stack([X, np.ones(90)])
    for fold in range(3):
        tested = test_fold[0] == fold
        train = y[~tested]
        weight = (len(train) / (3 * np.bincount(train)))[train]
        peer = Ridge(alpha=PENALTY, fit_intercept=False).fit(
            Z[~tested], 2.0 * np.eye(3)[train] - 1, sample_weight=weight
        )
        scores = np.exp(peer.predict(Z[tested]))
        expected = scores / scores.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found[0, tested], expected, rtol=1e-4, atol=1e-5)


def test_the_seed_alone_decides_a_study() -> None:
    one, again, other = (draw_study(SMALL, seed).results for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.runs[1].y_prob, again.runs[1].y_prob)
    assert not np.array_equal(one.runs[1].y_prob, other.runs[1].y_prob)


def test_a_noisy_training_is_worse_and_a_larger_shift_better() -> None:
    def accuracy(scenario: Scenario) -> float:
        found = []
        for seed in range(5):
            results = draw_study(scenario, seed).results
            found.append((results.runs[1].y_prob.argmax(axis=2) == results.y_true).mean())
        return float(np.mean(found))

    # Of one name, so that cohorts are the same.
    plain = accuracy(BY_NAME["N2"])
    noisy = replace(BY_NAME["N5"], name="N2")
    assert accuracy(noisy) < plain < accuracy(replace(BY_NAME["P2"], name="N2"))


def test_every_test_is_run_on_both_metrics() -> None:
    found = simulate(SMALL, 3)
    for metric, findings in found.items():
        assert len(findings) == 3
        named = rates(findings)
        assert {RULE_10, RULE_3, RULE_1, NAIVE_10, ON_TILES, "5x2cv F"} <= set(named)
        assert all(0 <= share <= 1 for share in named.values())
        assert sum(outcome_rates(findings)[RULE_10].values()) == pytest.approx(1)
        assert {"difference, 10 x 5 folds", "score, 1 x 5 folds"} <= set(coverage(findings))
        assert metric in METRICS
    kept = summary(SMALL, found)
    assert (kept["null"], kept["textbook"], kept["studies"]) == (True, True, 3)


@pytest.mark.parametrize("name", ["H30", "U60"])
def test_nothing_is_claimed_from_one_test_set_or_without_patients(name: str) -> None:
    for findings in simulate(BY_NAME[name], 2).values():
        for told in outcome_rates(findings).values():
            assert told == {"not claimed": 1}


def test_rates_count_what_is_not_estimable_as_not_rejected() -> None:
    findings = [Finding(0.0, {"a": True}, {}), Finding(0.0, {"a": True, "b": True}, {})]
    assert rates(findings) == {"a": 1.0, "b": 0.5}


def test_an_interval_that_is_not_estimable_holds_nothing() -> None:
    ends = [(1.0, 0.5, 1.8), (2.0, 1.6, 2.5), (1.5, np.nan, np.nan)]
    findings = [Finding(0.0, {}, {}, {"score": each}) for each in ends]
    assert coverage(findings) == {"score": pytest.approx(1 / 3)}


class TestWhatIsPrinted:
    """One file of rates, from which reports and documents take theirs."""

    def test_it_holds_every_scenario(self) -> None:
        assert list(scenarios()) == [scenario.name for scenario in SCENARIOS]
        for scenario in SCENARIOS:
            assert scenarios()[scenario.name]["told"] == scenario.told

    def test_the_claim_rule_stays_within_its_bounds_on_every_cohort(self) -> None:
        """Three Monte Carlo standard errors around 7 % are allowed for."""
        for each in scenarios().values():
            room = 3 * np.sqrt(0.07 * 0.93 / each["studies"])
            for metric in METRICS:
                for rule, told in each[metric]["outcomes"].items():
                    if each["null"] and told.get("not claimed") != 1:
                        assert each[metric]["rejected"][rule] <= 0.07 + room, (each["told"], rule)

    def test_intervals_cover_on_every_cohort(self) -> None:
        """Two standard errors are allowed for: 92 % for differences, 90 and 88 % for scores."""
        for scenario in (*TEXTBOOK, *REAL):
            each = scenarios()[scenario.name]
            claimed = each["balanced_accuracy"]["outcomes"]
            if not scenario.known or all(t == {"not claimed": 1} for t in claimed.values()):
                continue
            n_patients = scenario.n_patients if scenario.mixed else sum(scenario.classes)
            for metric in METRICS:
                for name, share in each[metric]["coverage"].items():
                    if name.startswith("score") and 0 < scenario.n_sites < FEWEST_UNITS:
                        continue  # It holds for patients of these sites, as a caveat says.
                    least = 0.92 if name.startswith("difference") else 0.88
                    least = 0.9 if least == 0.88 and n_patients >= 60 else least
                    room = 2 * np.sqrt(least * (1 - least) / each["studies"])
                    assert share >= least - room, (each["told"], metric, name)

    def test_power_is_not_lost(self) -> None:
        for each in scenarios().values():
            if not each["null"]:
                for metric in METRICS:
                    assert each[metric]["rejected"][RULE_10] > 0, each["told"]

    def test_a_spread_leaves_out_what_is_never_claimed(self) -> None:
        low, high = spread(RULE_10)
        assert 0 <= low <= high < 0.1
        assert spread(RULE_10, textbook=True)[1] <= high
        with pytest.raises(KeyError, match="no error rate"):
            spread("a test of nobody")
        assert in_per_cent(RULE_10) in rule_sentence()

    @pytest.mark.parametrize("name", ["README.md", "docs/statistics.md"])
    def test_documents_say_what_was_measured(self, name: str) -> None:
        text = (ROOT / name).read_text(encoding="utf-8")
        _, _, rest = text.partition(error_rates.START)
        told, end, _ = rest.partition(error_rates.END)
        assert end
        assert rule_sentence() in told
        if name.startswith("docs"):
            assert error_rates.cohort_table(null=True) in told
            assert error_rates.test_table() in told


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", [*TEXTBOOK, *REAL], ids=lambda scenario: scenario.name)
def test_the_claim_rule_keeps_its_error_rate(scenario: Scenario) -> None:
    """Of 60 studies; the bound is three Monte Carlo standard errors above 7 %."""
    for findings in simulate(scenario, 60, jobs=2, first=10_000).values():
        found = rates(findings)
        for rule in outcome_rates(findings):
            assert found[rule] <= 0.07 + 3 * np.sqrt(0.07 * 0.93 / 60), rule
        if scenario.name == "N2":
            assert found[NAIVE_10] > 0.35
            assert found[ON_TILES] > 0.05


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["P2", "PB60", "PL60"])
def test_a_real_difference_is_found_and_never_called_equivalent(name: str) -> None:
    findings = simulate(BY_NAME[name], 60, jobs=2, first=10_000)["balanced_accuracy"]
    assert rates(findings)[RULE_10] > 0.15
    claimed = outcome_rates(findings)[RULE_10]
    assert claimed.get("worse", 0) + claimed.get("equivalent", 0) <= 0.02


def test_folds_are_as_many_as_the_rarest_class_allows() -> None:
    assert min(min(s.classes) for s in REAL if not s.mixed and not s.holdout) >= FOLDS
