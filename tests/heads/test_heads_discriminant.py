"""LdaProbe is scikit-learn's shrunk discriminant analysis, on all folds at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from featurebench.heads.discriminant import LdaProbe
from featurebench.heads.folds import Fold, predict_one_by_one

X_ = npt.NDArray[np.float32]
Y_ = npt.NDArray[np.int64]
GRID = (0.9, 0.5, 0.1, 0.01)


def draw(n: int = 150, d: int = 12, k: int = 3, seed: int = 0) -> tuple[X_, Y_]:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % k)
    # Unequal classes, so that priors matter; correlated features of different scale.
    y = np.where((y == 1) & (rng.random(n) < 0.5), 0, y)
    X = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / np.sqrt(d)
    X = X * rng.uniform(0.5, 4, d) + rng.uniform(0, 9, d)
    X[:, :k] += 2 * np.eye(k)[y]
    return X.astype(np.float32), y


def nested(n: int, outer: int = 3, inner: int = 3, seed: int = 0) -> list[Fold]:
    folds = []
    for train, test in KFold(outer, shuffle=True, random_state=seed).split(np.zeros(n)):
        pairs = KFold(inner, shuffle=True, random_state=seed).split(train)
        folds.append(Fold(train, test, tuple((train[a], train[b]) for a, b in pairs)))
    return folds


@pytest.mark.parametrize("d", [12, 300])
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("shrinkage", [0.02, 0.5, 1.0])
@pytest.mark.parametrize("solver", ["lsqr", "eigen"])
def test_equals_scikit_learn(d: int, k: int, shrinkage: float, solver: str) -> None:
    X, y = draw(d=d, k=k)
    names = np.array(["a", "b", "c"])[y]
    probe = LdaProbe(shrinkage, features=()).fit(X, names)
    reference = LinearDiscriminantAnalysis(solver=solver, shrinkage=shrinkage)
    reference.fit(X.astype(np.float64), names)
    np.testing.assert_array_equal(probe.classes_, reference.classes_)
    np.testing.assert_allclose(probe.predict_proba(X), reference.predict_proba(X), atol=2e-4)
    np.testing.assert_array_equal(probe.predict(X), reference.predict(X))


@pytest.mark.parametrize("d", [12, 300])
def test_balanced_classes_are_scikit_learns_equal_priors(d: int) -> None:
    X, y = draw(d=d)
    probe = LdaProbe(0.3, class_weight="balanced").fit(X, y)
    Z = StandardScaler().fit_transform(X.astype(np.float64))
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3, priors=[1 / 3] * 3)
    expected = reference.fit(Z, y).predict_proba(Z)
    np.testing.assert_allclose(probe.predict_proba(X), expected, atol=1e-4)


def test_weights_are_repeated_rows() -> None:
    X, y = draw()
    twice = np.concatenate([np.arange(len(y)), np.flatnonzero(y == 1)])
    weighted = LdaProbe(0.3, class_weight={1: 2.0}, features=()).fit(X, y)
    repeated = LdaProbe(0.3, features=()).fit(X[twice], y[twice])
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("d", [12, 300])
@pytest.mark.parametrize("features", [(), ("standardise",)])
def test_auto_is_ledoit_and_wolf_about_the_class_means(d: int, features: tuple[str, ...]) -> None:
    X, y = draw(d=d)
    Z = X.astype(np.float64)
    Z = StandardScaler().fit_transform(Z) if features else Z
    centred = Z - np.stack([Z[y == k].mean(axis=0) for k in range(3)])[y]
    probe = LdaProbe(features=features).fit(X, y)
    expected = ledoit_wolf_shrinkage(centred, assume_centered=True)
    assert 0.001 < expected < 0.9
    np.testing.assert_allclose(probe.shrinkage_, expected, rtol=1e-4)
    fixed = LdaProbe(probe.shrinkage_, features=features).fit(X, y)
    np.testing.assert_allclose(probe.predict_proba(X), fixed.predict_proba(X), atol=1e-6)


def test_chooses_the_least_inner_log_loss() -> None:
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(150) % 3)
    X = (rng.normal(size=(150, 60)) + 2.5 * np.eye(60)[y]).astype(np.float32)
    cv = list(KFold(4, shuffle=True, random_state=1).split(X))
    losses = np.zeros(len(GRID))
    for train, test in cv:
        scaler = StandardScaler().fit(X[train].astype(np.float64))
        for i, shrinkage in enumerate(GRID):
            model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
            model.fit(scaler.transform(X[train]), y[train])
            p = model.predict_proba(scaler.transform(X[test]))
            losses[i] += log_loss(y[test], p, labels=[0, 1, 2])
    probe = LdaProbe(GRID[::-1], cv=cv).fit(X, y)
    assert 0 < losses.argmin() < len(GRID) - 1
    assert probe.choices_ == {"shrinkage": GRID[losses.argmin()]}


@pytest.mark.parametrize("d", [12, 70, 300])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("features", [(), ("l2", "standardise"), ("standardise", "pca:5")])
@pytest.mark.parametrize("shrinkage", ["auto", GRID])
def test_all_folds_equal_each_fold(
    d: int, class_weight: Any, features: tuple[str, ...], shrinkage: Any
) -> None:
    X, y = draw(d=d)
    folds = nested(len(y))
    head = LdaProbe(shrinkage, features=features, class_weight=class_weight)
    assert head.needs_inner_folds == (shrinkage == GRID)
    found = head.predict_folds(X, y, folds, n_classes=4)
    alone = predict_one_by_one(head, X, y, folds, n_classes=4)
    for a, b in zip(found, alone, strict=True):
        assert a.choices == b.choices
        np.testing.assert_allclose(a.y_prob, b.y_prob, atol=2e-5)
        np.testing.assert_allclose(a.y_prob.sum(axis=1), 1, atol=1e-5)
        assert (a.y_prob[:, 3] == 0).all()


def test_class_absent_from_one_fold() -> None:
    X, y = draw()
    folds = nested(len(y))
    folds[0] = Fold(folds[0].train[y[folds[0].train] != 1], folds[0].test)
    head = LdaProbe(class_weight={0: 2.0})
    found = head.predict_folds(X, y, folds, n_classes=3)
    for a, b in zip(found, predict_one_by_one(head, X, y, folds, n_classes=3), strict=True):
        np.testing.assert_allclose(a.y_prob, b.y_prob, atol=1e-5)
    assert (found[0].y_prob[:, 1] == 0).all()


@pytest.mark.parametrize("d", [3, 30])
@pytest.mark.parametrize("shrinkage", ["auto", 0.1])
def test_degenerate_rows_give_finite_probabilities(d: int, shrinkage: Any) -> None:
    y = np.repeat([0, 1, 2], 2)
    distinct = np.random.default_rng(0).normal(size=(6, d)).astype(np.float32)
    constant = distinct.copy()
    constant[:, 1] = 3
    # No spread within the classes at all, and none anywhere.
    for X in (constant, distinct[y], np.ones_like(distinct)):
        probe = LdaProbe(shrinkage).fit(X, y)
        p = probe.predict_proba(X)
        assert np.isfinite(p).all()
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert (LdaProbe(shrinkage).fit(distinct[y], y).predict(distinct[y]) == y).all()
    fold = Fold(np.arange(6), np.arange(0))
    (none,) = LdaProbe(shrinkage).predict_folds(constant, y, [fold], n_classes=3)
    assert none.y_prob.shape == (0, 3)


@pytest.mark.parametrize("shrinkage", [0.0, 1.5, "ledoit", (), (0.1, -1.0)])
def test_shrinkages_that_are_refused(shrinkage: Any) -> None:
    X, y = draw()
    with pytest.raises(ValueError, match="shrinkage"):
        LdaProbe(shrinkage).fit(X, y)


def test_what_else_is_refused() -> None:
    X, y = draw()
    with pytest.raises(ValueError, match="no inner folds"):
        LdaProbe(GRID).fit(X, y)
    with pytest.raises(ValueError, match="one class only"):
        LdaProbe().fit(X, np.ones(len(y)))
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        LdaProbe().fit(X, y)
