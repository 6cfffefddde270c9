"""FoldLearner: fine-tune on one fold, or take what an earlier run saved of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from featurebench.errors import SplitError
from featurebench.finetuning.adapters import add_lora, merge_lora, start_from_probe
from featurebench.finetuning.checkpoint import Checkpoints
from featurebench.finetuning.drift import measure_drift
from featurebench.finetuning.fabric import make_fabric, own_randomness, precision_on, synchronised
from featurebench.finetuning.feed import Feed, ignore, predict_logits
from featurebench.finetuning.folds import (
    FoldOutcome,
    checkpoint_file,
    fold_key,
    load_fold,
    save_fold,
    trials_file,
)
from featurebench.finetuning.parallel import train_in_processes
from featurebench.finetuning.search import search_recipe
from featurebench.finetuning.starting import create, frozen_features, solve_probe
from featurebench.finetuning.training import Lesson, Seeds, train
from featurebench.finetuning.validation import Rows, hold_back
from featurebench.heads.weights import class_weights
from featurebench.results import Cost, CostMeter
from featurebench.splits import inner_folds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lightning_fabric import Fabric
    from torch import nn

    from featurebench.finetuning.recipe import Recipe
    from featurebench.finetuning.spaces import RecipeSearch
    from featurebench.finetuning.watching import History
    from featurebench.splits import Split

# Of a probe whose training rows are too few for inner folds, as for a head with few labels.
UNTUNED_C = "dK/100"


@dataclass(frozen=True)
class FoldLearner:
    """All that the folds of one arm have in common.

    Parameters
    ----------
    recipe, feed
        How to train, and the batches to train on.
    labels, groups
        Class and patient code of all tiles, shape (n_tiles,).
    classes
        Names of the classes.
    seed, base_dir, progress, data_parallel, checkpoint_seconds, drift, search
        As given to `fine_tune`.
    fold_dir, key
        Where folds are saved, and the hash that they must carry to be used.
    """

    recipe: Recipe
    feed: Feed
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64] | None
    classes: Sequence[str]
    seed: int
    base_dir: Path | None
    progress: Callable[[int], None]
    fold_dir: Path | None
    key: str
    data_parallel: int = 1
    checkpoint_seconds: float = 30.0
    drift: bool = True
    search: RecipeSearch | None = None

    def outcome(self, split: Split) -> FoldOutcome:
        """Load the fold if it was finished before, else train, predict and save it."""
        if self.fold_dir is None:
            return self.learn(split)
        outcome = load_fold(self.fold_dir, split.repeat, split.fold, self.key)
        if outcome is None:
            outcome = self.learn(split)
            save_fold(outcome, self.fold_dir, self.key)
        else:
            self.progress(passes(split, self.recipe.epochs))
        for file in (checkpoint_file, trials_file):
            file(self.fold_dir, split.repeat, split.fold).unlink(missing_ok=True)
        return outcome

    def learn(self, split: Split) -> FoldOutcome:
        """Train on the split's training side, after a search if there is one, and predict."""
        if self.search is None:
            return self._learn(split)
        meter = _Meter(self.feed.device)
        folder = self.fold_dir
        found = search_recipe(
            self,
            *self.lesson(split),
            self.search,
            file=None if folder is None else trials_file(folder, split.repeat, split.fold),
            key=fold_key(self.key, split.repeat, split.fold),
        )
        spent = replace(meter.read(), trials=found.summary["trials"])
        outcome = replace(self, recipe=found.recipe, search=None).learn(split)
        return replace(
            outcome,
            cost=spent + outcome.cost,
            details={**outcome.details, "search": found.summary},
        )

    def _learn(self, split: Split) -> FoldOutcome:
        checkpoints = self.checkpoints(split)
        lesson, seeds = self.lesson(split)
        with own_randomness(self.feed.device):
            if self.data_parallel > 1:
                checkpoints.load()
                network, history = self._train_in_processes(split, lesson, seeds)
            else:
                fabric = make_fabric(self.feed.device, self.precision)
                network, history = self.trained(lesson, seeds, fabric, checkpoints)
            network = merge_lora(network) if self._has_adapters else network
            logits = predict_logits(network, self.feed, split.test, self.progress)
            cost = checkpoints.earlier + checkpoints.spent()
            details = self._details(split, lesson, network, history) | {
                "seconds": cost.wall_s,
                "peak_gpu_memory_mb": cost.peak_gpu_memory_mb,
            }
            features = None
            if self.drift:
                features, cka = self._drift(network, split, seeds)
                details["cka"] = cka
        y_prob = logits.double().softmax(dim=1).float().numpy()
        return FoldOutcome(split.repeat, split.fold, split.test, y_prob, cost, details, features)

    def trained(
        self, lesson: Lesson, seeds: Seeds, fabric: Fabric, checkpoints: Checkpoints
    ) -> tuple[nn.Module, History]:
        """Build the network and train it; each of a fabric's processes calls this."""
        network = synchronised(self.started(lesson, seeds), fabric)
        history = train(
            network,
            self.feed,
            lesson,
            recipe=self.recipe,
            seeds=seeds,
            fabric=fabric,
            progress=self.progress,
            checkpoints=checkpoints,
        )
        return network, history

    def started(self, lesson: Lesson, seeds: Seeds) -> nn.Module:
        """Build the network as it is before the first step, on the feed's device."""
        network = self.network(seeds)
        if self.recipe.parsed_strategy.probe_start:
            self._start_from_probe(network, lesson, seeds)
        return network

    def network(self, seeds: Seeds) -> nn.Module:
        """Build the network that learns, before a probe tells it anything."""
        network, _ = create(
            self.recipe, len(self.classes), base_dir=self.base_dir, seed=seeds.network
        )
        if self._has_adapters:
            network = add_lora(network, self.recipe.rank, seed=seeds.network)
        return network.to(self.feed.device).to(memory_format=torch.channels_last)

    def lesson(self, split: Split) -> tuple[Lesson, Seeds]:
        """Divide the split's training side, and derive the fold's random streams."""
        seeds = Seeds.of_fold(self.seed, split.repeat, split.fold)
        rows, validation = self._divide(split, seeds)
        weight = None
        if self.recipe.class_weight is not None:
            counts = np.bincount(self.labels[rows], minlength=len(self.classes))
            weight = class_weights(self.recipe.class_weight, counts, self.classes)
        return Lesson(self.labels, len(self.classes), rows, validation, weight), seeds

    def checkpoints(self, split: Split) -> Checkpoints:
        """Tell where the fold's training is kept; what this process spends counts from now."""
        key = fold_key(self.key, split.repeat, split.fold, self.recipe.to_dict())
        folder = self.fold_dir
        file = None if folder is None else checkpoint_file(folder, split.repeat, split.fold)
        return Checkpoints(file, key, self.checkpoint_seconds, _Meter(self.feed.device).read)

    @property
    def precision(self) -> str:
        """Number format in which training multiplies."""
        return precision_on(self.feed.device, self.recipe.precision)

    @property
    def _has_adapters(self) -> bool:
        return self.recipe.parsed_strategy.name == "lora"

    def _train_in_processes(
        self, split: Split, lesson: Lesson, seeds: Seeds
    ) -> tuple[nn.Module, History]:
        fabric = make_fabric(self.feed.device, self.precision, processes=self.data_parallel)
        # Processes cannot tell how far they are.
        state, history = train_in_processes(fabric, replace(self, progress=ignore), split)
        self.progress(self.recipe.epochs * (len(lesson.rows) + len(lesson.validation)))
        network = self.network(seeds)
        network.load_state_dict(state)
        return network, history

    def _start_from_probe(self, network: nn.Module, lesson: Lesson, seeds: Seeds) -> None:
        """Solve the probe of the rows to learn from and write it into the classifier."""
        codes, C = lesson.labels[lesson.rows], self.recipe.probe_C
        groups = None if self.groups is None else self.groups[lesson.rows]
        cv = None
        if C is None:
            try:
                cv = list(inner_folds(codes, groups, seed=seeds.validation))
            except SplitError:
                C = UNTUNED_C
        weights = None
        if lesson.class_weight is not None:
            weights = {code: w for code, w in enumerate(lesson.class_weight) if w > 0}
        features = frozen_features(network, self.feed, lesson.rows).numpy()
        coef, intercept, _ = solve_probe(
            features, codes, len(self.classes), C=C, class_weight=weights, cv=cv
        )
        start_from_probe(network, coef, intercept)

    def _drift(
        self, network: nn.Module, split: Split, seeds: Seeds
    ) -> tuple[npt.NDArray[np.float16], dict[str, float | None]]:
        start, _ = create(
            self.recipe, len(self.classes), base_dir=self.base_dir, seed=seeds.network
        )
        found = measure_drift(start, network, self.feed, split.test, seed=seeds.validation)
        return found.features, dict(found.cka)

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

    def _details(
        self, split: Split, lesson: Lesson, network: nn.Module, history: History
    ) -> dict[str, Any]:
        return {
            "repeat": split.repeat,
            "fold": split.fold,
            "seed": self.seed,
            "strategy": self.recipe.strategy,
            "n_train": len(lesson.rows),
            "n_validation": len(lesson.validation),
            "n_test": len(split.test),
            "n_parameters": sum(p.numel() for p in network.parameters()),
            "epochs": history.epochs,
            "monitor": self.recipe.monitor,
            **history.to_dict(),
        }


def passes(split: Split, epochs: int) -> int:
    """Return how many tiles training for all epochs and one prediction go through."""
    watched = 0 if split.validation is None else len(split.validation)
    return epochs * (len(split.train) + watched) + len(split.test)


class _Meter:
    """A meter of one device; on a GPU all of the fold's time is the GPU's."""

    def __init__(self, device: torch.device) -> None:
        self._meter, self._is_gpu = CostMeter(device), device.type == "cuda"

    def read(self) -> Cost:
        cost = self._meter.read()
        return replace(cost, gpu_s=cost.wall_s) if self._is_gpu else cost
