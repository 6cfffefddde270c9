"""FoldSums gives the moments of any training set, however it comes by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

import featurebench.heads.sums as sums_module
from featurebench.heads.linear import solve_shifted
from featurebench.heads.manyfold import Job
from featurebench.heads.rows import RowSource
from featurebench.heads.sums import FoldSums, GramMoments, RowMoments
from featurebench.heads.weights import class_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featurebench.heads.folds import Rows

K = 3


@pytest.fixture
def source() -> RowSource:
    rng = np.random.default_rng(0)
    return RowSource((rng.normal(size=(90, 6)) + 40).astype(np.float16))


@pytest.fixture
def y() -> npt.NDArray[np.int64]:
    return np.arange(90) % K


def job(train: Sequence[int] | Rows, test: Sequence[int] | Rows = ()) -> Job:
    return Job(np.array(train, dtype=np.int64), np.array(test, dtype=np.int64), (None,))


def five_folds(inner: int = 0) -> list[Job]:
    folds = np.array_split(np.random.default_rng(2).permutation(90), 5)
    outer = [job(np.setdiff1d(np.arange(90), test), test) for test in folds]
    if not inner:
        return outer
    return [
        job(np.setdiff1d(each.train, test), test)
        for each in outer
        for test in np.array_split(each.train, inner)
    ]


def inner_and_outer() -> list[Job]:
    outer, inner = five_folds(), five_folds(inner=4)
    return [
        each
        for i, whole in enumerate(outer)
        for each in (*inner[4 * i : 4 * i + 4], job(whole.train))
    ]


def balanced(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return class_weights("balanced", counts, range(K))


JOBS = {
    "five folds": five_folds(),
    "inner folds": five_folds(inner=4),
    "inner and outer folds": inner_and_outer(),
    "hold-out": [job(range(50), range(50, 90))],
    "small": [job(range(i, i + 8)) for i in range(6)],
    "repeated rows": [job([*range(80), 5, 5], range(80, 90)) for _ in range(4)],
    "the same twice": [job(range(30, 90), range(20)), job(range(30, 90), range(20, 30))] * 3,
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", JOBS)
def test_moments_are_those_of_the_rows(
    name: str, weighted: bool, source: RowSource, y: npt.NDArray[np.int64]
) -> None:
    fold_sums = FoldSums(source, y, K, balanced if weighted else None)
    for each, found in zip(JOBS[name], fold_sums.of_jobs(JOBS[name]), strict=True):
        X = source.X[each.train].astype(np.float64) - found.shift
        codes = y[each.train]
        weights = (
            compute_class_weight("balanced", classes=np.arange(K), y=codes)
            if weighted
            else np.ones(K)
        )
        assert isinstance(found, GramMoments)
        np.testing.assert_allclose(found.weights, weights)
        np.testing.assert_array_equal(found.counts, np.bincount(codes, minlength=K))
        for k in range(K):
            np.testing.assert_allclose(found.class_means[k], X[codes == k].mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(
            found.mean, np.average(X, axis=0, weights=weights[codes]), atol=1e-9
        )
        np.testing.assert_allclose(found.gram, (X * weights[codes][:, None]).T @ X, atol=1e-9)
        np.testing.assert_allclose(found.deviation, X.std(axis=0), rtol=1e-9)


def test_weighted_sums_without_room_for_a_matrix_per_class(
    source: RowSource, y: npt.NDArray[np.int64], monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy = list(FoldSums(source, y, K, balanced).of_jobs(five_folds()))
    monkeypatch.setattr(sums_module, "_MOST_PER_CLASS", 1)
    tight = list(FoldSums(source, y, K, balanced).of_jobs(five_folds()))
    for a, b in zip(roomy, tight, strict=True):
        assert isinstance(a, GramMoments)
        assert isinstance(b, GramMoments)
        np.testing.assert_allclose(a.gram, b.gram, atol=1e-9)


def test_fewer_rows_than_features_are_kept_as_rows(
    source: RowSource, y: npt.NDArray[np.int64]
) -> None:
    jobs = [job([3, 1, 4]), job(range(60)), job([5, 9])]
    few, many, fewer = FoldSums(source, y, K).of_jobs(jobs)
    assert isinstance(few, RowMoments)
    assert isinstance(many, GramMoments)
    assert isinstance(fewer, RowMoments)
    np.testing.assert_array_equal(few.codes, y[[3, 1, 4]])
    np.testing.assert_allclose(few.rows + few.shift, source.X[[3, 1, 4]])


@pytest.mark.parametrize(
    ("jobs", "n_read"),
    [
        # All rows once, then each test fold once.
        (five_folds(), 90 + 90),
        # All rows, then of each outer fold its 18 test rows once and its 72 others in four parts.
        (five_folds(inner=4), 90 + 5 * (18 + 72)),
        # The outer folds come with their inner ones.
        (inner_and_outer(), 90 + 5 * (18 + 72)),
        ([job(range(20), range(20, 90))], 20),
        ([job(range(50), range(i, i + 20)) for i in (50, 60, 70)], 3 * 50),
        ([job(range(50), range(50, 90))] * 7, 50),
    ],
)
def test_reads_no_more_rows_than_it_must(
    jobs: list[Job],
    n_read: int,
    source: RowSource,
    y: npt.NDArray[np.int64],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fold_sums = FoldSums(source, y, K)
    read: list[int] = []
    plain = fold_sums._read

    def counted(rows: Rows) -> npt.NDArray[np.float64]:
        read.append(len(rows))
        return plain(rows)

    monkeypatch.setattr(fold_sums, "_read", counted)
    list(fold_sums.of_jobs(jobs))
    assert sum(read) == n_read


def test_constant_feature_has_deviation_one_after_downdates(y: npt.NDArray[np.int64]) -> None:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(90, 3)).astype(np.float32)
    each = five_folds()[0]
    # Constant where it is trained on, but not elsewhere.
    X[each.train, 1] = 0.1
    found = next(FoldSums(RowSource(X), y, K).of_jobs(five_folds()))
    scaler = StandardScaler().fit(X[each.train].astype(np.float64))
    np.testing.assert_allclose(found.deviation, scaler.scale_, rtol=1e-6)
    assert found.deviation[1] == 1


def test_not_a_number_is_refused(y: npt.NDArray[np.int64]) -> None:
    X = np.ones((90, 3), dtype=np.float32)
    X[7, 2] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity in column 2"):
        FoldSums(RowSource(X), y, K)


def test_class_weights_are_scikit_learns() -> None:
    codes = np.repeat([0, 2], [5, 15])
    counts = np.bincount(codes, minlength=3)
    expected = compute_class_weight("balanced", classes=np.array([0, 2]), y=codes)
    np.testing.assert_allclose(
        class_weights("balanced", counts, range(3)), [expected[0], 0, expected[1]]
    )
    np.testing.assert_allclose(class_weights({"b": 3}, counts, ["a", "b", "c"]), [1, 3, 1])
    np.testing.assert_allclose(class_weights(None, counts, range(3)), 1)


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        ("even", "'even'"),
        ({"x": 2.0}, "none is a class"),
        ({"a": -1.0}, "above 0"),
    ],
)
def test_class_weights_that_are_refused(weight: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        class_weights(weight, np.array([2, 2]), ["a", "b"])


def test_solve_shifted_and_a_shift_that_is_too_small() -> None:
    rng = np.random.default_rng(4)
    root = rng.normal(size=(5, 8))
    rhs = rng.normal(size=(8, 2))
    found = solve_shifted(root.T @ root, rhs, [(1.0, 2.0), (0.5, 1.0)])
    np.testing.assert_allclose(found[0], np.linalg.solve(root.T @ root + 2 * np.eye(8), rhs))
    np.testing.assert_allclose(found[1], 2 * found[0])
    with pytest.raises(ValueError, match="penalty of 0 is too small"):
        solve_shifted(np.zeros((3, 3)), rhs[:3], [(1.0, 0.0)])
