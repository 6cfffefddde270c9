"""Cramer's V and its permutation test against independent references."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chi2_contingency
from scipy.stats.contingency import association

from featurebench.audit.association import associate, cramers_v


def test_bias_correction_is_bergsmas() -> None:
    table = np.array([[12.0, 5.0, 3.0], [4.0, 9.0, 7.0]])
    n, r, c = table.sum(), 2, 3
    chi2 = float(chi2_contingency(table, correction=False).statistic)
    phi2 = max(0.0, chi2 / n - (r - 1) * (c - 1) / (n - 1))
    rows, columns = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    assert cramers_v(table) == pytest.approx(math.sqrt(phi2 / min(rows - 1, columns - 1)))


def test_many_units_make_the_correction_vanish() -> None:
    table = np.array([[120.0, 50.0, 30.0], [40.0, 90.0, 70.0]]) * 1000
    plain = association(table.astype(int), method="cramer")
    assert cramers_v(table) == pytest.approx(plain, abs=1e-4)


def test_extremes_and_undefined() -> None:
    assert cramers_v(np.diag([10.0, 10.0])) == pytest.approx(1.0)
    assert cramers_v(np.full((2, 2), 5.0)) == 0.0
    assert math.isnan(cramers_v(np.array([[3.0, 4.0]])))
    assert cramers_v(np.array([[10.0, 0.0, 0.0], [0.0, 0.0, 10.0]])) == pytest.approx(1.0)


def test_tiles_of_a_patient_are_one_unit() -> None:
    """Three patients with many tiles each cannot show an association."""
    patients = np.repeat([0, 1, 2], 200)
    found = associate(patients % 2, patients % 2, patients)
    assert found.n_units == 3
    assert found.p_value > 0.2
    alone = associate(patients % 2, patients % 2)
    assert (alone.n_units, alone.p_value) == (600, 0.0005)


def test_patients_with_every_class_show_none() -> None:
    labels = np.tile([0, 1, 2], 30)
    patients = np.repeat(np.arange(30), 3)
    found = associate(labels, patients % 3, patients)
    assert found.v == 0.0
    assert found.p_value == 1.0


def test_patient_with_two_values_gives_two_units() -> None:
    """A scanner may change within a patient: each part counts by itself."""
    patients = np.repeat(np.arange(20), 4)
    scanner = np.tile([0, 0, 1, 1], 20)
    assert associate(scanner, scanner, patients).n_units == 40
    assert associate(scanner, scanner, patients).v == pytest.approx(1.0)


def test_p_value_agrees_with_fishers_in_two_by_two() -> None:
    from scipy.stats import fisher_exact

    labels = np.repeat([0, 0, 1, 1], [14, 6, 7, 13])
    values = np.repeat([0, 1, 0, 1], [14, 6, 7, 13])
    exact = float(fisher_exact([[14, 6], [7, 13]])[1])
    assert associate(labels, values).p_value == pytest.approx(exact, abs=0.02)


def test_independent_patients_are_rarely_significant() -> None:
    rng = np.random.default_rng(5)
    p = [associate(rng.integers(0, 2, 30), rng.integers(0, 3, 30)).p_value for _ in range(40)]
    assert np.mean(np.array(p) < 0.05) < 0.2
