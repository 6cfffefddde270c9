"""Ways to the same minimum: threads, blocks, half precision, torch, few rows and float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from featurebench.errors import ConfigError
from featurebench.heads import Fold
from featurebench.heads.logistic import LogisticProbe, passes, solver
from featurebench.heads.logistic.design import lay_out, on_device
from featurebench.heads.logistic.fewrows import solve_few_rows
from featurebench.heads.logistic.lockstep import Solution, solve
from featurebench.heads.logistic.probe import DEFAULT_CS
from featurebench.heads.logistic.solver import Models, Problem, solve_logistic
from featurebench.heads.rows import RowSource

if TYPE_CHECKING:
    from pathlib import Path

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Draw = Callable[..., tuple[npt.NDArray[np.float32], Ints]]
Objective = Callable[..., float]

CS = np.array([1e-3, 0.1, 10.0])
every_number_of_classes = pytest.mark.parametrize("k", [2, 4])


def problem_of(n: int, k: int, *, folds: int = 3, **changes: Any) -> Problem:
    """Every fold leaves out its share of the rows, and has all penalties."""
    sets = np.ones((n, folds), dtype=np.uint8)
    for fold in range(folds):
        sets[fold::folds, fold] = 0
    set_of = np.repeat(np.arange(folds), len(CS))
    return Problem(sets, set_of, np.tile(CS, folds), k, **changes)


def check_same(found: Models, expected: Models, rtol: float = 1e-6) -> None:
    np.testing.assert_allclose(found.objective, expected.objective, rtol=rtol)
    scale = np.abs(expected.coef).max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found.coef / scale, expected.coef / scale, atol=0.02)


@every_number_of_classes
def test_threads_do_not_change_a_bit(k: int, draw_embeddings: Draw) -> None:
    X, y = draw_embeddings(700, 30, k)
    problem = problem_of(700, k, class_weight=np.ones((3, k)) * 1.5)
    alone = solve_logistic(RowSource(X), y, problem, threads=1)
    for threads in (2, 3):
        found = solve_logistic(RowSource(X), y, problem, threads=threads)
        for name in ("coef", "intercept", "objective", "gap", "n_iter"):
            np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))


@every_number_of_classes
@pytest.mark.parametrize("standardise", [True, False])
def test_rows_read_block_by_block_give_the_same_models(
    k: int, standardise: bool, draw_embeddings: Draw
) -> None:
    X, y = draw_embeddings(5000, 12, k)
    problem = problem_of(5000, k, standardise=standardise)
    kept = solve_logistic(RowSource(X), y, problem, threads=1)
    read = solve_logistic(RowSource(X), y, problem, threads=1, keep_bytes=0)
    # kept rows stand in another order, so that sums are rounded otherwise
    np.testing.assert_allclose(read.objective, kept.objective, rtol=1e-6)
    np.testing.assert_allclose(read.coef, kept.coef, atol=2e-3 * np.abs(kept.coef).max())


def test_memory_map_of_half_precision(draw_embeddings: Draw, tmp_path: Path) -> None:
    X, y = draw_embeddings(300, 20, 3)
    half = np.memmap(tmp_path / "X", dtype=np.float16, mode="w+", shape=X.shape)
    half[:] = X
    problem = problem_of(300, 3)
    expected = solve_logistic(RowSource(np.array(half, dtype=np.float32)), y, problem)
    found = solve_logistic(RowSource(half), y, problem, keep_bytes=0)
    check_same(found, expected)
    folds = [Fold(np.arange(200), np.arange(200, 300))]
    probe = LogisticProbe(C=0.1, features=("l2", "standardise"))
    (of_map,) = probe.predict_folds(half, y, folds, n_classes=3)
    alone = probe.fit(half[:200], y[:200]).predict_proba(half[200:])
    np.testing.assert_allclose(of_map.y_prob, alone, atol=1e-3)


def solve_placed(X: Floats, y: Ints, k: int, device: str | None, **layout: Any) -> Solution:
    problem = problem_of(len(y), k)
    design = lay_out(RowSource(X), y, problem.sets, n_classes=k, **layout)
    placed = design if device is None else on_device(design, device)
    return solve(placed, problem.set_of, problem.C, tol=2e-7, max_iter=1000)


@every_number_of_classes
@pytest.mark.parametrize("keep_bytes", [0, 2**30])
@pytest.mark.parametrize("weighted", [False, True])
def test_tensors_are_solved_as_arrays(
    k: int, keep_bytes: int, weighted: bool, draw_embeddings: Draw
) -> None:
    X, y = draw_embeddings(300, 40, k)
    layout: dict[str, Any] = {"standardise": True, "keep_bytes": keep_bytes}
    if weighted:
        layout["row_weight"] = np.linspace(0.5, 2, 300)
        layout["class_weight"] = np.linspace(0.5, 2, 3 * k).reshape(3, k)
    expected = solve_placed(X, y, k, None, **layout)
    found = solve_placed(X, y, k, "cpu", **layout)
    np.testing.assert_allclose(found.objective, expected.objective, rtol=1e-6)
    weights = found.weights.cpu().numpy()  # type: ignore[attr-defined, unused-ignore]
    np.testing.assert_allclose(
        weights, expected.weights, atol=0.02 * np.abs(expected.weights).max()
    )


def test_a_device_goes_all_the_way(draw_embeddings: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's name only says where the tensors are put; here they stay on the processor."""
    X, y = draw_embeddings(300, 40, 3)
    placed: list[str] = []

    def put(design: Any, device: str) -> Any:
        placed.append(device)
        return on_device(design, "cpu")

    monkeypatch.setattr(solver, "on_device", put)
    expected = LogisticProbe(C=0.1).fit(X, y)
    found = LogisticProbe(C=0.1, device="cuda").fit(X, y)
    assert placed == ["cuda"]
    np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), atol=1e-3)


