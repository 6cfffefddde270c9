"""Heads fitted one fold after another: what all of them keep, and how some of them stop early."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import normalize

from featurebench.errors import ConfigError
from featurebench.heads.boosting import LightGBMProbe, XGBoostProbe
from featurebench.heads.folds import Fold, needs_inner_folds, predict_one_by_one
from featurebench.heads.forest import ForestProbe
from featurebench.heads.mlp import MlpProbe
from featurebench.heads.stopping import stopping_rows
from featurebench.heads.svm import LinearSvmProbe, RbfSvmProbe

if TYPE_CHECKING:
    from pathlib import Path

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Data = tuple[Floats, Ints]
Splits = list[tuple[Ints, Ints]]

# Small, so that a fit takes a blink; learning as fast as that needs.
SMALL: dict[str, tuple[type, dict[str, Any]]] = {
    "lightgbm": (LightGBMProbe, {"n_estimators": 30, "learning_rate": 0.2}),
    "xgboost": (XGBoostProbe, {"n_estimators": 30, "learning_rate": 0.2}),
    "forest": (ForestProbe, {"n_estimators": 30}),
    "linear_svm": (LinearSvmProbe, {}),
    "rbf_svm": (RbfSvmProbe, {}),
    "mlp": (MlpProbe, {"hidden": (16,), "max_epochs": 30, "lr": 1e-2, "batch_size": 32}),
}
# What says how many rounds there are at most, and how many to wait for a better one.
ROUNDS = {"lightgbm": "n_estimators", "xgboost": "n_estimators", "mlp": "max_epochs"}
PATIENCE = {
    "lightgbm": "early_stopping_rounds",
    "xgboost": "early_stopping_rounds",
    "mlp": "patience",
}
every_head = pytest.mark.parametrize("name", SMALL)
every_stopped_head = pytest.mark.parametrize("name", ROUNDS)


@pytest.fixture(scope="module")
def data() -> Data:
    """Three classes that overlap; 20 columns, 3 of which tell."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat([0, 1, 2], 40))
    X = rng.normal(size=(120, 20)).astype(np.float32)
    X[:, :3] += 2 * np.eye(3, dtype=np.float32)[y]
    return X, y


def inner(y: Ints) -> Splits:
    return list(StratifiedKFold(3, shuffle=True, random_state=0).split(y, y))


def make(name: str, y: Ints | None = None, **params: Any) -> Any:
    """Make a small head, with inner folds where labels are given and it needs them."""
    cls, small = SMALL[name]
    head = cls(**{**small, **params})
    if y is not None and needs_inner_folds(head):
        head.set_params(cv=inner(y))
    return head


@every_head
def test_contract_with_names_as_labels(name: str, data: Data) -> None:
    X, y = data
    labels = np.array(["malignant", "benign", "artefact"])[y]
    head = make(name, y)
    fitted = clone(head).fit(X, labels)
    assert list(fitted.classes_) == ["artefact", "benign", "malignant"]
    p = fitted.predict_proba(X)
    assert p.shape == (120, 3)
    assert p.dtype in (np.float32, np.float64)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert (fitted.predict(X) == labels).mean() > 0.7
    assert (fitted.predict(X) == fitted.classes_[p.argmax(axis=1)]).all()


@every_head
def test_same_seed_same_probabilities_and_nothing_left_by_an_earlier_fit(
    name: str, data: Data
) -> None:
    X, y = data
    p = make(name, y).fit(X, y).predict_proba(X)
    used = make(name, y).fit(X[:, ::-1], y)
    np.testing.assert_array_equal(used.fit(X, y).predict_proba(X), p)


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"linear_svm", "rbf_svm"}))
def test_another_seed_gives_other_probabilities(name: str, data: Data) -> None:
    X, y = data
    drawing = {"colsample_bytree": 0.5} if name == "lightgbm" else {}
    p, q = (make(name, y, random_state=s, **drawing).fit(X, y).predict_proba(X) for s in (0, 1))
    assert np.abs(p - q).max() > 1e-4


@every_head
def test_pickled_head_predicts_the_same(name: str, data: Data) -> None:
    X, y = data
    fitted = make(name, y).fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


@every_head
def test_unknown_parameters_are_refused(name: str) -> None:
    head = make(name)
    assert "class_wait" not in head.get_params()
    with pytest.raises(ValueError, match="class_wait"):
        head.set_params(class_wait=None)
    with pytest.raises(TypeError, match="class_wait"):
        SMALL[name][0](class_wait=None)


