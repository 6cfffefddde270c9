"""measure_pace(): how fast this machine trains a recipe's network, from a few steps on noise."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from featurebench.finetuning.adapters import add_lora
from featurebench.finetuning.checks import checked_device
from featurebench.finetuning.fabric import make_fabric, own_randomness, precision_on
from featurebench.finetuning.feed import Feed, ignore, predict_logits
from featurebench.finetuning.starting import create
from featurebench.finetuning.training import Lesson, Seeds, Training

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from featurebench.finetuning.recipe import Recipe
    from featurebench.splits import SplitPlan

# Enough tiles of noise for a batch of any size; rows beyond repeat them.
_NOISE = 64


@dataclass(frozen=True)
class Pace:
    """Seconds that a tile takes in training and in prediction."""

    training_s: float
    prediction_s: float

    def most_seconds(self, plan: SplitPlan, recipe: Recipe, *, repeats: int) -> float:
        """Estimate the time of all folds if none stops early."""
        total = 0.0
        for split in plan.splits():
            if split.repeat >= repeats:
                continue
            share = 0.0 if split.validation is not None else recipe.validation_fraction
            held = len(split.train) * share + (
                0 if split.validation is None else len(split.validation)
            )
            trained = len(split.train) * (1 - share)
            total += recipe.epochs * (trained * self.training_s + held * self.prediction_s)
            total += len(split.test) * self.prediction_s
        return total


class _Noise:
    """Random pixels in memory in place of tiles, so that no reading is timed."""

    def __init__(self, size: int) -> None:
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (_NOISE, size, size, 3), dtype=np.uint8)
        self.pixels = torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def batches(self, batches: Sequence[npt.NDArray[np.intp]]) -> Iterator[torch.Tensor]:
        for rows in batches:
            yield self.pixels[rows % _NOISE]


def measure_pace(
    recipe: Recipe, *, n_classes: int, device: str, threads: int, seconds: float = 3.0
) -> Pace:
    """Train and predict for some seconds, after one batch of each that is not counted.

    Weights are random, as they change no speed; so nothing is loaded from anywhere. Decoding is
    not part of it: tiles that do not fit into memory may take longer.

    Parameters
    ----------
    n_classes
        Outputs of the network.
    seconds
        Time after which no further batch is begun, of training and of prediction each.

    Returns
    -------
    Pace
        Of the strategy; of ``gradual`` its last epochs'.

    Raises
    ------
    ConfigError, WeightsError
        If the recipe cannot be used.
    """
    used = checked_device(device)
    timed = _as_timed(recipe)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with own_randomness(used):
            network, resolved = create(timed, n_classes, base_dir=None, seed=0)
            if timed.parsed_strategy.name == "lora":
                network = add_lora(network, timed.rank)
            network = network.to(used).to(memory_format=torch.channels_last)
            feed = Feed(
                _Noise(resolved["input_size"][-1]),
                resolved["mean"],
                resolved["std"],
                used,
                timed.batch_size,
            )
            rows = np.arange(timed.batch_size)
            lesson = Lesson(rows % n_classes, n_classes, rows, rows[:0])
            fabric = make_fabric(used, precision_on(used, timed.precision))
            training = Training.of(network, feed, lesson, timed, fabric)
            seeds = Seeds.of_fold(0, 0, 0)
            learning = _per_call(lambda: training.learn(seeds, ignore), used, seconds)
            predicting = _per_call(
                lambda: predict_logits(network, feed, rows, ignore), used, seconds / 3
            )
    finally:
        torch.set_num_threads(before)
    return Pace(learning / len(rows), predicting / len(rows))


def _as_timed(recipe: Recipe) -> Recipe:
    """Give the same steps, with weights from nowhere and rates at which no noise diverges."""
    gradual = recipe.parsed_strategy.name == "gradual"
    return replace(
        recipe,
        weights="random",
        strategy="full" if gradual else recipe.strategy,
        epochs=1,
        learning_rate=1e-9,
        ema=None,
        accumulate=1,
    )


def _per_call(call: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Seconds of one call, the first one left out."""
    _finish(call, device)
    start, n = time.perf_counter(), 0
    while n == 0 or time.perf_counter() - start < seconds:
        _finish(call, device)
        n += 1
    return (time.perf_counter() - start) / n


def _finish(call: Callable[[], object], device: torch.device) -> None:
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
