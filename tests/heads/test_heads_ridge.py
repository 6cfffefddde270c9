"""RidgeProbe is scikit-learn's calibrated ridge classifier, on all folds at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV, _SigmoidCalibration
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler, normalize
from sklearn.utils.class_weight import compute_sample_weight

from featurebench.heads.folds import Fold, predict_one_by_one
from featurebench.heads.ridge import RidgeProbe
from featurebench.heads.sigmoid import fit_sigmoids

X_ = npt.NDArray[np.float32]
Y_ = npt.NDArray[np.int64]
ALPHAS = (1e4, 1e2, 1.0, 1e-2)


def draw(n: int = 150, d: int = 12, k: int = 3, seed: int = 0) -> tuple[X_, Y_]:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % k)
    X = rng.normal(size=(n, d)) * rng.uniform(0.5, 4, d) + rng.uniform(0, 9, d)
    X[:, :k] += 2 * np.eye(k)[y]
    return X.astype(np.float32), y


def nested(n: int, outer: int = 3, inner: int = 3, seed: int = 0) -> list[Fold]:
    folds = []
    for train, test in KFold(outer, shuffle=True, random_state=seed).split(np.zeros(n)):
        pairs = KFold(inner, shuffle=True, random_state=seed).split(train)
        folds.append(Fold(train, test, tuple((train[a], train[b]) for a, b in pairs)))
    return folds


def splits(n: int) -> list[tuple[Y_, Y_]]:
    return list(KFold(4, shuffle=True, random_state=1).split(np.zeros(n)))


@pytest.mark.parametrize("d", [12, 400])
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("alpha", [1e-2, 30.0, 1e5])
def test_equals_calibrated_ridge_classifier(d: int, k: int, alpha: float) -> None:
    X, y = draw(d=d, k=k)
    names = np.array(["a", "b", "c"])[y]
    cv = splits(len(y))
    probe = RidgeProbe([alpha], cv=cv).fit(X, names)
    reference = CalibratedClassifierCV(
        make_pipeline(StandardScaler(), RidgeClassifier(alpha)), cv=cv, ensemble=False
    ).fit(X.astype(np.float64), names)
    np.testing.assert_array_equal(probe.classes_, reference.classes_)
    np.testing.assert_allclose(probe.predict_proba(X), reference.predict_proba(X), atol=3e-5)
    assert probe.choices_ == {"alpha": alpha}


def test_equals_calibrated_ridge_classifier_with_weighted_classes() -> None:
    X, y = draw()
    weight = {0: 1.0, 1: 3.0, 2: 0.5}
    cv = splits(len(y))
    probe = RidgeProbe([10.0], class_weight=weight, features=(), cv=cv).fit(X, y)
    reference = CalibratedClassifierCV(RidgeClassifier(10.0), cv=cv, ensemble=False)
    reference.fit(X.astype(np.float64), y, sample_weight=compute_sample_weight(weight, y))
    np.testing.assert_allclose(probe.predict_proba(X), reference.predict_proba(X), atol=3e-5)


@pytest.mark.parametrize("d", [12, 400])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 1.0, 1: 5.0, 2: 0.2}])
@pytest.mark.parametrize("features", [(), ("standardise",), ("l2", "standardise")])
def test_coefficients_are_ridge_classifiers(
    d: int, class_weight: Any, features: tuple[str, ...]
) -> None:
    X, y = draw(d=d)
    keep = np.flatnonzero((y != 1) | (np.arange(len(y)) % 3 == 0))
    X, y = X[keep], y[keep]
    probe = RidgeProbe([5.0], class_weight=class_weight, features=features, cv=splits(len(y)))
    steps = {"l2": Normalizer, "standardise": StandardScaler}
    pipeline = make_pipeline("passthrough", *(steps[f]() for f in features))
    Z = pipeline.fit_transform(X.astype(np.float64))
    reference = RidgeClassifier(5.0, class_weight=class_weight).fit(Z, y)
    probe.fit(X, y)
    # The probe's are those of the features before they are standardised.
    unit = pipeline[-1].scale_ if "standardise" in features else 1
    raw = normalize(X) if "l2" in features else X
    np.testing.assert_allclose(probe.coef_ * unit, reference.coef_, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        raw @ probe.coef_.T + probe.intercept_, reference.decision_function(Z), atol=1e-4
    )


def test_chooses_the_penalty_with_the_least_inner_log_loss() -> None:
    X, y = draw(d=60)
    cv = splits(len(y))
    loss = []
    for alpha in ALPHAS:
        model = make_pipeline(StandardScaler(), RidgeClassifier(alpha))
        # The sigmoids are those of the pooled decision values, whatever model they stand on.
        values = np.zeros((len(y), 3))
        for train, test in cv:
            values[test] = clone(model).fit(X[train], y[train]).decision_function(X[test])
        calibrated = CalibratedClassifierCV(model, cv=cv, ensemble=False).fit(X, y)
        sigmoids = calibrated.calibrated_classifiers_[0].calibrators
        p = np.stack([s.predict(values[:, k]) for k, s in enumerate(sigmoids)], axis=1)
        loss.append(-np.log((p / p.sum(axis=1, keepdims=True))[np.arange(len(y)), y]).mean())
    probe = RidgeProbe(ALPHAS[::-1], cv=cv).fit(X, y)
    assert probe.choices_ == {"alpha": ALPHAS[int(np.argmin(loss))]}
    assert 0 < np.argmin(loss) < len(ALPHAS) - 1
    assert (
        RidgeProbe(ALPHAS, rule="one_se", cv=cv).fit(X, y).choices_["alpha"]
        >= probe.choices_["alpha"]
    )


@pytest.mark.parametrize("d", [12, 70, 400])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("features", [(), ("l2", "standardise"), ("standardise", "pca:5")])
def test_all_folds_equal_each_fold(d: int, class_weight: Any, features: tuple[str, ...]) -> None:
    X, y = draw(d=d)
    folds = nested(len(y))
    head = RidgeProbe(ALPHAS, features=features, class_weight=class_weight)
    seen: list[int] = []
    found = head.predict_folds(X, y, folds, n_classes=4, progress=seen.append)
    alone = predict_one_by_one(head, X, y, folds, n_classes=4)
    for a, b in zip(found, alone, strict=True):
        assert a.choices == b.choices
        np.testing.assert_allclose(a.y_prob, b.y_prob, atol=1e-5)
        np.testing.assert_allclose(a.y_prob.sum(axis=1), 1, atol=1e-5)
        assert (a.y_prob[:, 3] == 0).all()
    assert sum(seen) == len(folds)


@pytest.mark.parametrize("present", [2, 3])
def test_class_absent_from_one_fold(present: int) -> None:
    X, y = draw(k=present + 1, d=8)
    folds = nested(len(y))
    kept = tuple((a[y[a] != 1], b[y[b] != 1]) for a, b in folds[0].inner)
    folds[0] = Fold(folds[0].train[y[folds[0].train] != 1], folds[0].test, kept)
    head = RidgeProbe(ALPHAS)
    found = head.predict_folds(X, y, folds, n_classes=present + 1)
    for a, b in zip(
        found, predict_one_by_one(head, X, y, folds, n_classes=present + 1), strict=True
    ):
        np.testing.assert_allclose(a.y_prob, b.y_prob, atol=1e-5)
    assert (found[0].y_prob[:, 1] == 0).all()
    np.testing.assert_allclose(found[0].y_prob.sum(axis=1), 1, atol=1e-5)


def test_class_absent_from_every_inner_training_side_is_still_predicted() -> None:
    X, y = draw(d=8)
    X[:, 2] += 20 * (y == 2)
    cv = [(np.flatnonzero(y[:100] != 2), np.arange(100, 150))]
    probe = RidgeProbe([1.0], cv=cv).fit(X, y)
    assert (probe.predict(X)[y == 2] == 2).mean() > 0.9


def test_memory_map_of_half_precision(tmp_path: Any) -> None:
    X, y = draw()
    half = np.memmap(tmp_path / "x", dtype=np.float16, mode="w+", shape=X.shape)
    half[:] = X
    folds = nested(len(y))
    found = RidgeProbe(ALPHAS).predict_folds(half, y, folds, n_classes=3)
    plain = RidgeProbe(ALPHAS).predict_folds(half.astype(np.float32), y, folds, n_classes=3)
    for a, b in zip(found, plain, strict=True):
        np.testing.assert_allclose(a.y_prob, b.y_prob, atol=1e-6)


def test_constant_features_duplicates_few_rows_and_no_test_rows() -> None:
    X, y = draw(n=6, d=5)
    X = np.concatenate([X, X])
    y = np.concatenate([y, y])
    X[:, 1] = 7
    rows = np.arange(12)
    fold = Fold(rows, rows[:0], ((rows[:6], rows[6:]), (rows[6:], rows[:6])))
    (none,) = RidgeProbe().predict_folds(X, y, [fold], n_classes=3)
    assert none.y_prob.shape == (0, 3)
    for x in (X, np.ones_like(X)):
        p = RidgeProbe(cv=[(rows[:6], rows[6:])]).fit(x, y).predict_proba(x)
        assert np.isfinite(p).all()
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)


def test_what_is_refused() -> None:
    X, y = draw()
    cv = splits(len(y))
    with pytest.raises(ValueError, match="no inner folds"):
        RidgeProbe().fit(X, y)
    with pytest.raises(ValueError, match="one class only"):
        RidgeProbe(cv=cv).fit(X, np.zeros(len(y)))
    with pytest.raises(ValueError, match="two classes"):
        RidgeProbe(cv=[(np.flatnonzero(y == 0), np.flatnonzero(y > 0))]).fit(X, y)
    with pytest.raises(ValueError, match="above 0"):
        RidgeProbe([0.0, 1.0], cv=cv).fit(X, y)
    X[3, 4] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        RidgeProbe(cv=cv).fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        RidgeProbe().predict_folds(X, y, nested(len(y)), n_classes=3)


@pytest.mark.parametrize("separated", [False, True])
def test_sigmoids_are_scikit_learns(separated: bool) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(80) % 3
    values = 40 * rng.normal(size=(2, 80, 3)) + (500 if separated else 20) * np.eye(3)[y]
    weights = rng.integers(1, 4, 80).astype(np.float64)
    for f, fitted in zip(values, fit_sigmoids(values, y, weights), strict=True):
        for k in range(3):
            reference = _SigmoidCalibration().fit(f[:, k], (y == k).astype(int), weights)
            own = expit(fitted.slope[k] * f[:, k] + fitted.intercept[k])
            np.testing.assert_allclose(own, reference.predict(f[:, k]), atol=1e-4)


def test_sigmoid_of_a_constant_is_the_smoothed_share() -> None:
    y = np.repeat([0, 1], [30, 10])
    (fitted,) = fit_sigmoids(np.ones((1, 40, 2)), y, np.ones(40))
    # Platt's targets of 31/32 and 1/12, and of 11/12 and 1/32.
    p = expit(fitted.slope + fitted.intercept)
    np.testing.assert_allclose(p[0], (30 * 31 / 32 + 10 / 12) / 40, atol=1e-6)
    np.testing.assert_allclose(p[1], (10 * 11 / 12 + 30 / 32) / 40, atol=1e-6)