@every_head
def test_class_weights_shift_to_the_rare_class(name: str, data: Data) -> None:
    X, y = data
    few = np.concatenate([np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:10]])
    X, y = X[few, 1:3], y[few]
    labels = np.array(["common", "rare"])[y]
    plain, balanced, given = (
        make(name, y, class_weight=weight).fit(X, labels).predict_proba(X)
        for weight in (None, "balanced", {"common": 50 / 80, "rare": 50 / 20})
    )
    assert balanced[:, 1].mean() > plain[:, 1].mean() + 0.03
    np.testing.assert_allclose(given, balanced, atol=1e-12)


@every_head
def test_a_class_absent_from_training_gets_nothing(name: str, data: Data) -> None:
    X, y = data
    without = np.flatnonzero(y != 1)
    train, test = without[:60], np.flatnonzero(y == 1)
    pairs = tuple((train[a], train[b]) for a, b in inner(y[train]))
    head = make(name)
    (found,) = predict_one_by_one(head, X, y, [Fold(train, test, pairs)], n_classes=3)
    assert (found.y_prob[:, 1] == 0).all()
    np.testing.assert_allclose(found.y_prob.sum(axis=1), 1, atol=1e-5)


@every_head
def test_absurd_test_rows_change_nothing_for_the_others(name: str, data: Data) -> None:
    X, y = data
    train, test = np.arange(90), np.arange(90, 120)
    pairs = tuple((train[a], train[b]) for a, b in inner(y[train]))
    wild = X.copy()
    wild[110:] = 1e6
    calm, disturbed = (
        next(predict_one_by_one(make(name), rows, y, [Fold(train, test, pairs)], n_classes=3))
        for rows in (X, wild)
    )
    np.testing.assert_allclose(disturbed.y_prob[:20], calm.y_prob[:20], atol=1e-6)
    assert disturbed.choices == calm.choices


@every_head
@pytest.mark.parametrize("missing", ["train", "validation"])
def test_inner_folds_may_lack_a_class(name: str, missing: str, data: Data) -> None:
    X, y = data
    head = make(name, y)
    if not needs_inner_folds(head):
        pytest.skip("has no inner folds")
    kept = [rows[y[rows] != 2] for rows in (np.arange(0, 120, 2), np.arange(1, 120, 2))]
    even, odd = np.arange(0, 120, 2), np.arange(1, 120, 2)
    cv = [(kept[0], odd), (kept[1], even)] if missing == "train" else [(even, kept[1])]
    p = head.set_params(cv=cv).fit(X, y).predict_proba(X)
    assert np.isfinite(p).all()
    assert p.shape == (120, 3)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)


@every_head
def test_hard_tables(name: str) -> None:
    """Constant columns, duplicated rows, more columns than rows, two rows to a class."""
    rng = np.random.default_rng(1)
    y = np.array([0, 1, 0, 1])
    cv = [(np.array([0, 1]), np.array([2, 3])), (np.array([2, 3]), np.array([0, 1]))]
    tables = [
        np.ones((4, 3)),
        np.repeat(rng.normal(size=(1, 5)), 4, axis=0),
        np.tile(rng.normal(size=(2, 5)), (2, 1)),
        rng.normal(size=(4, 50)),
    ]
    for X in tables:
        head = make(name)
        if needs_inner_folds(head):
            head.set_params(cv=cv)
        p = head.fit(X, y).predict_proba(X)
        assert np.isfinite(p).all()
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)