@every_number_of_classes
def test_a_gpu_finds_the_same(k: int, draw_embeddings: Draw) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    X, y = draw_embeddings(600, 60, k)
    problem = problem_of(600, k)
    expected = solve_logistic(RowSource(X), y, problem)
    check_same(solve_logistic(RowSource(X), y, problem, device="cuda"), expected)
    check_same(solve_logistic(RowSource(X), y, problem, device="cuda", keep_bytes=0), expected)


@every_number_of_classes
@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("d", [12, 90])
def test_few_rows_are_solved_in_their_span(
    k: int, standardise: bool, d: int, draw_embeddings: Draw
) -> None:
    X, y = draw_embeddings(400, d, k)
    rows = np.flatnonzero(np.arange(400) % 8 == 0)
    sets = np.zeros((400, 1), dtype=np.uint8)
    sets[rows] = 1
    weight = np.linspace(0.5, 2, 400)
    none = np.zeros(len(CS), dtype=np.int64)
    problem = Problem(sets, none, CS, k, standardise=standardise, row_weight=weight)
    expected = solve_logistic(RowSource(X), y, problem)
    found = solve_few_rows(RowSource(X), y, problem, [rows])
    assert found.coef.shape == expected.coef.shape
    check_same(found, expected)


def test_small_episodes_among_folds_are_predicted_as_alone(draw_embeddings: Draw) -> None:
    """A fold of a twentieth of the rows goes another way than its neighbour of half of them."""
    X, y = draw_embeddings(600, 50, 3)
    folds = [Fold(np.arange(30), np.arange(30, 60)), Fold(np.arange(300), np.arange(300, 600))]
    for features in ((), ("standardise",), ("l2",), ("pca:5",)):
        probe = LogisticProbe(C=0.1, features=features, class_weight="balanced")
        found = probe.predict_folds(X, y, folds, n_classes=3)
        for fold, prediction in zip(folds, found, strict=True):
            alone = clone(probe).fit(X[fold.train], y[fold.train]).predict_proba(X[fold.test])
            np.testing.assert_allclose(prediction.y_prob, alone, atol=2e-3)


