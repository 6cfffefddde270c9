"""Files of other programs, and the tiles that they are of, for the tests of foreign embeddings."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from featurebench.store import FeatureStore
from featurebench.tiles import TileManifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

DIM = 5
SLIDES = ("s1", "s2")
PER_SLIDE = 12
N = len(SLIDES) * PER_SLIDE
STEP = 512
MPP = 0.25
Matrix = npt.NDArray[Any]


def make_table() -> pd.DataFrame:
    place = np.tile(np.arange(PER_SLIDE), len(SLIDES))
    return pd.DataFrame(
        {
            "tile_id": [f"tile{i}" for i in range(N)],
            "path": [f"png/tile{i}.png" for i in range(N)],
            "label": ["a", "b"] * (N // 2),
            "slide_id": np.repeat(SLIDES, PER_SLIDE),
            "x": place % 4 * STEP,
            "y": place // 4 * STEP,
        }
    )


def make_manifest(folder: Path, table: pd.DataFrame | None = None) -> TileManifest:
    return TileManifest(make_table() if table is None else table, folder, ("a", "b"))


def make_store(folder: Path, manifest: TileManifest, name: str = "toy.store") -> FeatureStore:
    return FeatureStore.create(
        folder / name,
        manifest.table,
        dataset="toy",
        classes=manifest.classes,
        manifest_sha256=manifest.sha256,
    )


def true_rows() -> npt.NDArray[np.float32]:
    return np.random.default_rng(7).normal(size=(N, DIM)).astype(np.float32)


def rows_of(slide: str) -> slice:
    start = SLIDES.index(slide) * PER_SLIDE
    return slice(start, start + PER_SLIDE)


def write_slides(
    folder: Path,
    edit: Callable[[str, Matrix, Matrix], tuple[Matrix, Matrix]] = lambda _, f, c: (f, c),
    *,
    features: str = "features",
    attributes: Mapping[str, Any] | None = None,
    coord_attributes: Mapping[str, Any] | None = None,
) -> Path:
    """Write one file per slide, its tiles in another order than the manifest's."""
    folder.mkdir(exist_ok=True)
    table = make_table()
    order = np.random.default_rng(1).permutation(PER_SLIDE)
    for slide in SLIDES:
        coords = table[["x", "y"]].to_numpy(dtype=np.int32)[rows_of(slide)][order]
        feats, coords = edit(slide, true_rows()[rows_of(slide)][order], coords)
        with h5py.File(folder / f"{slide}.h5", "w") as file:
            file[features], file["coords"] = feats, coords
            file.attrs.update(attributes or {})
            file["coords"].attrs.update(coord_attributes or {})
    return folder


def write_stamp(folder: Path, scale: float = MPP, **attributes: Any) -> Path:
    """Write what STAMP writes: coordinates in micrometres, rounded to float32."""
    return write_slides(
        folder,
        lambda _, f, c: (f.astype(np.float16), (c * scale).astype(np.float32)),
        features="feats",
        attributes={"unit": "um", "extractor": "uni", "stamp_version": "2.1.0", **attributes},
    )


def write_eva(folder: Path, lines: list[list[str]] | None = None, *, as_list: bool = True) -> Path:
    (folder / "png").mkdir(parents=True, exist_ok=True)
    for i, row in enumerate(true_rows()):
        tensor = torch.from_numpy(row)
        torch.save([tensor] if as_list else tensor, folder / "png" / f"tile{i}.pt")
    usual = [[f"png/tile{i}.png", f"png/tile{i}.pt", "0", "train"] for i in reversed(range(N))]
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["origin", "embeddings", "target", "split"], *(lines or usual)])
    return folder


def write_npy(folder: Path, rows: Matrix, lines: list[list[str]]) -> Path:
    path = folder / "e.npy"
    np.save(path, rows, allow_pickle=True)
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    return path


def by_id(n: int = N) -> list[list[str]]:
    return [["tile_id"], *([f"tile{i}"] for i in range(n))]
