"""Histograms of oriented gradients: the directions of edges in each quarter of a tile.

References
----------
Dalal, N. and Triggs, B. (2005). Histograms of oriented gradients for human detection. Proc. IEEE
Conference on Computer Vision and Pattern Recognition, 886-893.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from featurebench.backbones.handcrafted.planes import Planes

ORIENTATIONS: Final = 9
# Side of a cell in pixels, of a block in cells, of the grid in parts.
CELL: Final = 8
BLOCK: Final = 2
GRID: Final = 2
# The paper's "L2-Hys": normalise, clip, normalise again.
CLIP: Final = 0.2
EPSILON: Final = 1e-5

NAMES: Final = tuple(
    f"{vertical}_{horizontal}.deg{180 * orientation // ORIENTATIONS}"
    for vertical in ("upper", "lower")
    for horizontal in ("left", "right")
    for orientation in range(ORIENTATIONS)
)
PARAMETERS: Final[dict[str, Any]] = {
    "orientations": ORIENTATIONS,
    "cell": CELL,
    "block": BLOCK,
    "grid": GRID,
    "clip": CLIP,
    "epsilon": EPSILON,
}


def describe(planes: Planes) -> npt.NDArray[np.float64]:
    """Mean of the normalised histograms of the cells in each quarter of the tile.

    Pixels at the right and lower border that fill no cell are left out. A cell is normalised with
    each block of 2 x 2 cells that it belongs to; where cells do not divide evenly, the upper and
    the left quarters have one row or column more.

    Returns
    -------
    numpy.ndarray
        Shape (36,), as `NAMES`.
    """
    cells = normalised(cell_histograms(planes.grey))
    quarters = [
        quarter.mean(axis=(0, 1))
        for half in np.array_split(cells, GRID)
        for quarter in np.array_split(half, GRID, axis=1)
    ]
    return np.concatenate(quarters)


def cell_histograms(plane: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Magnitude of the gradients in each cell by their direction, as means over the cell.

    Parameters
    ----------
    plane
        Shape (h, w).

    Returns
    -------
    numpy.ndarray
        Shape (h // 8, w // 8, 9), in grey levels; the border of the tile has no gradient across.
    """
    rows, columns = (side // CELL for side in plane.shape)
    down, right = (part[: rows * CELL, : columns * CELL] for part in _gradients(plane))
    angle = np.arctan2(down, right) * np.float32(ORIENTATIONS / np.pi)
    # Opposite directions are one; the angle of pi itself, which is that of 0, wraps as well.
    sector = np.floor(angle).astype(np.int64) % ORIENTATIONS
    cell = np.add.outer(np.arange(rows * CELL) // CELL * columns, np.arange(columns * CELL) // CELL)
    sums = np.bincount(
        (cell * ORIENTATIONS + sector).ravel(),
        weights=np.hypot(down, right).ravel(),
        minlength=rows * columns * ORIENTATIONS,
    )
    return sums.reshape(rows, columns, ORIENTATIONS) / CELL**2


def normalised(cells: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean, over the blocks that hold a cell, of its histogram as normalised in the block.

    Parameters
    ----------
    cells
        Shape (rows, columns, 9), at least 2 x 2 cells.

    Returns
    -------
    numpy.ndarray
        Shape (rows, columns, 9).
    """
    places = [(row, column) for row in range(BLOCK) for column in range(BLOCK)]
    rows, columns = (side - BLOCK + 1 for side in cells.shape[:2])
    blocks = np.stack([cells[r : r + rows, c : c + columns] for r, c in places])
    blocks = _unit(np.minimum(_unit(blocks), CLIP))
    sums, counts = np.zeros_like(cells), np.zeros(cells.shape[:2])
    for (r, c), part in zip(places, blocks, strict=True):
        sums[r : r + rows, c : c + columns] += part
        counts[r : r + rows, c : c + columns] += 1
    return sums / counts[..., None]


def _gradients(
    plane: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    wide = plane.astype(np.float32)
    down, right = np.zeros_like(wide), np.zeros_like(wide)
    down[1:-1] = wide[2:] - wide[:-2]
    right[:, 1:-1] = wide[:, 2:] - wide[:, :-2]
    return down, right


def _unit(blocks: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Each block, over its cells (axis 0) and directions, as a vector of length 1."""
    squares: npt.NDArray[np.float64] = np.sum(blocks**2, axis=(0, -1), keepdims=True)
    return blocks / np.sqrt(squares + EPSILON**2)
