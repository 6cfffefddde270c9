"""The loop: batches, schedule, decay groups, early stopping, best weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from featurebench.errors import ConfigError
from featurebench.finetuning import training
from featurebench.finetuning.optimisation import (
    learning_rate_factor,
    make_optimizer,
    parameter_groups,
)
from featurebench.finetuning.recipe import Recipe
from featurebench.finetuning.training import Feed, Seeds, log_loss, split_evenly, train

RECIPE = Recipe(model="none", epochs=6, batch_size=8, learning_rate=0.01, patience=2)


class _Pixels:
    """Sixteen grey tiles, dark ones of class 0 and bright ones of class 1."""

    labels = np.arange(16) % 2

    def batches(self, batches: list[npt.NDArray[np.intp]]) -> Any:
        for rows in batches:
            grey = torch.from_numpy(60 + 120 * self.labels[rows]).to(torch.uint8)
            yield grey[:, None, None, None].expand(-1, 3, 4, 4)


def _feed() -> Feed:
    pixels: Any = _Pixels()
    return Feed(pixels, [0.5] * 3, [0.25] * 3, torch.device("cpu"), 8)


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


def _train(network: nn.Module, recipe: Recipe = RECIPE, n_validation: int = 4) -> tuple[Any, int]:
    rows = np.arange(16)
    passes: list[int] = []
    history = train(
        network,
        _feed(),
        _Pixels.labels,
        rows=rows[n_validation:],
        validation=rows[:n_validation],
        recipe=recipe,
        seeds=Seeds.of_fold(0, 0, 0),
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
    assert list(history.validation_loss) == losses[:epochs]
    assert passes == RECIPE.epochs * 16
    for name, value in network.state_dict().items():
        assert torch.equal(value, states[best - 1][name]), name
    assert best == epochs or not torch.equal(states[best - 1]["1.weight"], states[-1]["1.weight"])


def test_loss_falls_and_the_new_weights_predict() -> None:
    network = _network()
    history, _ = _train(network, n_validation=0)
    assert history.train_loss[-1] < 0.5 * history.train_loss[0]
    assert (history.validation_loss, history.best_epoch) == ((), 6)
    logits = training.predict_logits(network, _feed(), np.arange(16), lambda _: None)
    assert logits.shape == (16, 2)
    np.testing.assert_array_equal(logits.argmax(dim=1).numpy(), _Pixels.labels)


def test_prediction_does_not_depend_on_its_neighbours() -> None:
    network = _network()
    together = training.predict_logits(network, _feed(), np.arange(16), lambda _: None)
    alone = [
        training.predict_logits(network, _feed(), np.array([row]), lambda _: None)
        for row in range(16)
    ]
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


def test_schedule_rises_then_falls_to_nothing() -> None:
    factors = [learning_rate_factor(s, total_steps=100, warmup_steps=10) for s in range(101)]
    np.testing.assert_allclose(np.diff(factors[:11]), 1 / 11)
    assert factors[10] == max(factors) == 1
    assert factors[55] == pytest.approx(0.5)
    assert (np.diff(factors[10:]) < 0).all()
    assert factors[100] == pytest.approx(0, abs=1e-12)
    assert learning_rate_factor(0, total_steps=1, warmup_steps=0) == 1


def test_optimiser_follows_the_schedule_step_by_step() -> None:
    optimizer, schedule = make_optimizer(
        _network(), learning_rate=0.2, weight_decay=0.05, total_steps=20, warmup_fraction=0.1
    )
    for step in range(20):
        expected = 0.2 * learning_rate_factor(step, total_steps=20, warmup_steps=2)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([expected] * 2)
        optimizer.step()
        schedule.step()


def test_norms_biases_and_exempt_parameters_do_not_decay() -> None:
    class Exempting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(torch.ones(1, 4, 8))
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 2))
            self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)

        def no_weight_decay(self) -> set[str]:
            return {"position"}

    network = Exempting()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decaying, constant = parameter_groups(network, 0.05)
    assert [names[id(p)] for p in decaying["params"]] == ["body.0.weight", "body.2.weight"]
    assert {names[id(p)] for p in constant["params"]} == {
        "position",
        "body.0.bias",
        "body.1.weight",
        "body.1.bias",
        "body.2.bias",
    }
    assert (decaying["weight_decay"], constant["weight_decay"]) == (0.05, 0.0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 0, "epochs 0 cannot be used: it must be at least 1"),
        ("image_size", 0, "image_size 0"),
        ("batch_size", 1, "batch_size 1 cannot be used: it must be at least 2"),
        ("learning_rate", 0.0, "learning_rate 0.0 cannot be used: it must be positive"),
        ("learning_rate", float("nan"), "learning_rate nan"),
        ("weight_decay", -1.0, "weight_decay -1.0"),
        ("warmup_fraction", 1.0, "warmup_fraction 1.0 .* at least 0 and below 1"),
        ("patience", 0, "patience 0"),
        ("validation_fraction", 0.95, "validation_fraction 0.95 .* at least 0 and below 0.9"),
        ("color_jitter", -0.1, "color_jitter -0.1"),
        ("strategy", "head", "strategy 'head' does not exist: use full"),
    ],
)
def test_recipe_refuses(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe(model="resnet18", **{name: value})
