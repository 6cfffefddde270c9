"""Near-identical tiles across folds are found, all of them, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

from featurebench.audit import find_duplicates, seconds_needed
from featurebench.audit.duplicates import copies, similar_pairs
from featurebench.audit.whitening import fit_whitening, leading, unit

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

N, DIM = 400, 96


@pytest.fixture
def cohort() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int16]]:
    """Embeddings of 40 patients whose tiles resemble each other, and grouped folds."""
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(40), 10)
    mixing = rng.normal(size=(DIM, DIM)) * np.geomspace(10, 0.1, DIM)
    between = rng.normal(size=(40, DIM))[patients]
    X = (5.0 + (0.6 * between + rng.normal(size=(N, DIM))) @ mixing).astype(np.float32)
    return X, patients, np.stack([patients % 5, patients // 8]).astype(np.int16)


def test_blocks_give_the_pairs_of_brute_force(cohort: Any) -> None:
    X, _, _ = cohort
    Z = fit_whitening(X).apply(X)
    cosines = Z @ Z.T
    wanted = {(i, j) for i in range(N) for j in range(i + 1, N) if cosines[i, j] >= 0.3}
    assert len(wanted) > 50
    for block_rows in (7, 64, 399, 400, 5000):
        found = [
            (int(i), int(j), float(s))
            for a, b, cosine in similar_pairs(Z, lambda: 0.3, block_rows=block_rows)
            for i, j, s in zip(a, b, cosine, strict=True)
        ]
        assert len(found) == len({pair[:2] for pair in found})
        assert {pair[:2] for pair in found} == wanted
        wanted_cosines = [cosines[i, j] for i, j, _ in found]
        np.testing.assert_allclose([s for *_, s in found], wanted_cosines, atol=1e-6)


def test_nothing_is_found_where_nothing_is_planted(cohort: Any) -> None:
    X, patients, folds = cohort
    found = find_duplicates(X, folds, patients)
    assert (found.n_pairs, found.n_tiles, found.n_between_patients) == (0, 0, 0)
    assert all(0.3 <= pair.similarity < 0.75 for pair in found.worst)
    assert (found.n_copies_within, found.n_copies_between) == (0, 0)


def test_planted_duplicates_are_found_and_counted(cohort: Any) -> None:
    X, patients, folds = cohort
    planted = [(0, 105), (17, 333), (42, 399)]
    rng = np.random.default_rng(0)
    for a, b in planted:
        X[b] = X[a] * 1.1 + 0.02 * X.std() * rng.normal(size=DIM)
    X[11] = X[10]  # same patient, so on the same side
    X[200] = X[17]
    found = find_duplicates(X, folds, patients, block_rows=128)
    got = {(pair.a, pair.b) for pair in found.worst if pair.similarity >= 0.75}
    assert {*planted, (17, 200), (200, 333)} == got
    assert (found.n_pairs, found.n_tiles, found.n_between_patients) == (5, 7, 5)
    assert (found.n_copies_within, found.n_copies_between) == (1, 1)
    similarities = [pair.similarity for pair in found.worst]
    assert similarities == sorted(similarities, reverse=True)
    assert found.worst[0].similarity == pytest.approx(1.0)


def test_all_are_counted_where_only_the_worst_are_kept(cohort: Any) -> None:
    X, patients, folds = cohort
    X[[100, 200, 300]] = X[0]
    every = find_duplicates(X, folds, patients)
    few = find_duplicates(X, folds, patients, worst=2)
    assert every.n_pairs == few.n_pairs > 2
    assert len(every.worst) >= every.n_pairs
    assert few.worst == every.worst[:2]
    in_blocks = find_duplicates(X, folds, patients, worst=30, block_rows=16)
    assert [pair.similarity for pair in in_blocks.worst] == pytest.approx(
        [pair.similarity for pair in every.worst[:30]], abs=1e-5
    )


def test_patients_that_are_always_on_the_same_side_do_not_count(cohort: Any) -> None:
    X, patients, folds = cohort
    X[50] = X[0]  # patients 0 and 5 share a fold in both repeats
    assert find_duplicates(X, folds[:1], patients).n_pairs == 0
    assert find_duplicates(X, folds[1:], patients).n_pairs == 0
    X[60] = X[0]  # patients 0 and 6 share no fold of the first repeat
    assert find_duplicates(X, folds, patients).n_pairs == 2


def test_without_patients_the_folds_alone_decide(cohort: Any) -> None:
    X, _, _ = cohort
    X[1] = X[0]
    folds = (np.arange(N) % 4).astype(np.int16)[None]
    found = find_duplicates(X, folds)
    assert (found.n_pairs, found.n_between_patients) == (1, None)
    assert (found.n_copies_within, found.n_copies_between) == (1, 0)


def test_memory_map_of_half_precision_gives_the_same(cohort: Any, tmp_path: Path) -> None:
    X, patients, folds = cohort
    X[399] = X[0]
    np.save(tmp_path / "x.npy", X.astype(np.float16))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert find_duplicates(mapped, folds, patients) == find_duplicates(
        X.astype(np.float16), folds, patients
    )


def test_one_scale_for_networks_of_any_offset(cohort: Any) -> None:
    """The cosine of raw embeddings nears 1 with the offset; the whitened one does not."""
    X, patients, folds = cohort
    far = X + 1000.0
    cosines = unit(far.astype(np.float64)) @ unit(far.astype(np.float64)).T
    assert np.quantile(cosines, 0.01) > 0.99
    assert find_duplicates(far, folds, patients).n_pairs == 0
    far[399] = far[0]
    assert find_duplicates(far, folds, patients).n_pairs == 1


def test_few_tiles_have_few_components(cohort: Any) -> None:
    X, _, _ = cohort
    found = find_duplicates(X[:20], np.arange(20, dtype=np.int16)[None] % 2)
    assert found.n_components == 10
    one = find_duplicates(X[:1], np.zeros((1, 1), dtype=np.int16))
    assert one.n_pairs == 0


def test_whitened_components_are_those_of_pca(cohort: Any) -> None:
    X, _, _ = cohort
    unit_rows = unit(X.astype(np.float64))
    reference = PCA(8, whiten=True, svd_solver="full").fit_transform(unit_rows)
    got = fit_whitening(X, 8).apply(X)
    wanted = unit(reference)
    np.testing.assert_allclose(np.abs((got * wanted).sum(axis=1)).min(), 1.0, atol=0.02)
    np.testing.assert_allclose(got @ got.T, wanted @ wanted.T, atol=0.05)


def test_subspace_iteration_finds_the_leading_eigenvectors() -> None:
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.normal(size=(60, 60)))[0]
    values = 0.7 ** np.arange(60.0)
    covariance = basis * values @ basis.T
    got, vectors = leading(covariance, 3, steps=60)
    np.testing.assert_allclose(got, values[:3], rtol=1e-9)
    np.testing.assert_allclose(np.abs(np.sum(vectors * basis[:, :3], axis=0)), 1.0, atol=1e-9)
    assert (vectors[np.abs(vectors).argmax(axis=0), [0, 1, 2]] > 0).all()


def test_copies_are_compared_by_their_numbers_and_not_by_a_hash_alone() -> None:
    X = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [1.0, 2.0]])
    assert copies(X, np.array([0, 0, 1, 1])) == (1, 1)
    assert copies(X, None) == (2, 0)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5])
def test_threshold_out_of_range(cohort: Any, threshold: float) -> None:
    X, _, folds = cohort
    with pytest.raises(ValueError, match="threshold is"):
        find_duplicates(X, folds, threshold=threshold)


def test_lengths_must_agree(cohort: Any) -> None:
    X, _, folds = cohort
    with pytest.raises(ValueError, match="399 embeddings for a plan of 400 tiles"):
        find_duplicates(X[1:], folds)


def test_time_grows_with_the_square() -> None:
    assert seconds_needed(200_000) == pytest.approx(100 * seconds_needed(20_000))
