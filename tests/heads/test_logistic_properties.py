"""What must not change the answer of the lockstep solver, and what must change it in which way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurebench.heads import Fold
from featurebench.heads.logistic import LogisticProbe
from featurebench.heads.logistic.solver import Models, Problem, solve_logistic
from featurebench.heads.rows import RowSource

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Draw = Callable[..., tuple[npt.NDArray[np.float32], Ints]]
Objective = Callable[..., float]

# Two solutions with gaps of a millionth may differ by their sum.
RTOL = 2e-6
ATOL = 5e-3

some_tables = given(
    seed=st.integers(0, 2**16),
    k=st.sampled_from([2, 3, 6]),
    d=st.sampled_from([3, 30, 80]),
    C=st.sampled_from([1e-3, 0.03, 1.0]),
)
few = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def probabilities(models: Models, X: Floats) -> list[Floats]:
    found = []
    for coef, intercept in zip(models.coef, models.intercept, strict=True):
        z = X.astype(np.float64) @ coef.T + intercept
        z = np.column_stack([np.zeros(len(z)), z]) if z.shape[1] == 1 else z
        e = np.exp(z - z.max(axis=1, keepdims=True))
        found.append(e / e.sum(axis=1, keepdims=True))
    return found


def random_sets(n: int, n_sets: int, y: Ints, seed: int) -> npt.NDArray[np.uint8]:
    """Draw two thirds of the rows of every class for each set."""
    rng = np.random.default_rng(seed)
    sets = np.zeros((n, n_sets), dtype=np.uint8)
    for column in sets.T:
        for code in np.unique(y):
            rows = np.flatnonzero(y == code)
            column[rng.choice(rows, -(-2 * len(rows) // 3), replace=False)] = 1
    return sets


@pytest.mark.parametrize("k", [2, 3])
def test_a_model_alone_equals_itself_among_five_hundred(k: int, draw_embeddings: Draw) -> None:
    """More than there are slots: models wait for those before them."""
    X, y = draw_embeddings(240, 20, k)
    sets = random_sets(240, 100, y, seed=1)
    C = np.tile([1e-3, 1e-2, 0.1, 1.0, 10.0], 100)
    set_of = np.repeat(np.arange(100), 5)
    together = solve_logistic(RowSource(X), y, Problem(sets, set_of, C, k))
    for model in range(0, 500, 71):
        one = Problem(sets[:, [set_of[model]]], np.zeros(1, dtype=np.int64), C[[model]], k)
        alone = solve_logistic(RowSource(X), y, one)
        np.testing.assert_allclose(together.objective[model], alone.objective[0], rtol=RTOL)
        part = Models(*(each[[model]] for each in vars(together).values()))
        np.testing.assert_allclose(probabilities(part, X)[0], probabilities(alone, X)[0], atol=ATOL)


def test_objectives_are_what_they_are_said_to_be(
    draw_embeddings: Draw, sum_objective: Objective
) -> None:
    X, y = draw_embeddings(200, 15, 3)
    sets = random_sets(200, 4, y, seed=2)
    weight = np.linspace(0.2, 2, 200)
    C = np.array([0.01, 1.0, 0.1, 10.0])
    problem = Problem(sets, np.arange(4), C, 3, standardise=False, row_weight=weight)
    found = solve_logistic(RowSource(X), y, problem)
    for i in range(4):
        rows = sets[:, i] == 1
        expected = sum_objective(
            found.coef[i], found.intercept[i], X[rows], y[rows], C[i], weight[rows]
        )
        assert found.objective[i] == pytest.approx(expected, rel=1e-6)
    assert (found.gap <= 2e-7).all()


@few
@some_tables
def test_order_of_rows(draw_embeddings: Draw, seed: int, k: int, d: int, C: float) -> None:
    X, y = draw_embeddings(120, d, k, seed=seed)
    order = np.random.default_rng(seed).permutation(120)
    plain = LogisticProbe(C=C).fit(X, y).predict_proba(X)
    turned = LogisticProbe(C=C).fit(X[order], y[order]).predict_proba(X)
    np.testing.assert_allclose(turned, plain, atol=ATOL)


@few
@some_tables
def test_order_of_folds(draw_embeddings: Draw, seed: int, k: int, d: int, C: float) -> None:
    X, y = draw_embeddings(120, d, k, seed=seed)
    sets = random_sets(120, 4, y, seed)
    folds = [Fold(np.flatnonzero(s == 1), np.flatnonzero(s == 0)) for s in sets.T]
    plain = LogisticProbe(C=C).predict_folds(X, y, folds, n_classes=k)
    turned = LogisticProbe(C=C).predict_folds(X, y, folds[::-1], n_classes=k)
    for one, other in zip(plain, turned[::-1], strict=True):
        np.testing.assert_allclose(one.y_prob, other.y_prob, atol=ATOL)


@few
@some_tables
def test_order_of_classes(draw_embeddings: Draw, seed: int, k: int, d: int, C: float) -> None:
    """The intercept of two classes changes its sign; of more, columns change places."""
    X, y = draw_embeddings(120, d, k, seed=seed)
    order = np.random.default_rng(seed).permutation(k)
    plain = LogisticProbe(C=C).fit(X, y).predict_proba(X)
    turned = LogisticProbe(C=C).fit(X, order[y]).predict_proba(X)
    np.testing.assert_allclose(turned[:, order], plain, atol=ATOL)


@few
@some_tables
def test_order_of_features(draw_embeddings: Draw, seed: int, k: int, d: int, C: float) -> None:
    X, y = draw_embeddings(120, d, k, seed=seed)
    order = np.random.default_rng(seed).permutation(d)
    plain = LogisticProbe(C=C).fit(X, y).predict_proba(X)
    turned = LogisticProbe(C=C).fit(X[:, order], y).predict_proba(X[:, order])
    np.testing.assert_allclose(turned, plain, atol=ATOL)


@few
@some_tables
def test_unit_and_origin_of_standardised_features(
    draw_embeddings: Draw, seed: int, k: int, d: int, C: float
) -> None:
    X, y = draw_embeddings(120, d, k, seed=seed)
    rng = np.random.default_rng(seed)
    moved = X * 2.0 ** rng.integers(-8, 8, d) + rng.normal(size=d)
    plain = LogisticProbe(C=C).fit(X, y).predict_proba(X)
    found = LogisticProbe(C=C).fit(moved, y).predict_proba(moved)
    np.testing.assert_allclose(found, plain, atol=ATOL)


@few
@some_tables
def test_whole_sample_weights_are_repeated_rows(
    draw_embeddings: Draw, seed: int, k: int, d: int, C: float
) -> None:
    X, y = draw_embeddings(90, d, k, seed=seed)
    times = np.random.default_rng(seed).integers(0, 4, 90)
    times[: 2 * k] = 1
    for class_weight in (None, "balanced"):
        probe = LogisticProbe(C=C, features=(), class_weight=class_weight)
        expected = probe.fit(np.repeat(X, times, axis=0), np.repeat(y, times)).predict_proba(X)
        found = probe.fit(X, y, sample_weight=times).predict_proba(X)
        np.testing.assert_allclose(found, expected, atol=ATOL)


@few
@some_tables
def test_weights_of_all_rows_and_the_penalty_are_one_scale(
    draw_embeddings: Draw, seed: int, k: int, d: int, C: float
) -> None:
    X, y = draw_embeddings(90, d, k, seed=seed)
    expected = LogisticProbe(C=3 * C).fit(X, y).predict_proba(X)
    found = LogisticProbe(C=C).fit(X, y, sample_weight=np.full(90, 3.0)).predict_proba(X)
    np.testing.assert_allclose(found, expected, atol=ATOL)
    by_class = LogisticProbe(C=C, class_weight=dict.fromkeys(range(k), 3.0)).fit(X, y)
    np.testing.assert_allclose(by_class.predict_proba(X), expected, atol=ATOL)


@few
@some_tables
def test_rows_outside_all_sets_do_not_matter(
    draw_embeddings: Draw, seed: int, k: int, d: int, C: float
) -> None:
    X, y = draw_embeddings(150, d, k, seed=seed)
    wild = X.copy()
    wild[120:] = 1e4 * (1 + X[120:])
    fold = [Fold(np.arange(100), np.arange(100, 120))]
    expected = LogisticProbe(C=C).predict_folds(X, y, fold, n_classes=k)[0].y_prob
    found = LogisticProbe(C=C).predict_folds(wild, y, fold, n_classes=k)[0].y_prob
    np.testing.assert_allclose(found, expected, atol=ATOL)


def test_mean_probability_is_the_class_share(draw_embeddings: Draw) -> None:
    """The intercepts are free: at the minimum the probabilities add up to the counts."""
    X, y = draw_embeddings(300, 20, 4)
    for C in (1e-4, 1e-2, 1.0):
        p = LogisticProbe(C=C, tol=1e-9, max_iter=5000).fit(X, y).predict_proba(X)
        np.testing.assert_allclose(p.sum(axis=0), np.bincount(y), rtol=1e-3)


def test_names_are_classes(draw_embeddings: Draw) -> None:
    X, y = draw_embeddings(90, 8, 3)
    names = np.array(["adipose", "stroma", "tumour"])
    weight = {"tumour": 4.0}
    found = LogisticProbe(C=0.1, class_weight=weight).fit(X, names[y])
    expected = LogisticProbe(C=0.1, class_weight={2: 4.0}).fit(X, y)
    assert found.classes_.tolist() == names.tolist()
    np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_array_equal(found.predict(X), names[expected.predict(X)])
