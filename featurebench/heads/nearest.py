"""nearest_rows(): the k nearest training rows of every test row, for many folds from one search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featurebench.heads.candidates import COLUMN, MISSING, scores_of, search

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from featurebench.heads.candidates import Bits, Keys, Points
    from featurebench.heads.folds import Rows
    from featurebench.heads.manyfold import Job

# The longest list of the shared search: 3 KiB a row.
WIDEST = 384
# Looking at one entry of a candidate list costs about as much as this many multiply-adds of the
# matrix product, and picking a score out of it as much as 40.
LIST_COST, PICK_COST = 200, 40
# Candidates beyond the k nearest, so that the last one is clearly farther off than the k-th.
SPARE = 8
# Times the length that a list would need if the candidates lost to a fold were spread evenly;
# a fold takes whole patients, which stand close together in the lists.
LENGTHEN = 2.5


def nearest_rows(
    points: Points, jobs: Sequence[Job], ks: Sequence[int], n_jobs: int = 1
) -> Iterator[Rows]:
    """Yield each job's nearest training rows, shape (n_test, min(max(ks), n_train)).

    The first k of them are the k nearest for every k of ``ks``, by the distances of
    `Points.squared`, of equal ones those with the lower row numbers; their order is else free.
    One search over all rows gives each row a list of its nearest candidates, in which every job
    looks up its own training rows. The few tests whose list runs out, and jobs for which that is
    cheaper, are searched on their own, so all answers are exact.

    Memory besides ``points``: per row and candidate 8 bytes, at most 3 KiB a row; per thread a
    block of scores and masks, about 100 MiB; and, where fewer than three quarters of the rows are
    trained on, a copy of these.

    Raises
    ------
    ValueError
        If a job trains twice on a row.
    """
    for i, job in enumerate(jobs):
        if len(np.unique(job.train)) < len(job.train):
            raise ValueError(f"job {i} has a training row more than once: give each row once")
    widths = _list_widths(jobs, *points.rows.shape, length=max(ks) + SPARE)
    lists, place = _shared_lists(points, jobs, widths, n_jobs)
    for job, width in zip(jobs, widths, strict=True):
        limits = sorted({min(k, len(job.train)) for k in ks})
        found = np.empty((len(job.test), limits[-1]), dtype=np.int64)
        left = np.arange(len(job.test))
        if width:
            inside = _bits(len(points.rows), [job.train])[0] > 0
            mine, enough = _members(lists[place[job.test], :width], inside, limits[-1] + SPARE)
            here = np.flatnonzero(enough)
            found[here], sure = _settle(points, job.test[here], mine, limits)
            left = np.setdiff1d(left, here[sure], assume_unique=True)
        _search_alone(points, job, limits, (found, left), n_jobs)
        yield found


def _list_widths(jobs: Sequence[Job], n_rows: int, n_features: int, *, length: int) -> list[int]:
    """How far each job looks down the shared lists; 0 where it is searched on its own."""
    n_columns = np.count_nonzero(_bits(n_rows, [job.train for job in jobs]).any(axis=0))
    need = [int(LENGTHEN * length * n_columns / len(job.train)) + SPARE for job in jobs]
    alone = [len(job.test) * len(job.train) * (n_features + PICK_COST) for job in jobs]
    listed = [len(job.test) * width * LIST_COST for job, width in zip(jobs, need, strict=True)]
    widths = [
        width if width <= WIDEST and shared < single else 0
        for width, shared, single in zip(need, listed, alone, strict=True)
    ]
    n_tested = len(np.unique(np.concatenate([job.test for job in jobs])))
    once = n_tested * n_columns * (n_features + PICK_COST)
    saved = sum(a - b for a, b, width in zip(alone, listed, widths, strict=True) if width)
    return widths if saved > once else [0] * len(jobs)


def _shared_lists(
    points: Points, jobs: Sequence[Job], widths: Sequence[int], n_jobs: int
) -> tuple[Keys, Rows]:
    """Candidate lists of all rows tested in the jobs that share, and each row's place in them."""
    sharing = [job for job, width in zip(jobs, widths, strict=True) if width]
    place = np.full(len(points.rows), -1)
    if not sharing:
        return np.empty((0, 0), dtype=np.int64), place
    tested = _bits(len(points.rows), [job.test for job in sharing])
    trained = _bits(len(points.rows), [job.train for job in sharing])
    rows = np.flatnonzero(tested.any(axis=0))
    # Rows that are always tested together, such as those of a patient, exclude the same rows.
    rows = rows[np.lexsort(tested[:, rows])]
    place[rows] = np.arange(len(rows))
    return search(points, rows, tested[:, rows], trained, width=max(widths), n_jobs=n_jobs), place


