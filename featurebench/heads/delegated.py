"""DelegatedClassifier: another library's classifier with its parameters, after feature steps."""

from __future__ import annotations

import difflib
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from featurebench.heads.stepped import SteppedClassifier

if TYPE_CHECKING:
    from collections.abc import Mapping


class DelegatedClassifier(SteppedClassifier):
    """Passes what it does not define itself on to another library's estimator.

    `get_params` lists the parameters of both, so that `clone`, `set_params` and a grid search see
    them, and so that a misspelt one is refused. A subclass's constructor names its own parameters
    and takes the others as keyword arguments; ``_withheld`` names those that it sets on its own.
    """

    _withheld: frozenset[str] = frozenset()

    @classmethod
    @abstractmethod
    def _library_params(cls) -> Mapping[str, Any]:
        """Parameters of the library's estimator with their defaults."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Give all parameters, of the library's estimator, too."""
        own: dict[str, Any] = super().get_params(deep=deep)
        return {**self._delegated(), **own}

    def _delegated(self) -> dict[str, Any]:
        """Parameters of the library's estimator that are not named by the constructor."""
        hidden = self._withheld | set(self._get_param_names())
        return {
            name: getattr(self, name, default)
            for name, default in self._library_params().items()
            if name not in hidden
        }

    def _store_delegated(self, params: Mapping[str, Any]) -> None:
        known = self._delegated() if params else {}
        for name, value in params.items():
            if name not in known:
                every = [*self._get_param_names(), *known]
                near = difflib.get_close_matches(name, every, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else "see get_params()"
                raise TypeError(f"{type(self).__name__} has no parameter {name!r}: {hint}")
            setattr(self, name, value)
