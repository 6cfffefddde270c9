"""CentroidProbe is SimpleShot's nearest class mean, on all folds at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler, normalize

import featurebench.heads.centroid as centroid_module
from featurebench.heads.centroid import CentroidProbe
from featurebench.heads.folds import Fold, predict_one_by_one

X_ = npt.NDArray[np.float32]
Y_ = npt.NDArray[np.int64]
GRID = (3.0, 1.0, 0.3, 0.1, 0.03)


def draw(n: int = 150, d: int = 12, k: int = 3, seed: int = 0) -> tuple[X_, Y_]:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % k)
    X = rng.normal(size=(n, d)) * rng.uniform(0.5, 2, d) + rng.uniform(0, 9, d)
    X[:, :k] += 2 * np.eye(k)[y]
    return X.astype(np.float32), y


def nested(n: int, outer: int = 3, inner: int = 3, seed: int = 0) -> list[Fold]:
    folds = []
    for train, test in KFold(outer, shuffle=True, random_state=seed).split(np.zeros(n)):
        pairs = KFold(inner, shuffle=True, random_state=seed).split(train)
        folds.append(Fold(train, test, tuple((train[a], train[b]) for a, b in pairs)))
    return folds


def transformed(transform: str, train: Any, test: Any) -> tuple[Any, Any]:
    """SimpleShot's transforms, written with scikit-learn."""
    if transform == "un":
        return train, test
    if transform == "l2n":
        return normalize(train), normalize(test)
    centre = StandardScaler(with_std=False).fit(train)
    return normalize(centre.transform(train)), normalize(centre.transform(test))


@pytest.mark.parametrize("transform", ["un", "l2n", "cl2n"])
@pytest.mark.parametrize("scale", [False, True])
def test_equals_nearest_centroid(transform: Any, scale: bool) -> None:
    X, y = draw()
    train, test = np.arange(100), np.arange(100, 150)
    features = ("standardise",) if scale else ()
    probe = CentroidProbe(transform, temperature=0.5, features=features).fit(X[train], y[train])
    Z = X.astype(np.float64)
    Z = StandardScaler().fit(Z[train]).transform(Z) if scale else Z
    A, B = transformed(transform, Z[train], Z[test])
    reference = NearestCentroid().fit(A, y[train])
    np.testing.assert_array_equal(probe.predict(X[test]), reference.predict(B))
    spread = (cdist(A, reference.centroids_)[train, y[train]] ** 2).mean()
    weight = np.exp(-(cdist(B, reference.centroids_) ** 2) / (0.5 * spread))
    expected = weight / weight.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probe.predict_proba(X[test]), expected, atol=1e-5)


@pytest.mark.parametrize("transform", ["l2n", "cl2n"])
def test_cosine_compares_directions(transform: Any) -> None:
    X, y = draw()
    A, _ = transformed(transform, X, X)
    means = np.stack([A[y == k].mean(axis=0) for k in range(3)])
    nearest = cdist(A, means, "cosine").argmin(axis=1)
    probe = CentroidProbe(transform, metric="cosine", temperature=0.5).fit(X, y)
    np.testing.assert_array_equal(probe.predict(X), nearest)
    spread = 2 * cdist(A, means, "cosine")[np.arange(len(y)), y].mean()
    weight = np.exp(-2 * cdist(A, means, "cosine") / (0.5 * spread))
    expected = weight / weight.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probe.predict_proba(X), expected, atol=1e-5)


def test_chooses_the_least_inner_log_loss_and_keeps_the_classes() -> None:
    X, y = draw()
    cv = list(KFold(4, shuffle=True, random_state=1).split(X))
    losses = np.zeros(len(GRID))
    for train, test in cv:
        for i, temperature in enumerate(GRID):
            probe = CentroidProbe(temperature=temperature).fit(X[train], y[train])
            p = probe.predict_proba(X[test]).astype(np.float64)
            losses[i] += log_loss(y[test], p / p.sum(axis=1, keepdims=True))
    probe = CentroidProbe(temperature=GRID[::-1], cv=cv).fit(X, y)
    assert 0 < losses.argmin() < len(GRID) - 1
    assert probe.choices_ == {"temperature": GRID[losses.argmin()]}
    plain = CentroidProbe(temperature=7.0).fit(X, y)
    np.testing.assert_array_equal(probe.predict(X), plain.predict(X))