@every_head
def test_what_cannot_be_fitted_is_refused(name: str, data: Data) -> None:
    X, y = data
    holed = X.copy()
    holed[3, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        make(name, y).fit(holed, y)
    with pytest.raises(ValueError, match="120 training rows are of class 0: give two classes"):
        make(name, y).fit(X, np.zeros(120, dtype=int))
    with pytest.raises(ConfigError, match="unknown step"):
        make(name, y, features="standardize-it").fit(X, y)
    with pytest.raises(ValueError, match="0 sample"):
        make(name, y).fit(X, y).predict_proba(X[:0])
    if needs_inner_folds(make(name)):
        with pytest.raises(ValueError, match="needs inner folds, but cv is None"):
            make(name).fit(X, y)


@every_head
def test_half_precision_memory_maps(name: str, data: Data, tmp_path: Path) -> None:
    X, y = data
    np.save(tmp_path / "X.npy", X.astype(np.float16))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    p = make(name, y).fit(mapped, y).predict_proba(mapped)
    rounded = X.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(make(name, y).fit(rounded, y).predict_proba(rounded), p)


@every_head
def test_feature_steps_come_first(name: str, data: Data) -> None:
    X, y = data
    stepped = make(name, y, features=["l2"]).fit(X, y).predict_proba(X)
    before = normalize(X)
    plain = make(name, y, features=()).fit(before, y).predict_proba(before)
    np.testing.assert_allclose(stepped, plain, atol=1e-6)
    reduced = make(name, y, features=["standardise", {"pca": 4}]).fit(X, y)
    assert reduced.fitted_.steps.transform(X).shape == (120, 4)


@every_stopped_head
def test_watched_rows_only_say_when_to_stop(name: str, data: Data) -> None:
    """However absurd they are: no feature step, bin edge or weight comes from them."""
    X, y = data
    train, watch = inner(y)[0]
    X = X.copy()
    X[watch] = X[watch] * 1e3 - 5e2
    features = ("standardise", "pca:10")
    stopped = make(name, y, refit=False, features=features).fit(X, y)
    n_rounds = stopped.choices_[ROUNDS[name]]
    alone = make(name, features=features, **{ROUNDS[name]: n_rounds, PATIENCE[name]: None})
    alone.fit(X[train], y[train])
    np.testing.assert_array_equal(stopped.predict_proba(X), alone.predict_proba(X))


@every_stopped_head
def test_refit_takes_all_rows_and_the_rounds_found(name: str, data: Data) -> None:
    X, y = data
    stopped = make(name, y, class_weight={0: 1, 1: 2, 2: 3}).fit(X, y)
    n_rounds = stopped.choices_[ROUNDS[name]]
    assert 1 <= n_rounds < 30
    params = {ROUNDS[name]: n_rounds, "class_weight": {0: 1, 1: 2, 2: 3}, PATIENCE[name]: None}
    plain = make(name, **params).fit(X, y)
    np.testing.assert_array_equal(stopped.predict_proba(X), plain.predict_proba(X))
    assert plain.choices_ == {}
    assert not needs_inner_folds(plain)


@every_stopped_head
@pytest.mark.parametrize("n_classes", [2, 3])
def test_rounds_found_have_the_least_log_loss(name: str, n_classes: int, data: Data) -> None:
    X, y = data
    rows = np.flatnonzero(y < n_classes)
    X, y = X[rows], y[rows]
    train, watch = inner(y)[0]
    losses = []
    for n_rounds in range(1, 16):
        limits: dict[str, Any] = {ROUNDS[name]: n_rounds, PATIENCE[name]: None}
        head = make(name, **limits)
        p = head.fit(X[train], y[train]).predict_proba(X[watch])
        losses.append(log_loss(y[watch], p))
    stopped = make(name, y, **{ROUNDS[name]: 15, PATIENCE[name]: 15}).fit(X, y)
    assert stopped.choices_ == {ROUNDS[name]: 1 + int(np.argmin(losses))}


@every_stopped_head
def test_rows_of_a_class_not_trained_on_are_not_watched(name: str, data: Data) -> None:
    X, y = data
    train, watch = (rows[y[rows] != 2] for rows in inner(y)[0])
    both = make(name, cv=[(train, watch)]).fit(X, y)
    with_others = make(name, cv=[(train, np.union1d(watch, np.flatnonzero(y == 2)))]).fit(X, y)
    assert with_others.choices_ == both.choices_
    kept = make(name, cv=[(train, watch)], refit=False).fit(X, y)
    assert (kept.predict_proba(X)[:, 2] == 0).all()


def test_the_first_usable_inner_fold_stops() -> None:
    y = np.array([0, 0, 1, 1, 2])
    cv = [(np.array([0, 1]), np.array([2])), (np.array([0, 2]), np.array([1, 4]))]
    train, watch = stopping_rows(cv, y)
    assert (train.tolist(), watch.tolist()) == ([0, 2], [1])
    with pytest.raises(ValueError, match="none of 1 inner folds has two classes to train on"):
        stopping_rows(cv[:1], y)
