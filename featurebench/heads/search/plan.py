"""SearchPlan: how configurations are suggested, how many, for how long, and which one wins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from featurebench.errors import ConfigError
from featurebench.heads.tuning import Rule

Method = Literal["tpe", "random", "grid"]


@dataclass(frozen=True)
class SearchPlan:
    """All that fixes a search besides its space; one plan serves every arm of an experiment.

    Parameters
    ----------
    method
        ``tpe``: tree-structured Parzen estimators (Bergstra et al., Algorithms for Hyper-Parameter
        Optimization, 2011); ``random``; or ``grid``: every combination of the listed values, in an
        order drawn from the seed.
    trials
        Most configurations tried, the default one among them; None for no such limit. One that is
        suggested again is no trial, and a space that offers nothing new ends the search.
    seconds
        No trial is begun after this many; the one that is running ends. None for no such limit.
        What is found then depends on the machine's speed.
    rule
        ``best``: the least mean log loss. ``one_se``: the default configuration where it is within
        one standard error of the best, else the best.
    pruning
        Whether a trial is given up after an inner fold, the last one excepted, when its least
        running mean so far is above the median of the complete trials' running means at that fold.

    Raises
    ------
    ConfigError
        If a value cannot be used, or nothing ends the search.

    Examples
    --------
    >>> plan = SearchPlan(trials=30, seconds=600)
    >>> plan.is_spent(n_trials=12, seconds=60.0), plan.is_spent(n_trials=12, seconds=600.0)
    (False, True)
    """

    method: Method = "tpe"
    trials: int | None = 20
    seconds: float | None = None
    rule: Rule = "best"
    pruning: bool = True

    def __post_init__(self) -> None:
        _check_name("method", self.method, get_args(Method))
        _check_name("rule", self.rule, get_args(Rule))
        if self.trials is not None and not _is_count(self.trials):
            raise ConfigError(f"search: trials is {self.trials!r}: use a whole number from 1")
        if self.seconds is not None and not _is_duration(self.seconds):
            raise ConfigError(f"search: seconds is {self.seconds!r}: use a number above 0")
        if self.trials is None and self.seconds is None and self.method != "grid":
            raise ConfigError(f"search: {self.method} ends by trials or by seconds: give one")

    def is_spent(self, n_trials: int, seconds: float) -> bool:
        """Tell whether no further trial may begin after this many, and this many seconds."""
        too_many = self.trials is not None and n_trials >= self.trials
        return too_many or (self.seconds is not None and seconds >= self.seconds)


def _check_name(key: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"search: {key} {value!r} is unknown: use one of {', '.join(known)}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_duration(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value > 0
