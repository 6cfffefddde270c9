"""Variance components of crossed factors: explicit sums, statsmodels and known components."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from featurebench.stats import Components, crossed_components

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
