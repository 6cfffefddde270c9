"""Recipe: everything a user sets that changes the numbers of a fine-tuned arm."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from featurebench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

STRATEGIES = ("full",)


@dataclass(frozen=True)
class Recipe:
    """How one network is fine-tuned; checked when it is made.

    Parameters
    ----------
    model, weights, model_args, preprocessing
        Of the network that training starts from, as for a `Backbone`.
    strategy
        Which parameters learn; ``full``: all of them.
    epochs
        Passes over the training tiles, at most.
    image_size
        Side in pixels to which tiles are resized; None takes the network's own.
    batch_size
        Tiles per optimiser step, at least 2 (batch normalisation needs them).
    learning_rate, weight_decay
        Of AdamW; the peak rate.
    warmup_fraction
        Share of all steps over which the rate rises linearly.
    patience
        Epochs without a lower validation loss after which training stops.
    validation_fraction
        Share of the training patients held back for early stopping in a k-fold plan; a hold-out
        plan brings its own validation tiles. 0 trains for all epochs and keeps the last weights.
    color_jitter
        Largest relative change of brightness, contrast and saturation in training.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    model: str
    weights: str = "hub"
    model_args: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    strategy: str = "full"
    epochs: int = 10
    image_size: int | None = None
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_fraction: float = 0.1
    patience: int = 5
    validation_fraction: float = 0.2
    color_jitter: float = 0.1

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            known = ", ".join(STRATEGIES)
            raise ConfigError(f"strategy {self.strategy!r} does not exist: use {known}")
        _require("epochs", self.epochs, self.epochs >= 1, "at least 1")
        size = self.image_size
        _require("image_size", size, size is None or size >= 1, "at least 1, or none")
        _require("batch_size", self.batch_size, self.batch_size >= 2, "at least 2")
        rate = self.learning_rate
        _require("learning_rate", rate, rate > 0 and math.isfinite(rate), "positive")
        decay = self.weight_decay
        _require("weight_decay", decay, decay >= 0 and math.isfinite(decay), "0 or more")
        _require("patience", self.patience, self.patience >= 1, "at least 1")
        for name, top in (
            ("warmup_fraction", 1.0),
            ("validation_fraction", 0.9),
            ("color_jitter", 1.0),
        ):
            value = getattr(self, name)
            _require(name, value, 0 <= value < top, f"at least 0 and below {top:g}")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings JSON-ready, in the order of the parameters."""
        return asdict(self)


def _require(name: str, value: object, fulfilled: bool, demand: str) -> None:
    if not fulfilled:
        raise ConfigError(f"{name} {value!r} cannot be used: it must be {demand}")
