"""Search: try the configurations that Optuna suggests, fold by fold, until none may begin."""

from __future__ import annotations

import math
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from featurebench.errors import ConfigError
from featurebench.heads.search.space import Choice
from featurebench.heads.tuning import choose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import optuna

    from featurebench.heads.search.plan import Method, SearchPlan
    from featurebench.heads.search.space import Parameter
    from featurebench.heads.tuning import Rule

    Params = dict[str, Any]

# A median of fewer complete trials would give up at random.
_TRIALS_BEFORE_PRUNING = 5
# So many suggestions in a row that were all tried before: a small space has no other left.
_REPEATS_OF_AN_EXHAUSTED_SPACE = 20


def _mean(losses: Sequence[float]) -> float:
    return float(np.mean(losses))


@dataclass(frozen=True, eq=False)
class Trial:
    """One configuration and what became of it.

    Parameters
    ----------
    params
        Values by name.
    losses
        Loss of each step that was done: the log loss of an inner fold, say.
    state
        ``complete``, ``pruned`` (given up after some folds) or ``failed``.
    error
        Why it failed.
    loss
        Of all steps together; NaN unless complete.
    """

    params: Params
    losses: tuple[float, ...]
    state: Literal["complete", "pruned", "failed"]
    error: Exception | None = None
    loss: float = math.nan


@dataclass(frozen=True, eq=False)
class SearchResult:
    """All trials of a search in order, the default configuration first, and the seconds it took."""

    trials: tuple[Trial, ...]
    seconds: float

    def count(self, state: str) -> int:
        """Count the trials in a state."""
        return sum(trial.state == state for trial in self.trials)

    def best(self, rule: Rule) -> Trial:
        """Give the trial that the rule of `SearchPlan` speaks for, the first of equals.

        Raises
        ------
        ValueError, ArithmeticError
            The last trial's error, if all failed.
        """
        complete = [trial for trial in self.trials if trial.state == "complete"]
        if not complete:
            raise next(trial.error for trial in reversed(self.trials) if trial.error)
        default, best = self.trials[0], min(complete, key=lambda trial: trial.loss)
        if default.state != "complete" or rule == "best":
            return best
        return (default, best)[choose(np.array([default.losses, best.losses]).T, rule)]


@dataclass(eq=False)
class Search:
    """Tries configurations and keeps what came out.

    Parameters
    ----------
    step_losses
        Gives the loss of a configuration at each step, such as the log loss on an inner fold,
        computed as it is asked for.
    n_steps
        How many losses it gives at most.
    plan
        When to end.
    clock
        Gives seconds.
    combine
        Gives the loss of the steps so far together.
    """

    step_losses: Callable[[Params], Iterator[float]]
    n_steps: int
    plan: SearchPlan
    clock: Callable[[], float] = time.monotonic
    combine: Callable[[Sequence[float]], float] = _mean
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._start = self.clock()
        self._known: dict[tuple[object, ...], Trial] = {}
        self._n_repeats = 0

    def run(
        self, default: Params, space: Mapping[str, Parameter], random_state: int | None = 0
    ) -> SearchResult:
        """Try the default configuration, then what the method suggests.

        Parameters
        ----------
        default
            A value of every parameter of the space; it need not lie in it.
        space
            Where to search.
        random_state
            Seed of the suggestions.

        Raises
        ------
        ConfigError
            If a configuration raises one; every other ValueError and ArithmeticError is a failed
            trial.
        """
        encoded = {name: parameter.encode(default[name]) for name, parameter in space.items()}
        with _quiet_optuna():
            study = _make_study(space, self.plan, random_state)
            if None in encoded.values() or self.plan.method == "grid":
                # A point outside the space would mislead the sampler; a grid has its own order.
                self.trials.append(self._try(default, lambda _losses: False))
                self._known[tuple(encoded.values())] = self.trials[0]
            else:
                study.enqueue_trial(encoded)
            if not self._is_spent():
                study.optimize(
                    lambda asked: self._objective(asked, space),
                    callbacks=[lambda study, _: study.stop() if self._is_spent() else None],
                )
        return SearchResult(tuple(self.trials), self.clock() - self._start)

    def _is_spent(self) -> bool:
        exhausted = self._n_repeats >= _REPEATS_OF_AN_EXHAUSTED_SPACE
        return exhausted or self.plan.is_spent(len(self.trials), self.clock() - self._start)

    def _objective(self, asked: optuna.Trial, space: Mapping[str, Parameter]) -> float:
        """Give Optuna the loss; NaN tells it that the trial failed."""
        import optuna

        params = {name: parameter.suggest(asked, name) for name, parameter in space.items()}
        trial = self._try_once(asked, params)
        if trial.state == "pruned":
            raise optuna.TrialPruned
        return trial.loss

    def _try_once(self, asked: optuna.Trial, params: Params) -> Trial:
        """Try a configuration, or recall what came out of it; a repeat is no trial."""
        key = tuple(asked.params.values())
        known = self._known.get(key)
        if known is None:
            self._n_repeats = 0
            self._known[key] = self._try(params, lambda losses: self._gives_up(asked, losses))
            self.trials.append(self._known[key])
            return self._known[key]
        self._n_repeats += 1
        for n_steps in range(1, len(known.losses) + 1):
            self._gives_up(asked, known.losses[:n_steps])
        return known

    def _try(self, params: Params, gives_up: Callable[[Sequence[float]], bool]) -> Trial:
        losses: list[float] = []
        try:
            for loss in self.step_losses(params):
                losses.append(loss)
                if gives_up(losses) and len(losses) < self.n_steps:
                    return Trial(params, tuple(losses), "pruned")
        except ConfigError:
            raise
        except (ValueError, ArithmeticError) as error:
            return Trial(params, tuple(losses), "failed", error)
        return Trial(params, tuple(losses), "complete", loss=self.combine(losses))

    def _gives_up(self, asked: optuna.Trial, losses: Sequence[float]) -> bool:
        asked.report(self.combine(losses), len(losses) - 1)
        return asked.should_prune()


def _make_study(
    space: Mapping[str, Parameter], plan: SearchPlan, random_state: int | None
) -> optuna.Study:
    import optuna

    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if plan.pruning:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=_TRIALS_BEFORE_PRUNING)
    return optuna.create_study(
        storage=None,
        sampler=_make_sampler(space, plan.method, random_state),
        pruner=pruner,
        direction="minimize",
    )


def _make_sampler(
    space: Mapping[str, Parameter], method: Method, random_state: int | None
) -> optuna.samplers.BaseSampler:
    import optuna

    if method == "random":
        return optuna.samplers.RandomSampler(seed=random_state)
    if method == "grid":
        places = {
            name: list(range(len(choice.values)))
            for name, choice in space.items()
            if isinstance(choice, Choice)
        }
        return optuna.samplers.GridSampler(places, seed=random_state)
    with warnings.catch_warnings():
        # Optuna 4 calls joint sampling experimental; Optuna 5 makes it the default.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=random_state, multivariate=True, constant_liar=False)


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Keep Optuna from logging every trial, and leave its log level as it was."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
