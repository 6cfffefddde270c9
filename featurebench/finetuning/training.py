"""Train one network on one fold: the loop, early stopping, best weights restored."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from featurebench.errors import ConfigError
from featurebench.finetuning.augmentation import augment, mix
from featurebench.finetuning.fabric import share_of
from featurebench.finetuning.feed import predict_logits, split_evenly
from featurebench.finetuning.optimisation import Schedule, make_average, make_optimizer
from featurebench.finetuning.strategies import ever_learning, set_learning, set_modes
from featurebench.finetuning.watching import (
    BestWeights,
    History,
    log_loss,
    monitored_value,
    score_of,
    scores_of,
    state_on_cpu,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lightning_fabric import Fabric

    from featurebench.finetuning.checkpoint import Checkpoints
    from featurebench.finetuning.feed import Feed, Rows
    from featurebench.finetuning.recipe import Recipe


class DivergenceError(ConfigError):
    """A loss stopped being finite; a lower rate would do."""


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


def seed_of_epoch(seed: int, epoch: int, rank: int = 0) -> int:
    """Part a stream by epoch and process, so that going on needs no state of a generator."""
    return int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0])


@dataclass(frozen=True)
class Lesson:
    """What is learnt in a fold, whoever learns it.

    Parameters
    ----------
    labels
        Codes of all tiles, shape (n_tiles,).
    n_classes
        Number of classes.
    rows, validation
        Tiles to learn from and tiles to watch.
    class_weight
        Weight of each class in the loss, shape (n_classes,); None weighs none.
    """

    labels: npt.NDArray[np.int64]
    n_classes: int
    rows: Rows
    validation: Rows
    class_weight: npt.NDArray[np.float64] | None = None


def train(
    network: nn.Module,
    feed: Feed,
    lesson: Lesson,
    *,
    recipe: Recipe,
    seeds: Seeds,
    fabric: Fabric,
    progress: Callable[[int], None],
    checkpoints: Checkpoints | None = None,
) -> History:
    """Train a network in place and leave it with its best weights.

    Without validation tiles it trains for all epochs and keeps the last weights. All that an epoch
    draws depends on the seeds and its number alone.

    Parameters
    ----------
    network
        On the feed's device.
    fabric
        From `make_fabric`; where it has several processes, each calls this function.
    progress
        Called with the number of tiles just seen; epochs saved by stopping early count as seen.
    checkpoints
        Where training goes on from, and where it is kept.

    Raises
    ------
    DivergenceError
        If a loss is not finite.
    """
    training = Training.of(network, feed, lesson, recipe, fabric)
    per_epoch = len(lesson.rows) + len(lesson.validation)
    kept = checkpoints.load() if checkpoints else None
    if kept is not None:
        training.load_state_dict(kept)
        progress(training.history.epochs * per_epoch)
    while not training.finished:
        training.learn(seeds, progress)
        training.watch(progress)
        if checkpoints and fabric.is_global_zero:
            checkpoints.offer(training.state_dict)
    progress((recipe.epochs - training.history.epochs) * per_epoch)
    return training.finish()


@dataclass
class Training:
    """A network on its way: all that changes from step to step, and what changes it."""

    network: nn.Module
    feed: Feed
    lesson: Lesson
    recipe: Recipe
    fabric: Fabric
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    average: Any
    history: History = field(default_factory=History)
    best: BestWeights = field(default_factory=BestWeights)
    step: int = 0

    @classmethod
    def of(
        cls, network: nn.Module, feed: Feed, lesson: Lesson, recipe: Recipe, fabric: Fabric
    ) -> Training:
        """Make what is at the beginning of training."""
        names = ever_learning(network, recipe.parsed_strategy, recipe.epochs, recipe.unfreeze_every)
        set_learning(network, names)
        # A fused optimiser's gradients could not be clipped where the loss is scaled.
        optimizer = make_optimizer(network, recipe, fused=recipe.precision != "float16")
        n_batches = len(split_evenly(lesson.rows, recipe.batch_size))
        schedule = Schedule.of(recipe, -(-n_batches // recipe.accumulate))
        average = make_average(network, recipe.ema)
        return cls(network, feed, lesson, recipe, fabric, optimizer, schedule, average)

    @property
    def epoch(self) -> int:
        """Number of the next epoch, from 1."""
        return self.history.epochs + 1

    @property
    def watched(self) -> nn.Module:
        """The network that is watched and kept: the average, if there is one."""
        watched: nn.Module = self.network if self.average is None else self.average.module
        return watched

    @property
    def finished(self) -> bool:
        """Whether no epoch is left."""
        return self.history.stopped_early or self.epoch > self.recipe.epochs

    def learn(self, seeds: Seeds, progress: Callable[[int], None]) -> None:
        """Learn from every batch once."""
        epoch, rank = self.epoch, self.fabric.global_rank
        order = np.random.default_rng(seed_of_epoch(seeds.order, epoch))
        batches = split_evenly(order.permutation(self.lesson.rows), self.recipe.batch_size)
        torch.manual_seed(seed_of_epoch(seeds.dropout, epoch, rank))
        generator = torch.Generator().manual_seed(seed_of_epoch(seeds.augmentation, epoch, rank))
        names = self.recipe.parsed_strategy.learning(
            self.network, epoch, unfreeze_every=self.recipe.unfreeze_every
        )
        set_learning(self.network, names)
        set_modes(self.network)
        lap = _Lap(self, generator, progress)
        loss = lap.run(batches)
        sizes = [p.numel() for p in self.network.parameters() if p.requires_grad]
        self.history.n_learning.append(sum(sizes))
        rate = self.recipe.learning_rate * self.schedule.factor(self.step - 1)
        self.history.learning_rate.append(rate)
        self.history.train_loss.append(_finite(loss, "training", epoch, self.recipe))

    def watch(self, progress: Callable[[int], None]) -> None:
        """Look at the validation tiles, if there are any, and keep the best weights."""
        rows, epoch = self.lesson.validation, self.history.epochs
        if not len(rows):
            return
        logits = self._logits(rows, progress)
        labels = self.lesson.labels[rows]
        loss = _finite(log_loss(logits, labels), "validation", epoch, self.recipe)
        value = monitored_value(self.recipe.monitor, loss, logits, labels)
        self.history.validation_loss.append(loss)
        self.history.monitored.append(value)
        score = score_of(self.recipe.monitor, value)
        self.schedule.watch(score)
        self.best.offer(score, epoch, self.watched, logits)
        self.history.stopped_early = (
            epoch - self.best.epoch >= self.recipe.patience and epoch < self.recipe.epochs
        )

    def finish(self) -> History:
        """Leave the network with the weights that are kept."""
        self.network.load_state_dict(self.best.state or state_on_cpu(self.watched))
        self.history.best_epoch = self.best.epoch or self.history.epochs
        if self.best.logits is not None:
            labels = self.lesson.labels[self.lesson.validation]
            self.history.validation_scores = scores_of(self.best.logits, labels)
        return self.history

    def state_dict(self) -> dict[str, Any]:
        """Return all that another `Training` needs to go on; tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": {} if self.average is None else self.average.module.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": self.history.to_dict(),
            "best": dict(vars(self.best)),
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where another one was."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.schedule.load_state_dict(state["schedule"])
        self.history = History(**state["history"])
        self.best = BestWeights(**state["best"])
        self.step = state["step"]

    def _logits(self, rows: Rows, progress: Callable[[int], None]) -> torch.Tensor:
        """Predict rows, each process its share of them; all have the logits of all."""
        if self.fabric.world_size == 1:
            return predict_logits(self.watched, self.feed, rows, progress)
        mine = share_of(self.fabric, [np.arange(len(rows))])[0]
        found = predict_logits(self.watched, self.feed, rows[mine], progress)
        logits = torch.zeros(len(rows), found.shape[1])
        logits[mine] = found
        summed = self.fabric.all_reduce(logits.to(self.feed.device), reduce_op="sum")
        return summed.cpu()  # type: ignore[union-attr]


