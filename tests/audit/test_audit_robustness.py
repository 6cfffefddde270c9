"""The robustness index on neighbours made by hand, and against a plain loop."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import balanced_accuracy_score

from featurebench.audit.robustness import balanced_subsets, neighbours, robustness_curve

# Two classes at two sites, ten tiles in each, every tile a patient of its own.
LABELS = np.repeat([0, 0, 1, 1], 10)
SITES = np.repeat([0, 1, 0, 1], 10)
ALONE = np.arange(40)


def _arranged(by: npt.NDArray[np.int64], *, noise: float = 0.01) -> npt.NDArray[np.float64]:
    """Points near one direction for each value."""
    rng = np.random.default_rng(0)
    return np.eye(by.max() + 1, 6)[by] + noise * rng.normal(size=(len(by), 6))


def test_class_alone_gives_one_and_site_alone_none() -> None:
    of_class = robustness_curve(_arranged(LABELS), LABELS, SITES, ALONE)
    of_site = robustness_curve(_arranged(SITES), LABELS, SITES, ALONE)
    assert of_class is not None
    assert of_site is not None
    # Ten of each class are at another site; then neighbours of the other class follow.
    assert of_class.at(11) == 1.0
    assert of_class.at(31) < 1.0
    assert of_site.at(11) == 0.0
    assert of_class.chance == of_site.chance == 0.5


def test_noise_gives_what_random_neighbours_give() -> None:
    rng = np.random.default_rng(1)
    labels, sites = np.repeat([0, 1], 600), np.tile([0, 1, 2], 400)
    X = rng.normal(size=(1200, 8))
    curve = robustness_curve(X, labels, sites, np.arange(1200))
    assert curve is not None
    assert curve.chance == pytest.approx(2 / 3)
    assert curve.at(101) == pytest.approx(2 / 3, abs=0.03)


def test_index_counts_as_published() -> None:
    """Four tiles on a circle: the neighbours of each are read off."""
    angles = np.radians([0.0, 10.0, 25.0, 90.0])
    X = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    near = neighbours(X, np.arange(4))
    assert near.tolist() == [[1, 2, 3], [0, 2, 3], [1, 0, 3], [2, 1, 0]]


def test_curve_is_that_of_a_plain_loop() -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(40, 5)) + np.eye(2, 5)[LABELS] + np.eye(2, 5, 2)[SITES]
    owners = np.tile(np.arange(20), 2)
    curve = robustness_curve(X, LABELS, SITES, owners)
    assert curve is not None
    Z = X / np.linalg.norm(X, axis=1, keepdims=True)
    distance = np.linalg.norm(Z[:, None] - Z[None], axis=2)
    for k, index, accuracy in zip(curve.k, curve.index, curve.accuracy, strict=True):
        same = other = 0
        called = []
        for i in range(40):
            others = [j for j in np.argsort(distance[i]) if owners[j] != owners[i]][:k]
            same += sum(LABELS[j] == LABELS[i] and SITES[j] != SITES[i] for j in others)
            other += sum(LABELS[j] != LABELS[i] and SITES[j] == SITES[i] for j in others)
            called.append(int(np.bincount(LABELS[others]).argmax()))
        assert index == pytest.approx(same / (same + other))
        assert accuracy == pytest.approx(balanced_accuracy_score(LABELS, called))
    assert curve.k[:6] == (1, 3, 5, 7, 9, 11)
    assert curve.best_k == curve.k[int(np.argmax(curve.accuracy))]


def test_own_patient_is_no_neighbour() -> None:
    """Every patient's two tiles coincide, which would make every nearest neighbour his own."""
    labels, sites, owners = (np.repeat(each, 2) for each in (LABELS, SITES, ALONE))
    X = np.repeat(_arranged(SITES, noise=0.5), 2, axis=0)
    near = neighbours(X, owners)
    assert (owners[near] != owners[:, None]).all()
    single = robustness_curve(X[::2], LABELS, SITES, ALONE)
    double = robustness_curve(X, labels, sites, owners)
    assert single is not None
    assert double is not None
    # A neighbour's tiles now come in pairs: the first two are the first one alone.
    assert double.k[1] == 3
    assert double.index[0] == single.index[0]


def test_cells_give_as_many_tiles_each() -> None:
    rng = np.random.default_rng(3)
    labels, sites = rng.integers(0, 3, 900), rng.integers(0, 2, 900)
    (rows,) = balanced_subsets(labels, sites)
    sizes = np.unique(np.stack([labels[rows], sites[rows]]), axis=1, return_counts=True)[1]
    assert len(sizes) == 6
    assert len(set(sizes.tolist())) == 1
    assert balanced_subsets(labels, sites)[0].tolist() == rows.tolist()


def test_where_a_class_lacks_at_a_site_pairs_are_taken() -> None:
    labels = np.repeat([0, 0, 1, 1, 2], 20)
    sites = np.repeat([0, 1, 0, 1, 2], 20)
    (rows,) = balanced_subsets(labels, sites)
    assert set(labels[rows]) == {0, 1}
    assert set(sites[rows]) == {0, 1}
    curve = robustness_curve(_arranged(labels), labels, sites, np.arange(100))
    assert curve is not None
    assert (curve.chance, curve.n_subsets, curve.n_tiles) == (0.5, 1, 80)


def test_no_index_where_class_and_site_are_one() -> None:
    assert robustness_curve(_arranged(LABELS), LABELS, LABELS, ALONE) is None
    assert robustness_curve(_arranged(LABELS), LABELS, LABELS * 0, ALONE) is None


def test_tiles_looked_at_are_bounded() -> None:
    labels, sites = np.repeat([0, 1], 5000), np.tile([0, 1], 5000)
    (rows,) = balanced_subsets(labels, sites)
    assert len(rows) == 3000
