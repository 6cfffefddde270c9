"""Feature steps of a head: standardise, l2 and pca:k, fitted inside the fold."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from featurebench.errors import ConfigError

if TYPE_CHECKING:
    from typing import Self

    Array = npt.NDArray[np.floating[Any]]

_PLAIN = ("standardise", "l2")


def parse_features(steps: object) -> tuple[str, ...]:
    """Bring feature steps into their one written form.

    Parameters
    ----------
    steps
        None or ``"none"`` for no step, or one step or a list of steps, each ``"standardise"``
        (mean 0 and variance 1 on the training rows), ``"l2"`` (every row to length 1) or
        ``"pca:k"``, also written ``{"pca": k}`` (the first k principal components of the
        training rows).

    Raises
    ------
    ConfigError
        If a step is unknown.

    Examples
    --------
    >>> parse_features(["l2", {"pca": 64}])
    ('l2', 'pca:64')
    """
    if steps is None or steps == "none":
        return ()
    if isinstance(steps, str | Mapping):
        return (_parse_step(steps),)
    if not isinstance(steps, Sequence):
        raise ConfigError(f"features: {steps!r} is no list of steps: use standardise, l2, pca: k")
    return tuple(_parse_step(step) for step in steps)


def make_features(steps: Sequence[str]) -> Pipeline:
    """Make the scikit-learn transformer of parsed steps; without steps it changes nothing."""
    named = [(f"step{i}", _make_step(step)) for i, step in enumerate(steps)]
    return Pipeline(named or [("none", "passthrough")])


def split_features(steps: Sequence[str]) -> tuple[bool, tuple[str, ...]]:
    """Split off leading steps that treat each row alone.

    Returns
    -------
    l2, rest
        Whether rows are first brought to length 1, which no fold changes; and the steps after it.
    """
    rest = tuple(steps)
    while rest and rest[0] == "l2":
        rest = rest[1:]
    return len(rest) < len(steps), rest


def l2_normalise(X: Array) -> Array:
    """Bring every row to length 1; a row of zeros stays."""
    length = np.sqrt(np.einsum("ij,ij->i", X, X, dtype=np.float64))
    scaled: Array = X / np.where(length > 0, length, 1)[:, None].astype(X.dtype)
    return scaled


class PrincipalComponents(TransformerMixin, BaseEstimator):
    """The first k principal components, or all that there are if those are fewer.

    Parameters
    ----------
    k
        Number of components.
    """

    def __init__(self, k: int) -> None:
        self.k = k

    def fit(self, X: Array, y: object = None) -> Self:
        """Find the components of X, shape (n_rows, n_features)."""
        self.pca_ = PCA(min(self.k, *X.shape), svd_solver="auto", random_state=0).fit(X)
        return self

    def transform(self, X: Array) -> Array:
        """Project rows onto the components, shape (n_rows, n_components)."""
        projected: Array = self.pca_.transform(X)
        return projected


def _parse_step(step: object) -> str:
    if isinstance(step, Mapping) and len(step) == 1:
        step = ":".join(str(part) for part in next(iter(step.items())))
    text = str(step)
    name, _, k = text.partition(":")
    if text in _PLAIN or (name == "pca" and k.isdecimal() and int(k) > 0):
        return text
    if name == "pca":
        raise ConfigError(f"features: {text!r} needs a number of components, such as pca: 64")
    near = difflib.get_close_matches(text, _PLAIN, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "use standardise, l2 or pca: k"
    raise ConfigError(f"features: unknown step {text!r}: {hint}")


def _make_step(step: str) -> StandardScaler | Normalizer | PrincipalComponents:
    if step == "standardise":
        return StandardScaler()
    return Normalizer() if step == "l2" else PrincipalComponents(int(step.partition(":")[2]))
