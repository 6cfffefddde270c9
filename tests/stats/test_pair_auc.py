"""Areas under the ROC curve against pair counts, scikit-learn, pROC and each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from stat_cases import read_cases

from featurebench.stats import auc_influence, clustered_auc, delong, hand_till, influence_test

Floats = npt.NDArray[np.float64]
SEEDS = st.integers(0, 10_000)


def _cohort(
    seed: int, n_patients: int = 14, n_arms: int = 2
) -> tuple[npt.NDArray[np.bool_], Floats, npt.NDArray[np.int64]]:
    """Tiles of patients of one class or both, with ties between scores."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), rng.integers(1, 8, n_patients))
    rate = rng.choice([0.0, 0.5, 1.0], n_patients)
    truth = rng.random(len(patients)) < rate[patients]
    truth[:2], truth[-2:] = True, False
    effect = rng.normal(size=(n_arms, n_patients))[:, patients]
    scores = np.round(truth + effect + rng.normal(size=(n_arms, len(patients))), 1)
    return truth, scores, patients


def _by_pairs(
    truth: npt.NDArray[np.bool_], scores: Floats, patients: npt.NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Obuchowski's estimator from the table of all pairs, in the notation of the paper."""
    arms, xs, ys = [], [], []
    units = np.unique(patients)
    belongs = patients[None, :] == units[:, None]
    for score in scores:
        wins = score[truth][:, None] - score[~truth][None, :]
        kernel = (wins > 0) + 0.5 * (wins == 0)
        auc = kernel.mean()
        arms.append(auc)
        xs.append(belongs[:, truth] @ (kernel.mean(axis=1) - auc))
        ys.append(belongs[:, ~truth] @ (kernel.mean(axis=0) - auc))
    m, n = truth.sum(), (~truth).sum()
    i10, i01, i = belongs[:, truth].any(1).sum(), belongs[:, ~truth].any(1).sum(), len(units)
    x, y = np.array(xs), np.array(ys)
    s10, s01 = i10 / ((i10 - 1) * m) * x @ x.T, i01 / ((i01 - 1) * n) * y @ y.T
    s11 = i / (i - 1) * x @ y.T
    return np.array(arms), s10 / m + s01 / n + s11 / (m * n) + s11.T / (m * n)


class TestInfluenceOfAuc:
    def test_auc_is_that_of_scikit_learn(self) -> None:
        for seed in range(5):
            truth, scores, patients = _cohort(seed)
            found = auc_influence(truth, scores[0], patients, 14)
            assert found.auc == pytest.approx(roc_auc_score(truth, scores[0]))
            assert found.positive.sum() == pytest.approx(0, abs=1e-12)
            assert found.negative.sum() == pytest.approx(0, abs=1e-12)

    def test_leaving_a_patient_out_moves_the_auc_by_about_its_influence(self) -> None:
        truth, scores, patients = _cohort(1, n_patients=300)
        found = auc_influence(truth, scores[0], patients, 300)
        left_out = np.array(
            [
                roc_auc_score(truth[patients != p], scores[0][patients != p])
                for p in range(0, 300, 10)
            ]
        )
        moved = found.auc - left_out
        influence = (found.positive + found.negative)[::10]
        assert np.corrcoef(moved, influence)[0, 1] > 0.99
        np.testing.assert_allclose(moved, influence, atol=3e-4)

    def test_without_one_of_the_classes_all_is_undefined(self) -> None:
        found = auc_influence([True, True], [0.1, 0.2], [0, 1], 3)
        assert np.isnan(found.auc)
        assert np.isnan(found.positive).all()
        assert np.isnan(found.negative).all()
        assert found.positive.shape == (3,)

    def test_clusters_without_a_tile_have_no_influence(self) -> None:
        found = auc_influence([True, False], [0.9, 0.1], [0, 2], 5)
        assert (found.auc, found.positive.tolist()) == (1.0, [0.0] * 5)

    @pytest.mark.parametrize(
        ("truth", "score", "message"),
        [([True], [0.1, 0.2], "one value for"), ([True, False], [0.1, np.nan], "score is NaN")],
    )
    def test_bad_arguments_are_refused(self, truth: Any, score: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            auc_influence(truth, score, [0, 1], 2)


class TestClustered:
    @pytest.mark.parametrize("seed", range(6))
    def test_covariance_is_obuchowskis_from_all_pairs(self, seed: int) -> None:
        truth, scores, patients = _cohort(seed, n_arms=3)
        auc, covariance = _by_pairs(truth, scores, patients)
        found = clustered_auc(truth, scores, patients)
        np.testing.assert_allclose(found.auc, auc)
        np.testing.assert_allclose(found.covariance, covariance)

    @pytest.mark.parametrize("seed", range(4))
    def test_influence_test_on_one_fold_is_its_difference(self, seed: int) -> None:
        truth, scores, patients = _cohort(seed)
        whole = clustered_auc(truth, scores, patients)
        a, b = (auc_influence(truth, score, patients, 14) for score in scores)
        has = [np.bincount(patients[side], minlength=14) > 0 for side in (truth, ~truth)]
        found = influence_test(
            a.positive - b.positive,
            a.negative - b.negative,
            has_positive=has[0],
            has_negative=has[1],
            estimate=a.auc - b.auc,
        )
        assert (found.estimate, found.se) == pytest.approx(whole.difference(0, 1))
        assert (found.df, found.n) == (12, 14)

    @settings(deadline=None, max_examples=30)
    @given(SEEDS)
    def test_one_tile_a_patient_is_delong(self, seed: int) -> None:
        truth, scores, _ = _cohort(seed)
        tiles = np.random.default_rng(seed).permutation(len(truth)).astype(str)
        clustered = clustered_auc(truth, scores, tiles).difference(0, 1)
        found = delong(truth, scores)
        assert (found.difference, found.se) == pytest.approx(clustered)

    @settings(deadline=None, max_examples=30)
    @given(SEEDS)
    def test_order_and_names_and_monotone_scales_do_not_matter(self, seed: int) -> None:
        truth, scores, patients = _cohort(seed)
        rng = np.random.default_rng(seed)
        order, names = rng.permutation(len(truth)), rng.permutation(14) + 100
        one = clustered_auc(truth, scores, patients)
        other = clustered_auc(truth[order], np.exp(scores[:, order]), names[patients[order]])
        np.testing.assert_allclose(other.auc, one.auc)
        np.testing.assert_allclose(other.covariance, one.covariance, atol=1e-15)

    @settings(deadline=None, max_examples=30)
    @given(SEEDS)
    def test_swapping_classes_with_scores_reversed_changes_nothing(self, seed: int) -> None:
        truth, scores, patients = _cohort(seed)
        one = clustered_auc(truth, scores, patients)
        other = clustered_auc(~truth, -scores, patients)
        np.testing.assert_allclose(other.auc, one.auc)
        np.testing.assert_allclose(other.covariance, one.covariance, atol=1e-15)

    def test_copying_every_tile_does_not_shrink_the_error(self) -> None:
        truth, scores, patients = _cohort(3)
        one = clustered_auc(truth, scores, patients)
        ten = clustered_auc(np.tile(truth, 10), np.tile(scores, 10), np.tile(patients, 10))
        assert ten.difference(0, 1) == pytest.approx(one.difference(0, 1))
        naive = delong(np.tile(truth, 10), np.tile(scores, 10))
        assert naive.se < 0.4 * delong(truth, scores).se

    def test_equal_arms_differ_by_nothing(self) -> None:
        truth, scores, patients = _cohort(2)
        found = clustered_auc(truth, np.stack([scores[0], 2 * scores[0]]), patients)
        assert found.difference(0, 1) == (0.0, 0.0)

    def test_one_patient_with_positives_has_no_covariance(self) -> None:
        truth = np.array([True, True, False, False])
        found = clustered_auc(truth, [[0.9, 0.8, 0.85, 0.1]], [0, 0, 1, 2])
        assert found.auc[0] == 0.75
        assert np.isnan(found.covariance).all()
        with pytest.raises(ValueError, match="one row for each arm"):
            clustered_auc(truth, [0.9, 0.8, 0.85, 0.1], [0, 0, 1, 2])


class TestDelong:
    def test_the_p_value_of_proc(self) -> None:
        case = read_cases()["delong_small_synthetic"]
        given_, expected = case["inputs"], case["expected"]
        found = delong(given_["y"], [given_["s1"], given_["s2"]])
        close = {"abs": case["tolerance"]}
        assert found.auc1 == pytest.approx(expected["auc1"], **close)
        assert found.auc2 == pytest.approx(expected["auc2"], **close)
        assert found.z == pytest.approx(expected["z"], **close)
        assert found.p_value == pytest.approx(expected["p"], **close)
        assert found.n == 11

    def test_two_perfect_arms_are_not_estimable(self) -> None:
        found = delong([1, 1, 1, 0, 0], [[5, 4, 3, 2, 1], [9, 8, 7, 1, 2]])
        assert (found.auc1, found.auc2, found.se) == (1.0, 1.0, 0.0)
        assert np.isnan([found.z, found.p_value]).all()

    def test_a_perfect_arm_against_reversed_is_not_p_zero(self) -> None:
        found = delong([1, 1, 0, 0], [[4, 3, 2, 1], [1, 2, 3, 4]])
        assert found.difference == 1.0
        assert np.isnan(found.p_value)

    @settings(deadline=None, max_examples=30)
    @given(SEEDS)
    def test_swapping_the_arms_flips_the_sign_only(self, seed: int) -> None:
        truth, scores, _ = _cohort(seed)
        one, other = delong(truth, scores), delong(truth, scores[::-1])
        assert (other.auc1, other.auc2) == (one.auc2, one.auc1)
        assert other.z == pytest.approx(-one.z)
        assert other.p_value == pytest.approx(one.p_value)

    def test_bad_arguments_are_refused(self) -> None:
        with pytest.raises(ValueError, match="two arms"):
            delong([1, 0], [[0.1, 0.2]])


class TestHandTill:
    @pytest.mark.parametrize("seed", range(5))
    def test_it_is_one_against_one_of_scikit_learn(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        y_prob = np.round(rng.dirichlet(np.ones(4), 80), 2)
        y_prob /= y_prob.sum(axis=1, keepdims=True)
        y_true = rng.permutation(np.arange(80) % 4)
        expected = roc_auc_score(y_true, y_prob, multi_class="ovo")
        assert hand_till(y_true, y_prob) == pytest.approx(expected)

    def test_two_classes_are_the_auc(self) -> None:
        rng = np.random.default_rng(9)
        y_true, p = np.arange(40) % 2, rng.random(40)
        both = np.stack([1 - p, p], axis=1)
        assert hand_till(y_true, both) == pytest.approx(roc_auc_score(y_true, p))

    def test_how_frequent_the_classes_are_does_not_matter(self) -> None:
        rng = np.random.default_rng(10)
        y_true, y_prob = np.arange(30) % 3, rng.dirichlet(np.ones(3), 30)
        often = np.concatenate([np.arange(30), np.flatnonzero(y_true == 1), np.flatnonzero(y_true)])
        often = np.concatenate([often, np.flatnonzero(y_true == 2)])
        assert hand_till(y_true[often], y_prob[often]) == pytest.approx(hand_till(y_true, y_prob))

    def test_an_absent_class_leaves_it_undefined(self) -> None:
        assert np.isnan(hand_till([0, 1, 1], np.full((3, 3), 1 / 3)))
        with pytest.raises(ValueError, match="two or more probabilities"):
            hand_till([0, 1], [[0.5], [0.5]])
