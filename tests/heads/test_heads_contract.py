"""One contract for every head: whatever is called a head does all of this."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline

from featurebench.evaluation import cross_validate, predict_folds
from featurebench.heads import (
    HEADS,
    Fold,
    ManyFoldHead,
    make_features,
    make_head,
    needs_inner_folds,
    predict_one_by_one,
)
from featurebench.splits import SplitPlan

if TYPE_CHECKING:
    from pathlib import Path

    Floats = npt.NDArray[np.floating[Any]]
    Ints = npt.NDArray[np.int64]
    Data = tuple[npt.NDArray[np.float32], Ints]

# Small enough that a fit takes a blink.
QUICK: dict[str, dict[str, Any]] = {
    "logistic": {"Cs": [1e-3, 1e-1]},
    "ridge": {"alphas": [1e3, 1e1]},
    "lda": {"shrinkage": [0.9, 0.3]},
    "linear_svm": {},
    "rbf_svm": {},
    "knn": {"k": [9, 3]},
    "centroid": {"temperature": [1.0, 0.1]},
    "mlp": {"hidden": (8,), "max_epochs": 20, "patience": 5, "lr": 1e-2, "batch_size": 16},
    "random_forest": {"n_estimators": 10},
    "xgboost": {"n_estimators": 8, "max_depth": 2, "learning_rate": 0.3},
    "lightgbm": {"n_estimators": 8, "num_leaves": 4, "min_child_samples": 2},
    "dummy": {},
}
# Nothing left to choose, so that there are no inner folds.
FIXED: dict[str, dict[str, Any]] = {
    "logistic": {"C": 0.1},
    "lda": {"shrinkage": 0.3},
    "knn": {"k": 5},
    "centroid": {"temperature": 0.3},
    "mlp": {**QUICK["mlp"], "patience": None, "max_epochs": 5},
    "random_forest": QUICK["random_forest"],
    "xgboost": {**QUICK["xgboost"], "early_stopping_rounds": None},
    "lightgbm": {**QUICK["lightgbm"], "early_stopping_rounds": None},
}
MANY_FOLD = ("logistic", "ridge", "lda", "knn", "centroid")
# It looks at no features: there is nothing to check and to transform.
BLIND = ("dummy",)
# Class means and class shares have no use for them.
WITHOUT_CLASS_WEIGHT = ("centroid", "dummy")

every_head = pytest.mark.parametrize("name", HEADS)
every_seeing_head = pytest.mark.parametrize("name", [name for name in HEADS if name not in BLIND])
every_fixed_head = pytest.mark.parametrize("name", FIXED)
every_many_fold_head = pytest.mark.parametrize("name", MANY_FOLD)


def make(name: str, **params: Any) -> Any:
    return make_head(name, **(QUICK[name] | params))


def draw(n: int = 60, d: int = 8, k: int = 3, seed: int = 0) -> Data:
    """Draw k classes as even as can be, told apart by the first features."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % k)
    X = rng.normal(size=(n, d))
    X += 2 * rng.normal(size=(k, d))[y]
    return X.astype(np.float16).astype(np.float32), y


def inner_folds(rows: Ints, y: Ints) -> tuple[tuple[Ints, Ints], ...]:
    n_folds = min(3, int(np.unique(y[rows], return_counts=True)[1].min()))
    split = StratifiedKFold(n_folds, shuffle=True, random_state=0).split(rows, y[rows])
    return tuple((rows[a], rows[b]) for a, b in split)


def fit(head: Any, X: Floats, y: npt.NDArray[Any]) -> Any:
    if needs_inner_folds(head):
        codes = np.unique(y, return_inverse=True)[1]
        head.set_params(cv=inner_folds(np.arange(len(y)), codes))
    return head.fit(X, y)


def folds_of(y: Ints, n_folds: int = 3) -> list[Fold]:
    """Folds with inner folds, of which every other is a repeat with other rows left out."""
    rows = np.arange(len(y))
    return [
        Fold(train, test, inner_folds(train, y))
        for seed in range(2)
        for train, test in StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(rows, y)
    ]


def check_probabilities(p: Floats, shape: tuple[int, int]) -> None:
    assert p.shape == shape
    assert p.dtype in (np.float32, np.float64)
    assert np.isfinite(p).all()
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)


