"""Recipe: everything a user sets that changes the numbers of a fine-tuned arm."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from featurebench.errors import ConfigError
from featurebench.metrics import METRICS

if TYPE_CHECKING:
    from featurebench.finetuning.augmentation import Augmentation
    from featurebench.finetuning.strategies import Strategy

OPTIMIZERS: Final = ("adamw", "adam", "sgd")
SCHEDULES: Final = ("cosine", "step", "plateau", "constant")
HEADS: Final = ("linear", "dense")
PRECISIONS: Final = ("auto", "float32", "bfloat16", "float16")
# What keys mean that are not given, by the name of the recipe that they stand for.
PRESETS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "paper": MappingProxyType(
            {
                "optimizer": "adam",
                "learning_rate": 1e-4,
                "weight_decay": 1e-4,
                "schedule": "constant",
                "warmup_fraction": 0.0,
                "batch_size": 32,
                "epochs": 50,
                "image_size": 224,
                "head": "dense",
                "hidden": 256,
                "dropout": 0.5,
            }
        )
    }
)
_CHOICES: Final = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "head": HEADS,
    "precision": PRECISIONS,
    "monitor": tuple(METRICS),
}
_COUNTS: Final = ("epochs", "accumulate", "hidden", "unfreeze_every", "rank", "patience")
# Least value (excluded for the first two) and what a number must stay below.
_RANGES: Final = {
    "learning_rate": (0.0, math.inf, "positive"),
    "clip_norm": (0.0, math.inf, "positive, or none"),
    "weight_decay": (0.0, math.inf, "0 or more"),
    "momentum": (0.0, 1.0, "at least 0 and below 1"),
    "warmup_fraction": (0.0, 1.0, "at least 0 and below 1"),
    "validation_fraction": (0.0, 0.9, "at least 0 and below 0.9"),
    "color_jitter": (0.0, 1.0, "at least 0 and below 1"),
    "label_smoothing": (0.0, 1.0, "at least 0 and below 1"),
    "dropout": (0.0, 1.0, "at least 0 and below 1"),
    "drop_rate": (0.0, 1.0, "at least 0 and below 1, or none"),
    "ema": (0.0, 1.0, "above 0 and below 1, or none"),
    "decay_rate": (0.0, math.nextafter(1, 2), "above 0 and at most 1"),
    "layer_decay": (0.0, math.nextafter(1, 2), "above 0 and at most 1, or none"),
}
_ABOVE_ZERO: Final = frozenset({"learning_rate", "clip_norm", "ema", "decay_rate", "layer_decay"})
_OPTIONAL: Final = frozenset({"clip_norm", "drop_rate", "ema", "layer_decay"})


@dataclass(frozen=True)
class Recipe:
    """How one network is fine-tuned; checked when it is made.

    Parameters
    ----------
    model, weights, model_args, preprocessing
        Of the network that training starts from, as for a `Backbone`.
    strategy
        Which parameters learn, and when: ``scratch``, ``head``, ``last:N``, ``from:STAGE``,
        ``gradual``, ``full``, ``lp-ft`` or ``lora``; see `Strategy`.
    epochs
        Passes over the training tiles, at most.
    image_size
        Side in pixels to which tiles are resized; None takes the network's own.
    batch_size, accumulate
        Tiles per batch, at least 2 (batch normalisation needs them), and batches per step of the
        optimiser.
    learning_rate, weight_decay
        The peak rate, and the decay of weights. Of ``adamw`` it is decoupled, of ``adam`` and
        ``sgd`` the gradient of ``weight_decay / 2 * |W|^2``.
    optimizer, momentum
        ``adamw``, ``adam`` or ``sgd``; momentum is that of ``sgd``, without Nesterov's variant.
    schedule
        ``cosine`` falls to 0 over all epochs; ``step`` multiplies the rate by `decay_rate` every
        `decay_epochs`; ``plateau`` does so when `decay_epochs` have passed without an improvement
        of `monitor`; ``constant``.
    warmup_fraction
        Share of all steps over which the rate rises linearly.
    decay_epochs, decay_rate
        See `schedule`; None means a third of `epochs` for ``step`` and half of `patience` for
        ``plateau``.
    layer_decay
        Factor on the rate from each layer to the one before it (Bao et al. 2022).
    clip_norm
        Largest norm of a step's gradient.
    ema
        Decay of an exponential moving average of the weights, which then is what is watched, kept
        and used to predict.
    label_smoothing
        Share of each target that is spread over all classes.
    class_weight
        ``balanced`` (n / (K n_k) on the rows learnt from), or ``{class: weight}``.
    head, hidden, dropout
        ``linear``, or ``dense``: a layer of `hidden` units with ReLU, and dropout before the
        classes.
    drop_rate
        Dropout of the network's own, before its classifier; None takes the architecture's.
    unfreeze_every
        Epochs after which ``gradual`` frees the next stage.
    rank
        Of the matrices of ``lora``.
    probe_C
        Inverse penalty of the probe that ``lp-ft`` starts from, as of `LogisticProbe`; None
        chooses it on inner folds of the training patients, and takes ``dK/100`` where they are
        too few for any.
    monitor
        What early stopping watches on the validation tiles: ``log_loss`` or another metric.
    patience
        Epochs without a better value after which training stops.
    validation_fraction
        Share of the training patients held back for early stopping in a k-fold plan; a hold-out
        plan brings its own validation tiles. 0 trains for all epochs and keeps the last weights.
    precision
        In which training multiplies: ``float32``, ``bfloat16``, ``float16`` (the loss is scaled),
        or ``auto``: bfloat16 on a GPU that has it, else float32.
    augmentation
        Fields of `Augmentation`.
    color_jitter
        Largest relative change of brightness, contrast and saturation, unless `augmentation` has
        it.

    Raises
    ------
    ConfigError
        If a value is out of range.

    References
    ----------
    Bao, H. et al. (2022). BEiT: BERT pre-training of image transformers. ICLR, arXiv:2106.08254.
    """

    model: str
    weights: str = "hub"
    model_args: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    strategy: str = "full"
    epochs: int = 10
    image_size: int | None = None
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    optimizer: str = "adamw"
    momentum: float = 0.9
    schedule: str = "cosine"
    warmup_fraction: float = 0.1
    decay_epochs: int | None = None
    decay_rate: float = 0.1
    layer_decay: float | None = None
    clip_norm: float | None = None
    ema: float | None = None
    label_smoothing: float = 0.0
    class_weight: str | Mapping[str, float] | None = None
    head: str = "linear"
    hidden: int = 256
    dropout: float = 0.5
    drop_rate: float | None = None
    unfreeze_every: int = 1
    rank: int = 8
    probe_C: float | str | None = None
    monitor: str = "log_loss"
    patience: int = 5
    validation_fraction: float = 0.2
    precision: str = "auto"
    augmentation: Mapping[str, Any] = field(default_factory=dict)
    color_jitter: float = 0.1

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            _choose(name, getattr(self, name), known)
        for name in _COUNTS:
            value = getattr(self, name)
            _require(name, value, value >= 1, "at least 1")
        for name in ("image_size", "decay_epochs"):
            value = getattr(self, name)
            _require(name, value, value is None or value >= 1, "at least 1, or none")
        _require("batch_size", self.batch_size, self.batch_size >= 2, "at least 2")
        for name in _RANGES:
            self._check_range(name)
        self._check_together()

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Recipe:
        """Make a recipe from a mapping, of which a key ``preset`` fills in what is not given.

        Raises
        ------
        ConfigError
            If the preset or a key is unknown, or a value is out of range.

        Examples
        --------
        >>> Recipe.of({"model": "resnet50", "preset": "paper", "epochs": 20}).optimizer
        'adam'
        """
        check_keys(settings)
        return cls(**with_preset(settings))

    @property
    def parsed_strategy(self) -> Strategy:
        """The strategy that the text names."""
        from featurebench.finetuning.strategies import Strategy

        return Strategy.parse(self.strategy)

    @property
    def augmented(self) -> Augmentation:
        """What is done to the tiles in training."""
        from featurebench.finetuning.augmentation import Augmentation

        return Augmentation.of({"color_jitter": self.color_jitter, **self.augmentation})

    @property
    def decay_after(self) -> int:
        """Epochs that ``step`` and ``plateau`` wait, wherever they are written."""
        if self.decay_epochs is not None:
            return self.decay_epochs
        return max(1, self.patience // 2) if self.schedule == "plateau" else -(-self.epochs // 3)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings JSON-ready, in the order of the parameters."""
        return asdict(self)

    def _check_range(self, name: str) -> None:
        value = getattr(self, name)
        if value is None and name in _OPTIONAL:
            return
        least, top, demand = _RANGES[name]
        above = value > least if name in _ABOVE_ZERO else value >= least
        _require(name, value, above and value < top, demand)

    def _check_together(self) -> None:
        """Check what is read by others, and what fits only together."""
        # Both refuse what they cannot read.
        strategy, _ = self.parsed_strategy, self.augmented
        if self.schedule == "plateau":
            fraction = self.validation_fraction
            demand = "above 0 where schedule is 'plateau', which follows the validation tiles"
            _require("validation_fraction", fraction, fraction > 0, demand)
        weights = self.class_weight
        named = isinstance(weights, Mapping) and all(value > 0 for value in weights.values())
        demand = "'balanced' or a positive weight for each class"
        _require("class_weight", weights, weights in (None, "balanced") or named, demand)
        if self.head == "dense" and strategy.probe_start:
            raise ConfigError("head 'dense' cannot be used: a probe starts only head 'linear'")


def check_keys(settings: Mapping[str, Any]) -> None:
    """Refuse a key that is neither ``preset`` nor one of a recipe's.

    Raises
    ------
    ConfigError
        Naming the nearest.
    """
    known = [each.name for each in fields(Recipe)] + ["preset"]
    for key in settings:
        if key not in known:
            raise ConfigError(f"unknown key {key!r}: {_hint(key, known)}")


def with_preset(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Replace a key ``preset`` by the keys that it stands for, of which given ones win.

    Raises
    ------
    ConfigError
        If there is no such preset.
    """
    given = {key: value for key, value in settings.items() if key != "preset"}
    preset = settings.get("preset")
    if preset is None:
        return given
    _choose("preset", preset, tuple(PRESETS))
    return {**PRESETS[preset], **given}


def _choose(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{name} {value!r} does not exist: {_hint(str(value), known)}")


def _hint(given: str, known: tuple[str, ...] | list[str]) -> str:
    nearest = difflib.get_close_matches(given, known, n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else f"use {', '.join(known)}"


def _require(name: str, value: object, fulfilled: bool, demand: str) -> None:
    if not fulfilled:
        raise ConfigError(f"{name} {value!r} cannot be used: it must be {demand}")
