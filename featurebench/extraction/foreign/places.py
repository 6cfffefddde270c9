"""Places: which row of the manifest a tile is that a file knows by its slide and x, y only."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from featurebench.errors import ExtractionError, ManifestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from featurebench.extraction.foreign.sources import Positions
    from featurebench.tiles import TileManifest

# column of the manifest: micrometres per pixel of level 0
SLIDE_MPP = "slide_mpp"
WHOLE = 1e-3
FARTHEST = 2.0**53

Places = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Slides:
    """The tiles of a manifest by slide: rows and places, and the pixel size where it is known."""

    table: pd.DataFrame
    rows: Mapping[str, Positions]

    @classmethod
    def of(cls, manifest: TileManifest) -> Slides:
        """Group a manifest's rows.

        Raises
        ------
        ManifestError
            If it has no ``slide_id``, ``x`` or ``y``.
        """
        if missing := [name for name in ("slide_id", "x", "y") if name not in manifest.table]:
            raise ManifestError(
                f"the tile table has no {', '.join(missing)}: files of slides are matched by "
                "slide_id, x and y (pixels of level 0); add these columns, or import a .npy with "
                "tile_id"
            )
        groups = manifest.table.groupby("slide_id", sort=False).indices
        rows = {str(slide): np.asarray(found, dtype=np.intp) for slide, found in groups.items()}
        return cls(manifest.table, rows)

    @property
    def ids(self) -> frozenset[str]:
        """The slides; tiles without a name of theirs are of none."""
        return frozenset(self.rows) - {""}

    def places(self, slide: str, label: str) -> pd.MultiIndex:
        """Index the places of a slide's tiles, in the order of its rows.

        Raises
        ------
        ManifestError
            If two tiles share a place.
        """
        table = self.table.iloc[self.rows[slide]]
        places = pd.MultiIndex.from_arrays([table["x"], table["y"]])
        if not places.is_unique:
            raise ManifestError(
                f"tiles of the slide of {label} share x and y, so that they cannot be told apart; "
                "import a .npy with tile_id"
            )
        return places

    def mpp(self, slide: str) -> float | None:
        """Give micrometres per pixel of level 0; None if the manifest does not know.

        Raises
        ------
        ManifestError
            If its tiles disagree, or it is not a positive number.
        """
        if SLIDE_MPP not in self.table:
            return None
        column = self.table[SLIDE_MPP].iloc[self.rows[slide]]
        values = pd.to_numeric(column, errors="coerce").unique()
        if len(values) != 1 or not (np.isfinite(values[0]) and values[0] > 0):
            raise ManifestError(
                f"{SLIDE_MPP} of a slide is not one positive number but {values.tolist()[:3]}; "
                "write the micrometres per pixel of level 0 for all of its tiles"
            )
        return float(values[0])


def match_pixels(
    slides: Slides, slide: str, places: Places, label: str
) -> tuple[Positions, Positions]:
    """Match places in pixels of level 0: equal whole numbers.

    Returns
    -------
    rows, positions
        Pairs; embeddings of no tile of the manifest are left out.

    Raises
    ------
    ExtractionError
        If the places are not whole.
    """
    whole = np.round(places)
    if (off := np.abs(places - whole).max(initial=0.0)) > WHOLE:
        worst = places.reshape(-1)[np.abs(places - whole).argmax()]
        raise ExtractionError(
            f"'coords' in {label} are not whole pixels of level 0 ({worst:g} is off by {off:.3g}); "
            "if they are micrometres, name the format stamp"
        )
    found = _lookup(slides.places(slide, label), whole)
    return slides.rows[slide][found[found >= 0]], np.flatnonzero(found >= 0)


def match_micrometres(
    slides: Slides,
    slide: str,
    places: Places,
    attributes: Mapping[str, str | float],
    label: str,
) -> tuple[Positions, Positions]:
    """Match places in micrometres, to less than one pixel.

    The manifest's column ``slide_mpp`` turns them into pixels of level 0. Without it the file's own
    tile size (micrometres and pixels of the network's input) is tried, which is right only where
    tiles were not scaled; so it counts only if every tile of the slide and every embedding of the
    file find their partner. (Two scales cannot both do that: the farthest tiles would differ.)

    Raises
    ------
    ExtractionError
        If the file does not say that its unit is micrometres, or the scale is not known.
    """
    if attributes.get("unit") != "um":
        raise ExtractionError(
            f"{label} does not say that its coords are micrometres (attribute unit is "
            f"{attributes.get('unit')!r}); export it with STAMP 2 or later, or as .npy with tile_id"
        )
    mpp = slides.mpp(slide)
    scale = mpp or _tile_mpp(attributes)
    if scale is None:
        raise ExtractionError(_no_scale(label))
    found = _nearby(slides.places(slide, label), places / scale, label)
    positions = np.flatnonzero(found >= 0)
    if mpp is None and not len(positions) == len(places) == len(set(found)) == len(
        slides.rows[slide]
    ):
        raise ExtractionError(_no_scale(label))
    return slides.rows[slide][found[positions]], positions


def _tile_mpp(attributes: Mapping[str, str | float]) -> float | None:
    side_um = attributes.get("tile_size_um", attributes.get("tile_size"))
    side_px = attributes.get("tile_size_px")
    if not isinstance(side_um, int | float) or not isinstance(side_px, int | float):
        return None
    return side_um / side_px if side_um > 0 and side_px > 0 else None


def _no_scale(label: str) -> str:
    return (
        f"coords in {label} are micrometres, and its tile size does not bring them onto x and y of "
        f"the tile table; add a column {SLIDE_MPP} (micrometres per pixel of level 0) to the table"
    )


def _nearby(index: pd.MultiIndex, places: Places, label: str) -> Positions:
    """Look up the whole pixels on either side of each place; -1 where there is no tile."""
    found: Positions = np.full(len(places), -1, dtype=np.intp)
    for x_up, y_up in product((np.floor, np.ceil), repeat=2):
        near = _lookup(index, np.column_stack([x_up(places[:, 0]), y_up(places[:, 1])]))
        if ((near >= 0) & (found >= 0) & (near != found)).any():
            raise ExtractionError(
                f"tiles of the slide of {label} are one pixel apart, so that micrometres do not "
                "tell them apart; import a .npy with tile_id"
            )
        found = np.where(near >= 0, near, found)
    return found


def _lookup(index: pd.MultiIndex, places: Places) -> Positions:
    x, y = np.clip(places, -FARTHEST, FARTHEST).astype(np.int64).T
    asked = pd.MultiIndex.from_arrays([x, y])
    return np.asarray(index.get_indexer(asked), dtype=np.intp)
