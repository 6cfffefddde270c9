"""Linear CKA against kernel matrices with explicit centring, and its known invariances."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import ortho_group

from featurebench.stats import linear_cka

Floats = npt.NDArray[np.float64]
# n < d goes through the rows' products, n > d through the features' ones.
SHAPES = [(6, 3, 4), (12, 40, 30), (40, 5, 3), (30, 1, 200), (30, 60, 10)]


def draw(n: int, d1: int, d2: int, *, seed: int = 0) -> tuple[Floats, Floats]:
    """Two related sets of features, far from centred."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, 2))
    x = common @ rng.normal(size=(2, d1)) + 0.3 * rng.normal(size=(n, d1)) + 5
    y = np.tanh(common @ rng.normal(size=(2, d2))) + 0.3 * rng.normal(size=(n, d2)) - 2
    return x, y


def centred_hsic(k: Floats, kernel: Floats) -> float:
    """Trace of K H L H, H the centring matrix (Gretton et al. 2005)."""
    n = len(k)
    h = np.eye(n) - 1 / n
    return float(np.trace(k @ h @ kernel @ h))


def unbiased_hsic(k: Floats, kernel: Floats) -> float:
    """Song et al. 2012 by its definition: means over all tuples of distinct rows."""
    n = len(k)
    pairs = np.mean([k[i, j] * kernel[i, j] for i, j in permutations(range(n), 2)])
    fours = [k[i, j] * kernel[q, r] for i, j, q, r in permutations(range(n), 4)]
    threes = [k[i, j] * kernel[i, q] for i, j, q in permutations(range(n), 3)]
    return float(pairs + np.mean(fours) - 2 * np.mean(threes))


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_explicit_kernel_form(shape: tuple[int, int, int]) -> None:
    x, y = draw(*shape)
    k, kernel = x @ x.T, y @ y.T
    expected = centred_hsic(k, kernel) / math.sqrt(
        centred_hsic(k, k) * centred_hsic(kernel, kernel)
    )
    assert linear_cka(x, y) == pytest.approx(expected, rel=1e-9)
    assert linear_cka(y, x) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shape", [(4, 2, 3), (7, 3, 4), (7, 30, 20), (8, 1, 60)])
def test_debiased_equals_means_over_distinct_rows(shape: tuple[int, int, int]) -> None:
    x, y = draw(*shape)
    k, kernel = x @ x.T, y @ y.T
    expected = unbiased_hsic(k, kernel) / math.sqrt(
        unbiased_hsic(k, k) * unbiased_hsic(kernel, kernel)
    )
    assert linear_cka(x, y, debiased=True) == pytest.approx(expected, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_axes_scale_place_and_order_of_rows_do_not_matter(
    shape: tuple[int, int, int], debiased: bool
) -> None:
    x, y = draw(*shape)
    rng = np.random.default_rng(1)
    expected = linear_cka(x, y, debiased=debiased)
    rotation = ortho_group.rvs(x.shape[1], random_state=rng) if x.shape[1] > 1 else -np.eye(1)
    order = rng.permutation(len(x))
    for changed in (
        (x @ rotation, y),
        (1e-6 * x, 1e6 * y),
        (x + 3, y - 7),
        (x[order], y[order]),
        (x[:, ::-1], y),
    ):
        assert linear_cka(*changed, debiased=debiased) == pytest.approx(expected, rel=1e-7)
    assert linear_cka(x[order], y, debiased=debiased) != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_features_are_like_themselves(shape: tuple[int, int, int], debiased: bool) -> None:
    x, _ = draw(*shape)
    assert linear_cka(x, x.copy(), debiased=debiased) == pytest.approx(1, abs=1e-12)
    assert linear_cka(x, -2 * x, debiased=debiased) <= 1


def test_half_precision_is_computed_in_double() -> None:
    x, y = (features.astype(np.float16) for features in draw(40, 60, 50))
    expected = linear_cka(x.astype(np.float64) * 100, y.astype(np.float64))
    assert linear_cka(x * np.float16(100), y) == pytest.approx(expected, rel=1e-3)


def test_unrelated_features_are_near_one_unless_debiased() -> None:
    rng = np.random.default_rng(0)
    draws = [rng.normal(size=(2, 30, 2000)) for _ in range(20)]
    assert min(linear_cka(x, y) for x, y in draws) > 0.9
    debiased = [linear_cka(x, y, debiased=True) for x, y in draws]
    assert abs(np.mean(debiased)) < 0.03
    assert min(debiased) < 0 < max(debiased)


def test_many_rows_need_no_debiasing() -> None:
    x, y = draw(3000, 4, 5)
    assert linear_cka(x, y, debiased=True) == pytest.approx(linear_cka(x, y), abs=2e-3)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3])
def test_is_undefined_where_a_side_does_not_vary(value: float, debiased: bool) -> None:
    _, y = draw(23, 3, 4)
    constant = np.full((23, 7), value)
    assert math.isnan(linear_cka(constant, y, debiased=debiased))
    assert math.isnan(linear_cka(y, constant, debiased=debiased))
    assert math.isnan(linear_cka(constant[:, :0], y, debiased=debiased))
    with_constants = np.hstack([y, constant])
    assert linear_cka(with_constants, y, debiased=debiased) == pytest.approx(1, abs=1e-12)


def test_debiased_is_undefined_where_all_pairs_are_equally_alike() -> None:
    _, y = draw(9, 3, 4)
    assert math.isnan(linear_cka(np.eye(9), y, debiased=True))
    assert linear_cka(np.eye(9), y) > 0


@pytest.mark.parametrize(
    ("x", "y", "debiased", "message"),
    [
        (np.zeros((5, 2)), np.zeros((4, 2)), False, "5 and 4 rows"),
        (np.zeros((1, 2)), np.zeros((1, 2)), False, "2 or more"),
        (np.zeros((3, 2)), np.zeros((3, 2)), True, "4 or more"),
        (np.zeros((0, 2)), np.zeros((0, 2)), True, "0 and 0 rows"),
        (np.zeros(5), np.zeros((5, 2)), False, "shape"),
        (np.full((5, 2), np.nan), np.zeros((5, 2)), False, "NaN"),
        (np.zeros((5, 2)), np.full((5, 2), np.inf), True, "infinite"),
    ],
)
def test_refuses_what_cannot_be_compared(
    x: Floats, y: Floats, debiased: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        linear_cka(x, y, debiased=debiased)
