"""Holm and Benjamini-Hochberg against the published example and their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stat_cases import read_cases

from featurebench.stats import benjamini_hochberg, holm


def test_benjamini_hochberg_1995_example() -> None:
    case = read_cases()["multiplicity_bh1995"]
    np.testing.assert_allclose(
        holm(case["inputs"]["p"]), case["expected"]["holm"], atol=case["tolerance"]
    )
    adjusted = benjamini_hochberg(case["inputs"]["p"])
    np.testing.assert_allclose(adjusted, case["expected"]["bh"], atol=case["tolerance"])
    assert (adjusted <= 0.05).sum() == case["expected"]["n_reject_bh"]


@pytest.mark.parametrize("seed", range(4))
def test_is_the_step_down_procedure_by_its_definition(seed: int) -> None:
    p = np.random.default_rng(seed).beta(0.4, 2, size=3 * seed + 1).round(2)
    adjusted = holm(p)
    for threshold in np.linspace(0.001, 1, 60):
        rejected = set()
        for rank, i in enumerate(np.argsort(p, kind="stable")):
            if p[i] * (len(p) - rank) > threshold:
                break
            rejected.add(int(i))
        assert set(np.flatnonzero(adjusted <= threshold + 1e-12).tolist()) == rejected


@pytest.mark.parametrize("seed", range(4))
def test_false_discovery_rate_is_the_step_up_procedure_by_its_definition(seed: int) -> None:
    p = np.random.default_rng(seed).beta(0.4, 2, size=3 * seed + 1).round(2)
    adjusted = benjamini_hochberg(p)
    for threshold in np.linspace(0.001, 1, 60):
        in_order = np.sort(p)
        below = [i + 1 for i, value in enumerate(in_order) if value * len(p) <= threshold * (i + 1)]
        assert (adjusted <= threshold + 1e-12).sum() == max(below, default=0)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_false_discovery_rate_asks_for_less_than_holm(p: list[float]) -> None:
    adjusted = benjamini_hochberg([*p, float("nan")])
    assert np.isnan(adjusted[-1])
    assert (adjusted[:-1] <= holm(p) + 1e-12).all()
    assert (adjusted[:-1] >= np.array(p) - 1e-12).all()


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0, 1), max_size=12), st.lists(st.integers(0, 12), max_size=4))
def test_what_was_not_computed_stays_so_and_does_not_count(
    p: list[float], holes: list[int]
) -> None:
    with_holes: list[float] = list(p)
    for hole in holes:
        with_holes.insert(min(hole, len(with_holes)), float("nan"))
    adjusted = holm(with_holes)
    computed = np.isfinite(with_holes)
    np.testing.assert_array_equal(adjusted[computed], holm(p))
    assert np.isnan(adjusted[~computed]).all()


def test_one_comparison_is_left_as_it_is() -> None:
    assert holm([0.03]).tolist() == [0.03]


@pytest.mark.parametrize("p", [[0.5, 1.2], [-0.1], [float("inf")], [[0.1]]])
def test_what_is_no_list_of_p_values_is_refused(p: Any) -> None:
    with pytest.raises(ValueError, match="p-values"):
        holm(p)
    with pytest.raises(ValueError, match="p-values"):
        benjamini_hochberg(p)