@pytest.mark.parametrize("scale", [1e-3, 30.0, 300.0])
@pytest.mark.parametrize("k", [2, 5])
def test_features_of_any_unit(
    scale: float, k: int, draw_embeddings: Draw, sum_objective: Objective
) -> None:
    """Where float32 gives up, float64 goes on."""
    X, y = draw_embeddings(300, 30, k)
    X = (X * np.geomspace(scale, 1, 30)).astype(np.float32)
    for C in CS:
        probe = LogisticProbe(C=C, features=()).fit(X, y)
        reference = LogisticRegression(C=C, solver="newton-cg", tol=1e-8, max_iter=20_000)
        reference.fit(X.astype(np.float64), y)
        least = sum_objective(reference.coef_, reference.intercept_, X, y, C)
        found = sum_objective(probe.coef_, probe.intercept_, X, y, C)
        # so slow to converge that the rate, and with it the gap, is hard to tell
        assert found <= least * (1 + 1e-5)


def test_features_far_from_zero(draw_embeddings: Draw, sum_objective: Objective) -> None:
    X, y = draw_embeddings(300, 20, 3)
    X += np.float32(1000)
    Z = StandardScaler().fit_transform(X.astype(np.float64))
    for C in CS:
        reference = LogisticRegression(C=C, tol=1e-9, max_iter=20_000).fit(Z, y)
        least = sum_objective(reference.coef_, reference.intercept_, Z, y, C)
        probe = LogisticProbe(C=C).fit(X, y)
        coef = probe.decision_function(X)
        np.testing.assert_allclose(
            coef - coef.mean(axis=1, keepdims=True), reference.decision_function(Z), atol=0.02
        )
        assert sum_objective(probe.coef_, probe.intercept_, Z, y, C) <= least * (1 + 1e-6)


