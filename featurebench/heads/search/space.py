"""parse_space(): where to search, from lists and ranges as a YAML file writes them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.errors import ConfigError
from featurebench.heads.features import parse_features

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeGuard

    import optuna
    from sklearn.base import ClassifierMixin

_RANGE_KEYS = ("low", "high", "log", "step", "int")
# Whoever makes and fits the head sets these; the first is no choice and the others no improvement.
_NOT_SEARCHED = ("cv", "n_jobs", "random_state")


@dataclass(frozen=True)
class Choice:
    """One of listed values, of any kind that JSON can write."""

    values: tuple[Any, ...]

    def suggest(self, trial: optuna.Trial, name: str) -> object:
        """Let the trial's sampler take a value."""
        # Optuna's categories are plain values; a list of feature steps stands by its place.
        return self.values[trial.suggest_categorical(name, range(len(self.values)))]

    def encode(self, value: object) -> int | None:
        """Give what the sampler knows a value by; None if it is not among the values."""
        places = (i for i, each in enumerate(self.values) if _is_same(each, value))
        return next(places, None)


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included.

    Parameters
    ----------
    log
        Whether the logarithm is uniform, rather than the number.
    step
        Distance of the numbers that may be taken, counted from ``low``; None for all.
    is_int
        Whether only whole numbers are taken.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    is_int: bool = False

    def suggest(self, trial: optuna.Trial, name: str) -> object:
        """Let the trial's sampler take a number."""
        if self.is_int:
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return trial.suggest_int(name, low, high, log=self.log, step=step)
        return trial.suggest_float(name, self.low, self.high, log=self.log, step=self.step)

    def encode(self, value: object) -> float | None:
        """Give what the sampler knows a value by; None if it is not in the range."""
        if not _is_number(value) or not self.low <= value <= self.high:
            return None
        step = self.step or (1 if self.is_int else None)
        if step and not math.isclose((value - self.low) / step % 1, 0, abs_tol=1e-9):
            return None
        return int(value) if self.is_int else float(value)


Parameter = Choice | Range


def parse_space(space: Mapping[str, object]) -> dict[str, Parameter]:
    """Bring a search space into its one form, sorted by name so that its order changes nothing.

    Parameters
    ----------
    space
        For each parameter a list of values, or ``{low, high, log, step, int}``: a range with both
        ends, of whole numbers if both ends are and ``int`` does not say otherwise. Of
        ``features`` each value is a list of feature steps.

    Raises
    ------
    ConfigError
        If there is nothing to search, or an entry is neither list nor range.

    Examples
    --------
    >>> parse_space({"C": {"low": 0.001, "high": 10.0, "log": True}, "metric": ["cosine", "l2"]})
    {'C': Range(low=0.001, high=10.0, log=True, step=None, is_int=False), \
'metric': Choice(values=('cosine', 'l2'))}
    """
    if not space:
        raise ConfigError("search: the space is empty: name at least one parameter to search")
    return {name: _parse_parameter(name, space[name]) for name in sorted(space)}


def check_space(space: Mapping[str, Parameter], estimator: ClassifierMixin, method: str) -> None:
    """Refuse a space that does not fit the estimator or the method.

    Raises
    ------
    ConfigError
        If the estimator lacks a parameter, or a grid would have a range in it.
    """
    known = sorted(estimator.get_params(deep=True))
    for name, parameter in space.items():
        if name in _NOT_SEARCHED:
            raise ConfigError(f"search: {name!r} is set by featurebench; leave it out of the space")
        if name not in known:
            hint = _hint(name, known)
            raise ConfigError(f"search: {type(estimator).__name__} has no {name!r}: {hint}")
        if method == "grid" and isinstance(parameter, Range):
            raise ConfigError(
                f"search: {name!r} is a range; a grid needs its values, such as "
                f"[{parameter.low:g}, {parameter.high:g}], or use method: tpe"
            )


def as_json(value: object) -> Any:  # noqa: ANN401
    """Bring a parameter's value into a form that JSON can write; functions go by their name."""
    if isinstance(value, np.generic | np.ndarray):
        return as_json(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return getattr(value, "__name__", type(value).__name__)


def _parse_parameter(name: str, written: object) -> Parameter:
    if isinstance(written, Mapping):
        return _parse_range(name, written)
    if not isinstance(written, list | tuple) or not written:
        raise ConfigError(
            f"search: {name}: {written!r} is no list of values and no range {{low: .., high: ..}}"
        )
    if name == "features":
        for steps in written:
            parse_features(steps)
    return Choice(tuple(written))


def _parse_range(name: str, written: Mapping[str, object]) -> Range:
    for key in written:
        if key not in _RANGE_KEYS:
            raise ConfigError(f"search: {name}: unknown key {key!r}: {_hint(key, _RANGE_KEYS)}")
    low, high = (_number(name, key, written.get(key)) for key in ("low", "high"))
    log, is_int = (_flag(name, key, written.get(key)) for key in ("log", "int"))
    step = _number(name, "step", written["step"]) if written.get("step") is not None else None
    whole = all(isinstance(n, int) for n in (low, high, step) if n is not None)
    found = Range(low, high, bool(log), step, whole if is_int is None else is_int)
    _check_range(name, found, whole=whole)
    return _end_on_a_step(found)


def _check_range(name: str, found: Range, *, whole: bool) -> None:
    if found.low > found.high:
        raise ConfigError(f"search: {name}: low {found.low} is above high {found.high}: swap them")
    if found.log and found.low <= 0:
        raise ConfigError(f"search: {name}: low {found.low} has no logarithm: use log: false")
    if found.log and found.step is not None:
        raise ConfigError(f"search: {name}: log and step {found.step} exclude each other: drop one")
    if found.step is not None and found.step <= 0:
        raise ConfigError(f"search: {name}: step {found.step} goes nowhere: use one above 0")
    if found.is_int and not whole:
        raise ConfigError(f"search: {name}: int: true needs whole numbers as low, high and step")


def _end_on_a_step(found: Range) -> Range:
    """Lower the upper end to the last number that steps from the lower end reach."""
    if found.step is None:
        return found
    n_steps = math.floor((found.high - found.low) / found.step + 1e-9)
    return replace(found, high=found.low + n_steps * found.step)


def _number(name: str, key: str, value: object) -> float:
    if not _is_number(value) or not math.isfinite(value):
        raise ConfigError(f"search: {name}: {key} is {value!r}: use a number")
    return value


def _flag(name: str, key: str, value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ConfigError(f"search: {name}: {key} is {value!r}: use true or false")
    return value


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_same(one: object, other: object) -> bool:
    """Compare as JSON; True is not the number 1."""
    one, other = as_json(one), as_json(other)
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