def one_line(error: pytest.ExceptionInfo[BaseException]) -> bool:
    return len(str(error.value).strip().splitlines()) == 1


def test_every_head_is_under_contract() -> None:
    assert set(QUICK) == set(HEADS)
    found = {name for name in HEADS if isinstance(make(name), ManyFoldHead)}
    assert found == set(MANY_FOLD)
    assert {name for name in FIXED if needs_inner_folds(make_head(name, **FIXED[name]))} == set()


@every_head
def test_clone_and_parameters(name: str) -> None:
    X, y = draw()
    head = make(name)
    fitted = fit(clone(head), X, y)
    again = clone(fitted)
    assert not hasattr(again, "classes_")
    assert clone(head).get_params().keys() == head.get_params().keys()
    assert clone(head).set_params(**head.get_params()).get_params() == head.get_params()
    p = fitted.predict_proba(X)
    np.testing.assert_array_equal(fit(again, X, y).predict_proba(X), p)


@every_head
def test_unfitted_heads_say_so(name: str) -> None:
    X = draw()[0]
    for method in ("predict", "predict_proba"):
        with pytest.raises(NotFittedError):
            getattr(make(name), method)(X)


@every_head
@pytest.mark.parametrize("k", [2, 3, 9])
@pytest.mark.parametrize("d", [4, 80])
def test_probabilities(name: str, k: int, d: int) -> None:
    """With fewer rows than features, and with more."""
    X, y = draw(54, d, k)
    fitted = fit(make(name), X, y)
    np.testing.assert_array_equal(fitted.classes_, np.arange(k))
    new = draw(20, d, k, seed=1)[0]
    p = fitted.predict_proba(new)
    check_probabilities(p, (20, k))
    np.testing.assert_array_equal(fitted.predict(new), p.argmax(axis=1))


@every_seeing_head
@pytest.mark.parametrize("k", [2, 9])
def test_learns_what_is_there(name: str, k: int) -> None:
    X, y = draw(180, 12, k)
    fitted = fit(make(name), X[:126], y[:126])
    right = (fitted.predict(X[126:]) == y[126:]).mean()
    assert right > (0.9 if k == 2 else 0.7)


