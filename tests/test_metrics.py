"""Plain metrics against scikit-learn, and their values by fold, arm and patient."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.exceptions import UndefinedMetricWarning

from featurebench.metrics import (
    GREATER_IS_BETTER,
    LIMITS,
    METRICS,
    RANKED,
    arm_value,
    confusion_matrix,
    fold_values,
    patient_level,
    patient_rows,
    probability_bins,
    score_folds,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Ints = npt.NDArray[np.int64]
Probs = npt.NDArray[np.floating[Any]]


def draw(
    seed: int, n: int, n_classes: int, *, grid: int = 0, dtype: str = "float64"
) -> tuple[Ints, Probs]:
    """Labels and probabilities somewhat better than chance; ``grid`` > 0 makes many ties."""
    rng = np.random.default_rng(seed)
    y_true = rng.integers(n_classes, size=n)
    y_prob = rng.dirichlet(np.ones(n_classes), size=n) + 0.5 * np.eye(n_classes)[y_true]
    if grid:
        y_prob = np.round(y_prob * grid) + 1e-3
    y_prob /= y_prob.sum(axis=1, keepdims=True)
    return y_true, y_prob.astype(dtype)


def calibration_error(y_true: Ints, y_prob: Probs) -> float:
    """Guo et al. 2017, equation 3, bin by bin."""
    confidence, correct = y_prob.max(axis=1), y_prob.argmax(axis=1) == y_true
    total = 0.0
    for bin_ in range(15):
        inside = (confidence > bin_ / 15) & (confidence <= (bin_ + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return float(total)


def by_sklearn(name: str, y_true: Ints, y_prob: Probs) -> float:
    """Compute the metric with scikit-learn alone."""
    n_classes = y_prob.shape[1]
    labels, predicted = np.arange(n_classes), y_prob.argmax(axis=1)
    if name in RANKED and len(np.unique(y_true)) < n_classes:
        return float("nan")
    score = y_prob[:, 1] if n_classes == 2 else y_prob
    present = np.unique(y_true)
    functions: dict[str, Callable[[], float]] = {
        "accuracy": lambda: reference.accuracy_score(y_true, predicted),
        # Scikit-learn's own warns, but not of its kind, of predicted classes that do not occur.
        "balanced_accuracy": lambda: reference.recall_score(
            y_true, predicted, labels=present, average="macro"
        ),
        "precision": lambda: reference.precision_score(
            y_true, predicted, average="macro", zero_division=0
        ),
        "recall": lambda: reference.recall_score(
            y_true, predicted, average="macro", zero_division=0
        ),
        "f1": lambda: reference.f1_score(y_true, predicted, average="macro", zero_division=0),
        "roc_auc": lambda: reference.roc_auc_score(y_true, score, multi_class="ovr"),
        "average_precision": lambda: reference.average_precision_score(y_true, score),
        "kappa": lambda: reference.cohen_kappa_score(y_true, predicted),
        # Where all are of one class and called so, scikit-learn has 0 for 0 / 0.
        "mcc": lambda: (
            np.nan
            if len({*y_true, *predicted}) == 1
            else reference.matthews_corrcoef(y_true, predicted)
        ),
        "log_loss": lambda: reference.log_loss(y_true, y_prob, labels=labels),
        "brier": lambda: reference.brier_score_loss(y_true, y_prob, labels=labels),
        "ece": lambda: calibration_error(y_true, y_prob),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        warnings.filterwarnings("ignore", "A single label was found", UserWarning)
        return float(functions[name]())


@pytest.mark.parametrize("name", METRICS)
class TestAgainstScikitLearn:
    @pytest.mark.parametrize("n_classes", [2, 5])
    @pytest.mark.parametrize("grid", [0, 3])
    @pytest.mark.parametrize("n", [40, 700])
    def test_random_cases(self, name: str, n_classes: int, grid: int, n: int) -> None:
        y_true, y_prob = draw(n + grid, n, n_classes, grid=grid)
        expected = by_sklearn(name, y_true, y_prob)
        assert np.isfinite(expected)
        assert METRICS[name](y_true, y_prob) == pytest.approx(expected, abs=1e-10)

    @pytest.mark.parametrize("n_classes", [2, 5])
    def test_single_precision(self, name: str, n_classes: int) -> None:
        y_true, y_prob = draw(1, 300, n_classes, dtype="float32")
        y_prob[:5] = np.eye(n_classes)[(y_true[:5] + 1) % n_classes]
        expected = by_sklearn(name, y_true, y_prob)
        assert METRICS[name](y_true, y_prob) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("absent", [0, 1, 4])
    def test_class_that_does_not_occur(self, name: str, absent: int) -> None:
        y_true, y_prob = draw(2, 200, 5)
        rows = y_true != absent
        expected = by_sklearn(name, y_true[rows], y_prob[rows])
        value = METRICS[name](y_true[rows], y_prob[rows])
        assert value == pytest.approx(expected, abs=1e-10, nan_ok=True)
        assert np.isnan(value) == (name in RANKED)

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10_000), st.integers(1, 12), st.integers(2, 4), st.integers(0, 2))
    def test_tiny_and_degenerate_cases(
        self, name: str, seed: int, n: int, n_classes: int, grid: int
    ) -> None:
        y_true, y_prob = draw(seed, n, n_classes, grid=grid)
        expected = by_sklearn(name, y_true, y_prob)
        value = METRICS[name](y_true, y_prob)
        assert value == pytest.approx(expected, abs=1e-10, nan_ok=True)


def test_certain_and_right_is_best_on_every_metric() -> None:
    y_true = np.array([0, 1, 2, 0, 1, 2])
    for name, metric in METRICS.items():
        best = 1.0 if GREATER_IS_BETTER[name] else 0.0
        assert metric(y_true, np.eye(3)[y_true]) == pytest.approx(best, abs=1e-9)


def test_one_class_only() -> None:
    y_prob = np.array([[0.9, 0.1], [0.8, 0.2]])
    undefined = {name for name, metric in METRICS.items() if np.isnan(metric([0, 0], y_prob))}
    assert undefined == {"roc_auc", "average_precision", "kappa", "mcc"}
    assert METRICS["mcc"]([1, 1], y_prob) == 0
    assert np.isnan(METRICS["average_precision"]([1, 1], y_prob))


def test_nothing_to_score() -> None:
    assert all(np.isnan(metric([], np.empty((0, 2)))) for metric in METRICS.values())


ABOVE = float(np.nextafter(np.float32(8 / 15), np.float32(1)))


@pytest.mark.parametrize(("confidence", "bin_edge"), [(8 / 15, 7), (ABOVE, 8), (1.0, 14)])
def test_calibration_bins_are_closed_above(confidence: float, bin_edge: int) -> None:
    lower = bin_edge / 15
    assert lower < confidence <= (bin_edge + 1) / 15
    rest = np.full(14, (1 - confidence) / 14)
    inside = np.r_[confidence, rest]
    middle = np.r_[lower + 1 / 30, np.full(14, (1 - lower - 1 / 30) / 14)]
    value = METRICS["ece"]([0, 1], np.stack([inside, middle]))
    # In one bin the gaps of a right and a wrong tile offset each other before the absolute value.
    assert value == pytest.approx(abs((1 - inside[0]) - middle.max()) / 2)


def exact_calibration_error(correct: list[bool], confidence: list[str]) -> float:
    """Guo et al. 2017, equation 3, in fractions of the decimals: bins ((m - 1) / 15, m / 15]."""
    values = [Fraction(each) for each in confidence]
    gaps = [Fraction(0)] * 15
    for right, value in zip(correct, values, strict=True):
        gaps[max(math.ceil(value * 15) - 1, 0)] += right - value
    return float(sum(map(abs, gaps)) / len(values))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_decimals_on_an_edge_are_in_the_bin_that_ends_there(dtype: str) -> None:
    rng = np.random.default_rng(0)
    confidence = [f"{c / 20:.2f}" for c in rng.integers(11, 21, 400)]
    correct = [bool(rng.random() < 0.7) for _ in confidence]
    first = np.array(confidence, dtype=dtype)
    y_prob = np.stack([first, (1 - first).astype(dtype)], axis=1)
    y_true = [0 if right else 1 for right in correct]
    exact = exact_calibration_error(correct, confidence)
    assert METRICS["ece"](y_true, y_prob) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("n_bins", [10, 15, 100])
def test_every_edge_as_single_precision_is_in_its_own_bin(n_bins: int) -> None:
    edges = [Fraction(k, n_bins) for k in range(1, n_bins + 1)]
    written = np.array([float(edge) for edge in edges], dtype=np.float32)
    assert probability_bins(written, n_bins).tolist() == list(range(n_bins))
    assert probability_bins(np.nextafter(written, np.float32(2))[:-1], n_bins).tolist() == list(
        range(1, n_bins)
    )
    assert probability_bins(np.zeros(1), n_bins).tolist() == [0]


def test_brier_score_of_several_classes_may_exceed_one() -> None:
    certain_and_wrong = np.eye(3)[[1, 2, 0]]
    assert METRICS["brier"]([0, 1, 2], certain_and_wrong) == LIMITS["brier"][1] == 2
    assert METRICS["brier"]([0, 1], np.eye(2)[[1, 0]]) == 1


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    ("y_true", "y_prob", "message"),
    [
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "codes 0 to 2, y_prob 2 classes"),
        ([0, -1], [[0.5, 0.5], [0.5, 0.5]], "codes -1 to 0"),
        ([0, 1], [[0.5, 0.5], [np.nan, np.nan]], "1 of 2 tested tiles have no probability"),
        ([0, 1], [[0.5, 0.5]], "one entry per tile"),
        ([0, 1], [[1.0], [1.0]], "need \\(2, 2 or more\\)"),
    ],
)
def test_unusable_input(name: str, y_true: list[int], y_prob: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        METRICS[name](y_true, y_prob)


def test_confusion_matrix_has_truth_in_rows() -> None:
    y_true, y_prob = draw(0, 100, 4)
    expected = reference.confusion_matrix(y_true, y_prob.argmax(axis=1), labels=range(4))
    counts = confusion_matrix(y_true, y_prob, 4)
    assert np.array_equal(counts, expected)
    assert np.issubdtype(counts.dtype, np.integer)
    with pytest.raises(ValueError, match="4 columns for 3 classes"):
        confusion_matrix(y_true.clip(0, 2), y_prob, 3)


class TestFolds:
    y_true, first = draw(0, 60, 2)
    y_prob = np.stack([first, draw(1, 60, 2)[1]])
    test_fold = np.stack([np.arange(60) % 3, np.arange(60) // 20])

    def test_every_fold_on_every_metric(self) -> None:
        rows = score_folds(self.y_true, self.y_prob, self.test_fold)
        assert len(rows) == 2 * 3 * len(METRICS)
        for repeat, fold, name, value, n_test in rows:
            inside = self.test_fold[repeat] == fold
            expected = by_sklearn(name, self.y_true[inside], self.y_prob[repeat, inside])
            assert value == pytest.approx(expected)
            assert n_test == 20

    @pytest.mark.parametrize("n_tiles", range(2, 60))
    @pytest.mark.parametrize("by_patient", [False, True])
    def test_all_called_one_class_correlates_with_nothing(
        self, n_tiles: int, by_patient: bool
    ) -> None:
        """Weights that are no whole numbers add up with rounding errors."""
        y_true = np.arange(n_tiles) % 9
        y_prob = np.tile(np.eye(9)[0], (n_tiles, 1))
        patients = np.arange(n_tiles) // 3 if by_patient else None
        fold = np.zeros(n_tiles, dtype=np.int64)
        values = fold_values(("mcc", "kappa"), y_true, y_prob, fold, patients=patients)
        assert values["mcc"] == [0.0]
        assert values["kappa"] == pytest.approx([0.0], abs=1e-12)

    def test_arm_that_ran_on_the_first_repeats_of_the_plan(self) -> None:
        rows = score_folds(self.y_true, self.y_prob[:1], self.test_fold)
        assert {row[0] for row in rows} == {0}
        with pytest.raises(ValueError, match="for folds of shape"):
            score_folds(self.y_true, self.y_prob, self.test_fold[:1])

    def test_holdout_scores_tested_tiles_only(self) -> None:
        parts = np.repeat([-1, -2, 0], 20)
        y_prob = self.y_prob[:1].copy()
        y_prob[:, :40] = np.nan
        rows = score_folds(self.y_true, y_prob, parts[None])
        assert {(row[1], row[4]) for row in rows} == {(0, 20)}
        value, n_undefined = arm_value("accuracy", self.y_true, y_prob, parts[None])
        assert value == (self.y_prob[0, 40:].argmax(axis=1) == self.y_true[40:]).mean()
        assert n_undefined == 0

    @pytest.mark.parametrize("name", METRICS)
    def test_value_of_an_arm(self, name: str) -> None:
        per_repeat = []
        for y_prob, folds in zip(self.y_prob, self.test_fold, strict=True):
            pooled = [np.ones(60, dtype=bool)]
            parts = [folds == fold for fold in range(3)] if name in RANKED else pooled
            per_repeat.append(
                np.mean([by_sklearn(name, self.y_true[part], y_prob[part]) for part in parts])
            )
        value, n_undefined = arm_value(name, self.y_true, self.y_prob, self.test_fold)
        assert value == pytest.approx(np.mean(per_repeat))
        assert n_undefined == 0

    def test_folds_without_a_class_are_left_out_and_counted(self) -> None:
        y_true = np.array([0, 0, 0, 1, 0, 1])
        y_prob = np.array([[0.9, 0.1]] * 3 + [[0.1, 0.9], [0.4, 0.6], [0.6, 0.4]])
        folds = np.array([[0, 0, 1, 1, 2, 2]])
        assert arm_value("roc_auc", y_true, y_prob[None], folds) == (0.5, 1)
        assert arm_value("accuracy", y_true, y_prob[None], folds) == pytest.approx((4 / 6, 0))
        value, n_undefined = arm_value("roc_auc", y_true * 0, y_prob[None], folds)
        assert np.isnan(value)
        assert n_undefined == 3
        assert arm_value("kappa", y_true[:3] * 0, y_prob[None, :3], folds[:, :3])[1] == 2


class TestPatients:
    def test_mean_probability_of_patients_with_one_label(self) -> None:
        y_true = np.array([1, 0, 1, 0, 1])
        y_prob = np.array([[0.2, 0.8], [0.6, 0.4], [0.4, 0.6], [0.9, 0.1], [0.5, 0.5]])
        patients = np.array([7, 3, 7, 5, 5])
        labels, prob, n_mixed = patient_level(y_true, y_prob, patients)
        assert labels.tolist() == [0, 1]
        assert prob == pytest.approx(np.array([[0.6, 0.4], [0.3, 0.7]]))
        assert n_mixed == 1
        rows, _ = patient_rows(y_true, patients)
        assert patients[rows].tolist() == [3, 7]

    def test_all_mixed(self) -> None:
        labels, prob, n_mixed = patient_level([0, 1], [[0.5, 0.5], [0.5, 0.5]], [0, 0])
        assert labels.shape == (0,)
        assert prob.shape == (0, 2)
        assert n_mixed == 1

    def test_patients_are_named_by_anything(self) -> None:
        y_true, y_prob = draw(0, 30, 3)
        y_true = np.sort(y_true)
        names = np.array([f"p{label}" for label in y_true])
        labels, prob, n_mixed = patient_level(y_true, y_prob.astype(np.float32), names)
        assert labels.tolist() == [0, 1, 2]
        expected = [y_prob[y_true == label].mean(axis=0) for label in range(3)]
        assert prob == pytest.approx(np.array(expected), rel=1e-6)
        assert n_mixed == 0
