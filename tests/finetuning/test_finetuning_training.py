"""The loop: batches, early stopping, best weights, accumulation, averages, precision."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from featurebench.errors import ConfigError
from featurebench.finetuning import training
from featurebench.finetuning.fabric import make_fabric, precision_on
from featurebench.finetuning.feed import Feed, predict_logits, split_evenly
from featurebench.finetuning.recipe import Recipe
from featurebench.finetuning.training import Lesson, Seeds, seed_of_epoch, train
from featurebench.finetuning.watching import log_loss, monitored_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CPU = torch.device("cpu")
RECIPE = Recipe(model="none", epochs=6, batch_size=8, learning_rate=0.01, patience=2)


class _Pixels:
    """Sixteen grey tiles, dark ones of class 0 and bright ones of class 1."""

    labels = np.arange(16) % 2

    def batches(self, batches: Sequence[npt.NDArray[np.intp]]) -> Iterator[torch.Tensor]:
        for rows in batches:
            grey = torch.from_numpy(60 + 120 * self.labels[rows]).to(torch.uint8)
            yield grey[:, None, None, None].expand(-1, 3, 4, 4)


def _feed() -> Feed:
    return Feed(_Pixels(), [0.5] * 3, [0.25] * 3, torch.device("cpu"), 8)


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


def _train(
    network: nn.Module, recipe: Recipe = RECIPE, n_validation: int = 4, **lesson: Any
) -> tuple[Any, int]:
    rows = np.arange(16)
    passes: list[int] = []
    history = train(
        network,
        _feed(),
        Lesson(_Pixels.labels, 2, rows[n_validation:], rows[:n_validation], **lesson),
        recipe=recipe,
        seeds=Seeds.of_fold(0, 0, 0),
        fabric=make_fabric(CPU, precision_on(CPU, recipe.precision)),
        progress=passes.append,
    )
    return history, sum(passes)


@pytest.mark.parametrize(
    ("losses", "best", "epochs"),
    [
        ([0.9, 0.5, 0.4, 0.3, 0.2, 0.1], 6, 6),
        ([0.9, 0.5, 0.7, 0.6, 0.1, 0.1], 2, 4),
        ([0.4, 0.4, 0.4, 0.1, 0.1, 0.1], 1, 3),
    ],
)
def test_stops_early_and_restores_the_best_weights(
    losses: list[float], best: int, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = _network()
    states: list[dict[str, torch.Tensor]] = []

    def scripted(*_: object) -> float:
        states.append({name: value.clone() for name, value in network.state_dict().items()})
        return losses[len(states) - 1]

    monkeypatch.setattr(training, "log_loss", scripted)
    history, passes = _train(network)
    assert (history.best_epoch, len(history.train_loss)) == (best, epochs)
    assert history.validation_loss == history.monitored == losses[:epochs]
    assert history.stopped_early == (epochs < RECIPE.epochs)
    assert passes == RECIPE.epochs * 16
    for name, value in network.state_dict().items():
        assert torch.equal(value, states[best - 1][name]), name
    assert best == epochs or not torch.equal(states[best - 1]["1.weight"], states[-1]["1.weight"])


def test_loss_falls_and_the_new_weights_predict() -> None:
    network = _network()
    history, _ = _train(network, n_validation=0)
    assert history.train_loss[-1] < 0.5 * history.train_loss[0]
    assert (history.validation_loss, history.best_epoch) == ([], 6)
    logits = predict_logits(network, _feed(), np.arange(16), lambda _: None)
    assert logits.shape == (16, 2)
    np.testing.assert_array_equal(logits.argmax(dim=1).numpy(), _Pixels.labels)


def test_prediction_does_not_depend_on_its_neighbours() -> None:
    network = _network()
    together = predict_logits(network, _feed(), np.arange(16), lambda _: None)
    alone = [predict_logits(network, _feed(), np.array([row]), lambda _: None) for row in range(16)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_validation_loss_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "log_loss", lambda *_: float("inf"))
    with pytest.raises(ConfigError, match=r"learning_rate 0.01 made the validation loss inf in ep"):
        _train(_network())


def test_log_loss_is_the_mean_negative_logarithm() -> None:
    p = np.array([[0.9, 0.1], [0.3, 0.7], [0.5, 0.5]])
    expected = -(np.log(0.9) + np.log(0.3) + np.log(0.5)) / 3
    assert log_loss(torch.from_numpy(np.log(p)), np.array([0, 0, 1])) == pytest.approx(expected)


@pytest.mark.parametrize("batch_size", [2, 3, 8, 32])
def test_batches_cover_all_rows_and_none_is_single(batch_size: int) -> None:
    for n in range(1, 70):
        batches = split_evenly(np.arange(n), batch_size)
        np.testing.assert_array_equal(np.concatenate(batches), np.arange(n))
        sizes = [len(b) for b in batches]
        assert min(sizes) >= min(2, n)
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= max(batch_size, 3)


def test_seeds_differ_by_place_and_purpose() -> None:
    places = [(s, r, f) for s in range(3) for r in range(3) for f in range(3)]
    drawn = [seed for place in places for seed in Seeds.of_fold(*place)]
    assert len(set(drawn)) == len(drawn) == 27 * 5
    assert Seeds.of_fold(1, 2, 0) == Seeds.of_fold(1, 2, 0)


def test_each_epoch_and_process_has_a_stream_of_its_own() -> None:
    drawn = {seed_of_epoch(s, e, r) for s in range(3) for e in range(1, 9) for r in range(3)}
    assert len(drawn) == 3 * 8 * 3


def test_parts_of_a_batch_accumulate_to_its_step() -> None:
    """Without batch normalisation two batches of 4 are one of 8, gradient for gradient."""
    still = {"flips": False, "quarter_turns": False, "color_jitter": 0.0}
    recipe = dataclasses.replace(RECIPE, optimizer="sgd", augmentation=still, epochs=3)
    weight = np.array([0.5, 2.0])
    networks = [nn.Sequential(nn.Flatten(), nn.Linear(48, 2)) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    whole, _ = _train(networks[0], recipe, n_validation=0, class_weight=weight)
    parted = dataclasses.replace(recipe, batch_size=4, accumulate=2)
    parts, _ = _train(networks[1], parted, n_validation=0, class_weight=weight)
    assert parts.train_loss == pytest.approx(whole.train_loss, rel=1e-5)
    assert parts.learning_rate == pytest.approx(whole.learning_rate)
    for ours, theirs in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_one_step_is_that_of_the_formula() -> None:
    """Class weights, smoothing and clipping, against the gradient written out by hand."""
    still = {"flips": False, "quarter_turns": False, "color_jitter": 0.0}
    recipe = Recipe(
        "none",
        epochs=1,
        batch_size=16,
        optimizer="sgd",
        learning_rate=0.5,
        weight_decay=0.1,
        label_smoothing=0.2,
        clip_norm=0.05,
        warmup_fraction=0,
        augmentation=still,
    )
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    W, b = (p.detach().double().numpy().copy() for p in network.parameters())
    weight = np.array([0.5, 2.0])
    history, _ = _train(network, recipe, n_validation=0, class_weight=weight)
    grey = (60 + 120 * _Pixels.labels) / 255
    X = np.repeat(((grey - 0.5) / 0.25)[:, None], 48, axis=1)
    logits = X @ W.T + b
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    # torch weighs every class's share of a smoothed target
    target = (0.8 * np.eye(2)[_Pixels.labels] + 0.1) * weight
    assert history.train_loss[0] == pytest.approx(-(target * np.log(p)).sum() / 16, rel=1e-5)
    residual = (p * target.sum(axis=1, keepdims=True) - target) / 16
    grad_W, grad_b = residual.T @ X, residual.sum(axis=0)
    shrink = min(1, 0.05 / np.sqrt((grad_W**2).sum() + (grad_b**2).sum()))
    new_W, new_b = (p.detach().double().numpy() for p in network.parameters())
    assert shrink < 1
    np.testing.assert_allclose(new_W, W - 0.5 * (shrink * grad_W + 0.1 * W), atol=1e-6)
    np.testing.assert_allclose(new_b, b - 0.5 * shrink * grad_b, atol=1e-6)


def test_the_average_is_watched_and_kept() -> None:
    network, plain, start = _network(), _network(), _network()
    history, _ = _train(network, dataclasses.replace(RECIPE, ema=0.999), n_validation=0)
    plain_history, _ = _train(plain, n_validation=0)
    assert history.train_loss == plain_history.train_loss
    vectors = [nn.utils.parameters_to_vector(n.parameters()) for n in (start, network, plain)]
    first, kept, last = vectors
    assert 0 < (kept - first).norm() < (last - first).norm()


def test_bfloat16_learns_and_keeps_weights_in_float32() -> None:
    network = _network()
    history, _ = _train(network, dataclasses.replace(RECIPE, precision="bfloat16"), n_validation=0)
    assert history.train_loss[-1] < history.train_loss[0]
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    plain, _ = _train(_network(), n_validation=0)
    assert history.train_loss != plain.train_loss


def test_monitor_decides_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracy is best in the second epoch, the log loss in the third."""
    wanted = iter([0.5, 0.9, 0.7, 0.7])
    losses = iter([0.9, 0.8, 0.1, 0.2])
    monkeypatch.setattr(training, "log_loss", lambda *_: next(losses))
    monkeypatch.setattr(training, "monitored_value", lambda *_: next(wanted))
    history, _ = _train(_network(), dataclasses.replace(RECIPE, monitor="accuracy"))
    assert (history.best_epoch, history.epochs, history.stopped_early) == (2, 4, True)
    assert history.monitored == [0.5, 0.9, 0.7, 0.7]


def test_monitored_values() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    labels = np.array([0, 1, 1])
    assert monitored_value("log_loss", 0.25, logits, labels) == 0.25
    assert monitored_value("accuracy", 0.25, logits, labels) == pytest.approx(2 / 3)
    with pytest.raises(ConfigError, match="monitor 'roc_auc' is undefined on the 3 validation"):
        monitored_value("roc_auc", 0.25, logits, np.zeros(3, dtype=np.int64))


def test_gradual_unfreezing_frees_a_stage_at_a_time() -> None:
    recipe = dataclasses.replace(RECIPE, strategy="gradual", unfreeze_every=2)
    history, _ = _train(_network(), recipe, n_validation=0)
    head, rest = 8 * 2 + 2, 48 * 8 + 8 + 16
    assert history.n_learning == [head] * 2 + [head + rest] * 4
