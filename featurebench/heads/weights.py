"""class_weights(): what ``class_weight`` means for the classes of one training set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    Doubles = npt.NDArray[np.float64]


def class_weights(
    class_weight: object, counts: npt.NDArray[np.int64] | Doubles, labels: Sequence[Any]
) -> Doubles:
    """Weight of a row of each class, as scikit-learn means ``class_weight``.

    Parameters
    ----------
    class_weight
        None, ``"balanced"`` (all classes that are there weigh the same) or ``{label: weight}``,
        1 where a label is not named.
    counts
        Rows of each class, or the sum of their sample weights, shape (n_classes,).
    labels
        Label of each class.

    Raises
    ------
    ValueError
        If it is none of these, a weight is not above 0, or no label is a class.

    Examples
    --------
    >>> class_weights("balanced", np.array([1, 3]), ["normal", "tumour"])
    array([2.        , 0.66666667])
    """
    if class_weight is None:
        return np.ones(len(counts))
    if isinstance(class_weight, Mapping):
        return _named_weights(class_weight, labels)
    if class_weight != "balanced":
        raise ValueError(
            f"class_weight {class_weight!r}: use None, 'balanced' or {{label: weight}}"
        )
    share: Doubles = counts.sum() / (np.count_nonzero(counts) * np.where(counts > 0, counts, 1))
    return np.where(counts > 0, share, 0.0)


def _named_weights(named: Mapping[Any, float], labels: Sequence[Any]) -> Doubles:
    weights = np.array([named.get(label, 1.0) for label in labels], dtype=np.float64)
    if named and not any(label in named for label in labels):
        raise ValueError(f"class_weight names {', '.join(map(repr, named))}: none is a class here")
    if not (weights > 0).all():
        raise ValueError(f"class_weight {dict(named)!r}: every weight must be above 0")
    return weights
