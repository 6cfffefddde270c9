"""How the weights move: optimiser, rates and decay of each parameter, schedule, averaging."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from timm.utils import ModelEmaV3
from torch.optim import SGD, Adam, AdamW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn
    from torch.optim import Optimizer

    from featurebench.finetuning.recipe import Recipe


def parameter_groups(
    network: nn.Module, weight_decay: float, layer_decay: float | None = None
) -> list[dict[str, Any]]:
    """Split the learning parameters into groups of one rate and one decay each.

    Biases, norm scales (every parameter of at most one dimension) and what the network itself
    exempts (``no_weight_decay()``, as timm's transformers do for position embeddings) keep their
    size.

    Parameters
    ----------
    layer_decay
        Factor on the rate from each layer, as timm counts them, to the one before it.

    Returns
    -------
    list of dict
        Groups for a torch optimiser; ``lr_scale``, where it is not 1, multiplies the rate.
    """
    exemptions: Callable[[], Iterable[str]] = getattr(network, "no_weight_decay", tuple)
    exempt = sorted(exemptions())
    split = (
        param_groups_weight_decay
        if layer_decay is None
        else partial(param_groups_layer_decay, layer_decay=layer_decay)
    )
    groups: list[dict[str, Any]] = split(network, weight_decay, no_weight_decay_list=exempt)
    return groups


def make_optimizer(network: nn.Module, recipe: Recipe, *, fused: bool = True) -> Optimizer:
    """Make the optimiser of the parameters that learn now.

    Parameters
    ----------
    fused
        Whether one kernel moves all parameters; such an optimiser unscales float16's gradients
        itself, so that they cannot be clipped.
    """
    groups = parameter_groups(network, recipe.weight_decay, recipe.layer_decay)
    if recipe.optimizer == "sgd":
        return SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, fused=fused)
    kind = AdamW if recipe.optimizer == "adamw" else Adam
    return kind(groups, lr=recipe.learning_rate, fused=fused)


def cosine_factor(progress: float) -> float:
    """Fall along half a cosine from 1 to 0 (Loshchilov and Hutter 2017, equation 5, one period)."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@dataclass
class Schedule:
    """The factor on the learning rate at each step of the optimiser.

    It rises linearly to 1 over the warm-up; what follows is a function of the step alone, except
    that ``plateau`` remembers how often the watched value stood still.

    Parameters
    ----------
    kind
        ``cosine``, ``step``, ``plateau`` or ``constant``.
    steps_per_epoch, total_steps, warmup_steps
        Of the optimiser.
    decay_after, decay_rate
        Epochs to wait, and the factor of ``step`` and ``plateau``.
    """

    kind: str
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    decay_after: int = 1
    decay_rate: float = 1.0
    best: float = field(default=math.inf, init=False)
    waited: int = field(default=0, init=False)
    decays: int = field(default=0, init=False)

    @classmethod
    def of(cls, recipe: Recipe, steps_per_epoch: int) -> Schedule:
        """Make the schedule that the recipe names."""
        total = recipe.epochs * steps_per_epoch
        warmup = math.floor(recipe.warmup_fraction * total)
        return cls(
            recipe.schedule, steps_per_epoch, total, warmup, recipe.decay_after, recipe.decay_rate
        )

    def factor(self, step: int) -> float:
        """Return the factor at a step counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        if self.kind == "cosine":
            rest = max(1, self.total_steps - self.warmup_steps)
            return cosine_factor((step - self.warmup_steps) / rest)
        if self.kind == "step":
            return self.decay_rate ** (step // (self.decay_after * self.steps_per_epoch))
        return self.decay_rate**self.decays

    def set_rates(self, optimizer: Optimizer, step: int, learning_rate: float) -> None:
        """Give every group its rate for a step."""
        rate = learning_rate * self.factor(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)

    def watch(self, score: float) -> None:
        """Take note of an epoch's score, of which lower is better."""
        self.waited = 0 if score < self.best else self.waited + 1
        self.best = min(self.best, score)
        if self.kind == "plateau" and self.waited >= self.decay_after:
            self.waited, self.decays = 0, self.decays + 1

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers."""
        return {"best": self.best, "waited": self.waited, "decays": self.decays}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember what another one did."""
        self.best, self.waited, self.decays = state["best"], state["waited"], state["decays"]


def make_average(network: nn.Module, decay: float | None) -> ModelEmaV3 | None:
    """Make the moving average of a network's weights and buffers, if there is to be one.

    Its decay rises to the one given, ``1 - (1 + step)**(-2/3)`` at first: else the average of a
    short training would be little but the weights that it started from.
    """
    return None if decay is None else ModelEmaV3(network, decay=decay, use_warmup=True)
