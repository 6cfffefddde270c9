"""RowSource: the rows of a feature matrix as float32, read a block at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.heads.features import l2_normalise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from featurebench.heads.folds import Rows

BLOCK_ROWS = 2048


@dataclass(frozen=True, eq=False)
class RowSource:
    """Rows of X, converted as they are read, so that X may be a memory map larger than memory.

    Parameters
    ----------
    X
        Features of any float type, shape (n_rows, n_features).
    l2
        Whether each row is brought to length 1.
    """

    X: npt.NDArray[np.floating[Any]]
    l2: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        n_rows, n_features = self.X.shape
        return n_rows, n_features

    def read(self, rows: slice | Rows) -> npt.NDArray[np.float32]:
        """Give rows as contiguous float32; it may be a view of X, so do not write to it."""
        block = np.ascontiguousarray(self.X[rows], dtype=np.float32)
        return l2_normalise(block) if self.l2 else block

    def blocks(self, n_rows: int = BLOCK_ROWS) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """Yield slices of ``n_rows`` rows, the last one shorter, each with its rows."""
        for start in range(0, len(self.X), n_rows):
            rows = slice(start, min(start + n_rows, len(self.X)))
            yield rows, self.read(rows)
