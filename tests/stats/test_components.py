"""Variance components of crossed factors: explicit sums, statsmodels and known components."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from stat_cases import read_cases
from statsmodels.formula.api import mixedlm, ols
from statsmodels.stats.anova import anova_lm

from featurebench.stats import Components, crossed_components, patient_split_components

Floats = npt.NDArray[np.float64]


def draw(
    n_seeds: int, n_folds: int, sds: tuple[float, float, float], rng: np.random.Generator
) -> Floats:
    """Scores of a model whose standard deviations of seeds, folds and rest are known."""
    seeds, folds, rest = sds
    drawn: Floats = (
        0.8
        + seeds * rng.normal(size=(n_seeds, 1))
        + folds * rng.normal(size=(1, n_folds))
        + rest * rng.normal(size=(n_seeds, n_folds))
    )
    return drawn


def by_sums(y: Floats) -> tuple[float, float, float]:
    """The textbook's sums of squares, cell by cell; negative estimates are left as they are."""
    a, b = y.shape
    grand = sum(y[i, j] for i in range(a) for j in range(b)) / (a * b)
    rows = [sum(y[i, j] for j in range(b)) / b for i in range(a)]
    columns = [sum(y[i, j] for i in range(a)) / a for j in range(b)]
    of_rows = b * sum((m - grand) ** 2 for m in rows) / (a - 1)
    of_columns = a * sum((m - grand) ** 2 for m in columns) / (b - 1)
    rest = sum((y[i, j] - rows[i] - columns[j] + grand) ** 2 for i in range(a) for j in range(b))
    of_rest = rest / ((a - 1) * (b - 1))
    return (of_rows - of_rest) / b, (of_columns - of_rest) / a, of_rest


@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (5, 3), (4, 20)])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_sums_of_squares(shape: tuple[int, int], seed: int) -> None:
    y = draw(*shape, (0.02, 0.05, 0.03), np.random.default_rng(seed))
    found = crossed_components(y)
    seeds, folds, residual = by_sums(y)
    assert found.residual == pytest.approx(residual, rel=1e-9)
    assert found.seeds == pytest.approx(max(seeds, 0.0), rel=1e-9, abs=1e-15)
    assert found.folds == pytest.approx(max(folds, 0.0), rel=1e-9, abs=1e-15)
    assert found.total == pytest.approx(found.seeds + found.folds + found.residual)


def test_equals_the_mean_squares_of_statsmodels() -> None:
    y = draw(4, 6, (0.05, 0.05, 0.02), np.random.default_rng(1))
    seeds, folds = np.indices(y.shape)
    table = pd.DataFrame({"y": y.ravel(), "seed": seeds.ravel(), "fold": folds.ravel()})
    squares = anova_lm(ols("y ~ C(seed) + C(fold)", data=table).fit())["mean_sq"]
    found = crossed_components(y)
    assert found.residual == pytest.approx(squares["Residual"], rel=1e-8)
    assert found.seeds == pytest.approx((squares["C(seed)"] - squares["Residual"]) / 6, rel=1e-8)
    assert found.folds == pytest.approx((squares["C(fold)"] - squares["Residual"]) / 4, rel=1e-8)


def test_finds_known_components() -> None:
    rng = np.random.default_rng(2)
    drawn = [crossed_components(draw(6, 10, (0.3, 0.5, 0.2), rng)) for _ in range(2000)]
    # With components as large as these, estimates are hardly ever cut off at 0.
    assert np.mean([each.seeds for each in drawn]) == pytest.approx(0.09, rel=0.05)
    assert np.mean([each.folds for each in drawn]) == pytest.approx(0.25, rel=0.05)
    assert np.mean([each.residual for each in drawn]) == pytest.approx(0.04, rel=0.05)


def test_seed_that_draws_anew_in_every_fold_is_in_the_residual() -> None:
    rng = np.random.default_rng(3)
    found = crossed_components(draw(40, 40, (0.0, 0.5, 0.2), rng))
    assert found.seeds < 0.002
    assert math.sqrt(found.residual) == pytest.approx(0.2, rel=0.1)


def test_negative_estimates_become_zero() -> None:
    # Every seed and every fold has the same mean: all there is lies in the cells.
    assert crossed_components([[0.0, 1.0], [1.0, 0.0]]) == Components(0.0, 0.0, 1.0)


@pytest.mark.parametrize("value", [0.1, 0.7, 1 / 3])
def test_scores_without_spread_have_none(value: float) -> None:
    assert crossed_components(np.full((3, 7), value)) == Components(0.0, 0.0, 0.0)


