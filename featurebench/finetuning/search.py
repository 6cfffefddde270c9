"""Search a recipe on one fold's inner split, which no test tile is part of."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from featurebench.errors import ConfigError
from featurebench.finetuning.fabric import make_fabric, own_randomness
from featurebench.finetuning.feed import ignore
from featurebench.finetuning.training import DivergenceError, Training
from featurebench.heads.search import parse_space
from featurebench.heads.search.space import as_json
from featurebench.heads.search.study import Search
from featurebench.results import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from featurebench.finetuning.learner import FoldLearner
    from featurebench.finetuning.recipe import Recipe
    from featurebench.finetuning.spaces import RecipeSearch
    from featurebench.finetuning.training import Lesson, Seeds


@dataclass(frozen=True)
class Found:
    """What a search on one fold chose.

    Parameters
    ----------
    recipe
        With the chosen values.
    summary
        JSON-ready: ``params``, ``loss`` and ``default_loss`` (of the monitored metric, turned
        round where more of it is better), ``trials`` of which ``pruned`` and ``failed``,
        ``seconds``, ``method``.
    """

    recipe: Recipe
    summary: dict[str, Any]


def search_recipe(
    learner: FoldLearner,
    lesson: Lesson,
    seeds: Seeds,
    search: RecipeSearch,
    *,
    file: Path | None = None,
    key: str = "",
) -> Found:
    """Train with one configuration after the other and choose the one that validates best.

    Parameters
    ----------
    learner
        Of the recipe as it is.
    lesson, seeds
        Of the fold; all trials learn from the same rows with the same draws.
    file, key
        Where finished trials are remembered, so that a search that was killed goes on, and the
        hash without which they are not; nothing is remembered without a file.

    Raises
    ------
    ConfigError
        If there are no validation tiles.
    ValueError, ArithmeticError
        The last trial's error, if all failed.
    """
    if not len(lesson.validation):
        raise ConfigError("search: there are no validation tiles: set validation_fraction above 0")
    recipe, space = learner.recipe, parse_space(search.space)
    memory = _Memory(file, key)

    def losses(params: Mapping[str, Any]) -> Iterator[float]:
        changed = replace(learner, recipe=replace(recipe, **params))
        try:
            yield from memory.through(params, lambda: _validate(changed, lesson, seeds))
        except DivergenceError as error:
            # Fails this configuration alone, as a ConfigError would not.
            raise FloatingPointError(str(error)) from error

    tried = Search(losses, recipe.epochs, search.plan, combine=lambda steps: steps[-1])
    default = {name: getattr(recipe, name) for name in space}
    found = tried.run(default, space, seeds.order)
    best, first = found.best("best"), found.trials[0]
    summary = {
        "params": as_json(best.params),
        "loss": best.loss,
        "default_loss": first.loss if first.state == "complete" else None,
        "trials": len(found.trials),
        "pruned": found.count("pruned"),
        "failed": found.count("failed"),
        "seconds": found.seconds,
        "method": search.plan.method,
    }
    return Found(replace(recipe, **best.params), summary)


def _validate(learner: FoldLearner, lesson: Lesson, seeds: Seeds) -> Iterator[float]:
    """Train an epoch at a time and yield the least loss so far."""
    with own_randomness(learner.feed.device):
        fabric = make_fabric(learner.feed.device, learner.precision)
        network = learner.started(lesson, seeds)
        training = Training.of(network, learner.feed, lesson, learner.recipe, fabric)
        while not training.finished:
            training.learn(seeds, ignore)
            training.watch(ignore)
            yield training.best.score


class _Memory:
    """Losses of finished trials on disk, by their parameters."""

    def __init__(self, file: Path | None, key: str) -> None:
        self.file, self.key = file, key
        self.known: dict[str, list[float]] = {}
        if file is not None and file.is_file():
            try:
                document = json.loads(file.read_text(encoding="utf-8"))
                self.known = document["trials"] if document["key"] == key else {}
            except (ValueError, KeyError, TypeError):
                self.known = {}

    def through(
        self, params: Mapping[str, Any], compute: Callable[[], Iterator[float]]
    ) -> Iterator[float]:
        """Yield what is known of these parameters, else compute it and remember it at its end."""
        name = _name(params)
        if name in self.known:
            yield from self.known[name]
            return
        losses: list[float] = []
        for loss in compute():
            losses.append(loss)
            yield loss
        if all(math.isfinite(loss) for loss in losses):
            self.known[name] = losses
            self._save()

    def _save(self) -> None:
        if self.file is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        document = {"key": self.key, "trials": self.known}
        write_atomically(self.file, json.dumps(document))


def _name(params: Mapping[str, Any]) -> str:
    text = json.dumps(as_json(params), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
