"""Rows in an order in which whole blocks lie outside of training sets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from featurebench.heads.logistic.blocks import BLOCK_ROWS, by_membership, in_order


def sets_of_folds(
    n_rows: int, n_folds: int, n_repeats: int, seed: int = 0
) -> npt.NDArray[np.uint8]:
    """One column per fold and repeat: 1 where a row is trained on."""
    rng = np.random.default_rng(seed)
    columns = []
    for _ in range(n_repeats):
        fold_of = rng.permutation(n_rows) % n_folds
        columns += [fold_of != fold for fold in range(n_folds)]
    return np.column_stack(columns).astype(np.uint8)


@pytest.mark.parametrize(
    ("n_rows", "n_folds", "n_repeats"), [(9000, 5, 1), (20_000, 3, 4), (7, 2, 1)]
)
def test_order_is_a_permutation_and_blocks_cover_it(
    n_rows: int, n_folds: int, n_repeats: int
) -> None:
    sets = sets_of_folds(n_rows, n_folds, n_repeats)
    order, blocks = by_membership(sets)
    assert np.array_equal(np.sort(order), np.arange(n_rows))
    edges = [first for first, _ in blocks.bounds] + [n_rows]
    assert [last for _, last in blocks.bounds] == edges[1:]
    assert all(0 < last - first <= BLOCK_ROWS for first, last in blocks.bounds)


def test_needed_says_whether_any_row_is_in_the_set() -> None:
    sets = sets_of_folds(9000, 5, 2)
    order, blocks = by_membership(sets)
    for (first, last), needed in zip(blocks.bounds, blocks.needed, strict=True):
        assert np.array_equal(needed, sets[order][first:last].max(axis=0) > 0)


def test_folds_of_one_repeat_leave_out_all_their_test_rows() -> None:
    sets = sets_of_folds(20_000, 5, 1)
    _, blocks = by_membership(sets)
    rows = np.diff(np.array(blocks.bounds), axis=1)
    assert (rows * blocks.needed).sum(axis=0).tolist() == [16_000] * 5


def test_a_second_repeat_is_told_apart_within_the_first() -> None:
    sets = sets_of_folds(20_000, 5, 3)
    _, blocks = by_membership(sets)
    rows = np.diff(np.array(blocks.bounds), axis=1)
    done = (rows * blocks.needed).sum(axis=0)
    assert done[:10].tolist() == [16_000] * 10
    assert done[10:].tolist() == [20_000] * 5


def test_rows_in_no_set_are_needed_by_none() -> None:
    sets = np.zeros((6000, 2), dtype=np.uint8)
    sets[:4000, 0] = 1
    sets[1000:4000, 1] = 1
    _, blocks = by_membership(sets)
    rows = np.diff(np.array(blocks.bounds), axis=1)
    assert (rows * blocks.needed).sum(axis=0).tolist() == [4000, 3000]


def test_rows_as_they_stand_keep_their_order() -> None:
    sets = np.zeros((5000, 1), dtype=np.uint8)
    sets[:2500] = 1
    blocks = in_order(sets)
    assert blocks.bounds[0][0] == 0
    assert blocks.bounds[-1][1] == 5000
    assert blocks.needed[:, 0].tolist() == [True] * 3 + [False] * 2
