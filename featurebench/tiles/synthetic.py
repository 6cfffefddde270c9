"""The synthetic cohort: H&E-like tiles of patients and sites, with a class effect of known size."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from featurebench.errors import ConfigError, ManifestError
from featurebench.tiles.manifest import TileManifest
from featurebench.tiles.marks import draw_relief
from featurebench.tiles.staining import Stain, site_stain, tinted
from featurebench.tiles.tissue import Morphology, draw_tile

if TYPE_CHECKING:
    from collections.abc import Iterator

# How far class_effect = 1 moves nuclear size, density and pleomorphism from one class to the next,
# in standard deviations of the tiles of a class.
CLASS_SHIFT = (1.5, 1.2, 1.5)
# Share of a factor's variance within a class that lies between patients, the rest between tiles.
PATIENT_SHARE = 0.35
# What may tell the classes apart.
EFFECTS = ("nuclei", "colour", "texture")
# How far one standard deviation of colour turns the hue of the stains, see `tinted`.
COLOUR_STEP = 0.1
# Changes whenever the same parameters would give other pixels.
DRAWING_VERSION = 1
COHORT_FILE = "cohort.json"
STARTED_FILE = "cohort.started.json"
TABLE_FILE = "tiles.csv"
TABLE_COLUMNS = ("tile_id", "path", "label", "patient_id", "slide_id", "site")
_SITE_STREAM, _PATIENT_STREAM, _TILE_STREAM = range(3)
# Second parts of a patient's or a tile's key, after that of the tissue.
_COLOUR_PART, _MARKS_PART = 2, 3


@dataclass(frozen=True)
class Cohort:
    """A cohort's parameters, which fix every pixel.

    Each patient has one class and one site; both are balanced, and independent of each other.
    Every patient, tile and site has its own random stream, so a patient's tiles do not depend on
    how many others there are, nor on the class where ``class_effect`` is 0.

    Nuclear size, density and pleomorphism are latent factors ``z = shift + u + e`` of a tile: the
    class's shift, the patient's deviation ``u`` and the tile's ``e``, both normal, with variances
    0.35 and 0.65. Class k lies ``class_effect * (k - (K - 1) / 2) * (1.5, 1.2, 1.5)`` away from
    average tissue, so ``class_effect`` is in units of 1.2 to 1.5 standard deviations.

    That is ``effect="nuclei"``. With another one the classes' nuclei are alike, and a class has

    - ``colour``: another hue of both stains, turned by ``0.1 z`` (`featurebench.tiles.staining`),
      in which z is a latent factor like the others. It is shifted so far that `oracle_auc` is the
      same where sites stain alike. Networks trained on photographs carry it.
    - ``texture``: fine marks, dark in the middle in one class and light in the other, with the
      same mean colour and the same spectrum (`featurebench.tiles.marks.draw_relief`). They are the
      same in all eight symmetries of the square. An average of features over a whole tile,
      learnt from photographs, hardly carries it, but a network learns it from some hundred tiles.
      It does not vary between patients, so `oracle_auc` is not about it.

    Parameters
    ----------
    patients
        Number of patients, at least one for each class.
    tiles_per_patient
        Number of tiles of each patient, who has two slides.
    classes
        Number of classes K, 2 or more, ordered by how much the factors are shifted.
    sites
        Number of sites, each with its own stain vectors, stain strength and white point.
    class_effect
        0: the class has no effect on any pixel. 1: `oracle_auc` is 0.96, and the marks of
        ``texture`` change the amounts of stain by up to 0.62 of themselves.
    site_effect
        0: all sites stain alike. 1: they differ as laboratories do.
    size
        Width and height of a tile in pixels, 32 to 1024.
    seed
        Seed of all random streams.
    effect
        What tells the classes apart: ``nuclei``, ``colour`` or ``texture`` (of two classes).

    Raises
    ------
    ConfigError
        A value is out of its range.
    """

    patients: int = 40
    tiles_per_patient: int = 20
    classes: int = 2
    sites: int = 3
    class_effect: float = 1.0
    site_effect: float = 1.0
    size: int = 96
    seed: int = 0
    effect: str = "nuclei"

    def __post_init__(self) -> None:
        """Check every value's range."""
        _check_integer("classes", self.classes, 2, 100)
        _check_integer("patients", self.patients, self.classes, 100_000)
        _check_integer("tiles_per_patient", self.tiles_per_patient, 1, 100_000)
        _check_integer("sites", self.sites, 1, self.patients)
        _check_integer("size", self.size, 32, 1024)
        _check_integer("seed", self.seed, 0, 2**63 - 1)
        _check_number("class_effect", self.class_effect, 10)
        _check_number("site_effect", self.site_effect, 5)
        if self.effect not in EFFECTS:
            raise ConfigError(f"effect is {self.effect!r}: give one of {', '.join(EFFECTS)}")
        if self.effect == "texture" and self.classes != 2:
            raise ConfigError(f"effect 'texture' is for 2 classes: classes is {self.classes}")

    @property
    def class_names(self) -> tuple[str, ...]:
        """``benign`` and ``malignant`` for two classes, else ``class_0`` onwards."""
        if self.classes == 2:
            return ("benign", "malignant")
        return tuple(f"class_{k}" for k in range(self.classes))

    def class_of(self, patient: int) -> int:
        """Give the class of a patient; numbered in turn."""
        return patient % self.classes

    def site_of(self, patient: int) -> int:
        """Give the site of a patient; each site in turn takes one patient of every class."""
        return patient // self.classes % self.sites

    def stain_of(self, site: int) -> Stain:
        """Give the stain of a site."""
        return site_stain(self._stream(_SITE_STREAM, site), self.site_effect)

    def latents(self, patient: int, tile: int, label: int | None = None) -> npt.NDArray[np.float64]:
        """Give a tile's nuclear size, density and pleomorphism in standard deviations.

        Parameters
        ----------
        patient, tile
            Counted from 0.
        label
            Class code; the patient's own by default. Another one tells what the tile would be if
            the patient were of that class.

        Returns
        -------
        numpy.ndarray
            Shape (3,).
        """
        k = self.class_of(patient) if label is None else label
        shift = self._place(k) * np.array(CLASS_SHIFT) * (self.effect == "nuclei")
        between = self._stream(_PATIENT_STREAM, patient).standard_normal(len(CLASS_SHIFT))
        within = self._stream(_TILE_STREAM, patient, tile).standard_normal(len(CLASS_SHIFT))
        return np.asarray(
            shift + math.sqrt(PATIENT_SHARE) * between + math.sqrt(1.0 - PATIENT_SHARE) * within
        )

    def draw(self, patient: int, tile: int, label: int | None = None) -> npt.NDArray[np.uint8]:
        """Draw a tile, RGB of shape (size, size, 3); parameters as in `latents`."""
        size, density, pleomorphism = self.latents(patient, tile, label).tolist()
        patient_rng = self._stream(_PATIENT_STREAM, patient, 1)
        glands, collagen = patient_rng.standard_normal(2).tolist()
        morphology = Morphology(size, density, pleomorphism, glands, collagen)
        stain = self.stain_of(self.site_of(patient))
        k, relief = self.class_of(patient) if label is None else label, None
        if self.effect == "colour":
            stain = tinted(stain, COLOUR_STEP * self._colour(patient, tile, k))
        elif self.effect == "texture":
            marks_rng = self._stream(_TILE_STREAM, patient, tile, _MARKS_PART)
            relief = draw_relief(self.size, 2.0 * self._place(k), marks_rng)
        rng = self._stream(_TILE_STREAM, patient, tile, 1)
        return draw_tile(morphology, stain, self.size, rng, relief=relief)

    def rows(self) -> Iterator[tuple[int, int, dict[str, str]]]:
        """Yield patient, tile and the row of the table, slide by slide.

        A patient's two slides take the even and the odd tiles. File names hold the slide, never
        the patient.
        """
        for patient in range(self.patients):
            label = self.class_names[self.class_of(patient)]
            numbers = range(self.tiles_per_patient)
            for tile in sorted(numbers, key=lambda number: number % 2):
                slide = f"S{2 * patient + tile % 2 + 1:04d}"
                name = f"{slide}_{tile // 2:04d}"
                values = (
                    name,
                    f"{label}/{name}.png",
                    label,
                    f"P{patient + 1:04d}",
                    slide,
                    f"site_{self.site_of(patient) + 1}",
                )
                yield patient, tile, dict(zip(TABLE_COLUMNS, values, strict=True))

    def _place(self, k: int) -> float:
        """Give a class's distance from the middle of all; neighbours are one effect apart."""
        return self.class_effect * (k - (self.classes - 1) / 2)

    def _colour(self, patient: int, tile: int, k: int) -> float:
        """Latent factor of the stains, in standard deviations."""
        between = self._stream(_PATIENT_STREAM, patient, _COLOUR_PART).standard_normal()
        within = self._stream(_TILE_STREAM, patient, tile, _COLOUR_PART).standard_normal()
        spread = math.sqrt(PATIENT_SHARE) * between + math.sqrt(1.0 - PATIENT_SHARE) * within
        return self._place(k) * math.hypot(*CLASS_SHIFT) + spread

    def _stream(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))


