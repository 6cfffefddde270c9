"""What the inner folds choose: scikit-learn's grid search, and the one-standard-error rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from featurebench.errors import ConfigError
from featurebench.heads import Fold, LogisticProbe
from featurebench.heads.tuning import FLOOR, choose, log_loss

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Draw = Callable[..., tuple[npt.NDArray[np.float32], Ints]]

CS = (1e-4, 1e-3, 1e-2, 0.1, 1.0)


def search(X: Floats, y: Ints, cv: Any) -> GridSearchCV:
    """Search the same penalties with a scaler inside of every inner fold."""
    found = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(tol=1e-8, max_iter=10_000)),
        {"logisticregression__C": CS},
        cv=cv,
        scoring="neg_log_loss",
    )
    return found.fit(X.astype(np.float64), y)


@pytest.mark.parametrize("k", [2, 4])
def test_best_is_a_grid_searchs(k: int, draw_embeddings: Draw) -> None:
    X, y = draw_embeddings(160, 30, k)
    cv = list(KFold(4, shuffle=True, random_state=1).split(X))
    expected = search(X, y, cv)
    probe = LogisticProbe(Cs=CS, cv=cv).fit(X, y)
    assert probe.choices_ == {"C": expected.best_params_["logisticregression__C"]}
    np.testing.assert_allclose(probe.predict_proba(X), expected.predict_proba(X), atol=5e-3)


def test_one_standard_error_takes_a_stronger_penalty(draw_embeddings: Draw) -> None:
    X, y = draw_embeddings(120, 60, 3)
    cv = list(KFold(4, shuffle=True, random_state=1).split(X))
    results = search(X, y, cv).cv_results_
    losses = -np.array([results[f"split{i}_test_score"] for i in range(4)])
    mean = losses.mean(axis=0)
    best = int(mean.argmin())
    bound = mean[best] + losses[:, best].std(ddof=1) / 2
    expected = min(i for i in range(len(CS)) if mean[i] <= bound)
    assert expected < best
    for rule, chosen in (("one_se", expected), ("best", best)):
        probe = LogisticProbe(Cs=CS, cv=cv).set_params(rule=rule).fit(X, y)
        assert probe.choices_ == {"C": CS[chosen]}


def test_order_of_penalties_and_repeats_do_not_matter(draw_embeddings: Draw) -> None:
    X, y = draw_embeddings(90, 10, 2)
    cv = list(KFold(3, shuffle=True, random_state=0).split(X))
    expected = LogisticProbe(Cs=CS, cv=cv).fit(X, y)
    found = LogisticProbe(Cs=(*CS[::-1], *CS), cv=cv).fit(X, y)
    assert found.choices_ == expected.choices_
    np.testing.assert_array_equal(found.coef_, expected.coef_)


def test_every_fold_chooses_by_its_own_inner_folds(draw_embeddings: Draw) -> None:
    """A fold whose labels are noise wants the strongest penalty, its neighbour does not."""
    X, y = draw_embeddings(240, 20, 2)
    y = y.copy()
    y[120:] = np.random.default_rng(0).permutation(y[120:])
    halves = [np.arange(120), np.arange(120, 240)]
    folds = [
        Fold(
            rows[:100], rows[100:], tuple((rows[a], rows[b]) for a, b in KFold(4).split(rows[:100]))
        )
        for rows in halves
    ]
    found = LogisticProbe(Cs=CS).predict_folds(X, y, folds, n_classes=2)
    for fold, prediction in zip(folds, found, strict=True):
        cv = [(a - fold.train[0], b - fold.train[0]) for a, b in fold.inner]
        expected = search(X[fold.train], y[fold.train], cv)
        assert prediction.choices["C"] == expected.best_params_["logisticregression__C"]
    assert found[0].choices["C"] > found[1].choices["C"]


def test_a_class_that_an_inner_fold_lacks_has_the_floor(draw_embeddings: Draw) -> None:
    X, y = draw_embeddings(90, 6, 3)
    without, only = np.flatnonzero(y != 2), np.flatnonzero(y == 2)
    usual = (np.arange(0, 90, 2), np.arange(1, 90, 2))
    found = LogisticProbe(Cs=CS, cv=[(without, only), usual]).fit(X, y)
    expected = LogisticProbe(Cs=CS, cv=[usual]).fit(X, y)
    assert found.choices_ == expected.choices_
    assert found.predict_proba(X).shape == (90, 3)


def test_validation_rows_do_not_reach_the_scaler(draw_embeddings: Draw) -> None:
    """With the scaler of all rows, held-out rows a thousand times as large would look harmless."""
    X, y = draw_embeddings(120, 12, 3)
    X = X + np.float32(0.5)
    X[:60] *= 1000
    cv = [(np.arange(60, 120), np.arange(60))]
    expected = search(X, y, cv)
    probe = LogisticProbe(Cs=CS, cv=cv).fit(X, y)
    assert probe.choices_ == {"C": expected.best_params_["logisticregression__C"]}
    leaking = GridSearchCV(
        LogisticRegression(max_iter=10_000), {"C": CS}, cv=cv, scoring="neg_log_loss"
    ).fit(StandardScaler().fit_transform(X), y)
    assert leaking.best_score_ > expected.best_score_


def test_choose() -> None:
    # means 1, 0.9, 0.5, 0.55; standard error of the third 0.1
    losses = np.array([[1.0, 0.9, 0.4, 0.45], [1.0, 0.9, 0.6, 0.65]])
    assert choose(losses) == 2
    assert choose(losses, "one_se") == 2
    # means 1, 0.6, 0.5: the second is just as good, up to the error of the third
    wide = np.array([[1.0, 0.58, 0.4], [1.0, 0.61, 0.6]])
    assert choose(wide) == 2
    assert choose(wide, "one_se") == 1


def test_of_equals_the_simplest_is_chosen() -> None:
    assert choose(np.ones((3, 4))) == choose(np.ones((3, 4)), "one_se") == 0


def test_one_inner_fold_has_no_standard_error() -> None:
    losses = np.array([[0.51, 0.50, 0.9]])
    assert choose(losses, "one_se") == choose(losses) == 1


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="rule 'median' is unknown: use one of best, one_se"):
        choose(np.ones((2, 2)), "median")  # type: ignore[arg-type]


def test_log_loss_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 50)
    y = rng.integers(0, 4, 50)
    assert log_loss(p, y) == pytest.approx(metrics.log_loss(y, p, labels=range(4)))
    assert log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(FLOOR))
