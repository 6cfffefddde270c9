"""Descriptors: a tile's colour and texture as one vector of fixed length, without any weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from featurebench.backbones.handcrafted import colour, gabor, haralick, hog, lbp
from featurebench.backbones.handcrafted.planes import RGB_FROM_HED, STAIN_RANGE, Planes
from featurebench.errors import TileError, WeightsError

if TYPE_CHECKING:
    import numpy.typing as npt
    import PIL.Image


class _Group(Protocol):
    """What a module of this package offers."""

    @property
    def NAMES(self) -> tuple[str, ...]: ...

    @property
    def PARAMETERS(self) -> dict[str, Any]: ...

    def describe(self, planes: Planes) -> npt.NDArray[np.float64]: ...


_GROUPS: Final[dict[str, _Group]] = {
    "colour": colour,
    "haralick": haralick,
    "lbp": lbp,
    "gabor": gabor,
    "hog": hog,
}
GROUPS: Final = tuple(_GROUPS)
MIN_SIDE: Final = 16
# To be raised with every change of a number that no parameter tells.
VERSION: Final = 1


@dataclass(frozen=True)
class Descriptors:
    """Turn tiles into descriptors; equal, hashable and fit for other processes.

    The vector has the same length and meaning whatever the tile's size: pixels are counted as
    fractions, grey levels and stains run from 0 to 1, and lengths (distances, wavelengths, cells)
    are in pixels of the tile. Every component is finite, also for a tile of one colour, and far
    within the range of float16.

    ============ === =====================================================================
    group        dim what
    ============ === =====================================================================
    ``colour``   180 histogram and moments of nine channels: RGB, HSV and stains
    ``haralick`` 156 co-occurrence of grey levels (Haralick 1973), in grey and haematoxylin
    ``lbp``       56 uniform local binary patterns (Ojala 2002), in grey and haematoxylin
    ``gabor``     48 a bank of Gabor filters (Manjunath and Ma 1996), in grey
    ``hog``       36 oriented gradients (Dalal and Triggs 2005) of four quarters, in grey
    ============ === =====================================================================

    Parameters
    ----------
    groups
        Any of `GROUPS`, in any order; kept in the order of `GROUPS`.

    Raises
    ------
    WeightsError
        If a group is unknown or stands twice, or there is none.

    Examples
    --------
    >>> import PIL.Image
    >>> descriptors = Descriptors(("lbp", "colour"))
    >>> descriptors.groups, descriptors.dim, descriptors.names[0]
    (('colour', 'lbp'), 236, 'colour.red.bin0')
    >>> descriptors(PIL.Image.new("RGB", (64, 48), "plum")).shape
    (236,)
    """

    groups: tuple[str, ...] = GROUPS

    def __post_init__(self) -> None:
        for group in self.groups:
            if group not in GROUPS:
                raise WeightsError(
                    f"unknown group of descriptors {group!r}: use {', '.join(GROUPS)}"
                )
        if not self.groups or len(set(self.groups)) < len(self.groups):
            raise WeightsError(
                f"groups of descriptors {list(self.groups)}: give each that is meant once"
            )
        object.__setattr__(self, "groups", tuple(sorted(self.groups, key=GROUPS.index)))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the components, in order; such as ``lbp.grey.r1.bin9``."""
        return tuple(f"{group}.{name}" for group in self.groups for name in _GROUPS[group].NAMES)

    @property
    def dim(self) -> int:
        """Length of the vector."""
        return sum(len(_GROUPS[group].NAMES) for group in self.groups)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the vector."""
        return (self.dim,)

    @property
    def dtype(self) -> str:
        """Of the vector's components."""
        return "float32"

    @property
    def min_side(self) -> None:
        """None: tiles must not be decoded at reduced size, which would change their texture."""
        return

    @property
    def sha256(self) -> str:
        """64 hexadecimal digits that stand for the formulas, as a network's for its weights."""
        meant = {group: _GROUPS[group].PARAMETERS for group in self.groups}
        fixed = [VERSION, RGB_FROM_HED, STAIN_RANGE, meant, self.names]
        text = json.dumps(fixed, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def __call__(self, image: PIL.Image.Image) -> npt.NDArray[np.float32]:
        """Describe one tile.

        Parameters
        ----------
        image
            RGB, at least 16 pixels high and wide.

        Returns
        -------
        ndarray of float32, shape (dim,)

        Raises
        ------
        TileError
            If the tile is too small.
        """
        if min(image.size) < MIN_SIDE:
            width, height = image.size
            raise TileError(
                f"{width} x {height} pixels are too few for handcrafted descriptors: "
                f"give tiles of at least {MIN_SIDE} pixels a side"
            )
        planes = Planes(image)
        parts = [_GROUPS[group].describe(planes) for group in self.groups]
        return np.concatenate(parts, dtype=np.float32)