@every_head
def test_names_as_labels(name: str) -> None:
    X, y = draw()
    names = np.array(["adipose", "stroma", "tumour"])
    fitted = fit(make(name), X, names[y])
    assert fitted.classes_.tolist() == names.tolist()
    assert set(fitted.predict(X)) <= set(names)
    expected = fit(make(name), X, y).predict_proba(X)
    np.testing.assert_array_equal(fitted.predict_proba(X), expected)
    # with names that sort the other way the columns change places
    turned = fit(make(name), X, np.array(["z", "y", "x"])[y]).predict_proba(X)
    assert (turned[:, ::-1].argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.8


@every_head
def test_same_seed_same_bits(name: str) -> None:
    X, y = draw()
    first, second = (fit(make(name, seed=3), X, y).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@every_head
def test_pickled_head_predicts_the_same(name: str) -> None:
    X, y = draw()
    fitted = fit(make(name), X, y)
    back = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(back.predict_proba(X), fitted.predict_proba(X))


@every_head
def test_fit_leaves_nothing_of_an_earlier_fit(name: str) -> None:
    X, y = draw()
    wide, other = draw(54, 11, 5, seed=2)
    head = fit(make(name), wide, other)
    expected = fit(make(name), X, y).predict_proba(X)
    np.testing.assert_array_equal(fit(head, X, y).predict_proba(X), expected)


@every_head
def test_inputs_are_not_written_to(name: str) -> None:
    X, y = draw()
    X.flags.writeable = y.flags.writeable = False
    check_probabilities(fit(make(name), X, y).predict_proba(X), (60, 3))


@every_head
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_float_type_and_a_memory_map(name: str, dtype: Any, tmp_path: Path) -> None:
    """The rows drawn are the same numbers in half precision."""
    X, y = draw()
    mapped = np.memmap(tmp_path / "X", dtype=dtype, mode="w+", shape=X.shape)
    mapped[:] = X
    expected = fit(make(name), X, y).predict_proba(X)
    found = fit(make(name), mapped, y).predict_proba(mapped)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    (plain,) = predict_folds(make(name), X, y, folds_of(y)[:1], n_classes=3)
    (of_map,) = predict_folds(make(name), mapped, y, folds_of(y)[:1], n_classes=3)
    np.testing.assert_allclose(of_map.y_prob, plain.y_prob, atol=1e-6)


@every_head
@pytest.mark.parametrize("hard", ["one constant", "all constant", "twice", "two rows a class"])
def test_hard_tables(name: str, hard: str) -> None:
    X, y = draw(36)
    if hard == "one constant":
        X[:, 3] = 7.3
    elif hard == "all constant":
        X[:] = 7.3
    elif hard == "twice":
        X, y = np.concatenate([X, X]), np.concatenate([y, y])
    else:
        rows = np.concatenate([np.flatnonzero(y == code)[:2] for code in range(3)])
        X, y = X[rows], y[rows]
    fitted = fit(make(name), X, y)
    check_probabilities(fitted.predict_proba(X), (len(y), 3))
    folds = [Fold(np.arange(len(y)), np.arange(4), inner_folds(np.arange(len(y)), y))]
    (found,) = predict_folds(make(name), X, y, folds, n_classes=3)
    check_probabilities(found.y_prob, (4, 3))


@pytest.mark.parametrize("name", [name for name in HEADS if name not in WITHOUT_CLASS_WEIGHT])
def test_balanced_classes_raise_the_rare_one(name: str) -> None:
    rng = np.random.default_rng(5)
    y = np.repeat([0, 1], [90, 18])
    X = (rng.normal(size=(108, 4)) + y[:, None]).astype(np.float32)
    params = FIXED.get(name, {})
    plain = fit(make(name, **params), X, y)
    balanced = fit(make(name, **params, class_weight="balanced"), X, y)
    rare = y == 1
    assert balanced.predict_proba(X)[:, 1].mean() > plain.predict_proba(X)[:, 1].mean() + 0.02
    assert (balanced.predict(X)[rare] == 1).mean() >= (plain.predict(X)[rare] == 1).mean()
    by_label = fit(make(name, **params, class_weight={0: 108 / 180, 1: 108 / 36}), X, y)
    np.testing.assert_allclose(by_label.predict_proba(X), balanced.predict_proba(X), atol=1e-5)


def test_heads_without_class_weights() -> None:
    lacking = {name for name in HEADS if "class_weight" not in make(name).get_params()}
    assert lacking == set(WITHOUT_CLASS_WEIGHT)


@every_seeing_head
def test_one_class_and_not_a_number_are_refused(name: str) -> None:
    X, y = draw()
    bad = X.copy()
    bad[3, 2] = np.nan
    head = make(name)
    with pytest.raises(ValueError, match="NaN"):
        fit(head, bad, y)
    with pytest.raises(ValueError, match="class") as error:
        fit(clone(head), X[:6], np.zeros(6, dtype=np.int64))
    assert one_line(error)
    fitted = fit(clone(head), X, y)
    with pytest.raises(ValueError, match="NaN"):
        fitted.predict_proba(bad)
    with pytest.raises(ValueError, match="features"):
        fitted.predict_proba(X[:, 1:])


@every_head
def test_inner_folds_must_be_given(name: str) -> None:
    X, y = draw()
    if needs_inner_folds(make(name)):
        with pytest.raises(ValueError, match=r"inner folds|cv") as error:
            make(name).fit(X, y)
        assert one_line(error)
    else:
        check_probabilities(make(name).fit(X, y).predict_proba(X), (60, 3))


@every_head
def test_a_class_that_a_fold_lacks_has_probability_zero(name: str) -> None:
    X, y = draw()
    whole = folds_of(y)[0]
    train = whole.train[y[whole.train] != 1]
    lacking = Fold(train, whole.test, inner_folds(train, y))
    found = predict_folds(make(name), X, y, [whole, lacking], n_classes=4)
    for prediction, present in zip(found, ([0, 1, 2], [0, 2]), strict=True):
        check_probabilities(prediction.y_prob, (len(whole.test), 4))
        absent = np.setdiff1d(np.arange(4), present)
        assert (prediction.y_prob[:, absent] == 0).all()
        assert (prediction.y_prob[:, present].max(axis=0) > 0).all()
    alone = fit(make(name), X[train], y[train])
    assert alone.classes_.tolist() == [0, 2]


@every_head
def test_folds_together_equal_folds_alone(name: str) -> None:
    X, y = draw(72, 6, 3)
    folds = folds_of(y)
    done: list[int] = []
    head = make(name)
    together = predict_folds(head, X, y, folds, n_classes=3, progress=done.append)
    alone = list(predict_one_by_one(make(name), X, y, folds, n_classes=3))
    assert not hasattr(head, "classes_")
    assert sum(done) == len(folds)
    for one, other in zip(together, alone, strict=True):
        assert one.choices == other.choices
        np.testing.assert_allclose(one.y_prob, other.y_prob, atol=2e-3)


@every_many_fold_head
def test_folds_of_one_class_are_refused(name: str) -> None:
    X, y = draw()
    train = np.flatnonzero(y == 0)
    fold = Fold(train, np.arange(4), ((train[:8], train[8:]),))
    with pytest.raises(ValueError, match=r"fold 0.*one class") as error:
        make(name).predict_folds(X, y, [fold], n_classes=3)
    assert one_line(error)


@every_head
@pytest.mark.parametrize("steps", [(), ("pca:3",)])
def test_a_fold_without_test_rows(name: str, steps: tuple[str, ...]) -> None:
    X, y = draw()
    head = make(name) if name in BLIND else make(name, features=steps)
    usual = folds_of(y)[0]
    empty = Fold(usual.train, usual.test[:0], usual.inner)
    found = predict_folds(head, X, y, [empty, usual], n_classes=3)
    assert found[0].y_prob.shape == (0, 3)
    check_probabilities(found[1].y_prob, (len(usual.test), 3))


@every_head
@pytest.mark.parametrize("factor", [1e4, -1e4])
def test_test_rows_do_not_reach_the_fit(name: str, factor: float) -> None:
    """Nor do validation rows reach what their inner fold is fitted on."""
    X, y = draw(72, 6, 3)
    folds = folds_of(y)[:1]
    wild, calm = folds[0].test[::2], slice(1, None, 2)
    absurd = X.copy()
    absurd[wild] = factor * (1 + np.abs(X[wild]))
    (expected,) = predict_folds(make(name), X, y, folds, n_classes=3)
    (found,) = predict_folds(make(name), absurd, y, folds, n_classes=3)
    assert found.choices == expected.choices
    np.testing.assert_allclose(found.y_prob[calm], expected.y_prob[calm], atol=2e-3)
    check_probabilities(found.y_prob, (len(folds[0].test), 3))


@every_fixed_head
@pytest.mark.parametrize(
    "steps",
    [(), ("l2",), ("standardise",), ("pca:3",), ("l2", "standardise"), ("standardise", "pca:2")],
)
def test_feature_steps_are_a_pipelines(name: str, steps: tuple[str, ...]) -> None:
    X, y = draw(60, 8, 3)
    train, test = np.arange(40), np.arange(40, 60)
    bare = make_head(name, features="none", **FIXED[name])
    reference = make_pipeline(make_features(steps), bare).fit(X[train], y[train])
    expected = reference.predict_proba(X[test])
    head = make_head(name, features=steps, **FIXED[name])
    found = clone(head).fit(X[train], y[train]).predict_proba(X[test])
    np.testing.assert_allclose(found, expected, atol=2e-3)
    (of_fold,) = predict_folds(head, X, y, [Fold(train, test)], n_classes=3)
    np.testing.assert_allclose(of_fold.y_prob, expected, atol=2e-3)


@every_head
def test_cross_validated(name: str) -> None:
    X, y = draw(72, 6, 3)
    patients = np.arange(72) // 4
    plan = SplitPlan.draw(y, patients, folds=3, repeats=1, seed=0)
    run = cross_validate(make(name), X, y, plan, classes=("a", "b", "c"), groups=patients)
    check_probabilities(run.y_prob[0], (72, 3))
    chosen = [set(fold) - {"repeat", "fold"} for fold in run.details["folds"]]
    assert all(bool(names) == needs_inner_folds(make(name)) for names in chosen)
