"""Kappa, symmetry, clustered McNemar and 5x2 against publications, R, statsmodels, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn.metrics import cohen_kappa_score
from stat_cases import read_cases
from statsmodels.stats.contingency_tables import SquareTable
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_of_statsmodels
from statsmodels.stats.inter_rater import cohens_kappa

from featurebench.stats import (
    bowker,
    clustered_mcnemar,
    cohen_kappa,
    five_by_two_f,
    five_by_two_t,
    stuart_maxwell,
)

Counts = npt.NDArray[np.int64]
TABLES = hnp.arrays(np.int64, (3, 3), elements=st.integers(1, 40))


def _tables(n: int, k: int) -> list[Counts]:
    rng = np.random.default_rng(k)
    return [rng.integers(1, 30, (k, k)) + 20 * np.eye(k, dtype=np.int64) for _ in range(n)]


class TestKappa:
    def test_the_printout_of_sas(self) -> None:
        case = read_cases()["cohen_kappa_sas"]
        found, expected = cohen_kappa(case["inputs"]["table"]), case["expected"]
        values = [found.kappa, found.se, found.se_null, found.z, found.p_value]
        published = [expected[key] for key in ("kappa", "ase", "ase0", "z", "p")]
        np.testing.assert_allclose(values, published, atol=case["tolerance"], rtol=0)

    @pytest.mark.parametrize(
        ("weights", "wt"), [("none", None), ("linear", "linear"), ("quadratic", "quadratic")]
    )
    def test_value_error_interval_and_test_of_statsmodels(self, weights: Any, wt: Any) -> None:
        for table in [*_tables(4, 4), *_tables(3, 2)]:
            found, expected = cohen_kappa(table, weights=weights), cohens_kappa(table, wt=wt)
            assert found.kappa == pytest.approx(expected.kappa)
            assert found.se == pytest.approx(expected.std_kappa)
            assert found.se_null == pytest.approx(expected.std_kappa0)
            assert found.p_value == pytest.approx(expected.pvalue_two_sided)
            assert found.ci_low == pytest.approx(expected.kappa_low)
            assert found.ci_high == pytest.approx(min(1.0, expected.kappa_upp))
            assert found.n == table.sum()

    @pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
    def test_value_of_scikit_learn(self, weights: Any) -> None:
        rng = np.random.default_rng(0)
        a, b = rng.integers(0, 4, (2, 100))
        table = np.zeros((4, 4))
        np.add.at(table, (a, b), 1)
        expected = cohen_kappa_score(a, b, weights=None if weights == "none" else weights)
        assert cohen_kappa(table, weights=weights).kappa == pytest.approx(expected)

    @settings(deadline=None)
    @given(TABLES, st.permutations([0, 1, 2]))
    def test_swapping_calls_and_renaming_classes(self, table: Counts, order: list[int]) -> None:
        one, other = cohen_kappa(table), cohen_kappa(table.T)
        renamed = cohen_kappa(table[np.ix_(order, order)])
        assert other.kappa == pytest.approx(one.kappa, abs=1e-12)
        assert other.se == pytest.approx(one.se)
        assert renamed.kappa == pytest.approx(one.kappa, abs=1e-12)
        assert renamed.se == pytest.approx(one.se)

    def test_two_classes_have_no_distances(self) -> None:
        (table,) = _tables(1, 2)
        plain = cohen_kappa(table)
        for weights in ("linear", "quadratic"):
            assert cohen_kappa(table, weights=weights).se == pytest.approx(plain.se)

    def test_an_error_of_zero_is_no_error(self) -> None:
        perfect = cohen_kappa(np.diag([5, 9, 2]))
        assert perfect.kappa == pytest.approx(1)
        assert perfect.p_value < 1e-4
        constant = cohen_kappa([[30, 0], [10, 0]])
        assert (constant.kappa, np.isnan(constant.p_value)) == (0, True)
        for found in (perfect, constant):
            assert np.isnan([found.se, found.ci_low, found.ci_high]).all()

    @pytest.mark.parametrize("table", [np.zeros((2, 2)), [[7, 0], [0, 0]], [[3]]])
    def test_what_is_not_estimable_is_nan(self, table: Any) -> None:
        found = cohen_kappa(table)
        assert np.isnan([found.kappa, found.se, found.z, found.p_value]).all()

    def test_bad_arguments_are_refused(self) -> None:
        with pytest.raises(ValueError, match="a row and a column a class"):
            cohen_kappa([[1, 2]])
        with pytest.raises(ValueError, match="negative or undefined"):
            cohen_kappa([[1, -2], [0, 1]])
        with pytest.raises(ValueError, match="choose none, linear or quadratic"):
            cohen_kappa([[1, 2], [3, 4]], weights="cubic")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="alpha is 1"):
            cohen_kappa([[1, 2], [3, 4]], alpha=1)


class TestSymmetry:
    def test_stuarts_table_of_unaided_vision(self) -> None:
        case = read_cases()["stuart_maxwell_vision"]
        table, expected, close = case["inputs"]["table"], case["expected"], case["tolerance"]
        marginal, cells = stuart_maxwell(table), bowker(table)
        assert (marginal.statistic, marginal.df) == pytest.approx((expected["sm"], 3), abs=close)
        assert marginal.p_value == pytest.approx(expected["sm_p"], abs=close)
        assert (cells.statistic, cells.df) == pytest.approx((expected["bowker"], 6), abs=close)
        assert cells.p_value == pytest.approx(expected["bowker_p"], abs=close)
        assert marginal.n == 7477

    def test_statsmodels_on_full_tables(self) -> None:
        for table in _tables(5, 4):
            reference = SquareTable(table, shift_zeros=False)
            expected = reference.homogeneity(method="stuart_maxwell")
            found = stuart_maxwell(table)
            assert found.statistic == pytest.approx(expected.statistic)
            assert (found.df, found.p_value) == pytest.approx((expected.df, expected.pvalue))
            expected = reference.symmetry()
            assert bowker(table).statistic == pytest.approx(expected.statistic)
            assert bowker(table).p_value == pytest.approx(expected.pvalue)

    @pytest.mark.parametrize("test", [stuart_maxwell, bowker])
    def test_two_classes_are_mcnemar_by_chi_square(self, test: Any) -> None:
        table = [[30, 12], [5, 40]]
        expected = mcnemar_of_statsmodels(table, exact=False, correction=False)
        assert test(table).p_value == pytest.approx(expected.pvalue)

    def test_a_class_that_is_never_confused_costs_a_degree_of_freedom(self) -> None:
        small = np.array([[9, 7, 2], [1, 8, 3], [4, 5, 9]])
        table = np.zeros((4, 4))
        table[:3, :3], table[3, 3] = small, 50
        for test in (stuart_maxwell, bowker):
            with_fourth, without = test(table), test(small)
            assert with_fourth.df == without.df
            assert with_fourth.statistic == pytest.approx(without.statistic)

    @settings(deadline=None)
    @given(TABLES, st.permutations([0, 1, 2]))
    def test_swapping_arms_and_renaming_classes(self, table: Counts, order: list[int]) -> None:
        for test in (stuart_maxwell, bowker):
            one = test(table)
            assert test(table.T).statistic == pytest.approx(one.statistic, abs=1e-9)
            renamed = test(table[np.ix_(order, order)])
            assert renamed.statistic == pytest.approx(one.statistic, abs=1e-9)

    def test_without_disagreement_there_is_no_test(self) -> None:
        for test in (stuart_maxwell, bowker):
            found = test(np.diag([3, 4, 5]))
            assert np.isnan([found.statistic, found.p_value]).all()
            assert (found.df, found.n) == (0, 12)


class TestClusteredMcNemar:
    def test_the_three_forms_of_r(self) -> None:
        case = read_cases()["clustered_mcnemar_synthetic"]
        given_ = case["inputs"]
        found = clustered_mcnemar(given_["b"], given_["c"], given_["n"])
        for name in ("obuchowski", "durkalski", "yang"):
            statistic = getattr(found, name)
            assert statistic == pytest.approx(case["expected"][name], abs=case["tolerance"])
            expected = stats.chi2.sf(case["expected"][name], 1)
            assert getattr(found, f"p_{name}") == pytest.approx(expected)
        assert found.n == 12

    def test_one_tile_a_patient_is_mcnemar(self) -> None:
        b, c = np.r_[np.ones(9), np.zeros(31)], np.r_[np.zeros(9), np.ones(3), np.zeros(28)]
        found = clustered_mcnemar(b, c, np.ones(40))
        expected = mcnemar_of_statsmodels([[0, 9], [3, 0]], exact=False, correction=False).statistic
        assert found.durkalski == pytest.approx(expected)
        assert found.obuchowski == pytest.approx(expected * 39 / 40)

    def test_yang_lies_between_the_null_error_and_the_observed_one(self) -> None:
        rng = np.random.default_rng(3)
        n = rng.integers(5, 20, 15)
        b, c = rng.binomial(n, 0.3), rng.binomial(n // 2, 0.2)
        found = clustered_mcnemar(b, c, n)
        # The observed error is that of the mean over tiles, robust against clusters of them.
        total = int((b - c).sum())
        centred = (b - c) - n * total / n.sum()
        observed = total**2 / (15 / 14 * float(centred @ centred))
        null = found.obuchowski
        assert min(observed, null) <= found.yang <= max(observed, null)
        # The two variances are averaged.
        assert 1 / found.yang == pytest.approx((1 / observed + 1 / null) / 2)

    @settings(deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=12),
        st.randoms(use_true_random=False),
    )
    def test_swapping_arms_and_renaming_patients(
        self, counts: list[tuple[int, int]], rnd: Any
    ) -> None:
        b, c = np.array(counts).T
        n, order = b + c + 3, rnd.sample(range(len(b)), len(b))
        one, swapped = clustered_mcnemar(b, c, n), clustered_mcnemar(c, b, n)
        renamed = clustered_mcnemar(b[order], c[order], n[order])
        for name in ("p_obuchowski", "p_durkalski", "p_yang"):
            np.testing.assert_allclose(getattr(swapped, name), getattr(one, name))
            np.testing.assert_allclose(getattr(renamed, name), getattr(one, name))

    def test_equal_patients_make_two_forms_alike(self) -> None:
        found = clustered_mcnemar([3, 1, 0, 4], [0, 1, 2, 1], [10] * 4)
        assert found.obuchowski == pytest.approx(found.durkalski * 3 / 4)

    @pytest.mark.parametrize("counts", [([0, 0], [0, 0]), ([2, 1], [2, 1]), ([3], [0]), ([], [])])
    def test_what_is_not_estimable_is_nan(self, counts: tuple[list[int], list[int]]) -> None:
        found = clustered_mcnemar(*counts, [9] * len(counts[0]))
        assert np.isnan([found.obuchowski, found.p_durkalski, found.p_yang]).all()

    @pytest.mark.parametrize(
        ("b", "c", "n", "message"),
        [
            ([1, 2], [1], [5, 5], "one for each patient"),
            ([1, -2], [1, 1], [5, 5], "negative or undefined"),
            ([1, 4], [1, 2], [5, 5], "patient 1 has more"),
        ],
    )
    def test_bad_arguments_are_refused(self, b: Any, c: Any, n: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            clustered_mcnemar(b, c, n)


class TestFiveByTwo:
    def test_dietterichs_t_as_mlxtend_gives_it(self) -> None:
        case = read_cases()["dietterich_5x2cv_t"]
        d = np.array(case["inputs"]["diff"])
        found = five_by_two_t(d)
        assert found.statistic == pytest.approx(case["expected"]["t"], abs=case["tolerance"])
        assert found.p_value == pytest.approx(case["expected"]["p"], abs=case["tolerance"])
        assert found.estimate == pytest.approx(d.mean())
        assert found.df == 5

    def test_alpaydins_f_by_hand(self) -> None:
        # squares sum to 33, s_r^2 is 0.5 in each repeat: F = 33 / (2 * 2.5)
        d = [[2, 1], [1, 2], [2, 1], [1, 2], [2, 3]]
        found = five_by_two_f(d)
        assert found.statistic == pytest.approx((4 * 5 + 13) / 5)
        assert (found.df, found.df_error) == (10, 5)
        assert found.p_value == pytest.approx(stats.f.sf(33 / 5, 10, 5))

    @settings(deadline=None)
    @given(hnp.arrays(np.float64, (5, 2), elements=st.integers(-50, 50).map(float)))
    def test_swapping_arms_and_scaling(self, d: npt.NDArray[np.float64]) -> None:
        for test in (five_by_two_t, five_by_two_f):
            one, swapped, scaled = test(d), test(-d), test(d / 1000)
            np.testing.assert_allclose(swapped.p_value, one.p_value)
            np.testing.assert_allclose(scaled.p_value, one.p_value)
            assert swapped.estimate == -one.estimate
        order = [3, 1, 4, 0, 2]
        np.testing.assert_allclose(
            five_by_two_f(d[order][:, ::-1]).p_value, five_by_two_f(d).p_value
        )

    @pytest.mark.parametrize("value", [0.0, 0.2, np.nan])
    def test_what_is_not_estimable_is_nan(self, value: float) -> None:
        for test in (five_by_two_t, five_by_two_f):
            found = test(np.full((5, 2), value))
            assert np.isnan([found.statistic, found.p_value]).all()

    def test_another_shape_is_refused(self) -> None:
        for test in (five_by_two_t, five_by_two_f):
            with pytest.raises(ValueError, match="5 repeats of 2 folds"):
                test(np.zeros((4, 2)))