def test_factors_may_change_places_and_scores_their_unit() -> None:
    y = draw(3, 5, (0.1, 0.2, 0.05), np.random.default_rng(5))
    found, turned = crossed_components(y), crossed_components(y.T)
    assert (turned.folds, turned.seeds) == pytest.approx((found.seeds, found.folds))
    assert turned.residual == pytest.approx(found.residual)
    assert crossed_components(100 * y + 7).folds == pytest.approx(1e4 * found.folds)


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ([0.5, 0.6], r"shape \(2,\)"),
        ([[0.5, 0.6]], r"shape \(1, 2\)"),
        ([[0.5], [0.6]], r"shape \(2, 1\)"),
        ([[0.5, float("nan")], [0.4, 0.3]], "leave those folds out"),
    ],
)
def test_refuses_what_has_no_components(scores: list[float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        crossed_components(scores)


def draw_patients(sds: dict[str, float], rng: np.random.Generator) -> Floats:
    """Values of 3 seeds, 6 splits and 12 patients; each set of factors has its own deviation."""
    sizes = {"s": 3, "r": 6, "p": 12}
    values: Floats = np.zeros(tuple(sizes.values()))
    for factors, sd in sds.items():
        values = values + sd * rng.normal(size=[n if f in factors else 1 for f, n in sizes.items()])
    return values


def test_patients_and_splits_equal_two_crossed_factors() -> None:
    y = draw(5, 20, (0.1, 0.3, 0.2), np.random.default_rng(4))
    found, reference = patient_split_components(y), crossed_components(y)
    assert found.splits == pytest.approx(reference.seeds)
    assert found.patients == pytest.approx(reference.folds)
    assert found.residual == pytest.approx(reference.residual)
    assert math.isnan(found.seeds)
    assert found.total == pytest.approx(reference.total)
    assert (found.n_patients, found.n_left_out) == (20, 0)


def test_ergostool_has_the_components_of_lme4() -> None:
    case = read_cases()["rm_anova_mixedlm_ergoStool"]
    found = patient_split_components(np.array(case["inputs"]["table"]).T)
    expected, within = case["expected"], case["tolerance"]
    assert math.sqrt(found.patients) == pytest.approx(expected["sd_subject"], abs=within)
    assert math.sqrt(found.residual) == pytest.approx(expected["sd_residual"], abs=within)


def test_equals_the_mixed_model_of_statsmodels() -> None:
    # Its warning of a boundary looks at variances below 0.01, whatever the unit.
    y = draw(6, 12, (2.0, 3.0, 1.0), np.random.default_rng(0))
    splits, patients = np.indices(y.shape)
    table = pd.DataFrame(
        {"y": y.ravel(), "split": splits.ravel(), "patient": patients.ravel(), "all": 1}
    )
    parts = {"patient": "0 + C(patient)", "split": "0 + C(split)"}
    fit = mixedlm("y ~ 1", table, groups="all", vc_formula=parts).fit(reml=True)
    found = patient_split_components(y)
    assert (found.patients, found.splits) == pytest.approx(tuple(fit.vcomp), rel=1e-3)
    assert found.residual == pytest.approx(fit.scale, rel=1e-3)


def test_finds_known_components_of_patients_splits_and_seeds() -> None:
    rng = np.random.default_rng(6)
    sds = {"p": 0.3, "r": 0.2, "s": 0.25, "rp": 0.1, "sp": 0.15, "sr": 0.05, "srp": 0.1}
    found = [patient_split_components(draw_patients(sds, rng)) for _ in range(1500)]
    assert np.mean([each.patients for each in found]) == pytest.approx(0.09, rel=0.05)
    assert np.mean([each.splits for each in found]) == pytest.approx(0.04, rel=0.05)
    assert np.mean([each.seeds for each in found]) == pytest.approx(0.0625, rel=0.1)
    assert np.mean([each.residual for each in found]) == pytest.approx(0.045, rel=0.05)


def test_patient_with_an_undefined_value_is_left_out_and_counted() -> None:
    y = draw(4, 9, (0.1, 0.3, 0.2), np.random.default_rng(7))
    holed = y.copy()
    holed[2, 5] = holed[0, 1] = math.nan
    found, rest = (patient_split_components(each) for each in (holed, np.delete(y, [1, 5], axis=1)))
    assert (found.n_patients, found.n_left_out) == (7, 2)
    assert (found.patients, found.splits) == pytest.approx((rest.patients, rest.splits))
    assert found.residual == pytest.approx(rest.residual)


@pytest.mark.parametrize("shape", [(1, 9), (4, 1), (3, 1, 9)])
def test_one_repeat_or_one_patient_has_no_components(shape: tuple[int, ...]) -> None:
    assert math.isnan(patient_split_components(np.zeros(shape)).total)


@settings(deadline=None, max_examples=40)
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 3), st.integers(2, 4), st.integers(2, 5)),
        elements=st.integers(-9, 9).map(float),
    )
)
def test_components_follow_the_unit_and_not_the_order(y: Floats) -> None:
    found = patient_split_components(y)
    moved = patient_split_components(10 * y[::-1, ::-1, ::-1] + 3)
    for name in ("patients", "splits", "seeds", "residual"):
        value = getattr(found, name)
        assert getattr(moved, name) == pytest.approx(100 * value, rel=1e-6, abs=1e-6, nan_ok=True)
        assert math.isnan(value) == (name == "seeds" and len(y) == 1)
        assert not value < 0


@pytest.mark.parametrize(
    ("values", "told"),
    [([0.5, 0.6], r"shape \(2,\)"), ([[0.5, float("inf")], [0.1, 0.2]], "with NaN")],
)
def test_refuses_values_of_no_patients(values: list[float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        patient_split_components(values)
