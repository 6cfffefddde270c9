"""Views: augmented copies of the tiles that an arm is trained on, or predicts by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.heads import Fold, FoldPrediction

if TYPE_CHECKING:
    from collections.abc import Sequence

    Array = npt.NDArray[np.floating[Any]]
    Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Views:
    """Embeddings of the same tiles under V - 1 augmentations, and what they are used for.

    A view of a tile stands wherever the tile itself stands: in training, or in test, never in
    both.

    Parameters
    ----------
    X
        One matrix per view, each of shape (n_tiles, dim), row i being tile i.
    train
        Whether all views of the training tiles are trained on.
    average
        Whether the probabilities of all views of a tile are averaged.
    """

    X: Sequence[Array]
    train: bool = True
    average: bool = True

    def stack(self, X: Array) -> Array:
        """Put the views below the tiles as they are, shape (V n_tiles, dim)."""
        stacked: Array = np.concatenate([X, *self.X])
        return stacked

    def spread(self, fold: Fold, n_tiles: int) -> Fold:
        """Give a fold of tiles as one of stacked rows."""
        shifts = n_tiles * np.arange(len(self.X) + 1)

        def all_views(rows: Rows, wanted: bool) -> Rows:
            return (shifts[:, None] + rows).ravel() if wanted else rows

        return Fold(
            all_views(fold.train, self.train),
            all_views(fold.test, self.average),
            tuple(
                (all_views(train, self.train), all_views(validation, self.average))
                for train, validation in fold.inner
            ),
        )

    def gather(self, prediction: FoldPrediction) -> FoldPrediction:
        """Average the probabilities of each tile's views, where asked for."""
        if not self.average:
            return prediction
        p = prediction.y_prob
        by_view = p.reshape(len(self.X) + 1, -1, p.shape[1])
        return FoldPrediction(by_view.mean(axis=0), prediction.choices)
