"""Views of a tile: turned and mirrored, or as another stain or magnification would show it.

Several views of one tile, averaged or used as further training rows, tell how far an embedding
depends on what carries no meaning under the microscope.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from featurebench.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

Jitter = Literal["stain", "zoom"]

# The place in this list is the symmetry's number.
_SYMMETRIES: Final = (
    "clean",
    "rot90",
    "rot180",
    "rot270",
    "flip",
    "flip_rot90",
    "flip_rot180",
    "flip_rot270",
)
_SUBSETS: Final = {1: (0,), 2: (0, 4), 4: (0, 1, 2, 3), 8: tuple(range(8))}
_JITTERS: Final[tuple[Jitter, ...]] = ("stain", "zoom")
# More draws than any average gains from; a seed that a name can hold.
_LIMITS: Final = {"stain": 100, "zoom": 100, "seed": 999_999_999}
_KEYS: Final = ("dihedral", *_LIMITS)
_JITTERED: Final = re.compile(r"(stain|zoom)(0|[1-9][0-9]{0,8})-seed(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True)
class View:
    """One way to show a tile to a network: a symmetry of the square, or a jitter, or neither.

    Parameters
    ----------
    symmetry
        0 to 7: quarter turns counter-clockwise (``symmetry % 4``), after a mirroring left to
        right where it is 4 or more; see `turn_pixels`.
    jitter
        ``stain``, ``zoom`` or none; see `jitter_tile`.
    draw
        Number of the jitter's draw, from 0.
    seed
        Of the jitter's random numbers.

    Raises
    ------
    ConfigError
        If the symmetry is none of the eight, or a view both turns and jitters.

    Examples
    --------
    >>> View(symmetry=5).name, View(jitter="stain", draw=1).name
    ('flip_rot90', 'stain1-seed0')
    """

    symmetry: int = 0
    jitter: Jitter | None = None
    draw: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.symmetry not in range(len(_SYMMETRIES)):
            raise ConfigError(f"symmetry {self.symmetry!r} is not one of 0 to 7: give one")
        if self.symmetry and self.jitter:
            raise ConfigError(
                f"a view turns or jitters, not both (symmetry {self.symmetry}, {self.jitter}): "
                "make two views"
            )

    @property
    def name(self) -> str:
        """The view's name in the store: a symmetry's, or such as ``stain0-seed0``."""
        if self.jitter is None:
            return _SYMMETRIES[self.symmetry]
        return f"{self.jitter}{self.draw}-seed{self.seed}"

    @property
    def tile_view(self) -> View:
        """What is done to the tile itself: this view without its symmetry."""
        return CLEAN if self.jitter is None else self


CLEAN: Final = View()


def make_views(views: int | Mapping[str, int]) -> tuple[View, ...]:
    """List the views that an experiment asks for; the clean one is always there and first.

    Parameters
    ----------
    views
        1 (clean), 2 (and mirrored), 4 (quarter turns) or 8 (all symmetries of the square); or a
        mapping with any of ``dihedral`` (one of those numbers, default 1), ``stain`` and ``zoom``
        (numbers of draws up to 100, default 0) and ``seed`` (of those draws, default 0).

    Returns
    -------
    tuple of View
        Without repetition.

    Raises
    ------
    ConfigError
        If a key is unknown or a number cannot be meant.

    Examples
    --------
    >>> [view.name for view in make_views({"dihedral": 2, "stain": 1})]
    ['clean', 'flip', 'stain0-seed0']
    """
    asked = dict(views) if isinstance(views, Mapping) else {"dihedral": views}
    _check_keys(asked)
    subset = asked.get("dihedral", 1)
    if not _is_whole(subset) or subset not in _SUBSETS:
        raise ConfigError(f"views: dihedral {subset!r} is not one of 1, 2, 4 and 8: give one")
    counts = {key: _count(asked, key) for key in _LIMITS}
    turned = tuple(View(symmetry) for symmetry in _SUBSETS[subset])
    jittered = tuple(
        View(jitter=jitter, draw=draw, seed=counts["seed"])
        for jitter in _JITTERS
        for draw in range(counts[jitter])
    )
    return turned + jittered


def parse_view(name: str) -> View:
    """Turn a view's name back into the view.

    Raises
    ------
    ConfigError
        If no view has this name.

    Examples
    --------
    >>> parse_view("zoom2-seed7")
    View(symmetry=0, jitter='zoom', draw=2, seed=7)
    """
    if name in _SYMMETRIES:
        return View(_SYMMETRIES.index(name))
    match = _JITTERED.fullmatch(name)
    if match is None:
        known = ", ".join((*_SYMMETRIES, "stain0-seed0", "zoom0-seed0"))
        raise ConfigError(f"unknown view {name!r}: use one such as {known}")
    jitter: Jitter = "stain" if match[1] == "stain" else "zoom"
    return View(jitter=jitter, draw=int(match[2]), seed=int(match[3]))


def needs_square(view: View) -> bool:
    """Tell whether the view exchanges height and width, as an odd number of quarter turns does."""
    return view.symmetry % 2 == 1


def turn_pixels(pixels: npt.NDArray[Any], symmetry: int) -> npt.NDArray[Any]:
    """Mirror and turn pictures; no pixel is computed anew.

    Where ``symmetry >= 4`` the columns are reversed first; then the picture is turned by
    ``symmetry % 4`` quarter turns counter-clockwise as it is looked at, rows running downwards.
    The same in torch, for a tensor ``x`` of shape (n, h, w, c)::

        x = torch.flip(x, dims=(2,)) if symmetry >= 4 else x
        x = torch.rot90(x, symmetry % 4, dims=(1, 2))

    Parameters
    ----------
    pixels
        Shape (..., h, w, c).
    symmetry
        Of a `View`, 0 to 7.

    Returns
    -------
    numpy.ndarray
        Shape (..., h, w, c), or (..., w, h, c) after an odd number of quarter turns; shares the
        memory of `pixels`, and is not contiguous in general.
    """
    mirrored = pixels[..., ::-1, :] if symmetry >= 4 else pixels
    return np.rot90(mirrored, symmetry % 4, axes=(-3, -2))


def _check_keys(asked: Mapping[str, int]) -> None:
    unknown = [key for key in asked if key not in _KEYS]
    if unknown:
        nearest = difflib.get_close_matches(str(unknown[0]), _KEYS, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"use {', '.join(_KEYS)}"
        raise ConfigError(f"views: unknown key {unknown[0]!r}: {hint}")


def _count(asked: Mapping[str, int], key: str) -> int:
    value = asked.get(key, 0)
    if not _is_whole(value) or not 0 <= value <= _LIMITS[key]:
        raise ConfigError(
            f"views: {key} {value!r} is not a whole number from 0 to {_LIMITS[key]}: give one"
        )
    return value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
