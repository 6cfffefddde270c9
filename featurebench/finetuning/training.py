"""Train one network on one fold and predict: the loop, early stopping, best weights restored."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from featurebench.errors import ConfigError
from featurebench.finetuning.augmentation import augment
from featurebench.finetuning.optimisation import make_optimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch.optim.lr_scheduler import LRScheduler

    from featurebench.finetuning.dataset import TilePixels
    from featurebench.finetuning.recipe import Recipe

Rows = npt.NDArray[np.intp]


class Seeds(NamedTuple):
    """One stream each for all that is drawn in a fold."""

    network: int
    order: int
    augmentation: int
    dropout: int
    validation: int

    @classmethod
    def of_fold(cls, seed: int, repeat: int, fold: int) -> Seeds:
        """Streams that depend on the fold's place in the plan, not on what ran before."""
        states = np.random.SeedSequence([seed, repeat, fold]).generate_state(len(cls._fields))
        return cls(*(int(state) for state in states))


@dataclass(frozen=True)
class Feed:
    """Turns rows into normalised batches on the device.

    Parameters
    ----------
    pixels
        Of all tiles.
    mean, std
        Of the network's preprocessing, per channel, for pixels from 0 to 1.
    device
        Where the network is.
    batch_size
        Tiles at a time.
    """

    pixels: TilePixels
    mean: Sequence[float]
    std: Sequence[float]
    device: torch.device
    batch_size: int

    def batches(
        self,
        batches: Sequence[Rows],
        augmentation: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> Iterator[torch.Tensor]:
        """Yield float batches, shape (n, 3, size, size); ``augmentation`` sees them from 0 to 1."""
        mean = torch.tensor(self.mean, device=self.device)[:, None, None]
        std = torch.tensor(self.std, device=self.device)[:, None, None]
        for pixels in self.pixels.batches(batches):
            images = pixels.to(self.device, non_blocking=True).float() / 255
            images = images if augmentation is None else augmentation(images)
            # Convolutions run 1.5 to 2 times faster so, on processors as on GPUs.
            yield ((images - mean) / std).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class History:
    """What training saw; one value per epoch run.

    Parameters
    ----------
    train_loss, validation_loss
        Mean cross-entropy (natural logarithm); the latter is empty without validation tiles.
    best_epoch
        Epoch, counted from 1, whose weights were kept.
    """

    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    best_epoch: int


@dataclass
class BestWeights:
    """The weights with the lowest validation loss so far, kept on the CPU."""

    loss: float = math.inf
    epoch: int = 0
    state: dict[str, torch.Tensor] = field(default_factory=dict)

    def offer(self, loss: float, epoch: int, network: nn.Module) -> None:
        """Keep the network's state if the loss is lower than ever before."""
        if loss < self.loss:
            self.loss, self.epoch = loss, epoch
            state = network.state_dict()
            self.state = {name: value.detach().cpu().clone() for name, value in state.items()}


def train(
    network: nn.Module,
    feed: Feed,
    labels: npt.NDArray[np.int64],
    *,
    rows: Rows,
    validation: Rows,
    recipe: Recipe,
    seeds: Seeds,
    progress: Callable[[int], None],
) -> History:
    """Train a network in place and leave it with its best weights.

    Without validation tiles it trains for all epochs and keeps the last weights.

    Parameters
    ----------
    network
        On the feed's device.
    labels
        Codes of all tiles, shape (n_tiles,).
    rows, validation
        Tiles to learn from and tiles to watch.
    progress
        Called with the number of tiles just seen; epochs saved by stopping early count as seen.

    Raises
    ------
    ConfigError
        If a loss is not finite.
    """
    order = np.random.default_rng(seeds.order)
    torch.manual_seed(seeds.dropout)
    optimizer, schedule = make_optimizer(
        network,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        total_steps=recipe.epochs * len(split_evenly(rows, recipe.batch_size)),
        warmup_fraction=recipe.warmup_fraction,
    )
    generator = torch.Generator().manual_seed(seeds.augmentation)
    augmentation = partial(augment, generator=generator, color_jitter=recipe.color_jitter)
    learn = _Learning(network, feed, labels, optimizer, schedule, augmentation, progress)
    train_loss: list[float] = []
    validation_loss: list[float] = []
    best = BestWeights()
    for epoch in range(1, recipe.epochs + 1):
        batches = split_evenly(order.permutation(rows), recipe.batch_size)
        train_loss.append(_finite(learn.epoch(batches), "training", epoch, recipe))
        if not len(validation):
            continue
        logits = predict_logits(network, feed, validation, progress)
        loss = log_loss(logits, labels[validation])
        validation_loss.append(_finite(loss, "validation", epoch, recipe))
        best.offer(loss, epoch, network)
        if epoch - best.epoch >= recipe.patience:
            progress((recipe.epochs - epoch) * (len(rows) + len(validation)))
            break
    if best.state:
        network.load_state_dict(best.state)
    return History(tuple(train_loss), tuple(validation_loss), best.epoch or len(train_loss))


def predict_logits(
    network: nn.Module, feed: Feed, rows: Rows, progress: Callable[[int], None]
) -> torch.Tensor:
    """Run the network in evaluation mode; float32 on the CPU, shape (n_rows, n_classes)."""
    network.eval()
    batches = split_evenly(rows, feed.batch_size)
    logits = []
    with torch.inference_mode():
        for part, images in zip(batches, feed.batches(batches), strict=True):
            logits.append(network(images).float().cpu())
            progress(len(part))
    return torch.cat(logits)


def log_loss(logits: torch.Tensor, labels: npt.NDArray[np.int64]) -> float:
    """Mean negative log-likelihood (natural logarithm), in double precision."""
    return float(functional.cross_entropy(logits.double(), torch.from_numpy(labels)))


def split_evenly(rows: Rows, batch_size: int) -> list[Rows]:
    """Cut rows into batches whose sizes differ by at most one.

    None has a single row unless there is only one: batch normalisation cannot train on it. So a
    batch may have one tile more than ``batch_size`` where that is smaller than 3.
    """
    n_batches = min(-(-len(rows) // batch_size), len(rows) // 2)
    return np.array_split(rows, max(1, n_batches))


def precision_on(device: torch.device) -> str:
    """Return the number format in which training multiplies on a device."""
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if fast else "float32"


@dataclass(frozen=True)
class _Learning:
    """One network on its way: what every step of every epoch needs."""

    network: nn.Module
    feed: Feed
    labels: npt.NDArray[np.int64]
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    augmentation: Callable[[torch.Tensor], torch.Tensor]
    progress: Callable[[int], None]

    def epoch(self, batches: Sequence[Rows]) -> float:
        """Learn from every batch once; return the mean loss over their tiles."""
        self.network.train()
        # Summed on the device: asking for each step's loss would make a GPU wait.
        total = torch.zeros((), device=self.feed.device)
        for part, images in zip(
            batches, self.feed.batches(batches, self.augmentation), strict=True
        ):
            targets = torch.from_numpy(self.labels[part]).to(self.feed.device, non_blocking=True)
            total += len(part) * self._step(images, targets)
            self.progress(len(part))
        return float(total) / sum(map(len, batches))

    def _step(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        half = precision_on(images.device) == "bfloat16"
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=half):
            logits = self.network(images)
        loss = functional.cross_entropy(logits.float(), targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()


def _finite(loss: float, which: str, epoch: int, recipe: Recipe) -> float:
    if not math.isfinite(loss):
        raise ConfigError(
            f"learning_rate {recipe.learning_rate:g} made the {which} loss {loss} in epoch {epoch}:"
            " lower learning_rate"
        )
    return loss