def oracle_auc(class_effect: float, *, tiles: int = 1) -> float:
    """Give the area under the ROC curve of an oracle that sees the latent factors.

    Within a class the factors are independent and normal with unit variance, so the best rule for
    two neighbouring classes is linear and its area is ``Phi(d / sqrt(2))``, with ``d`` the distance
    of the class means. Averaged over the tiles of a patient, the variance falls to
    ``rho + (1 - rho) / tiles`` with the patients' share ``rho`` = 0.35. No method that sees one
    tile's pixels can do better, save by chance.

    Parameters
    ----------
    class_effect
        As in `Cohort`.
    tiles
        Number of tiles of a patient over which the oracle averages; 1 for single tiles.

    Returns
    -------
    float
        0.5 without a class effect, 0.96 for a class effect of 1 and single tiles.
    """
    variance = PATIENT_SHARE + (1.0 - PATIENT_SHARE) / tiles
    distance = class_effect * math.hypot(*CLASS_SHIFT) / math.sqrt(variance)
    return 0.5 * (1.0 + math.erf(distance / 2.0))


def write_cohort(
    directory: str | os.PathLike[str],
    *,
    patients: int = 40,
    tiles_per_patient: int = 20,
    classes: int = 2,
    sites: int = 3,
    class_effect: float = 1.0,
    site_effect: float = 1.0,
    size: int = 96,
    seed: int = 0,
    effect: str = "nuclei",
) -> TileManifest:
    """Write a cohort as PNG tiles in class folders, with ``tiles.csv`` and ``cohort.json``.

    What a former call with the same parameters has drawn is kept, be it complete or not.
    ``cohort.json`` is written last.

    Parameters
    ----------
    directory
        A new or empty folder, or one that holds the same cohort.
    patients, tiles_per_patient, classes, sites, class_effect, site_effect, size, seed, effect
        As in `Cohort`.

    Raises
    ------
    ConfigError
        A value is out of its range.
    ManifestError
        The folder holds another cohort, or other files.
    """
    cohort = Cohort(
        patients, tiles_per_patient, classes, sites, class_effect, site_effect, size, seed, effect
    )
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"version": DRAWING_VERSION, **asdict(cohort)}, indent=2) + "\n"
    _check_folder(folder, json.loads(text))
    if not (folder / COHORT_FILE).exists():
        _replace(folder / STARTED_FILE, text.encode())
    for name in cohort.class_names:
        (folder / name).mkdir(exist_ok=True)
    rows = list(cohort.rows())
    for patient, tile, row in rows:
        if not (folder / row["path"]).exists():
            _replace(folder / row["path"], _png(cohort.draw(patient, tile)))
    if not (folder / TABLE_FILE).exists():
        _replace(folder / TABLE_FILE, _table([row for _, _, row in rows]))
    if not (folder / COHORT_FILE).exists():
        _replace(folder / COHORT_FILE, text.encode())
    (folder / STARTED_FILE).unlink(missing_ok=True)
    return TileManifest.from_table(folder / TABLE_FILE)


