"""On pure noise a head is rarely called above chance, since a guess is what it must beat."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.cohorts import N_FEATURES, PATIENT_SD, predict_out_of_fold
from featurebench.comparison import Comparison
from featurebench.comparison.arms import summarize_arms
from featurebench.comparison.design import Design
from featurebench.comparison.verdict import above_chance
from featurebench.results import Cost, ResultsTable, RunResult

if TYPE_CHECKING:
    from featurebench.results.run import ArmKind

Ints = npt.NDArray[np.int64]
METRICS = ("balanced_accuracy", "roc_auc")
FOLDS, REPEATS, N_SEEDS = 5, 10, 200


def compare_on_noise(n_patients: int, seed: int) -> Comparison:
    """Compare a ridge with the class shares on patients whose features do not know the class."""
    rng = np.random.default_rng([n_patients, seed])
    n_tiles = np.clip(np.exp(rng.normal(np.log(17), 1.0, n_patients)), 2, 100).astype(int)
    patients = np.repeat(np.arange(n_patients), n_tiles)
    of_patient = rng.permutation(np.arange(n_patients) % 2)
    y = of_patient[patients]
    test_fold = np.stack([draw_folds(of_patient, rng)[patients] for _ in range(REPEATS)])
    X = rng.normal(size=(len(y), N_FEATURES))
    X += PATIENT_SD * rng.normal(size=(n_patients, N_FEATURES))[patients]
    runs = (
        make_run("ridge", "probe", predict_out_of_fold(X, y, test_fold, 0.0, rng)),
        make_run("dummy", "baseline", predict_shares(y, test_fold)),
    )
    ids = np.array([f"t{i}" for i in range(len(y))])
    table = ResultsTable.of(runs, y_true=y, test_fold=test_fold, tile_ids=ids, patients=patients)
    design = Design.of(table, n_boot=10, seed=0)
    arms = summarize_arms(design, runs, alpha=0.05)
    return Comparison(METRICS[0], 0.0, 0.05, "ridge", arms, (), "", (), weights=design.weights)


def draw_folds(of_patient: Ints, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Deal the patients of each class out to the folds, shape (n_patients,)."""
    fold = np.empty(len(of_patient), dtype=np.int16)
    order = rng.permutation(len(of_patient))
    fold[order[np.argsort(of_patient[order], kind="stable")]] = np.arange(len(order)) % FOLDS
    return fold


def predict_shares(y: Ints, test_fold: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """Predict for every tile the class shares of the training side."""
    y_prob = np.empty((*test_fold.shape, 2), dtype=np.float32)
    for probabilities, folds in zip(y_prob, test_fold, strict=True):
        for fold in range(FOLDS):
            share = y[folds != fold].mean()
            probabilities[folds == fold] = 1 - share, share
    return y_prob


def make_run(arm: str, kind: ArmKind, y_prob: npt.NDArray[np.float32]) -> RunResult:
    return RunResult(
        arm=arm,
        kind=kind,
        embedding=None,
        head=arm,
        strategy=None,
        params={},
        fingerprint="",
        plan_id="0123456789abcdef",
        seed=0,
        classes=("benign", "malignant"),
        y_prob=y_prob,
        scores=(),
        cost=Cost(),
    )


def place(comparison: Comparison, *, ci_low: float) -> Comparison:
    """Move the lower end of the ridge's interval."""
    ridge, dummy = comparison.arm("ridge"), comparison.arm("dummy")
    score = replace(ridge.metrics[METRICS[0]], ci_low=ci_low)
    ridge = replace(ridge, metrics={**ridge.metrics, METRICS[0]: score})
    return replace(comparison, arms=(ridge, dummy))


def count_above(comparisons: list[Comparison], metric: str) -> tuple[int, int]:
    """Count ridges above chance, and those whose interval lies above the class shares' score."""
    called = beat_dummy = 0
    for comparison in comparisons:
        ridge, dummy = comparison.arm("ridge"), comparison.arm("dummy")
        called += above_chance(replace(comparison, metric=metric), ridge) is True
        beat_dummy += ridge.metrics[metric].ci_low > dummy.metrics[metric].value
    return called, beat_dummy


def test_the_level_is_the_larger_of_the_class_shares_and_a_guess() -> None:
    levels = set()
    for seed in range(20):
        comparison = compare_on_noise(22, seed)
        ridge, dummy = (comparison.arm(name).metrics[METRICS[0]] for name in ("ridge", "dummy"))
        level = max(dummy.value, 0.5)
        levels.add(level > dummy.value)
        assert above_chance(comparison, comparison.arm("ridge")) is (ridge.ci_low > level)
        barely = place(comparison, ci_low=level + 1e-6)
        assert above_chance(barely, barely.arm("ridge")) is True
        at_level = place(comparison, ci_low=level - 1e-6)
        assert above_chance(at_level, at_level.arm("ridge")) is False
    assert True in levels


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("n_patients", [22, 26])
def test_noise_is_rarely_called_above_chance(n_patients: int) -> None:
    comparisons = [compare_on_noise(n_patients, seed) for seed in range(N_SEEDS)]
    called, beat_shares = count_above(comparisons, "balanced_accuracy")
    assert called <= 0.05 * N_SEEDS
    # The class shares alone are no level: what is frequent in training is rare in the test fold.
    assert beat_shares > 0.05 * N_SEEDS
    called, beat_shares = count_above(comparisons, "roc_auc")
    assert called <= 0.05 * N_SEEDS
    # Within a fold the class shares rank nothing, so both levels are 0.5.
    assert called == beat_shares
