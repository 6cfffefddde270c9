"""Extractors set off at the same moment on one store: each block is committed by one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from extraction_cases import mean_colours
from fork_cases import BLOCK_ROWS, N_BLOCKS, N_TILES
from test_extraction_kills import drive

from featurebench.store import FeatureStore
from featurebench.tiles import TileManifest

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

# A block that one process is about to commit may be begun by the other: seldom, and a few at most.
WASTED = 3 * BLOCK_ROWS


RACES = {"a/a": "the same", "a,b/b,c": "one in common", "a,b,c/c,a/b": "three processes"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("races")


@pytest.fixture(scope="module")
def run(folder: Path) -> dict[str, Any]:
    return drive("race", folder, *RACES)


@pytest.fixture(scope="module")
def expected(folder: Path, run: object) -> npt.NDArray[np.float16]:
    return mean_colours(TileManifest.from_folder(folder / "tiles"))


@pytest.mark.parametrize("race", RACES, ids=RACES.values())
def test_extractors_share_one_store(
    folder: Path, run: dict[str, Any], expected: npt.NDArray[np.float16], race: str
) -> None:
    facts, names = run[race]["facts"], set(race.replace("/", ",").split(","))
    for name in names:
        ours = [part[name] for part in facts if name in part]
        assert sum(part["committed"] for part in ours) == N_BLOCKS
        assert N_TILES <= sum(part["embedded"] for part in ours) <= N_TILES + WASTED
    store = FeatureStore.open(folder / race.replace("/", "-") / "race.store")
    assert {spec.tag for spec in store.embeddings()} == names
    for spec in store.embeddings():
        np.testing.assert_array_equal(store.load(spec), expected)
    assert (store.verify(), run[race]["left"]) == ([], [])