def _check_integer(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{name} is {value!r}: give an integer from {least} to {most}")


def _check_number(name: str, value: object, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ConfigError(f"{name} is {value!r}: give a number from 0 to {most}")


def _check_folder(folder: Path, wanted: dict[str, Any]) -> None:
    """Refuse a folder with another cohort or with files that no cohort explains."""
    for name in (COHORT_FILE, STARTED_FILE):
        if not (folder / name).exists():
            continue
        found = _read_parameters(folder / name)
        # Cohorts without the key are of the time when there was one effect.
        found = {"effect": "nuclei", **found}
        differing = [key for key, value in wanted.items() if found.get(key) != value]
        if differing:
            told = ", ".join(f"{key} {found.get(key)!r}, not {wanted[key]!r}" for key in differing)
            raise ManifestError(
                f"folder {folder.name}/ holds a cohort with {told}: use another folder, or remove "
                "this one to draw it anew"
            )
        return
    if any(not path.name.startswith(".") for path in folder.iterdir()):
        raise ManifestError(
            f"folder {folder.name}/ holds files but no {COHORT_FILE}: give a new or empty folder"
        )


def _read_parameters(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ManifestError(f"{path.name} is damaged: remove folder {path.parent.name}/")
    return found


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def _table(rows: list[dict[str, str]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, TABLE_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def _replace(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all; what a crash leaves is hidden from every reader."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_bytes(content)
    partial.replace(path)
