"""Extraction: every tile once, whatever happens in between."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from featurebench.backbones import Backbone
from featurebench.errors import ExtractionError, MissingRowsError, StoreMismatchError
from featurebench.extraction import ExtractionReport, extract, loop
from featurebench.store import FeatureStore
from featurebench.tiles import TileManifest, read_tile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

N_TILES = 22
BLOCK_ROWS = 8


class MeanColour:
    """Stands in for a network: an embedding is the tile's mean colour, then what a test wants."""

    device = "cpu"

    def __init__(self) -> None:
        self.state = b"frozen"
        self.n_embedded = 0
        self.recipe = {
            "model": "mean_colour",
            "tag": "none",
            "dim": 3,
            "weights_sha256": self.state_sha256(),
            "preprocessing": {},
        }

    def transform(self, image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)

    def embed(self, batch: torch.Tensor) -> npt.NDArray[np.float32]:
        self.n_embedded += len(batch)
        return cast("npt.NDArray[np.float32]", batch.mean(dim=(2, 3)).numpy())

    def state_sha256(self) -> str:
        return hashlib.sha256(self.state).hexdigest()


class Overflowing(MeanColour):
    """Embeds some tiles beyond what float16 holds, or as no number at all."""

    def embed(self, batch: torch.Tensor) -> npt.NDArray[np.float32]:
        rows = super().embed(batch)
        rows[0] = np.nan
        rows[1, 0] = 70_000
        return rows


class Drifting(MeanColour):
    """Changes its state while it embeds, as batch normalisation in training mode would."""

    def embed(self, batch: torch.Tensor) -> npt.NDArray[np.float32]:
        self.state += b"!"
        return super().embed(batch)


def backbone(kind: type[MeanColour] = MeanColour) -> Backbone:
    return cast("Backbone", kind())


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loop.BLOCK_ROWS, "cpu", BLOCK_ROWS)


