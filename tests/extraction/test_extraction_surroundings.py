"""What is around an extraction: other recipes, wrong clocks, bad tiles, numbers that are none."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from extraction_cases import (
    MeanColour,
    as_backbone,
    extract_one,
    new_manifest,
    new_store,
    settings,
)
from fork_cases import picture
from PIL import Image
from reader_cases import SIDE, Pixels

from featurebench.backbones import Backbone
from featurebench.errors import ExtractionError
from featurebench.extraction import extract
from featurebench.store import EmbeddingSpec, FeatureStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from featurebench.backbones.taps import Tap
    from featurebench.tiles import TileManifest

YEAR_S = 365 * 86_400.0


@pytest.fixture
def manifest(tmp_path: Path) -> TileManifest:
    return new_manifest(tmp_path / "tiles")


@pytest.fixture
def store(tmp_path: Path, manifest: TileManifest) -> FeatureStore:
    return new_store(tmp_path / "toy.store", manifest)


@pytest.mark.parametrize(
    "change",
    [
        {"weights_sha256": "ab" * 32},
        {"preprocessing": {"mean": [0.5, 0.5, 0.5]}},
        {"preprocessing": {"std": [0.5, 0.5, 0.5]}},
        {"preprocessing": {"interpolation": "nearest"}},
        {"precision": "bfloat16"},
        {"layer": "layer3"},
    ],
    ids=["weights", "mean", "std", "interpolation", "precision", "layer"],
)
def test_another_recipe_is_another_array(
    manifest: TileManifest, store: FeatureStore, change: dict[str, Any]
) -> None:
    first = extract_one(manifest, as_backbone(), store, blocks={0, 1}.__contains__)
    before = picture(store.path)
    changed = as_backbone(**change)
    # what is hashed before each block is the network's state, whatever was recorded at first
    changed.frozen.state_sha256 = lambda: changed.recipe["weights_sha256"]  # type: ignore[method-assign]
    second = extract_one(manifest, changed, store)
    assert (second.n_blocks_done, second.n_blocks_cached) == (3, 0)
    assert set(store.embeddings()) == {first.spec, second.spec}
    assert [block.index for block in store.pending(first.spec)] == [2]
    after = picture(store.path)
    assert {name: after[name] for name in before} == before
    assert store.verify() == []


def test_whatever_changes_the_numbers_changes_the_name(tmp_path: Path) -> None:
    model, small = "mobilenetv2_050", {"input_size": 32}
    state = Backbone.load(model, weights="random", preprocessing=small).network.state_dict()
    names = set()
    for nudge in (0.0, 1e-6):
        with torch.no_grad():
            state["conv_stem.weight"][0, 0, 0, 0] += nudge
        torch.save(state, tmp_path / f"{nudge}.pth")
        changes: list[dict[str, Any]] = [{}, {"mean": 0.5}, {"std": 0.5}]
        changes += [{"interpolation": "nearest"}, {"crop_pct": 0.5}]
        for change in changes:
            backbone = Backbone.load(
                model, weights=str(tmp_path / f"{nudge}.pth"), preprocessing={**small, **change}
            )
            names.add(EmbeddingSpec(**backbone.recipe).name)
    assert len(names) == 10


def test_wrong_clocks_change_neither_order_nor_cost(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, now_ns = time.time, time.time_ns
    for block, skew_s in enumerate([0.0, YEAR_S, -YEAR_S]):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda skew_s=skew_s: now() + skew_s)
            patch.setattr(time, "time_ns", lambda skew_s=skew_s: now_ns() + int(skew_s * 1e9))
            again = FeatureStore.open(store.path)
            report = extract_one(
                manifest, as_backbone(), again, blocks={block}.__contains__, batch_size=3
            )
        assert (report.n_blocks_done, report.n_blocks_cached) == (1, block)
        assert all(0 <= value < 1e6 for value in report.cost.values())
        assert report.cost["wall_s"] < 3600
    calm = new_store(tmp_path / "calm.store", manifest)
    extract(manifest, as_backbone(), calm, settings())
    assert picture(store.path) == picture(calm.path)
    assert store.verify() == []


def spoil_in_seven_ways(manifest: TileManifest) -> list[int]:
    rows = list(range(100, 2900, 400))
    paths = [manifest.path_of(row) for row in rows]
    paths[0].write_bytes(b"")
    paths[1].write_bytes(paths[1].read_bytes()[:60])
    paths[2].write_text("no image")
    paths[3].unlink()
    Image.fromarray(np.zeros((8, 8), dtype=np.uint16)).save(paths[4])
    paths[5].write_bytes(paths[5].read_bytes()[:8] + bytes(99))
    content = bytearray(paths[6].read_bytes())
    content[content.index(b"IDAT") + 9] ^= 255
    paths[6].write_bytes(content)
    return rows


def test_seven_bad_files_of_thousands_are_refused_by_name(tmp_path: Path) -> None:
    manifest = new_manifest(tmp_path / "tiles", 3000, side=8)
    rows = spoil_in_seven_ways(manifest)
    store = new_store(tmp_path / "toy.store", manifest)
    network = as_backbone(prepare=Pixels(shape=(8, 8, 3)))
    how = {"block_rows": 512, "batch_size": 64}
    report = extract_one(manifest, network, store, max_bad_tiles=7 / 3000, **how)
    assert [refusal.row for refusal in report.refused] == rows
    ids = manifest.table["tile_id"]
    assert [refusal.tile_id for refusal in report.refused] == [ids.iloc[row] for row in rows]
    starts = [
        "the file is empty",
        "the image does not decode",
        "not a PNG, JPEG or TIFF image",
        "the file is missing",
        "16-bit samples are not supported",
        "the image is 0 x 0 pixels",
        "the image does not decode",
    ]
    for refusal, start in zip(report.refused, starts, strict=True):
        assert refusal.reason.startswith(start)
    good = np.setdiff1d(np.arange(3000), rows)
    assert np.isfinite(store.load(report.spec, good)).all()
    other = new_store(tmp_path / "strict.store", manifest)
    with pytest.raises(ExtractionError, match=r"7 of 3000 tiles \(0\.23%\) cannot be embedded"):
        extract_one(manifest, network, other, max_bad_tiles=6.5 / 3000, **how)


NUMBERS: dict[str, tuple[Sequence[float], bool]] = {
    "not a number": ((np.nan, 1.0, 2.0), False),
    "not a number at the end": ((1.0, 2.0, np.nan), False),
    "infinite": ((1.0, np.inf, 2.0), False),
    "infinite below": ((1.0, -np.inf, 2.0), False),
    "beyond float16": ((70_000.0, 1.0, 2.0), False),
    "beyond float16 below": ((1.0, -70_000.0, 2.0), False),
    "the largest of float16": ((65_504.0, -65_504.0, 0.0), True),
    "smaller than float16 knows": ((1e-12, -1e-12, 1.0), True),
    "all zero": ((0.0, 0.0, 0.0), True),
    "constant": ((5.0, 5.0, 5.0), True),
}


class Numbers(MeanColour):
    """Embeds a tile of one colour as the numbers that the colour stands for."""

    def run(self, pixels: torch.Tensor, taps: Sequence[Tap]) -> list[torch.Tensor]:
        rows = torch.tensor([numbers for numbers, _ in NUMBERS.values()])
        return [rows[pixels[:, 0, 0, 0].long()] for _ in taps]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_no_number_that_is_none_is_stored(tmp_path: Path, dtype: str) -> None:
    """Rows of zeros are stored as they are: a network with ReLU may mean them."""
    manifest = new_manifest(tmp_path / "tiles", len(NUMBERS))
    for row in range(len(NUMBERS)):
        Image.new("RGB", (SIDE, SIDE), (row, 0, 0)).save(manifest.path_of(row))
    store = new_store(tmp_path / "toy.store", manifest)
    report = extract_one(
        manifest, as_backbone(Numbers(), dtype=dtype), store, batch_size=4, max_bad_tiles=0.6
    )
    fine = [
        at
        for at, (numbers, stored) in enumerate(NUMBERS.values())
        if stored or (dtype == "float32" and np.isfinite(numbers).all())
    ]
    refused = np.setdiff1d(np.arange(len(NUMBERS)), fine)
    assert [refusal.row for refusal in report.refused] == refused.tolist()
    assert {refusal.reason for refusal in report.refused} == {"embedding is not finite"}
    expected: npt.NDArray[Any] = np.array([numbers for numbers, _ in NUMBERS.values()])[fine]
    found = store.load(report.spec, np.array(fine))
    np.testing.assert_array_equal(found, expected.astype(dtype))
    assert store.verify() == []
