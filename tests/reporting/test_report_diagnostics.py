"""ROC and calibration points against scikit-learn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.calibration import calibration_curve as sk_calibration
from sklearn.metrics import auc, roc_auc_score
from sklearn.metrics import roc_curve as sk_roc

from featurebench.reporting import diagnostics

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
TWO, FOUR = ("benign", "malignant"), ("a", "b", "c", "d")


def draw(n: int, n_classes: int, seed: int = 0) -> tuple[Codes, Floats]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    logits = rng.normal(0, 1, (n, n_classes)) + np.eye(n_classes)[y]
    return y, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_roc_points_are_those_of_scikit_learn() -> None:
    y, p = draw(300, 2)
    scores = p[:, 1].round(2)
    fpr, tpr = diagnostics.roc_points(y == 1, scores)
    expected = sk_roc(y, scores, drop_intermediate=False)
    np.testing.assert_allclose(fpr, expected[0])
    np.testing.assert_allclose(tpr, expected[1])


def test_roc_is_thinned_without_changing_its_area() -> None:
    y, p = draw(20_000, 2)
    curve = diagnostics.roc_curve(y, p, TWO)
    assert curve is not None
    assert len(curve["fpr"]) <= diagnostics.MAX_POINTS
    assert (curve["fpr"][0], curve["tpr"][0]) == (0, 0)
    assert (curve["fpr"][-1], curve["tpr"][-1]) == (1, 1)
    assert auc(curve["fpr"], curve["tpr"]) == pytest.approx(roc_auc_score(y, p[:, 1]), abs=2e-3)


def test_roc_of_few_tiles_keeps_every_point() -> None:
    y, p = draw(30, 2)
    curve = diagnostics.roc_curve(y, p, TWO)
    assert curve is not None
    assert len(curve["fpr"]) == len(np.unique(p[:, 1])) + 1
    assert curve["of"] == "malignant"


def test_roc_of_many_classes_is_the_mean_of_one_versus_rest() -> None:
    y, p = draw(5_000, 4)
    curve = diagnostics.roc_curve(y, p, FOUR)
    assert curve is not None
    area = auc(curve["fpr"], curve["tpr"])
    assert area == pytest.approx(roc_auc_score(y, p, multi_class="ovr"), abs=3e-3)
    assert np.all(np.diff(curve["tpr"]) >= 0)


def test_mean_roc_of_few_tiles_lies_no_higher_than_its_steps() -> None:
    y, p = draw(45, 3, seed=2)
    curve = diagnostics.roc_curve(y, p, ("a", "b", "c"))
    assert curve is not None
    area = auc(curve["fpr"], curve["tpr"])
    assert area == pytest.approx(roc_auc_score(y, p, multi_class="ovr"), abs=5e-3)


def test_roc_of_one_class_is_undefined() -> None:
    assert diagnostics.roc_curve(np.zeros(5, np.int64), np.full((5, 2), 0.5), TWO) is None


def test_constant_scores_give_the_diagonal() -> None:
    curve = diagnostics.roc_curve(np.array([0, 1, 1, 0]), np.full((4, 2), 0.5), TWO)
    assert curve == {"of": "malignant", "fpr": [0.0, 1.0], "tpr": [0.0, 1.0]}


def test_calibration_of_two_classes_is_that_of_scikit_learn() -> None:
    y, p = draw(2_000, 2)
    curve = diagnostics.calibration_curve(y, p, TWO)
    assert curve is not None
    observed, predicted = sk_calibration(y, p[:, 1], n_bins=10)
    np.testing.assert_allclose(curve["observed"], observed, atol=1e-4)
    np.testing.assert_allclose(curve["predicted"], predicted, atol=1e-4)
    assert sum(curve["n"]) == 2_000


def test_calibration_of_many_classes_is_of_the_called_class() -> None:
    y, p = draw(2_000, 4)
    curve = diagnostics.calibration_curve(y, p, FOUR)
    assert curve is not None
    is_right = (p.argmax(axis=1) == y).astype(int)
    observed, predicted = sk_calibration(is_right, p.max(axis=1), n_bins=10)
    np.testing.assert_allclose(curve["observed"], observed, atol=1e-4)
    np.testing.assert_allclose(curve["predicted"], predicted, atol=1e-4)
    assert curve["of"] == "called class"


def test_certain_probabilities_fall_into_the_last_bin() -> None:
    curve = diagnostics.calibration_curve(
        np.array([1, 1, 0]), np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), TWO
    )
    assert curve == {
        "of": "malignant",
        "predicted": [0.0, 1.0],
        "observed": [0.0, 1.0],
        "n": [1, 2],
    }


def test_no_tiles_have_no_calibration() -> None:
    assert diagnostics.calibration_curve(np.zeros(0, np.int64), np.zeros((0, 2)), TWO) is None