@pytest.fixture
def manifest(tmp_path: Path) -> TileManifest:
    generator = np.random.default_rng(0)
    for row in range(N_TILES):
        folder = tmp_path / "tiles" / "ab"[row % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{row:02d}.png")
    return TileManifest.from_folder(tmp_path / "tiles")


@pytest.fixture
def store(tmp_path: Path, manifest: TileManifest) -> FeatureStore:
    return new_store(tmp_path / "toy.store", manifest)


def new_store(path: Path, manifest: TileManifest) -> FeatureStore:
    return FeatureStore.create(
        path,
        manifest.table,
        dataset="toy",
        classes=manifest.classes,
        manifest_sha256=manifest.sha256,
    )


def mean_colours(manifest: TileManifest) -> npt.NDArray[np.float16]:
    means = [np.array(read_tile(manifest.path_of(row))).mean(axis=(0, 1)) for row in range(N_TILES)]
    return np.array(means).astype(np.float16)


def spoil(manifest: TileManifest, *rows: int) -> dict[int, bytes]:
    """Cut these tiles off in the middle; return what they were."""
    whole = {row: manifest.path_of(row).read_bytes() for row in rows}
    for row, content in whole.items():
        manifest.path_of(row).write_bytes(content[: len(content) // 2])
    return whole


def test_every_tile_is_in_its_row(manifest: TileManifest, store: FeatureStore) -> None:
    told: list[int] = []
    report = extract(manifest, backbone(), store, batch_size=3, progress=told.append)
    np.testing.assert_array_equal(store.load(report.embedding), mean_colours(manifest))
    assert (report.n_blocks_done, report.n_blocks_cached, report.refused) == (3, 0, ())
    assert told == [3, 3, 2, 3, 3, 2, 3, 3]


def test_a_real_network_gives_what_timm_gives(manifest: TileManifest, store: FeatureStore) -> None:
    network = Backbone.load("resnet18", weights="random", preprocessing={"input_size": 64})
    report = extract(manifest, network, store, batch_size=5)
    plain = timm.create_model("resnet18", num_classes=0)
    plain.load_state_dict(network.network.state_dict())
    plain.eval()
    tiles = [network.transform(read_tile(manifest.path_of(row))) for row in range(N_TILES)]
    with torch.no_grad():
        expected = plain(torch.stack(tiles)).numpy()
    found = store.load(report.embedding)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4)


def test_a_second_run_touches_no_tile(manifest: TileManifest, store: FeatureStore) -> None:
    first = extract(manifest, backbone(), store)
    for row in range(N_TILES):
        manifest.path_of(row).unlink()
    told: list[int] = []
    second = extract(manifest, backbone(), store, progress=told.append)
    assert (second.n_blocks_done, second.n_blocks_cached) == (0, 3)
    assert second.embedding == first.embedding
    assert second.cost == first.cost
    assert told == []


def test_other_weights_get_their_own_array(manifest: TileManifest, store: FeatureStore) -> None:
    extract(manifest, backbone(), store)
    other = MeanColour()
    other.state = b"other"
    other.recipe["weights_sha256"] = other.state_sha256()
    report = extract(manifest, cast("Backbone", other), store)
    assert report.n_blocks_done == 3
    assert len(store.embeddings()) == 2


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("after_batches", [1, 2, 3, 5])
def test_a_resumed_run_equals_an_undisturbed_one(
    tmp_path: Path,
    manifest: TileManifest,
    store: FeatureStore,
    interruption: type[BaseException],
    after_batches: int,
) -> None:
    network = Backbone.load("mobilenetv2_050", weights="random", preprocessing={"input_size": 32})
    batches = iter(range(1, 100))

    def interrupt(_n_tiles: int) -> None:
        if next(batches) == after_batches:
            raise interruption

    with pytest.raises(interruption):
        extract(manifest, network, store, batch_size=5, progress=interrupt)
    resumed = extract(manifest, network, store, batch_size=5)
    # Two batches a block, and the interrupting batch's block is lost.
    assert resumed.n_blocks_cached == (after_batches - 1) // 2
    other = new_store(tmp_path / "undisturbed.store", manifest)
    extract(manifest, network, other, batch_size=5)
    np.testing.assert_array_equal(store.load(resumed.embedding), other.load(resumed.embedding))
    assert store.verify() == []


def test_a_bad_tile_is_named_and_the_rest_goes_on(
    manifest: TileManifest, store: FeatureStore
) -> None:
    expected = np.delete(mean_colours(manifest), [4], axis=0)
    spoil(manifest, 4)
    report = extract(manifest, backbone(), store, max_bad_tiles=0.05)
    (refusal,) = report.refused
    assert (refusal.row, refusal.tile_id) == (4, manifest.table["tile_id"].iloc[4])
    assert "does not decode" in refusal.reason
    found = store.load(report.embedding, np.delete(np.arange(N_TILES), [4]))
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(MissingRowsError):
        store.load(report.embedding)


def test_a_batch_of_bad_tiles_only(manifest: TileManifest, store: FeatureStore) -> None:
    spoil(manifest, *range(8))
    report = extract(manifest, backbone(), store, batch_size=4, max_bad_tiles=0.5)
    assert [refusal.row for refusal in report.refused] == list(range(8))


def test_too_many_bad_tiles_stop_the_run_early(manifest: TileManifest, store: FeatureStore) -> None:
    spoil(manifest, 3, 9, 10, 20)
    stub = MeanColour()
    with pytest.raises(ExtractionError) as caught:
        extract(manifest, cast("Backbone", stub), store, batch_size=4, max_bad_tiles=0.1)
    message = str(caught.value)
    ids = manifest.table["tile_id"]
    assert message.startswith("3 of 22 tiles (13.64%) cannot be embedded, more than max_bad_tiles ")
    assert all(f"{ids.iloc[row]}: the image does not decode" in message for row in (3, 9, 10))
    assert "mend these tiles and run again, or raise max_bad_tiles" in message
    assert "\n" not in message
    # Rows 12 to 21 were not looked at, and the first block stays.
    assert stub.n_embedded == 9
    spec = store.embeddings()[0]
    assert [block.index for block in store.pending(spec)] == [1, 2]


def test_bad_tiles_of_earlier_runs_count(manifest: TileManifest, store: FeatureStore) -> None:
    spoil(manifest, 3, 9)
    extract(manifest, backbone(), store, max_bad_tiles=0.1)
    with pytest.raises(ExtractionError, match="2 of 22 tiles"):
        extract(manifest, backbone(), store, max_bad_tiles=0.05)
    assert extract(manifest, backbone(), store, max_bad_tiles=0.1).n_blocks_cached == 3


def test_mended_tiles_are_embedded_after_a_stop(
    manifest: TileManifest, store: FeatureStore
) -> None:
    expected = mean_colours(manifest)
    whole = spoil(manifest, 3, 9, 10)
    with pytest.raises(ExtractionError, match="3 of 22 tiles"):
        extract(manifest, backbone(), store, max_bad_tiles=0.1)
    for row, content in whole.items():
        manifest.path_of(row).write_bytes(content)
    report = extract(manifest, backbone(), store, max_bad_tiles=0)
    assert report.refused == ()
    np.testing.assert_array_equal(store.load(report.embedding), expected)


def test_embeddings_that_are_not_finite_are_refused(
    manifest: TileManifest, store: FeatureStore
) -> None:
    report = extract(manifest, backbone(Overflowing), store, batch_size=8, max_bad_tiles=0.5)
    assert [refusal.row for refusal in report.refused] == [0, 1, 8, 9, 16, 17]
    assert {refusal.reason for refusal in report.refused} == {"embedding is not finite"}
    assert np.isfinite(store.load(report.embedding, np.array([2, 10, 18]))).all()


def test_not_finite_embeddings_stay_refused_when_tiles_are_mended(
    manifest: TileManifest, store: FeatureStore
) -> None:
    extract(manifest, backbone(Overflowing), store, batch_size=8, max_bad_tiles=0.5)
    with pytest.raises(ExtractionError, match=r"6 of 22 tiles .*: embedding is not finite"):
        extract(manifest, backbone(Overflowing), store, batch_size=8, max_bad_tiles=0.1)
    assert store.pending(store.embeddings()[0]) == []


def test_a_network_that_changes_commits_nothing(
    manifest: TileManifest, store: FeatureStore
) -> None:
    with pytest.raises(ExtractionError, match="mean_colour changed since it was loaded"):
        extract(manifest, backbone(Drifting), store)
    assert len(store.pending(store.embeddings()[0])) == 3


def test_a_network_that_changed_before_reads_no_tile(
    manifest: TileManifest, store: FeatureStore
) -> None:
    stub = MeanColour()
    stub.state = b"touched"
    with pytest.raises(ExtractionError, match="so it is not frozen; load the backbone anew"):
        extract(manifest, cast("Backbone", stub), store)
    assert stub.n_embedded == 0


def test_a_store_of_other_tiles_is_refused(manifest: TileManifest, store: FeatureStore) -> None:
    fewer = manifest.take(range(N_TILES - 1))
    with pytest.raises(StoreMismatchError, match=r"22 tiles\) than these .* 21 tiles"):
        extract(fewer, backbone(), store)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, b, s: extract(m, b, s, batch_size=0), "batch_size 0 is not positive"),
        (lambda m, b, s: extract(m, b, s, workers=-1), "workers -1 is negative"),
        (lambda m, b, s: extract(m, b, s, max_bad_tiles=1.5), "max_bad_tiles 1.5 is not a share"),
    ],
)
def test_impossible_arguments_are_refused(
    manifest: TileManifest,
    store: FeatureStore,
    call: Callable[[TileManifest, Backbone, FeatureStore], ExtractionReport],
    message: str,
) -> None:
    with pytest.raises(ExtractionError, match=message):
        call(manifest, backbone(), store)


