"""What training is watched by: its history, the monitored value, the best weights so far."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from featurebench.errors import ConfigError
from featurebench.metrics import GREATER_IS_BETTER, METRICS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn


@dataclass
class History:
    """What training saw; one value per epoch run.

    Parameters
    ----------
    train_loss, validation_loss
        Mean cross-entropy (natural logarithm), the former as it was minimised: weighted, smoothed
        and on augmented tiles; the latter is empty without validation tiles.
    monitored
        Values of the metric that early stopping watched; empty without validation tiles.
    learning_rate
        Peak rate times the schedule's factor, at the last step of the epoch.
    n_learning
        Parameters (numbers, not tensors) that learnt.
    best_epoch
        Epoch, counted from 1, whose weights were kept.
    stopped_early
        Whether the patience ran out.
    validation_scores
        Value of each of `METRICS` on the validation tiles with the weights that were kept, None
        where it is undefined; empty without validation tiles. These tiles chose the epoch, so the
        values are a little too good; they are for choosing between fine-tunes.
    """

    train_loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    monitored: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    n_learning: list[int] = field(default_factory=list)
    best_epoch: int = 0
    stopped_early: bool = False
    validation_scores: dict[str, float | None] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Epochs run."""
        return len(self.train_loss)

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return asdict(self)


@dataclass
class BestWeights:
    """The weights with the lowest score so far, and what they made of the validation tiles.

    All is kept on the CPU; ``logits`` have the shape (n_validation, n_classes), None in a state
    that was kept without them.
    """

    score: float = math.inf
    epoch: int = 0
    state: dict[str, torch.Tensor] = field(default_factory=dict)
    logits: torch.Tensor | None = None

    def offer(self, score: float, epoch: int, network: nn.Module, logits: torch.Tensor) -> None:
        """Keep the network's state if the score is lower than ever before."""
        if score < self.score:
            self.score, self.epoch, self.state = score, epoch, state_on_cpu(network)
            self.logits = logits


def state_on_cpu(network: nn.Module) -> dict[str, torch.Tensor]:
    """Copy a network's parameters and buffers."""
    state = network.state_dict()
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def log_loss(logits: torch.Tensor, labels: npt.NDArray[np.int64]) -> float:
    """Mean negative log-likelihood (natural logarithm), in double precision."""
    return float(functional.cross_entropy(logits.double(), torch.from_numpy(labels)))


def monitored_value(
    monitor: str, loss: float, logits: torch.Tensor, labels: npt.NDArray[np.int64]
) -> float:
    """Compute what early stopping watches, of which the log loss is known.

    Raises
    ------
    ConfigError
        If it is undefined on these tiles.
    """
    if monitor == "log_loss":
        return loss
    value = METRICS[monitor](labels, logits.double().softmax(dim=1).numpy())
    if math.isnan(value):
        raise ConfigError(
            f"monitor {monitor!r} is undefined on the {len(labels)} validation tiles: use log_loss"
        )
    return value


def scores_of(logits: torch.Tensor, labels: npt.NDArray[np.int64]) -> dict[str, float | None]:
    """Compute every metric of the network's probabilities; None where it is undefined."""
    y_prob = logits.double().softmax(dim=1).float().numpy()
    values = {name: float(metric(labels, y_prob)) for name, metric in METRICS.items()}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def score_of(monitor: str, value: float) -> float:
    """Turn a value round if more of it is better, so that the lowest score is the best."""
    return -value if GREATER_IS_BETTER[monitor] else value
