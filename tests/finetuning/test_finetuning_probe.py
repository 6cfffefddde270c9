"""The frozen network's head is a logistic regression, and lp-ft starts from its solution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from featurebench.finetuning import Recipe
from featurebench.finetuning.checkpoint import Checkpoints
from featurebench.finetuning.fabric import make_fabric
from featurebench.finetuning.feed import Feed, ignore, predict_logits
from featurebench.finetuning.learner import FoldLearner
from featurebench.finetuning.starting import frozen_features, solve_probe
from featurebench.finetuning.training import Lesson, Seeds
from featurebench.heads import LogisticProbe
from featurebench.results import Cost
from featurebench.splits import inner_folds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

N = 36
ROWS = np.arange(N)
LABELS = ROWS % 3
STILL = {"flips": False, "quarter_turns": False, "color_jitter": 0.0}
SEEDS = Seeds.of_fold(0, 0, 0)
COLOURS = np.array([[200, 90, 150], [110, 90, 200], [120, 170, 90]])


class _Pixels:
    """Tiles of noise about the class's colour; a third of the labels is of another class."""

    rng = np.random.default_rng(0)
    shown = np.where(rng.random(N) < 1 / 3, rng.permutation(LABELS), LABELS)
    noise = rng.normal(0, 60, (N, 3, 32, 32))
    tiles = (COLOURS[shown][:, :, None, None] + noise).clip(0, 255).astype("u1")

    def batches(self, batches: Sequence[npt.NDArray[np.intp]]) -> Iterator[torch.Tensor]:
        for rows in batches:
            yield torch.from_numpy(self.tiles[rows])


def _learner(model: str = "test_resnet", **settings: Any) -> FoldLearner:
    recipe = Recipe(model, weights="random", image_size=32, batch_size=N, **settings)
    return FoldLearner(
        recipe=recipe,
        feed=Feed(_Pixels(), [0.5] * 3, [0.25] * 3, torch.device("cpu"), N),
        labels=LABELS,
        groups=ROWS // 2,
        classes=("a", "b", "c"),
        seed=0,
        base_dir=None,
        progress=ignore,
        fold_dir=None,
        key="",
    )


def _trained(
    learner: FoldLearner, class_weight: npt.NDArray[np.float64] | None = None
) -> tuple[npt.NDArray[np.float64], Any]:
    """Probabilities of the tiles after training on all of them, and the history."""
    lesson = Lesson(LABELS, 3, ROWS, ROWS[:0], class_weight)
    fabric = make_fabric(torch.device("cpu"), "float32")
    network, history = learner.trained(lesson, SEEDS, fabric, Checkpoints(None, "", 0, Cost))
    logits = predict_logits(network, learner.feed, ROWS, ignore)
    return softmax(logits.double().numpy(), axis=1), history


def _embeddings(learner: FoldLearner) -> npt.NDArray[np.float32]:
    features: npt.NDArray[np.float32] = frozen_features(
        learner.network(SEEDS), learner.feed, ROWS
    ).numpy()
    return features


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_heads_optimum_is_the_logistic_probe(optimizer: str) -> None:
    """Mean cross-entropy plus wd/2 |W|^2 is the probe's objective over n for C = 1 / (n wd)."""
    decay = 0.1
    learner = _learner(
        strategy="head",
        optimizer=optimizer,
        schedule="cosine",
        warmup_fraction=0,
        learning_rate={"adam": 0.05, "sgd": 0.3}[optimizer],
        weight_decay=decay,
        epochs=250,
        augmentation=STILL,
    )
    ours, history = _trained(learner)
    assert history.train_loss[-1] < 0.8 * history.train_loss[0]
    X = _embeddings(learner)
    C = 1 / (N * decay)
    probe = LogisticProbe(C, features=None, tol=1e-10).fit(X, LABELS)
    np.testing.assert_allclose(ours, probe.predict_proba(X), atol=2e-3)
    peer = LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(X, LABELS)
    np.testing.assert_allclose(ours, peer.predict_proba(X), atol=2e-3)
    unpenalised = LogisticRegression(C=100 * C, max_iter=10_000).fit(X, LABELS)
    assert abs(ours - unpenalised.predict_proba(X)).max() > 0.05


@pytest.mark.parametrize("n_classes", [2, 3])
def test_probe_is_written_for_features_as_they_are(n_classes: int) -> None:
    rng = np.random.default_rng(1)
    y = np.arange(50) % n_classes
    X = rng.normal(5, [1, 20, 0.1], (50, 3)) + y[:, None]
    coef, intercept, C = solve_probe(X, y, n_classes, C=0.3)
    peer = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, tol=1e-10)).fit(X, y)
    assert (coef.shape, intercept.shape, C) == ((n_classes, 3), (n_classes,), 0.3)
    found = softmax(X @ coef.T + intercept, axis=1)
    np.testing.assert_allclose(found, peer.predict_proba(X), atol=1e-3)


def test_class_that_the_probe_never_saw_is_unlikely() -> None:
    rng = np.random.default_rng(1)
    y = np.array([0, 2] * 20)
    X = rng.normal(size=(40, 3)) + y[:, None]
    coef, intercept, _ = solve_probe(X, y, 4, C=1.0)
    p = softmax(X @ coef.T + intercept, axis=1)
    assert p[:, [1, 3]].max() < 0.05
    assert (p[:, [0, 2]].argmax(axis=1) == y // 2).mean() > 0.7


@pytest.mark.parametrize("probe_C", [0.5, "dK/100", None])
def test_lp_ft_starts_from_the_probe(probe_C: float | str | None) -> None:
    """With next to no learning rate the network says what the probe says."""
    settings: dict[str, Any] = {"learning_rate": 1e-12, "epochs": 1, "augmentation": STILL}
    learner = _learner("test_vit", strategy="lp-ft", probe_C=probe_C, **settings)
    ours, history = _trained(learner)
    X = _embeddings(learner)
    if probe_C is None:
        cv = list(inner_folds(LABELS, ROWS // 2, seed=SEEDS.validation))
        probe = LogisticProbe(cv=cv).fit(X, LABELS)
    else:
        probe = LogisticProbe(probe_C).fit(X, LABELS)
    expected = probe.predict_proba(X)
    np.testing.assert_allclose(ours, expected, atol=1e-3)
    assert history.train_loss[0] == pytest.approx(log_loss(LABELS, expected), rel=1e-3)
    plain, _ = _trained(_learner("test_vit", **settings))
    assert abs(plain - expected).max() > 0.05


def test_lp_ft_weighs_the_probe_as_the_loss() -> None:
    settings: dict[str, Any] = {"learning_rate": 1e-12, "epochs": 1, "augmentation": STILL}
    learner = _learner("test_vit", strategy="lp-ft", probe_C=0.5, **settings)
    weight = np.array([5.0, 1.0, 0.5])
    ours, _ = _trained(learner, weight)
    X = _embeddings(learner)
    probe = LogisticProbe(0.5, class_weight=dict(enumerate(weight))).fit(X, LABELS)
    np.testing.assert_allclose(ours, probe.predict_proba(X), atol=1e-3)
    assert abs(ours - LogisticProbe(0.5).fit(X, LABELS).predict_proba(X)).max() > 0.05