def _bits(n_rows: int, members: Sequence[Rows]) -> Bits:
    """Set bit j of the rows in member j, shape (n_words, n_rows)."""
    bits = np.zeros((-(-len(members) // 64), n_rows), dtype=np.uint64)
    for j, rows in enumerate(members):
        bits[j // 64, rows] |= np.uint64(1 << (j % 64))
    return bits


def _search_alone(
    points: Points, job: Job, limits: Sequence[int], unsettled: tuple[Rows, Rows], n_jobs: int
) -> None:
    """Fill in the tests numbered ``left``, with longer lists for those that stay in doubt."""
    found, left = unsettled
    trained = _bits(len(points.rows), [job.train])
    width = min(limits[-1] + SPARE, len(job.train))
    while len(left):
        whole = width == len(job.train)
        sure = np.empty(len(left), dtype=bool)
        step = max(1, 2**23 // width)
        for part in (slice(start, start + step) for start in range(0, len(left), step)):
            rows = job.test[left[part]]
            tested = np.ones((1, len(rows)), dtype=np.uint64)
            keys = search(points, rows, tested, trained, width=width, n_jobs=n_jobs)
            found[left[part]], sure[part] = _settle(points, rows, keys, limits, whole=whole)
        left = left[~sure]
        width = min(16 * width, len(job.train))


def _members(
    keys: Keys, inside: npt.NDArray[np.bool_], length: int
) -> tuple[Keys, npt.NDArray[np.bool_]]:
    """Take the first ``length`` candidates inside, of each row with so many; say which have."""
    member = inside[keys & COLUMN] & (keys < MISSING)
    rank = np.cumsum(member, axis=1, dtype=np.int16)
    enough = rank[:, -1] >= length
    taken = member & (rank <= length) & enough[:, None]
    return keys[taken].reshape(-1, length), enough


def _settle(
    points: Points, rows: Rows, keys: Keys, limits: Sequence[int], *, whole: bool = False
) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """Take the nearest rows from sorted candidates, by exact distances where scores are too close.

    Returns
    -------
    columns, sure
        Row numbers, shape (n, limits[-1]), and whether they are settled, shape (n,): not so where
        a row beyond the candidates may be among the nearest. ``whole`` says that there is none.
    """
    columns, scores = keys & COLUMN, scores_of(keys)
    last = scores[:, limits[-1] - 1]
    slack = points.slack(rows, last)
    sure = (last - scores[:, -1] >= slack) | whole
    doubtful = np.zeros(len(rows), dtype=bool)
    for k in limits:
        if k < keys.shape[1]:
            doubtful |= scores[:, k - 1] - scores[:, k] < slack
    again = np.flatnonzero(doubtful & sure)
    near = scores[again] >= (last - slack)[again, None]
    width = int(near.sum(axis=1).max(initial=limits[-1]))
    columns[again, :width] = _by_distance(points, rows[again], columns[again, :width], near)
    return columns[:, : limits[-1]], sure


def _by_distance(points: Points, rows: Rows, columns: Rows, near: npt.NDArray[np.bool_]) -> Rows:
    """Sort candidates by distance, then row number; those that are not near come last."""
    squared = points.squared(rows, columns)
    squared[~near[:, : columns.shape[1]]] = np.inf
    return np.take_along_axis(columns, np.lexsort((columns, squared)), axis=1)
