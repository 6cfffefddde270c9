"""Extractors set off at the same moment on one store: each block is committed by one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from extraction_cases import mean_colours
from fork_cases import BLOCK_ROWS, N_BLOCKS, N_TILES
from test_extraction_kills import drive

from featurebench.store import FeatureStore
from featurebench.tiles import TileManifest

if TYPE_CHECKING:
    from pathlib import Path

# A block that one process is about to commit may be begun by the other: seldom, and a few at most.
WASTED = 3 * BLOCK_ROWS


@pytest.mark.parametrize(
    "sets",
    [
        pytest.param(["a", "a"], id="the same"),
        pytest.param(["a,b", "b,c"], id="one in common"),
        pytest.param(["a,b,c", "c,a", "b"], id="three processes"),
    ],
)
def test_extractors_share_one_store(tmp_path: Path, sets: list[str]) -> None:
    found = drive("race", tmp_path, *sets)
    facts, names = found["facts"], {name for part in sets for name in part.split(",")}
    for name in names:
        ours = [part[name] for part in facts if name in part]
        assert sum(part["committed"] for part in ours) == N_BLOCKS
        assert N_TILES <= sum(part["embedded"] for part in ours) <= N_TILES + WASTED
    store = FeatureStore.open(tmp_path / "race.store")
    assert {spec.tag for spec in store.embeddings()} == names
    expected = mean_colours(TileManifest.from_folder(tmp_path / "tiles"))
    for spec in store.embeddings():
        np.testing.assert_array_equal(store.load(spec), expected)
    assert (store.verify(), found["left"]) == ([], [])