class _Lap:
    """One epoch's steps."""

    def __init__(
        self, training: Training, generator: torch.Generator, progress: Callable[[int], None]
    ) -> None:
        self.training, self.generator, self.progress = training, generator, progress
        fabric, device = training.fabric, training.feed.device
        # Anew in each epoch: what a process waits for depends on which parameters learn.
        self.module = fabric.setup_module(training.network, move_to_device=False)
        self.optimizer: Any = fabric.setup_optimizers(training.optimizer)
        weight = training.lesson.class_weight
        self.class_weight = (
            None if weight is None else torch.tensor(weight, dtype=torch.float32, device=device)
        )
        # Summed on the device: asking for each step's loss would make a GPU wait.
        self.total = torch.zeros((), device=device)

    def run(self, batches: Sequence[Rows]) -> float:
        """Learn from every batch once; return the mean loss over their tiles."""
        each_step = self.training.recipe.accumulate
        stream = self._stream(share_of(self.training.fabric, batches))
        for start in range(0, len(batches), each_step):
            group = batches[start : start + each_step]
            self._step(stream, len(group), sum(map(len, group)))
        total = self.training.fabric.all_reduce(self.total, reduce_op="sum")
        return float(total) / sum(map(len, batches))  # type: ignore[arg-type]

    def _stream(self, batches: Sequence[Rows]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield augmented images and their targets, codes or shares of the classes."""
        lesson, feed = self.training.lesson, self.training.feed
        settings = self.training.recipe.augmented
        change = partial(augment, generator=self.generator, settings=settings)
        for part, images in zip(batches, feed.batches(batches, change), strict=True):
            targets = torch.from_numpy(lesson.labels[part]).to(feed.device, non_blocking=True)
            if settings.mixes:
                yield mix(images, targets, lesson.n_classes, self.generator, settings)
            else:
                yield images, targets

    def _step(
        self, stream: Iterator[tuple[torch.Tensor, torch.Tensor]], n_batches: int, n_tiles: int
    ) -> None:
        training, fabric = self.training, self.training.fabric
        for left in reversed(range(n_batches)):
            images, targets = next(stream)
            with fabric.no_backward_sync(self.module, enabled=left > 0):
                loss = self._loss(images, targets)
                # Processes' gradients are averaged, not added up.
                fabric.backward(loss * (fabric.world_size / n_tiles))
            self.total += loss.detach()
            self.progress(len(images))
        training.schedule.set_rates(
            training.optimizer, training.step, training.recipe.learning_rate
        )
        if training.recipe.clip_norm is not None:
            # Where the loss is scaled, a step with infinite gradients is left out, not an error.
            fabric.clip_gradients(
                self.module,
                self.optimizer,
                max_norm=training.recipe.clip_norm,
                error_if_nonfinite=False,
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        training.step += 1
        if training.average is not None:
            training.average.update(training.network, step=training.step)

    def _loss(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Sum of cross-entropies over the tiles of a batch."""
        return functional.cross_entropy(
            self.module(images).float(),
            targets,
            weight=self.class_weight,
            label_smoothing=self.training.recipe.label_smoothing,
            reduction="sum",
        )


def _finite(loss: float, which: str, epoch: int, recipe: Recipe) -> float:
    if not math.isfinite(loss):
        raise DivergenceError(
            f"learning_rate {recipe.learning_rate:g} made the {which} loss {loss} in epoch {epoch}:"
            " lower learning_rate"
        )
    return loss
