"""Where one learning curve overtakes another."""

from __future__ import annotations

import numpy as np
import pytest

from featurebench.stats.crossing import crossing


def test_lines_in_the_logarithm_cross_where_algebra_says() -> None:
    sizes = [2, 4, 8, 16, 32]
    first = 0.6 + 0.02 * np.log(sizes)
    second = 0.5 + 0.07 * np.log(sizes)
    found = crossing(sizes, first[None], second[None])
    assert found.course == "overtakes"
    assert found.size == pytest.approx(np.exp(0.1 / 0.05))
    assert found.share == 1.0
    assert found.low is None


def test_only_the_last_change_of_sign_counts() -> None:
    found = crossing([1, 2, 4, 8], np.zeros((1, 4)), np.array([[-1.0, 1.0, -1.0, 1.0]]))
    assert found.size == pytest.approx(np.sqrt(32))


@pytest.mark.parametrize(
    ("difference", "course"),
    [([0.1, 0.2], "above"), ([-0.1, -0.2], "below"), ([0.3, -0.1], "below"), ([0.1, 0.0], "below")],
)
def test_curves_that_do_not_overtake(difference: list[float], course: str) -> None:
    found = crossing([10, 20], np.zeros((1, 2)), np.array([difference]))
    assert (found.course, found.size) == (course, None)


def test_spread_is_over_the_draws_that_overtake() -> None:
    rng = np.random.default_rng(0)
    logs = np.log([1, 10, 100])
    at = rng.uniform(1, 3, size=50)
    second = np.concatenate([logs - at[:, None], np.full((10, 3), -1.0)])
    found = crossing([1, 10, 100], np.zeros((60, 3)), second)
    assert found.share == pytest.approx(50 / 60)
    assert found.low == pytest.approx(np.exp(np.quantile(at, 0.1)))
    assert found.high == pytest.approx(np.exp(np.quantile(at, 0.9)))


@pytest.mark.parametrize("sizes", [[4, 2], [2, 2], [1, 2, 3]])
def test_sizes_must_ascend_and_fit(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="one per ascending size"):
        crossing(sizes, np.zeros((1, 2)), np.ones((1, 2)))
