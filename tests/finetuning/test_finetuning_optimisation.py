"""Parameter groups, optimisers and schedules, each against its formula."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from featurebench.finetuning.optimisation import (
    Schedule,
    make_average,
    make_optimizer,
    parameter_groups,
)
from featurebench.finetuning.recipe import Recipe


def _schedule(per_epoch: int = 10, **settings: Any) -> Schedule:
    return Schedule.of(Recipe("none", **settings), per_epoch)


def test_cosine_rises_then_falls_to_nothing() -> None:
    schedule = _schedule(epochs=10, warmup_fraction=0.1)
    factors = [schedule.factor(step) for step in range(101)]
    np.testing.assert_allclose(np.diff(factors[:11]), 1 / 11)
    assert factors[10] == max(factors) == 1
    assert factors[55] == pytest.approx(0.5)
    assert factors[32] == pytest.approx(0.5 * (1 + math.cos(math.pi * 22 / 90)))
    assert (np.diff(factors[10:]) < 0).all()
    assert factors[100] == pytest.approx(0, abs=1e-12)
    assert _schedule(1, epochs=1, warmup_fraction=0).factor(0) == 1


def test_step_decays_at_its_epochs() -> None:
    schedule = _schedule(epochs=9, schedule="step", decay_rate=0.5, warmup_fraction=0)
    by_epoch = [schedule.factor(10 * epoch) for epoch in range(9)]
    assert by_epoch == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert schedule.factor(29) == 1
    often = _schedule(epochs=4, schedule="step", decay_epochs=1, warmup_fraction=0.3)
    assert [often.factor(step) for step in (0, 11, 12, 20)] == pytest.approx(
        [1 / 13, 12 / 13, 0.1, 0.01]
    )


def test_plateau_decays_where_nothing_improves() -> None:
    schedule = _schedule(schedule="plateau", decay_epochs=2, warmup_fraction=0)
    factors = []
    for score in (1.0, 0.5, 0.6, 0.5, 0.4, 0.4, 0.41, 0.42, 0.43):
        schedule.watch(score)
        factors.append(schedule.factor(50))
    assert factors == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001])
    other = _schedule(schedule="plateau", decay_epochs=2, warmup_fraction=0)
    other.load_state_dict(schedule.state_dict())
    assert other == schedule


def test_constant_stays_after_the_warm_up() -> None:
    schedule = _schedule(epochs=2, schedule="constant", warmup_fraction=0.1)
    assert [schedule.factor(step) for step in (0, 1, 2, 19)] == pytest.approx([1 / 3, 2 / 3, 1, 1])


def test_every_group_follows_the_schedule_at_its_own_scale() -> None:
    network: Any = timm.create_model("test_vit", num_classes=2)
    recipe = Recipe("test_vit", layer_decay=0.5, learning_rate=0.2)
    optimizer = make_optimizer(network, recipe)
    _schedule(epochs=1, warmup_fraction=0).set_rates(optimizer, 5, 0.2)
    rates = {group["lr"] for group in optimizer.param_groups}
    depth = max(int(n.split(".")[1]) for n, _ in network.named_parameters() if "blocks" in n) + 1
    expected = {0.1 * 0.5**layer for layer in range(depth + 2)}
    assert sorted(rates) == pytest.approx(sorted(expected))
    (head,) = [
        group
        for group in optimizer.param_groups
        if any(parameter is network.head.weight for parameter in group["params"])
    ]
    assert head["lr"] == pytest.approx(0.1)


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
    decays = {
        names[id(parameter)]: group["weight_decay"]
        for group in parameter_groups(network, 0.05)
        for parameter in group["params"]
    }
    assert decays == {
        "body.0.weight": 0.05,
        "body.2.weight": 0.05,
        "position": 0.0,
        "body.0.bias": 0.0,
        "body.1.weight": 0.0,
        "body.1.bias": 0.0,
        "body.2.bias": 0.0,
    }


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        # the first step of Adam is the sign of the gradient; its decay is in the gradient or not
        ("adamw", 2 * (1 - 0.1 * 0.3) - 0.1),
        ("adam", 2 - 0.1),
        ("sgd", 2 - 0.1 * (0.5 + 0.3 * 2)),
    ],
)
def test_first_step_of_each_optimiser(optimizer: str, expected: float) -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2)
    recipe = Recipe("none", optimizer=optimizer, learning_rate=0.1, weight_decay=0.3)
    made = make_optimizer(layer, recipe)
    layer.weight.grad = torch.full((1, 1), 0.5)
    made.step()
    assert layer.weight.item() == pytest.approx(expected, rel=1e-5)
    layer.weight.grad = torch.full((1, 1), 0.5)
    made.step()
    if optimizer == "sgd":
        velocity = 0.9 * (0.5 + 0.6) + 0.5 + 0.3 * expected
        assert layer.weight.item() == pytest.approx(expected - 0.1 * velocity, rel=1e-5)


def test_average_starts_as_the_network_and_lags_behind_it() -> None:
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, 1)
    average = make_average(layer, 0.9)
    assert average is not None
    values = []
    for step in range(1, 4):
        nn.init.constant_(layer.weight, step + 1)
        average.update(layer, step=step)
        values.append(average.module.weight.item())
    second = 1 - 2 ** (-2 / 3)
    third = 1 - 3 ** (-2 / 3)
    expected = [2, second * 2 + (1 - second) * 3]
    expected.append(third * expected[1] + (1 - third) * 4)
    assert values == pytest.approx(expected)
    assert make_average(layer, None) is None
