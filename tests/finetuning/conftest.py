"""Tiny cohorts whose class is a colour, and a network small enough to learn it in seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from featurebench.splits import SplitPlan
from featurebench.tiles import TileManifest

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = np.array([[200, 90, 150], [110, 90, 200], [120, 170, 90]])
MakeCohort = Callable[..., TileManifest]


@pytest.fixture
def make_cohort(tmp_path: Path) -> MakeCohort:
    """Write tiles of noise around the class's colour; a patient has tiles of one class."""

    def make(
        *, patients: int = 12, tiles: int = 4, classes: int = 2, size: int = 32
    ) -> TileManifest:
        rng = np.random.default_rng(0)
        root = tmp_path / "cohort"
        root.mkdir()
        rows = []
        for patient in range(patients):
            label = patient % classes
            for tile in range(tiles):
                noise = rng.normal(0, 25, (size, size, 3))
                pixels = (COLOURS[label] + noise).clip(0, 255).astype(np.uint8)
                name = f"t{patient:02d}_{tile}"
                Image.fromarray(pixels).save(root / f"{name}.png")
                rows.append((name, f"{name}.png", f"class{label}", f"p{patient:02d}"))
        table = pd.DataFrame(rows, columns=["tile_id", "path", "label", "patient_id"])
        return TileManifest(table, root, tuple(f"class{c}" for c in range(classes)), ())

    return make


def codes(manifest: TileManifest) -> npt.NDArray[np.int64]:
    """Patient code of every tile."""
    return pd.factorize(manifest.table["patient_id"])[0].astype(np.int64)


@pytest.fixture
def patient_codes() -> Callable[[TileManifest], npt.NDArray[np.int64]]:
    return codes


@pytest.fixture
def draw_plan() -> Callable[..., SplitPlan]:
    def draw(manifest: TileManifest, *, folds: int = 3, repeats: int = 1) -> SplitPlan:
        ids = manifest.table["tile_id"].to_numpy(dtype=np.str_)
        return SplitPlan.draw(
            manifest.labels, codes(manifest), folds=folds, repeats=repeats, tile_ids=ids
        )

    return draw
