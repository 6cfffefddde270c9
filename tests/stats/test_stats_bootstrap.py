"""The patient-cluster bootstrap against enumeration and scipy, and where it must give up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from stat_cases import read_cases

from featurebench.stats import Resamples, bootstrap, cluster_bootstrap, jackknife_se

if TYPE_CHECKING:
    from collections.abc import Callable

Floats = npt.NDArray[np.float64]
SCORES = np.random.default_rng(5).gamma(2.0, size=17)


def weighted_mean(w: Floats) -> Floats:
    mean: Floats = (w @ SCORES) / w.sum(axis=1)
    return mean


def weighted_variance(w: Floats) -> Floats:
    n = w.sum(axis=1)
    variance: Floats = (w @ SCORES**2) / n - ((w @ SCORES) / n) ** 2
    return variance


@dataclass
class Distribution:
    bootstrap_distribution: Floats


def test_every_bootstrap_row_holds_as_many_clusters_as_there_are() -> None:
    resamples = Resamples.draw(9, n_boot=200, seed=1)
    assert resamples.weights[0].tolist() == [1] * 9
    np.testing.assert_array_equal(resamples.weights[1:10], 1 - np.eye(9, dtype=int))
    assert (resamples.weights[10:].sum(axis=1) == 9).all()
    assert (resamples.n_clusters, resamples.n_jackknife, resamples.n_boot) == (9, 9, 200)


def test_clusters_are_drawn_with_equal_probability() -> None:
    counts = Resamples.draw(6, n_boot=5000, seed=2).weights[7:].astype(float)
    # Multinomial(6; 1/6): mean 1, variance 5/6, covariance -1/6
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.05)
    covariance = np.cov(counts.T)
    np.testing.assert_allclose(np.diag(covariance), 5 / 6, atol=0.06)
    np.testing.assert_allclose(covariance[~np.eye(6, dtype=bool)], -1 / 6, atol=0.05)


def test_strata_keep_their_size() -> None:
    strata = np.array(["a", "b", "a", "b", "b", "a", "a"])
    drawn = Resamples.draw(7, n_boot=300, seed=0, strata=strata).weights[8:]
    assert (drawn[:, strata == "a"].sum(axis=1) == 4).all()
    assert (drawn[:, strata == "b"].sum(axis=1) == 3).all()
    assert drawn.std(axis=0).min() > 0


@pytest.mark.parametrize("strata", [None, np.arange(30) % 3])
def test_rows_are_drawn_one_after_the_other(strata: npt.NDArray[np.int64] | None) -> None:
    drawn = Resamples.draw(30, n_boot=3000, seed=7, strata=strata).weights[31:]
    rng = np.random.default_rng(7)
    groups = [np.arange(30)] if strata is None else [np.flatnonzero(strata == k) for k in range(3)]
    for row in drawn:
        chosen = [group[rng.integers(group.size, size=group.size)] for group in groups]
        np.testing.assert_array_equal(row, np.bincount(np.concatenate(chosen), minlength=30))


def test_several_statistics_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    resamples = Resamples.draw(17, n_boot=50, seed=3)
    statistics = {"mean": weighted_mean, "variance": weighted_variance}
    expected = {name: resamples.evaluate(one) for name, one in statistics.items()}
    monkeypatch.setattr(bootstrap, "_CHUNK_ELEMENTS", 100)
    found = resamples.evaluate_all(lambda w: {name: one(w) for name, one in statistics.items()})
    assert set(found) == set(expected)
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-12)


def test_five_patients_fully_enumerated() -> None:
    case = read_cases()["cluster_bootstrap_exact_5_patients"]
    tiles, a, b = (np.array(case["inputs"][k]) for k in ("n_tiles", "correct_a", "correct_b"))
    resamples = Resamples.draw(5, n_boot=20000, seed=0)
    values = resamples.evaluate(lambda w: (w @ (b - a)) / (w @ tiles))
    replicates = values[1 + resamples.n_jackknife :]
    expected = case["expected"]
    assert values[0] == pytest.approx(expected["estimate"])
    assert replicates.std() == pytest.approx(expected["sd"], rel=0.02)
    assert np.quantile(replicates, 0.025) == pytest.approx(expected["q025"], abs=0.003)
    assert np.quantile(replicates, 0.975) == pytest.approx(expected["q975"], abs=0.003)
    assert np.mean(replicates <= 1e-12) == pytest.approx(expected["prob_le_0"], abs=0.003)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_bca_of_singletons_is_that_of_scipy_on_the_same_replicates(alpha: float) -> None:
    resamples = Resamples.draw(len(SCORES), n_boot=2000, seed=4)
    values = resamples.evaluate(weighted_variance)
    ours = resamples.interval(values, alpha=alpha)
    replicates = values[1 + resamples.n_jackknife :]
    theirs = stats.bootstrap(
        (SCORES,),
        np.var,
        n_resamples=0,
        bootstrap_result=Distribution(replicates),
        method="BCa",
        confidence_level=1 - alpha,
    ).confidence_interval
    assert ours.method == "BCa"
    assert (ours.ci_low, ours.ci_high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


def test_an_independent_draw_by_scipy_agrees_within_monte_carlo_error() -> None:
    ours = cluster_bootstrap(weighted_mean, len(SCORES), n_boot=9000, seed=11)
    theirs = stats.bootstrap(
        (SCORES,), np.mean, n_resamples=9000, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.value == pytest.approx(SCORES.mean())
    assert ours.ci_low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.ci_high == pytest.approx(theirs.high, abs=0.05 * width)


def test_the_seed_fixes_the_interval() -> None:
    one = cluster_bootstrap(weighted_mean, 17, seed=3)
    assert one == cluster_bootstrap(weighted_mean, 17, seed=3)
    assert one != cluster_bootstrap(weighted_mean, 17, seed=4)


def test_chunks_do_not_change_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    resamples = Resamples.draw(17, n_boot=100, seed=0)
    whole = resamples.evaluate(weighted_mean)
    monkeypatch.setattr(bootstrap, "_CHUNK_ELEMENTS", 17 * 7)
    np.testing.assert_allclose(resamples.evaluate(weighted_mean), whole, rtol=1e-14)


def test_a_grouped_jackknife_gives_nearly_the_same_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = np.random.default_rng(0).gamma(1.0, size=400)

    def mean(w: Floats) -> Floats:
        value: Floats = (w @ scores) / w.sum(axis=1)
        return value

    single = cluster_bootstrap(mean, 400, n_boot=1000)
    monkeypatch.setattr(bootstrap, "_MAX_JACKKNIFE", 100)
    grouped = cluster_bootstrap(mean, 400, n_boot=1000)
    width = single.ci_high - single.ci_low
    assert grouped.ci_low == pytest.approx(single.ci_low, abs=0.1 * width)
    assert grouped.ci_high == pytest.approx(single.ci_high, abs=0.1 * width)


def test_undefined_resamples_are_dropped_and_counted() -> None:
    def undefined_without_the_first(w: Floats) -> Floats:
        return np.where(w[:, 0] > 0, weighted_mean(w), np.nan)

    interval = cluster_bootstrap(undefined_without_the_first, 17, n_boot=1000, seed=0)
    weights = Resamples.draw(17, n_boot=1000, seed=0).weights
    assert interval.n_undefined == int((weights[18:, 0] == 0).sum()) > 0
    # The jackknife value without the first cluster does not exist, so neither does BCa.
    assert interval.method == "percentile"
    kept = weights[18:][weights[18:, 0] > 0].astype(float)
    expected = np.quantile(weighted_mean(kept), [0.025, 0.975])
    assert (interval.ci_low, interval.ci_high) == pytest.approx(tuple(expected))


def test_a_value_beyond_all_replicates_falls_back_to_percentiles() -> None:
    resamples = Resamples.draw(4, n_boot=50, seed=0)
    values = np.concatenate([[10.0], [1.0, 2.0, 3.0, 4.0], np.linspace(0, 1, 50)])
    assert resamples.interval(values).method == "percentile"


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1 + 0.2])
def test_a_constant_statistic_has_no_interval(constant: float) -> None:
    interval = cluster_bootstrap(lambda w: np.full(len(w), constant), 8)
    assert interval.method == "not estimable"
    assert interval.value == constant
    assert np.isnan([interval.ci_low, interval.ci_high]).all()


def test_one_cluster_or_mostly_undefined_resamples_have_no_interval() -> None:
    def rarely_defined(w: Floats) -> Floats:
        return np.where(w.max(axis=1) <= 2, weighted_mean(w), np.nan)

    assert cluster_bootstrap(lambda w: w[:, 0] * 0.3, 1).method == "not estimable"
    interval = cluster_bootstrap(rarely_defined, 17, n_boot=500)
    assert interval.n_undefined > 250
    assert interval.method == "not estimable"


def test_an_undefined_observed_value_has_no_interval() -> None:
    resamples = Resamples.draw(3, n_boot=10)
    values = np.concatenate([[np.nan], np.arange(13.0)])
    assert resamples.interval(values).method == "not estimable"


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="0 clusters"):
        Resamples.draw(0)
    with pytest.raises(ValueError, match="n_boot=0"):
        Resamples.draw(3, n_boot=0)
    with pytest.raises(ValueError, match="strata"):
        Resamples.draw(3, strata=[0, 1])
    resamples = Resamples.draw(3, n_boot=10)
    with pytest.raises(ValueError, match="give 14"):
        resamples.interval(np.zeros(10))
    with pytest.raises(ValueError, match="alpha"):
        resamples.interval(np.zeros(14), alpha=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 15), st.integers(0, 100), st.floats(-3, 3).filter(lambda x: abs(x) > 0.01))
def test_shifting_scaling_and_flipping_the_scores_moves_the_interval_along(
    n: int, seed: int, factor: float
) -> None:
    scores = np.random.default_rng(seed).normal(size=n)
    base = cluster_bootstrap(lambda w: (w @ scores) / w.sum(axis=1), n, n_boot=200)
    moved = cluster_bootstrap(lambda w: (w @ (factor * scores + 1)) / w.sum(axis=1), n, n_boot=200)
    expected = sorted([factor * base.ci_low + 1, factor * base.ci_high + 1])
    np.testing.assert_allclose([moved.ci_low, moved.ci_high], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("df", [np.inf, 5.0])
@pytest.mark.parametrize("statistic", [weighted_mean, weighted_variance])
def test_a_bound_of_the_interval_has_the_p_value_of_its_level(
    statistic: Callable[[Floats], Floats], df: float
) -> None:
    resamples = Resamples.draw(len(SCORES), n_boot=20_000, seed=1)
    values = resamples.evaluate(statistic)
    for alpha in (0.1, 0.5):
        interval = resamples.interval(values, alpha=alpha, df=df)
        assert resamples.p_below(values, interval.ci_low, df=df) == pytest.approx(
            alpha / 2, abs=2e-3
        )
        assert resamples.p_below(values, interval.ci_high, df=df) == pytest.approx(
            1 - alpha / 2, abs=2e-3
        )
    assert resamples.p_below(values, values.min() - 1, df=df) < 0.01


def test_beyond_all_resamples_the_p_value_goes_on_falling() -> None:
    resamples = Resamples.draw(len(SCORES), n_boot=2000, seed=1)
    values = resamples.evaluate(weighted_mean)
    replicates = values[1 + resamples.n_jackknife :]
    median = float(np.median(replicates))
    for outermost, step in ((replicates.min(), -1e-9), (replicates.max(), 1e-9)):
        far = median + 2 * (outermost - median)
        ps = [
            min(p, 1 - p)
            for p in (
                resamples.p_below(values, bound, df=16)
                for bound in (outermost - 1e3 * step, outermost + step, far)
            )
        ]
        assert ps[1] == pytest.approx(ps[0], rel=0.5)
        z = stats.t.ppf(ps[1], 16)
        assert ps[2] == pytest.approx(stats.t.cdf(2 * z, 16), rel=1e-4)


def test_few_degrees_of_freedom_ask_for_more() -> None:
    resamples = Resamples.draw(len(SCORES), n_boot=4000, seed=1)
    values = resamples.evaluate(weighted_mean)
    plain, expanded = resamples.interval(values), resamples.interval(values, df=4)
    assert expanded.ci_low < plain.ci_low
    assert plain.ci_high < expanded.ci_high
    level = 2 * stats.norm.cdf(stats.t.ppf(0.025, 4))
    same = resamples.interval(values, alpha=float(level))
    assert (expanded.ci_low, expanded.ci_high) == pytest.approx((same.ci_low, same.ci_high))
    with pytest.raises(ValueError, match="df is 0"):
        resamples.interval(values, df=0)


def test_the_jackknife_can_be_had_without_the_bootstrap() -> None:
    resamples = Resamples.draw(6, n_boot=50, seed=0)
    values = resamples.evaluate(lambda w: w @ SCORES[:6] / w.sum(axis=1))
    alone = resamples.left_out.evaluate(lambda w: w @ SCORES[:6] / w.sum(axis=1))
    np.testing.assert_array_equal(alone, values[:7])
    assert jackknife_se(alone[1:]) == pytest.approx(stats.sem(SCORES[:6]))


def test_replicates_of_what_noise_makes_larger_are_centred() -> None:
    resamples = Resamples.draw(17, n_boot=999, seed=0)
    values = resamples.evaluate(lambda w: np.abs((w - 1) @ (SCORES - SCORES.mean())))
    assert values[0] == 0
    moved = resamples.centred(values)
    np.testing.assert_array_equal(moved[: 1 + resamples.n_jackknife], values[:18])
    replicates = moved[1 + resamples.n_jackknife :]
    assert np.median(replicates) == pytest.approx(values[0])
    assert np.std(replicates) == pytest.approx(np.std(values[18:]))
    undefined = np.full(len(values), np.nan)
    np.testing.assert_array_equal(resamples.centred(undefined), undefined)