def test_float64_goes_on_where_float32_ends(
    draw_embeddings: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = draw_embeddings(300, 30, 5)
    types: list[str] = []

    def spy(design: Any, *args: Any, **settings: Any) -> Solution:
        types.append(str(design.basis.dtype))
        return solve(design, *args, **settings)

    monkeypatch.setattr(solver, "solve", spy)
    LogisticProbe(C=10.0).fit(X, y)
    assert set(types) == {"float32"}
    precise = LogisticProbe(C=10.0, tol=1e-11, max_iter=5000).fit(X, y)
    assert set(types) == {"float32", "float64"}
    reference = LogisticRegression(C=10.0, tol=1e-10, max_iter=50_000)
    reference.fit(StandardScaler().fit_transform(X.astype(np.float64)), y)
    np.testing.assert_allclose(precise.coef_, reference.coef_, atol=1e-4)


@every_number_of_classes
def test_separable_classes(k: int, sum_objective: Objective) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % k
    X = (10 * rng.normal(size=(k, 40))[y] + rng.normal(size=(60, 40))).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        for C in (1e-4, 1.0, 1e4):
            probe = LogisticProbe(C=C, features=()).fit(X, y)
            assert (probe.predict(X) == y).all()
            p = probe.predict_proba(X)
            assert np.isfinite(p).all()
            reference = LogisticRegression(C=C, tol=1e-10, max_iter=50_000)
            reference.fit(X.astype(np.float64), y)
            least = sum_objective(reference.coef_, reference.intercept_, X, y, C)
            assert sum_objective(probe.coef_, probe.intercept_, X, y, C) <= least * (1 + 1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_of_any_size_have_finite_losses_and_residuals(dtype: Any) -> None:
    """A warning of overflow would be an error here, as all warnings are."""
    top = np.ldexp(np.array([1.0, 1.3, 1.9]), np.arange(-10, 60)[:, None]).ravel()
    z = np.zeros((len(top), 3, 2), dtype=dtype)
    z[:, 1, 0], z[:, 2, 1] = top, -top
    shown = z.astype(np.float64)
    total = passes.Sums(np.zeros(2), None, np.zeros((2, 3, 3)))
    y, weight = np.zeros(len(top), dtype=np.int64), np.ones((len(top), 2), dtype=dtype)
    passes._softmax_residual(np, z, y, weight, total)
    expected = np.logaddexp.reduce(shown, axis=1).sum(axis=0)
    np.testing.assert_allclose(total.loss, expected, rtol=1e-6)
    expected_p = np.exp(shown - np.logaddexp.reduce(shown, axis=1)[:, None])
    expected_p[:, 0] -= 1
    np.testing.assert_allclose(z, expected_p, atol=1e-6)
    assert total.curvature is not None
    assert np.isfinite(total.curvature).all()


def test_a_small_loss_keeps_its_digits_beside_a_large_one() -> None:
    z = np.array([[[0.0], [-12.0], [-13.0]], [[0.0], [900.0], [0.0]]], dtype=np.float32)
    weight = np.array([[1.0], [0.0]], dtype=np.float32)
    total = passes.Sums(np.zeros(1), None, None)
    passes._softmax_residual(np, z, np.zeros(2, dtype=np.int64), weight, total)
    assert total.loss[0] == pytest.approx(np.log1p(np.exp(-12) + np.exp(-13)), rel=1e-6)


@pytest.mark.parametrize("seed", [6, 9])
def test_features_that_hardly_vary_but_in_a_few_rows_are_solved(seed: int) -> None:
    """A row left out lies so far off that its logits are of the size at which exp overflowed."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 240)
    X = rng.normal(size=(240, 32)) + 1.5 * np.eye(3, 32)[y]
    fold = rng.permutation(240) % 3
    X[:, :8] *= 10.0 ** rng.uniform(-7, -4, 8)
    X[:3, :8] = 1.0
    X = X.astype(np.float32)
    cv = [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(3)]
    losses = np.zeros(len(DEFAULT_CS))
    for train, test in cv:
        scaler = StandardScaler().fit(X[train].astype(np.float64))
        for at, C in enumerate(DEFAULT_CS):
            exact = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-8, max_iter=500)
            exact.fit(scaler.transform(X[train].astype(np.float64)), y[train])
            p = exact.predict_proba(scaler.transform(X[test].astype(np.float64)))
            losses[at] -= np.log(np.maximum(p[np.arange(len(test)), y[test]], 1e-15)).sum()
    best = DEFAULT_CS[int(losses.argmin())]
    assert LogisticProbe(cv=cv).fit(X, y).choices_["C"] == best


@every_number_of_classes
def test_features_that_say_nothing_give_the_class_shares(k: int) -> None:
    y = np.r_[np.arange(k), np.zeros(5, dtype=np.int64)]
    for X in (np.zeros((len(y), 3)), np.full((len(y), 3), 0.1, dtype=np.float32)):
        p = LogisticProbe(C=1.0).fit(X, y).predict_proba(X)
        np.testing.assert_allclose(p, np.tile(np.bincount(y) / len(y), (len(y), 1)), atol=1e-4)


def test_a_constant_feature_has_no_weight(draw_embeddings: Draw) -> None:
    X, y = draw_embeddings(100, 8, 3)
    X[:, 5] = 0.1
    probe = LogisticProbe(C=1.0).fit(X, y)
    np.testing.assert_allclose(probe.coef_[:, 5], 0, atol=1e-6)
    without = LogisticProbe(C=1.0).fit(np.delete(X, 5, axis=1), y)
    np.testing.assert_allclose(np.delete(probe.coef_, 5, axis=1), without.coef_, atol=2e-3)


def test_models_that_have_not_converged_are_counted(draw_embeddings: Draw) -> None:
    X, y = draw_embeddings(200, 30, 4)
    with pytest.warns(ConvergenceWarning, match="1 models have not converged: raise max_iter"):
        LogisticProbe(C=10.0, max_iter=3).fit(X, y)


def test_progress_is_told(draw_embeddings: Draw) -> None:
    X, y = draw_embeddings(200, 10, 3)
    done: list[int] = []
    solve_logistic(RowSource(X), y, problem_of(200, 3), done=done.append)
    assert sum(done) == 3 * len(CS)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"C": 0.0}, "C must be positive and finite, not 0"),
        ({"C": -1.0}, "C must be positive and finite, not -1"),
        ({"C": np.nan}, "C must be positive and finite, not nan"),
        ({"C": np.inf}, "C must be positive and finite, not inf"),
        ({"C": "dk/100"}, "C must be a number or 'dK/100', not 'dk/100'"),
        ({"Cs": ()}, "C must be positive and finite"),
        ({"Cs": (1.0, -1.0)}, "C must be positive and finite"),
        ({"Cs": (1.0, np.nan)}, "C must be positive and finite"),
        ({"C": 1.0, "class_weight": "equal"}, "class_weight 'equal'"),
        ({"C": 1.0, "class_weight": {0: -1.0}}, "every weight must be above 0"),
        ({"C": 1.0, "features": ("whiten",)}, "unknown step 'whiten'"),
        ({"Cs": (0.1, 1.0), "cv": None}, "no inner folds"),
    ],
)
def test_what_is_refused(params: dict[str, Any], match: str, draw_embeddings: Draw) -> None:
    X, y = draw_embeddings(40, 4, 2)
    with pytest.raises((ValueError, ConfigError), match=match) as error:
        LogisticProbe(**params).fit(X, y)
    assert len(str(error.value).splitlines()) == 1


def test_bad_rows_are_refused(draw_embeddings: Draw) -> None:
    X, y = draw_embeddings(40, 4, 2)
    probe = LogisticProbe(C=1.0)
    with pytest.raises(ValueError, match="one class only"):
        probe.fit(X, np.zeros(40))
    rows = np.flatnonzero(y == 0)[:3]
    folds = [Fold(np.arange(20), np.arange(20, 40)), Fold(rows, np.arange(20, 40))]
    with pytest.raises(ValueError, match="fold 1: its 3 training rows have one class only"):
        probe.predict_folds(X, y, folds, n_classes=2)
    with pytest.raises(ValueError, match="all rows of class 1 have sample weight 0"):
        probe.fit(X, y, sample_weight=(y == 0).astype(float))
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        probe.fit(X, y, sample_weight=np.where(y == 0, 1.0, -1.0))
    with pytest.raises(ValueError, match="sample_weight"):
        probe.fit(X, y, sample_weight=np.ones(3))
    X[0, 0] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        probe.fit(X, y)


@pytest.mark.parametrize("k", [2, 7])
def test_preset_penalty(k: int, draw_embeddings: Draw) -> None:
    X, y = draw_embeddings(100, 20, k)
    preset = LogisticProbe(C="dK/100").fit(X, y)
    assert preset.C_ == preset.choices_["C"] == 20 * k / 100
    assert not preset.needs_inner_folds
    np.testing.assert_array_equal(preset.coef_, LogisticProbe(C=20 * k / 100).fit(X, y).coef_)


def test_scikit_learns_own_checks() -> None:
    reasons = {
        "check_sample_weight_equivalence_on_dense_data": "equal to the solver's gap, not to 1e-7",
        "check_non_transformer_estimators_n_iter": "passes over X are shared between models",
    }
    results = check_estimator(
        LogisticProbe(C=1.0), expected_failed_checks=reasons, on_fail=None, on_skip=None
    )
    failed = [f"{r['check_name']}: {r['exception']}" for r in results if r["status"] == "failed"]
    assert not failed
    assert {r["check_name"] for r in results if r["status"] == "xfail"} == set(reasons)
    assert sum(r["status"] == "passed" for r in results) > 40
