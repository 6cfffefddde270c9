"""What was compared on: tiles, patients, sites, example tiles and the folds, as a plain dict."""

from __future__ import annotations

import base64
import io
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from featurebench.audit.association import Association, associate
from featurebench.errors import TileError
from featurebench.reporting.formats import counted, p_statement
from featurebench.tiles import TileManifest, read_tile, tile_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featurebench.splits import SplitPlan

THUMBNAIL = 112
MAX_THUMBNAILS = 60
PER_GROUP = 3
# So many headers take about a second where a folder is near.
SIZED_TILES = 2000
# With more sizes than this, tiles are grouped by the quarter of the areas that theirs lies in.
MOST_SIZES = 10
TRAIN, VALIDATION = -1, -2

Rows = npt.NDArray[np.intp]
Names = npt.NDArray[np.object_]


def data_section(manifest: TileManifest, bad_tiles: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return counts of tiles, patients and sites, the tiles left out, and example tiles.

    Patients are counted, never named.
    """
    patients, sites = manifest.column("patient_id"), manifest.column("site")
    labels = manifest.labels
    return {
        "n_tiles": len(manifest),
        "n_patients": None if patients is None else len(set(patients)),
        "n_sites": None if sites is None else len(set(sites)),
        "classes": list(manifest.classes),
        "bad_tiles": [
            {"tile_id": str(bad["tile_id"]), "reason": str(bad["reason"])} for bad in bad_tiles
        ],
        "tiles_per_class": _per_class(labels, manifest.classes),
        "patients_per_class": patients_per_class(labels, patients, manifest.classes),
        "mixed_patients": _mixed_patients(labels, patients),
        "tiles_per_patient": tiles_per_patient(patients),
        "tile_sizes": tile_sizes(manifest),
        "sites": _site_rows(labels, patients, sites, manifest.classes),
        "warnings": list(manifest.warnings),
        "example_tiles": example_tiles(manifest, sites),
    }


def patients_per_class(
    labels: npt.NDArray[np.int64], patients: Names | None, classes: Sequence[str]
) -> dict[str, int] | None:
    """Return for each class how many patients have a tile of it; None without patients."""
    if patients is None:
        return None
    return {name: len(set(patients[labels == k])) for k, name in enumerate(classes)}


def tiles_per_patient(patients: Names | None) -> dict[str, Any] | None:
    """Return the distribution of tiles per patient: extremes, median, histogram."""
    if patients is None:
        return None
    sizes = np.unique(patients.astype(str), return_counts=True)[1]
    low, high = int(sizes.min()), int(sizes.max())
    width = max(1, -(-(high - low + 1) // 12))
    edges = np.arange(low, high + width + 1, width)
    counts, _ = np.histogram(sizes, edges)
    return {
        "min": low,
        "median": float(np.median(sizes)),
        "max": high,
        "edges": [int(x) for x in edges],
        "counts": [int(x) for x in counts],
    }


def tile_sizes(manifest: TileManifest) -> dict[str, Any] | None:
    """Return how wide and high tiles are, by their headers, and whether that goes with the class.

    At most 2000 tiles are looked at, at even distances in the manifest. Size goes with the class by
    the rule of the audit: bias-corrected Cramer's V of class and size at least 0.1 with a
    permutation p below 0.05, patients (or parts of one size) being the units; where there are more
    than 10 sizes, that of class and quarter of the areas.

    Returns
    -------
    dict or None
        ``width`` and ``height`` with ``min``, ``median`` and ``max`` in pixels; ``n_tiles`` looked
        at and ``n_sizes`` found; ``by_class``, median width and height; ``caveat``, a sentence,
        empty where size does not go with the class; ``sentence``, all of it in words. None where
        no header can be read.
    """
    rows, sizes = _sizes(manifest)
    if not len(rows):
        return None
    labels, patients = manifest.labels[rows], manifest.column("patient_id")
    owners = None
    if patients is not None:
        owners = np.unique(patients[rows].astype(str), return_inverse=True)[1]
    by_class = {
        manifest.classes[k]: [float(side) for side in np.median(sizes[labels == k], axis=0)]
        for k in np.unique(labels)
    }
    found = _goes_with_class(labels, sizes, owners)
    spread = {"width": _spread_of(sizes[:, 0]), "height": _spread_of(sizes[:, 1])}
    told = ", ".join(f"{name} {_range_of(sides)}" for name, sides in spread.items())
    few = f", by the headers of {counted(len(rows), 'tile')} at even distances"
    return {
        **spread,
        "n_tiles": len(rows),
        "n_sizes": len(np.unique(sizes, axis=0)),
        "by_class": by_class,
        "sentence": f"Size of tiles in pixels: {told}{few if len(rows) < len(manifest) else ''}.",
        "caveat": "" if found is None else _size_caveat(found, by_class),
    }


def _sizes(manifest: TileManifest) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Read the headers of a sample: rows and sizes, shapes (n,) and (n, 2)."""
    rows, sizes = [], []
    for row in _spread(np.arange(len(manifest)), SIZED_TILES):
        try:
            sizes.append(tile_size(manifest.path_of(int(row))))
        except TileError:
            continue
        rows.append(row)
    return np.array(rows, dtype=np.intp), np.array(sizes, dtype=np.int64).reshape(-1, 2)


def _spread_of(sides: npt.NDArray[np.int64]) -> dict[str, float]:
    return {"min": int(sides.min()), "median": float(np.median(sides)), "max": int(sides.max())}


def _range_of(sides: Mapping[str, float]) -> str:
    if sides["min"] == sides["max"]:
        return f"{sides['min']:.0f}"
    return f"{sides['min']:.0f} to {sides['max']:.0f} (median {sides['median']:.0f})"


def _goes_with_class(
    labels: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    patients: npt.NDArray[np.int64] | None,
) -> Association | None:
    """Return the association of class and size where the rule calls them associated."""
    codes = np.unique(sizes, axis=0, return_inverse=True)[1].ravel()
    if codes.max() + 1 > MOST_SIZES:
        areas = sizes.prod(axis=1)
        codes = np.searchsorted(np.quantile(areas, [0.25, 0.5, 0.75]), areas)
        codes = np.unique(codes, return_inverse=True)[1]
    present = np.unique(labels, return_inverse=True)[1]
    if codes.max() == 0 or present.max() == 0:
        return None
    found = associate(present, codes, patients)
    return found if found.related else None


def _size_caveat(found: Association, by_class: Mapping[str, Sequence[float]]) -> str:
    sides = [f"{name} {w:.0f} × {h:.0f}" for name, (w, h) in by_class.items()]
    return (
        f"The size of tiles in pixels goes with their class (V = {found.v:.2f}, "
        f"{p_statement(found.p_value)}; medians: {', '.join(sides)}): resizing leaves traces by "
        "which an arm can tell the class without the tissue."
    )


def example_tiles(manifest: TileManifest, sites: Names | None) -> list[dict[str, Any]]:
    """Return small pictures of a few tiles of every class and site, the same ones every time."""
    groups = _groups(manifest.labels, sites)
    each = max(1, min(PER_GROUP, MAX_THUMBNAILS // len(groups)))
    examples = []
    for label, site, rows in groups[:MAX_THUMBNAILS]:
        for row in _spread(rows, each):
            example = {
                "tile_id": str(manifest.table["tile_id"].iloc[row]),
                "label": manifest.classes[label],
                "site": site,
                "image": thumbnail(read_tile(manifest.path_of(int(row)))),
            }
            examples.append(example)
    return examples


def thumbnail(image: Image.Image) -> str:
    """Return the image, at most 112 pixels wide and high, as a data URI holding a JPEG."""
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def plan_section(plan: SplitPlan, manifest: TileManifest) -> dict[str, Any]:
    """Return the plan's identity and the sizes and class balance of its folds.

    ``sites``: how many sites are ``tested``, and how many of these are ``shared``, being trained on
    in a fold that tests them; None where no site is recorded.
    """
    patients = manifest.column("patient_id")
    folds = [
        _fold_row(plan.test_fold[repeat], repeat, fold, manifest, patients)
        for repeat in range(plan.n_repeats)
        for fold in range(plan.n_folds)
    ]
    return {
        "id": plan.id,
        "scheme": plan.scheme,
        "n_folds": plan.n_folds,
        "n_repeats": plan.n_repeats,
        "group": plan.group,
        "seed": plan.seed,
        "sites": _tested_sites(plan, manifest.column("site")),
        "folds": folds,
    }


def _tested_sites(plan: SplitPlan, sites: Names | None) -> dict[str, int] | None:
    if sites is None:
        return None
    known = sites != ""
    tested, shared = set(), set()
    for assigned in plan.test_fold:
        for fold in range(plan.n_folds):
            here = set(sites[known & (assigned == fold)])
            trained = known & (assigned != fold) & (assigned != VALIDATION)
            tested |= here
            shared |= here & set(sites[trained])
    return {"tested": len(tested), "shared": len(shared)}


def _fold_row(
    assigned: npt.NDArray[np.int16],
    repeat: int,
    fold: int,
    manifest: TileManifest,
    patients: Names | None,
) -> dict[str, Any]:
    test = assigned == fold
    validation = int(np.sum(assigned == VALIDATION))
    return {
        "repeat": repeat,
        "fold": fold,
        "n_train": int(np.sum(~test)) - validation,
        "n_validation": validation,
        "n_test": int(test.sum()),
        "n_test_patients": None if patients is None else len(set(patients[test])),
        "class_counts": _per_class(manifest.labels[test], manifest.classes),
    }


def _per_class(labels: npt.NDArray[np.int64], classes: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(labels, minlength=len(classes))
    return {name: int(number) for name, number in zip(classes, counts, strict=True)}


def _mixed_patients(labels: npt.NDArray[np.int64], patients: Names | None) -> int | None:
    if patients is None:
        return None
    pairs = set(zip(patients, labels.tolist(), strict=True))
    return sum(1 for n in Counter(patient for patient, _ in pairs).values() if n > 1)


def _site_rows(
    labels: npt.NDArray[np.int64],
    patients: Names | None,
    sites: Names | None,
    classes: Sequence[str],
) -> list[dict[str, Any]]:
    if sites is None:
        return []
    rows = []
    for site in sorted(set(sites)):
        inside = sites == site
        rows.append(
            {
                "site": str(site),
                "n_tiles": int(inside.sum()),
                "n_patients": None if patients is None else len(set(patients[inside])),
                "class_counts": _per_class(labels[inside], classes),
            }
        )
    return rows


def _groups(
    labels: npt.NDArray[np.int64], sites: Names | None
) -> list[tuple[int, str | None, Rows]]:
    """Return the rows of each class and site that has any, class by class."""
    names: list[str | None] = [None] if sites is None else sorted(set(sites))
    groups = []
    for label in np.unique(labels):
        for name in names:
            inside = labels == label
            if sites is not None:
                inside = inside & (sites == name)
            if inside.any():
                groups.append((int(label), name, np.flatnonzero(inside)))
    return groups


def _spread(rows: Rows, number: int) -> Rows:
    """Return up to ``number`` rows at even distances, so mostly of different slides."""
    places = (np.arange(number) + 0.5) / number * len(rows)
    return rows[np.unique(places.astype(np.intp))]