def test_two_extractors_share_the_work(manifest: TileManifest, store: FeatureStore) -> None:
    """A second one does the rest while the first is in its second block."""
    reports: list[ExtractionReport] = []
    second = FeatureStore.open(store.path)

    def overtake(_n_tiles: int) -> None:
        if len(store.pending(store.embeddings()[0])) == 2 and not reports:
            reports.append(extract(manifest, backbone(), second))

    first = extract(manifest, backbone(), store, progress=overtake)
    assert (first.n_blocks_done, first.n_blocks_cached) == (1, 2)
    assert reports[0].n_blocks_done == 2
    np.testing.assert_array_equal(store.load(first.embedding), mean_colours(manifest))
    assert store.verify() == []


def test_cost_is_recorded(manifest: TileManifest, store: FeatureStore) -> None:
    report = extract(manifest, backbone(), store)
    assert set(report.cost) == {"wall_s", "cpu_s", "gpu_s", "peak_memory_mb"}
    assert report.cost["wall_s"] > 0
    assert report.cost["cpu_s"] > 0
    assert report.cost["gpu_s"] == 0
    assert report.cost["peak_memory_mb"] > 50


@pytest.mark.slow
def test_workers_change_nothing(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    network = Backbone.load("mobilenetv2_050", weights="random", preprocessing={"input_size": 32})
    spoil(manifest, 12)
    alone = extract(manifest, network, store, batch_size=3, max_bad_tiles=0.1)
    other = new_store(tmp_path / "workers.store", manifest)
    helped = extract(manifest, network, other, batch_size=3, max_bad_tiles=0.1, workers=2)
    rows = np.delete(np.arange(N_TILES), 12)
    assert helped.refused == alone.refused
    np.testing.assert_array_equal(
        other.load(helped.embedding, rows), store.load(alone.embedding, rows)
    )
    assert helped.cost["cpu_s"] > alone.cost["cpu_s"]
