"""Support vector machines: scikit-learn's calibrated ones, also where its own cannot go."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.class_weight import compute_sample_weight

from featurebench.heads.svm import LinearSvmProbe, RbfSvmProbe

Data = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]
machines = pytest.mark.parametrize(
    ("probe", "machine"),
    [
        (LinearSvmProbe(C=0.01), LinearSVC(C=0.01, dual="auto", max_iter=5000, random_state=0)),
        (RbfSvmProbe(C=2.0, gamma=0.005), SVC(C=2.0, gamma=0.005)),
    ],
    ids=["linear", "rbf"],
)


@pytest.fixture(scope="module", params=[(2, 15), (3, 15), (3, 200)])
def data(request: pytest.FixtureRequest) -> Data:
    """Rows of 2 or 3 classes; fewer or more columns than rows."""
    n_classes, n_features = request.param
    rng = np.random.default_rng(0)
    y = rng.integers(0, n_classes, 120)
    X = rng.normal(size=(120, n_features))
    X[:, :3] += np.eye(3)[y]
    return X, y


def inner(y: npt.NDArray[np.int64]) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    return list(StratifiedKFold(4, shuffle=True, random_state=1).split(y, y))


@machines
def test_equals_a_calibrated_pipeline(probe: Any, machine: Any, data: Data) -> None:
    X, y = data
    cv = inner(y)
    reference = CalibratedClassifierCV(
        make_pipeline(StandardScaler(), machine), method="sigmoid", cv=cv, ensemble=False
    ).fit(X, y)
    fitted = clone(probe).set_params(cv=cv).fit(X, y)
    np.testing.assert_allclose(fitted.predict_proba(X), reference.predict_proba(X), atol=1e-4)


@machines
def test_class_weights_equal_sample_weights(probe: Any, machine: Any, data: Data) -> None:
    X, y = data
    cv = inner(y)
    weight = {0: 1.0, 1: 5.0, 2: 0.5} if y.max() == 2 else {0: 1.0, 1: 5.0}
    reference = CalibratedClassifierCV(machine, method="sigmoid", cv=cv, ensemble=False)
    reference.fit(X, y, sample_weight=compute_sample_weight(weight, y))
    fitted = clone(probe).set_params(features=(), class_weight=weight, cv=cv)
    np.testing.assert_allclose(
        fitted.fit(X, y).predict_proba(X), reference.predict_proba(X), atol=1e-4
    )


@machines
def test_chooses_the_penalty_with_the_least_log_loss(probe: Any, machine: Any, data: Data) -> None:
    X, y = data
    cv = inner(y)
    Cs = [1e-3, 1e-1, 1.0, 10.0]
    losses = []
    for C in Cs:
        pipeline = make_pipeline(StandardScaler(), clone(machine).set_params(C=C))
        fitted = CalibratedClassifierCV(pipeline, method="sigmoid", cv=cv, ensemble=False).fit(X, y)
        scores = cross_val_predict(pipeline, X, y, cv=cv, method="decision_function")
        columns = scores[:, None] if scores.ndim == 1 else scores
        calibrators = fitted.calibrated_classifiers_[0].calibrators
        p = np.stack([c.predict(s) for c, s in zip(calibrators, columns.T, strict=True)], axis=1)
        p = np.hstack([1 - p, p]) if p.shape[1] == 1 else p / p.sum(axis=1, keepdims=True)
        losses.append(np.mean([log_loss(y[test], p[test]) for _, test in cv]))
    chosen = clone(probe).set_params(cv=cv, C=Cs[::-1]).fit(X, y)
    assert chosen.choices_ == {"C": Cs[int(np.argmin(losses))], "n_unconverged": 0}


def test_scale_follows_the_unit_of_the_features(data: Data) -> None:
    X, y = data
    standardised = LinearSvmProbe(cv=inner(y)).fit(X, y)
    assert standardised.choices_["C"] == pytest.approx(1 / X.shape[1])
    one, thousand = (LinearSvmProbe(cv=inner(y), features=()).fit(s * X, y) for s in (1, 1000))
    assert thousand.choices_["C"] == pytest.approx(one.choices_["C"] / 1e6)
    assert (thousand.predict(1000 * X) == one.predict(X)).mean() > 0.98


def test_fits_that_did_not_converge_are_counted_not_shown(data: Data) -> None:
    X, y = data
    cv = inner(y)
    hurried = LinearSvmProbe(C=1.0, cv=cv, max_iter=1).fit(X, y)
    assert hurried.choices_ == {"C": 1.0, "n_unconverged": 5}
    assert LinearSvmProbe(cv=cv).fit(X, y).choices_["n_unconverged"] == 0


def test_rows_that_no_inner_fold_holds_out_are_trained_on_only(data: Data) -> None:
    X, y = data
    train, held = np.arange(0, 100), np.arange(100, 120)
    machine = LinearSVC(C=0.01, dual="auto", random_state=0, max_iter=5000)
    frozen = FrozenEstimator(clone(machine).fit(X[train], y[train]))
    everything = [(np.arange(20), np.arange(20))]
    reference = CalibratedClassifierCV(frozen, cv=everything, ensemble=False)
    (inner_part,) = reference.fit(X[held], y[held]).calibrated_classifiers_
    inner_part.estimator = machine.fit(X, y)
    fitted = LinearSvmProbe(C=0.01, features=(), cv=[(train, held)]).fit(X, y)
    np.testing.assert_allclose(fitted.predict_proba(X), inner_part.predict_proba(X), atol=1e-4)


def test_absurd_held_out_rows_do_not_reach_the_feature_steps(data: Data) -> None:
    """Through a scaler, one held-out row far away would flatten all others."""
    X, y = data
    train, held = inner(y)[0]
    wild = X.copy()
    wild[held[0]] = 1e6
    probe = LinearSvmProbe(cv=[(train, held)]).fit(X, y)
    ((_, disturbed),) = probe._held_out(wild, y, np.ones(120), ["scale"])
    ((_, calm),) = probe._held_out(X, y, np.ones(120), ["scale"])
    np.testing.assert_array_equal(disturbed[:, 1:], calm[:, 1:])


def test_inner_folds_of_one_class_are_refused(data: Data) -> None:
    X, y = data
    ones = np.flatnonzero(y == 1)
    with pytest.raises(ValueError, match="every inner fold trains on one class only"):
        LinearSvmProbe(cv=[(ones, np.flatnonzero(y == 0))]).fit(X, y)