@pytest.mark.parametrize("transform", ["un", "l2n", "cl2n"])
@pytest.mark.parametrize(
    "features", [(), ("l2",), ("standardise",), ("l2", "standardise"), ("standardise", "pca:5")]
)
@pytest.mark.parametrize("temperature", [0.5, GRID])
def test_all_folds_equal_each_fold(
    transform: Any, features: tuple[str, ...], temperature: Any
) -> None:
    X, y = draw()
    folds = nested(len(y))
    head = CentroidProbe(transform, features=features, temperature=temperature)
    assert head.needs_inner_folds == (temperature == GRID)
    found = head.predict_folds(X, y, folds, n_classes=4)
    for a, b in zip(found, predict_one_by_one(head, X, y, folds, n_classes=4), strict=True):
        assert a.choices == b.choices
        np.testing.assert_allclose(a.y_prob, b.y_prob, atol=1e-5)
        np.testing.assert_allclose(a.y_prob.sum(axis=1), 1, atol=1e-5)
        assert (a.y_prob[:, 3] == 0).all()


def test_folds_are_taken_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = draw()
    folds = nested(len(y), outer=5)
    head = CentroidProbe(temperature=0.5)
    at_once = head.predict_folds(X, y, folds, n_classes=3)
    monkeypatch.setattr(centroid_module, "_MOST_COLUMNS", 6)
    in_pairs = head.predict_folds(X, y, folds, n_classes=3)
    for a, b in zip(at_once, in_pairs, strict=True):
        np.testing.assert_allclose(a.y_prob, b.y_prob, atol=1e-6)


def test_class_absent_from_one_fold() -> None:
    X, y = draw()
    folds = nested(len(y))
    folds[0] = Fold(folds[0].train[y[folds[0].train] != 1], folds[0].test)
    head = CentroidProbe(temperature=0.5)
    found = head.predict_folds(X, y, folds, n_classes=3)
    for a, b in zip(found, predict_one_by_one(head, X, y, folds, n_classes=3), strict=True):
        np.testing.assert_allclose(a.y_prob, b.y_prob, atol=1e-5)
    assert (found[0].y_prob[:, 1] == 0).all()


@pytest.mark.parametrize("transform", ["un", "l2n", "cl2n"])
@pytest.mark.parametrize("features", [(), ("standardise",)])
def test_degenerate_rows_give_finite_probabilities(
    transform: Any, features: tuple[str, ...]
) -> None:
    y = np.repeat([0, 1, 2], 2)
    distinct = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    constant = distinct.copy()
    constant[:, 1] = 3
    head = CentroidProbe(transform, temperature=0.01, features=features)
    # One row a class, twice; all rows the same; nothing but zeros.
    for X in (constant, distinct[y], np.ones_like(distinct), np.zeros_like(distinct)):
        p = head.fit(X, y).predict_proba(X)
        assert np.isfinite(p).all()
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert (head.fit(distinct[y], y).predict(distinct[y]) == y).all()
    (none,) = head.predict_folds(constant, y, [Fold(np.arange(6), np.arange(0))], n_classes=3)
    assert none.y_prob.shape == (0, 3)


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"transform": "l2"}, "'l2'"),
        ({"metric": "cityblock"}, "'cityblock'"),
        ({"transform": "un", "metric": "cosine"}, "directions"),
        ({"temperature": 0.0}, "above 0"),
        ({"temperature": GRID}, "no inner folds"),
    ],
)
def test_what_is_refused(parameters: dict[str, Any], match: str) -> None:
    X, y = draw()
    with pytest.raises(ValueError, match=match):
        CentroidProbe(**{"temperature": 1.0, **parameters}).fit(X, y)


def test_one_class_and_not_a_number_are_refused() -> None:
    X, y = draw()
    with pytest.raises(ValueError, match="one class only"):
        CentroidProbe(temperature=1.0).fit(X, np.ones(len(y)))
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        CentroidProbe(temperature=1.0).fit(X, y)
