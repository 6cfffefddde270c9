"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the real tiles and weights; a test that asks for it skips where it is absent."""
    default = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("FEATUREBENCH_SHARED", default))
    if not (folder / "data" / "glas_tiles" / "tiles.csv").is_file():
        pytest.skip(f"no shared data in {folder.name}/: set FEATUREBENCH_SHARED to its folder")
    return folder
