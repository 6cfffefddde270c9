"""search(): for every row a sorted list of its nearest candidates, by blocks of a product."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from featurebench.heads.features import l2_normalise

if TYPE_CHECKING:
    from featurebench.heads.folds import Rows
    from featurebench.heads.rows import RowSource

    Bits = npt.NDArray[np.uint64]
    Keys = npt.NDArray[np.int64]

Metric = Literal["cosine", "euclidean"]

# A block of scores has at most this many rows and columns: 32 MiB, wide enough for a product at
# full speed.
BLOCK_ROWS, BLOCK_COLUMNS = 512, 16384
# A key is a score, as an integer that falls as the score rises, above 32 bits of a row number.
COLUMN = np.int64(0xFFFFFFFF)
# The key of a score of -inf: no candidate.
MISSING = np.int64(0x7F800000) << np.int64(32)


@dataclass(frozen=True, eq=False)
class Points:
    """Rows shifted by their mean, which keeps the products of close rows small and so exact.

    Parameters
    ----------
    rows
        Float32, shape (n_rows, n_features); for the cosine of length 1 before the shift.
    half
        Half the squared length of each row, float32, shape (n_rows,).
    blank
        Whether a row has no direction (zeros, under the cosine), shape (n_rows,).
    """

    rows: npt.NDArray[np.float32]
    half: npt.NDArray[np.float32]
    blank: npt.NDArray[np.bool_]

    @classmethod
    def read(cls, source: RowSource, metric: Metric) -> Points:
        """Copy all rows of a source.

        Raises
        ------
        ValueError
            If a row is not finite, or too long to be squared in float32.
        """
        rows = np.empty(source.shape, dtype=np.float32)
        total = np.zeros(source.shape[1])
        for block, values in source.blocks():
            _check_finite(values, block.start)
            rows[block] = l2_normalise(values) if metric == "cosine" else values
            total += rows[block].sum(axis=0, dtype=np.float64)
        blank = np.logical_and(~rows.any(axis=1), metric == "cosine")
        # Rounded to float32, the mean of equal rows is that row, and their distances are 0.
        rows -= (total / max(len(rows), 1)).astype(np.float32)
        half = (0.5 * np.einsum("ij,ij->i", rows, rows, dtype=np.float64)).astype(np.float32)
        return cls(rows, half, blank)

    def scores(
        self, rows: Rows, columns: Rows, reference: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """``x.y - |y|^2 / 2``: larger is nearer, shape (n_rows, n_columns), -inf never.

        ``reference`` holds the rows numbered ``columns``.
        """
        scores: npt.NDArray[np.float32] = self.rows[rows] @ reference.T
        scores -= self.half[columns]
        if self.blank.any():
            # The distance to a row without direction is 1: a squared length of 2 between the two.
            scores[:, self.blank[columns]] = (self.half[rows] - 1)[:, None]
            scores[self.blank[rows]] = (self.half[rows] - 1)[self.blank[rows], None]
        return scores

    def slack(self, rows: Rows, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """How far apart two scores must be to be told apart, shape (n_rows,).

        ``scores`` are those of the k-th nearest rows. A row that competes is at most
        ``|x| + distance`` long; a float32 product of d terms of such lengths is off by more than
        4 sqrt(d) roundings only with a negligible probability (Higham and Mary, SIAM Journal on
        Scientific Computing 41, 2019).
        """
        half = self.half[rows].astype(np.float64)
        reach = np.sqrt(2 * half) + np.sqrt(np.maximum(2 * (half - scores), 0))
        bound: npt.NDArray[np.float64] = 4 * np.sqrt(self.rows.shape[1]) + 8
        slack: npt.NDArray[np.float64] = 2 * bound * 2.0**-24 * reach**2
        slack[self.blank[rows]] = 0
        return slack

    def squared(self, rows: Rows, columns: Rows) -> npt.NDArray[np.float64]:
        """Squared distances pair by pair, which no block or fold changes, shape of ``columns``."""
        squared = np.empty(columns.shape)
        step = max(1, 2**22 // max(1, columns.shape[1] * self.rows.shape[1]))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            apart = self.rows[columns[part]] - self.rows[rows[part], None]
            squared[part] = np.einsum("ijk,ijk->ij", apart, apart, dtype=np.float64)
        if self.blank.any():
            squared[self.blank[columns] | self.blank[rows, None]] = 2
        return squared


def search(
    points: Points, rows: Rows, tested: Bits, trained: Bits, *, width: int, n_jobs: int = 1
) -> Keys:
    """Find the nearest rows among those that share a job with each row.

    Parameters
    ----------
    rows
        Rows to search for, shape (n,); quickest if rows with equal bits stand together.
    tested, trained
        Bit j is set where the row is tested, or trained on, in job j; shapes (n_words, n) and
        (n_words, n_rows). Two rows with a common bit are candidates of each other.
    width
        Length of the lists.

    Returns
    -------
    array of int64
        Candidates by falling score and rising row number, shape (n, at most width): the score,
        as an integer that falls as the score rises, and in the lower 32 bits the row number. A
        list that ends early is filled with `MISSING`.
    """
    columns = np.flatnonzero(trained.any(axis=0))
    reference = points.rows
    if len(columns) < 0.75 * len(reference):
        reference = reference[columns]
    else:
        columns = np.arange(len(reference))
    trained = trained[:, columns]

    def search_block(block: slice) -> Keys:
        found = []
        for start in range(0, len(columns), BLOCK_COLUMNS):
            part = slice(start, start + BLOCK_COLUMNS)
            scores = points.scores(rows[block], columns[part], reference[part])
            _forbid(scores, tested[:, block], trained[:, part])
            found.append(_shortlist(scores, columns[part], width))
        return np.sort(np.concatenate(found, axis=1), axis=1)[:, :width]

    step = max(1, min(BLOCK_ROWS, 2**23 // max(1, min(len(columns), width * 16))))
    blocks = [slice(start, start + step) for start in range(0, len(rows), step)]
    if n_jobs == 1 or len(blocks) == 1:
        return np.concatenate([search_block(block) for block in blocks])
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(n_jobs) as pool:
        return np.concatenate(list(pool.map(search_block, blocks)))


def scores_of(keys: Keys) -> npt.NDArray[np.float32]:
    """Read the scores back from keys; -inf where there is no candidate."""
    return -_in_order((keys >> np.int64(32)).astype(np.int32)).view(np.float32)


def _check_finite(values: npt.NDArray[np.float32], start: int) -> None:
    length = np.einsum("ij,ij->i", values, values, dtype=np.float64)
    bad = np.flatnonzero(~(length < 1e36))
    if len(bad):
        raise ValueError(
            f"row {start + bad[0]} of X is NaN, infinite or longer than 1e18: drop or scale it"
        )


def _forbid(scores: npt.NDArray[np.float32], tested: Bits, trained: Bits) -> None:
    """Set the scores of rows without a common bit to -inf."""
    change = np.flatnonzero((tested[:, 1:] != tested[:, :-1]).any(axis=0)) + 1
    for start, stop in zip([0, *change], [*change, tested.shape[1]], strict=True):
        common = (trained & tested[:, start, None]).any(axis=0)
        scores[start:stop, np.flatnonzero(~common)] = -np.inf


def _shortlist(scores: npt.NDArray[np.float32], columns: Rows, width: int) -> Keys:
    """Keys of the ``width`` best of each row, unsorted, shape (n_rows, min(width, n_columns))."""
    n_rows, n_columns = scores.shape
    if n_columns <= width:
        return _keys(scores, columns)
    if n_columns <= 16 * width:
        return np.partition(_keys(scores, columns), width - 1, axis=1)[:, :width]
    # Each of ``width`` groups of columns has a score of at least this floor: a cheap bound that
    # few other scores reach, found without sorting.
    size = n_columns // (8 * width)
    n_groups = n_columns // size
    best = scores[:, : n_groups * size].reshape(n_rows, size, n_groups).max(axis=1)
    floor = np.partition(best, n_groups - width, axis=1)[:, n_groups - width]
    floor = np.maximum(floor, np.finfo(np.float32).min)
    at = np.flatnonzero(scores >= floor[:, None])
    row = at // n_columns
    count = np.bincount(row, minlength=n_rows)
    keys = np.full((n_rows, max(width, count.max())), MISSING)
    position = np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
    keys[row, position] = _keys(scores.ravel()[at], columns[at - row * n_columns])
    return np.sort(keys, axis=1)[:, :width]


def _keys(scores: npt.NDArray[np.float32], columns: Rows) -> Keys:
    """Numbers that sort by falling score, then rising column."""
    keys: Keys = _in_order((0 - scores).view(np.int32)).astype(np.int64)
    return (keys << np.int64(32)) | columns


def _in_order(bits: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Turn the bits of floats into integers of the same order, and back."""
    ordered: npt.NDArray[np.int32] = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    return ordered
