"""FoldLearner: fine-tune on one fold, or take what an earlier run saved of it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from featurebench.backbones import create_network
from featurebench.errors import ConfigError
from featurebench.finetuning.folds import FoldOutcome, load_fold, save_fold
from featurebench.finetuning.training import Feed, History, Seeds, predict_logits, train
from featurebench.finetuning.validation import Rows, hold_back
from featurebench.results import MIB, Cost, CostMeter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from featurebench.finetuning.recipe import Recipe
    from featurebench.splits import Split


@dataclass(frozen=True)
class FoldLearner:
    """All that the folds of one arm have in common.

    Parameters
    ----------
    recipe, feed
        How to train, and the batches to train on.
    labels, groups
        Class and patient code of all tiles, shape (n_tiles,).
    n_classes
        Outputs of the network.
    seed, base_dir, progress
        As given to `fine_tune`.
    fold_dir, key
        Where folds are saved, and the hash that they must carry to be used.
    """

    recipe: Recipe
    feed: Feed
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64] | None
    n_classes: int
    seed: int
    base_dir: Path | None
    progress: Callable[[int], None]
    fold_dir: Path | None
    key: str

    def outcome(self, split: Split) -> FoldOutcome:
        """Load the fold if it was finished before, else train, predict and save it."""
        if self.fold_dir is not None:
            saved = load_fold(self.fold_dir, split.repeat, split.fold, self.key)
            if saved is not None:
                self.progress(passes(split, self.recipe.epochs))
                return saved
        outcome = self.learn(split)
        if self.fold_dir is not None:
            save_fold(outcome, self.fold_dir, self.key)
        return outcome

    def learn(self, split: Split) -> FoldOutcome:
        """Train on the split's training side and predict its test side."""
        meter = CostMeter()
        _forget_gpu_peak(self.feed.device)
        seeds = Seeds.of_fold(self.seed, split.repeat, split.fold)
        rows, validation = self._divide(split, seeds)
        with _own_randomness(self.feed.device):
            network, _ = create(
                self.recipe, self.n_classes, base_dir=self.base_dir, seed=seeds.network
            )
            network = network.to(self.feed.device).to(memory_format=torch.channels_last)
            history = train(
                network,
                self.feed,
                self.labels,
                rows=rows,
                validation=validation,
                recipe=self.recipe,
                seeds=seeds,
                progress=self.progress,
            )
            logits = predict_logits(network, self.feed, split.test, self.progress)
        cost = _cost_on(self.feed.device, meter)
        details = _details(split, rows, validation, history) | {
            "seconds": cost.wall_s,
            "peak_gpu_memory_mb": _gpu_peak_mb(self.feed.device),
        }
        y_prob = logits.double().softmax(dim=1).float().numpy()
        return FoldOutcome(split.repeat, split.fold, split.test, y_prob, cost, details)

    def _divide(self, split: Split, seeds: Seeds) -> tuple[Rows, Rows]:
        if split.validation is not None:
            return split.train, split.validation
        return hold_back(
            self.labels,
            self.groups,
            split.train,
            fraction=self.recipe.validation_fraction,
            seed=seeds.validation,
        )


def passes(split: Split, epochs: int) -> int:
    """Return how many tiles training for all epochs and one prediction go through."""
    watched = 0 if split.validation is None else len(split.validation)
    return epochs * (len(split.train) + watched) + len(split.test)


def create(
    recipe: Recipe, num_classes: int, *, base_dir: Path | None, seed: int
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network to start from, for the image size asked for, and its preprocessing."""
    preprocessing = dict(recipe.preprocessing)
    if recipe.image_size is not None:
        preprocessing["input_size"] = recipe.image_size
    network, resolved = create_network(
        recipe.model,
        num_classes=num_classes,
        weights=recipe.weights,
        model_args=recipe.model_args,
        preprocessing=preprocessing,
        base_dir=base_dir,
        seed=seed,
    )
    height, width = resolved["input_size"][-2:]
    if height != width:
        raise ConfigError(f"input size {height} x {width} is not square: give image_size")
    return network, resolved


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Leave the caller's random state as it was, and let cuDNN choose repeatable algorithms."""
    devices = [device] if device.type == "cuda" else []
    deterministic = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    with torch.random.fork_rng(devices=devices), deterministic:
        yield


def _cost_on(device: torch.device, meter: CostMeter) -> Cost:
    """Read the meter; on a GPU all of the fold's time is the GPU's."""
    if device.type != "cuda":
        return meter.read()
    torch.cuda.synchronize(device)
    cost = meter.read()
    return replace(cost, gpu_s=cost.wall_s)


def _forget_gpu_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _gpu_peak_mb(device: torch.device) -> float:
    """Return the most memory that tensors took on the GPU, MiB; 0 elsewhere."""
    return torch.cuda.max_memory_allocated(device) / MIB if device.type == "cuda" else 0.0


def _details(split: Split, rows: Rows, validation: Rows, history: History) -> dict[str, Any]:
    return {
        "repeat": split.repeat,
        "fold": split.fold,
        "n_train": len(rows),
        "n_validation": len(validation),
        "n_test": len(split.test),
        "epochs": len(history.train_loss),
        "best_epoch": history.best_epoch,
        "train_loss": list(history.train_loss),
        "validation_loss": list(history.validation_loss),
    }
