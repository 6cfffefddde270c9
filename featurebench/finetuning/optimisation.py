"""How the weights move: AdamW without decay on norms and biases, warm-up, then cosine."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the learning parameters into those that decay and those that do not.

    Biases, norm scales (every parameter of at most one dimension) and what the network itself
    exempts (``no_weight_decay()``, as timm's transformers do for position embeddings) keep their
    size.

    Returns
    -------
    list of dict
        Groups for a torch optimiser: the decaying first, then the others with decay 0.
    """
    exemptions: Callable[[], Iterable[str]] = getattr(network, "no_weight_decay", tuple)
    exempt = set(exemptions())
    decaying: list[nn.Parameter] = []
    constant: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            spared = parameter.ndim <= 1 or name in exempt
            (constant if spared else decaying).append(parameter)
    return [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": constant, "weight_decay": 0.0},
    ]


def learning_rate_factor(step: int, *, total_steps: int, warmup_steps: int) -> float:
    """Return the factor on the learning rate at an optimiser step counted from 0.

    It rises linearly to 1 over the warm-up and falls along half a cosine to 0 after the last step
    (Loshchilov and Hutter 2017, equation 5, one period).
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def make_optimizer(
    network: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    total_steps: int,
    warmup_fraction: float,
) -> tuple[AdamW, LambdaLR]:
    """Make AdamW and its schedule, which is stepped after every batch."""
    groups = parameter_groups(network, weight_decay)
    optimizer = AdamW(groups, lr=learning_rate, fused=True)
    factor = partial(
        learning_rate_factor,
        total_steps=total_steps,
        warmup_steps=math.floor(warmup_fraction * total_steps),
    )
    return optimizer, LambdaLR(optimizer, factor)
