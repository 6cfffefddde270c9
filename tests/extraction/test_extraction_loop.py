"""Extraction: every tile once, whatever happens in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import torch
from extraction_cases import (
    BLOCK_ROWS,
    N_TILES,
    Cramped,
    Drifting,
    MeanColour,
    Overflowing,
    as_backbone,
    extract_one,
    mean_colours,
    new_manifest,
    new_store,
    settings,
    spoil,
)

from featurebench.backbones import Backbone, normalise
from featurebench.errors import ExtractionError, MissingRowsError, StoreMismatchError
from featurebench.extraction import ExtractionReport, Settings, extract
from featurebench.store import EmbeddingSpec, FeatureStore
from featurebench.tiles import TileManifest, read_tile

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def manifest(tmp_path: Path) -> TileManifest:
    return new_manifest(tmp_path / "tiles")


@pytest.fixture
def store(tmp_path: Path, manifest: TileManifest) -> FeatureStore:
    return new_store(tmp_path / "toy.store", manifest)


def test_every_tile_is_in_its_row(manifest: TileManifest, store: FeatureStore) -> None:
    told: list[int] = []
    report = extract(
        manifest,
        as_backbone(),
        store,
        settings(batch_size=3),
        progress=lambda n, _bound: told.append(n),
    )
    (embedding,) = report.embeddings
    np.testing.assert_array_equal(store.load(embedding.spec), mean_colours(manifest))
    assert (embedding.n_blocks_done, embedding.n_blocks_cached, embedding.refused) == (3, 0, ())
    assert (report.n_tiles, report.is_complete) == (N_TILES, True)
    assert told == [3, 3, 2, 3, 3, 2, 3, 3]


def test_a_real_network_gives_what_timm_gives(manifest: TileManifest, store: FeatureStore) -> None:
    network = Backbone.load("resnet18", weights="random", preprocessing={"input_size": 64})
    report = extract(manifest, network, store, settings(batch_size=5))
    plain = timm.create_model("resnet18", num_classes=0)
    plain.load_state_dict(network.network.state_dict())
    plain.eval()
    tiles = [network.prepare(read_tile(manifest.path_of(row))) for row in range(N_TILES)]
    config = network.preprocessing
    with torch.no_grad():
        pixels = normalise(torch.from_numpy(np.stack(tiles)), config["mean"], config["std"])
        expected = plain(pixels).numpy()
    found = store.load(report.embeddings[0].spec)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4)


def test_a_second_run_touches_no_tile(manifest: TileManifest, store: FeatureStore) -> None:
    (first,) = extract(manifest, as_backbone(), store, settings()).embeddings
    for row in range(N_TILES):
        manifest.path_of(row).unlink()
    report = extract(manifest, as_backbone(), store, settings())
    (second,) = report.embeddings
    assert (second.n_blocks_done, second.n_blocks_cached) == (0, 3)
    assert second.spec == first.spec
    assert second.cost == first.cost
    assert report.n_tiles == 0


def test_other_weights_get_their_own_array(manifest: TileManifest, store: FeatureStore) -> None:
    extract(manifest, as_backbone(), store, settings())
    report = extract_one(manifest, as_backbone(MeanColour(b"other")), store)
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

    def interrupt(_n_tiles: int, _bound: str) -> None:
        if next(batches) == after_batches:
            raise interruption

    with pytest.raises(interruption):
        extract(manifest, network, store, settings(batch_size=5), progress=interrupt)
    (resumed,) = extract(manifest, network, store, settings(batch_size=5)).embeddings
    # Two batches a block, and the interrupting batch's block is lost.
    assert resumed.n_blocks_cached == (after_batches - 1) // 2
    other = new_store(tmp_path / "undisturbed.store", manifest)
    extract(manifest, network, other, settings(batch_size=5))
    np.testing.assert_array_equal(store.load(resumed.spec), other.load(resumed.spec))
    assert store.verify() == []


def test_a_bad_tile_is_named_and_the_rest_goes_on(
    manifest: TileManifest, store: FeatureStore
) -> None:
    expected = np.delete(mean_colours(manifest), [4], axis=0)
    spoil(manifest, 4)
    report = extract_one(manifest, as_backbone(), store, max_bad_tiles=0.05)
    (refusal,) = report.refused
    assert (refusal.row, refusal.tile_id) == (4, manifest.table["tile_id"].iloc[4])
    assert "does not decode" in refusal.reason
    found = store.load(report.spec, np.delete(np.arange(N_TILES), [4]))
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(MissingRowsError):
        store.load(report.spec)


def test_a_batch_of_bad_tiles_only(manifest: TileManifest, store: FeatureStore) -> None:
    spoil(manifest, *range(8))
    (report,) = extract(
        manifest, as_backbone(), store, settings(batch_size=4, max_bad_tiles=0.5)
    ).embeddings
    assert [refusal.row for refusal in report.refused] == list(range(8))


def test_too_many_bad_tiles_stop_the_run_early(manifest: TileManifest, store: FeatureStore) -> None:
    spoil(manifest, 3, 9, 10, 20)
    stub = MeanColour()
    with pytest.raises(ExtractionError) as caught:
        extract(manifest, as_backbone(stub), store, settings(batch_size=4, max_bad_tiles=0.1))
    message = str(caught.value)
    ids = manifest.table["tile_id"]
    assert message.startswith("3 of 22 tiles (13.64%) cannot be embedded, more than max_bad_tiles ")
    assert all(f"{ids.iloc[row]}: the image does not decode" in message for row in (3, 9, 10))
    assert "mend these tiles and run again, or raise max_bad_tiles" in message
    assert "\n" not in message
    # Rows 16 to 21 were not looked at (a batch is on its way when the one before is told bad),
    # and the first block stays.
    assert stub.n_embedded == 13
    spec = store.embeddings()[0]
    assert [block.index for block in store.pending(spec)] == [1, 2]


def test_bad_tiles_of_earlier_runs_count(manifest: TileManifest, store: FeatureStore) -> None:
    spoil(manifest, 3, 9)
    extract(manifest, as_backbone(), store, settings(max_bad_tiles=0.1))
    with pytest.raises(ExtractionError, match="2 of 22 tiles"):
        extract(manifest, as_backbone(), store, settings(max_bad_tiles=0.05))
    assert (
        extract(manifest, as_backbone(), store, settings(max_bad_tiles=0.1))
        .embeddings[0]
        .n_blocks_cached
        == 3
    )


def test_mended_tiles_are_embedded_after_a_stop(
    manifest: TileManifest, store: FeatureStore
) -> None:
    expected = mean_colours(manifest)
    whole = spoil(manifest, 3, 9, 10)
    with pytest.raises(ExtractionError, match="3 of 22 tiles"):
        extract(manifest, as_backbone(), store, settings(max_bad_tiles=0.1))
    for row, content in whole.items():
        manifest.path_of(row).write_bytes(content)
    report = extract_one(manifest, as_backbone(), store, max_bad_tiles=0)
    assert report.refused == ()
    np.testing.assert_array_equal(store.load(report.spec), expected)


def test_embeddings_that_are_not_finite_are_refused(
    manifest: TileManifest, store: FeatureStore
) -> None:
    (report,) = extract(
        manifest, as_backbone(Overflowing()), store, settings(batch_size=8, max_bad_tiles=0.5)
    ).embeddings
    assert [refusal.row for refusal in report.refused] == [0, 1, 8, 9, 16, 17]
    assert {refusal.reason for refusal in report.refused} == {"embedding is not finite"}
    assert np.isfinite(store.load(report.spec, np.array([2, 10, 18]))).all()


def test_not_finite_embeddings_stay_refused_when_tiles_are_mended(
    manifest: TileManifest, store: FeatureStore
) -> None:
    extract(manifest, as_backbone(Overflowing()), store, settings(batch_size=8, max_bad_tiles=0.5))
    with pytest.raises(ExtractionError, match=r"6 of 22 tiles .*: embedding is not finite"):
        extract(
            manifest, as_backbone(Overflowing()), store, settings(batch_size=8, max_bad_tiles=0.1)
        )
    assert store.pending(store.embeddings()[0]) == []


def test_a_network_that_changes_commits_nothing(
    manifest: TileManifest, store: FeatureStore
) -> None:
    with pytest.raises(ExtractionError, match="mean_colour changed since it was loaded"):
        extract(manifest, as_backbone(Drifting()), store, settings())
    assert len(store.pending(store.embeddings()[0])) == 3


def test_a_network_that_changed_before_reads_no_tile(
    manifest: TileManifest, store: FeatureStore
) -> None:
    stub = MeanColour()
    network = as_backbone(stub)
    store.add(EmbeddingSpec(**network.recipe), block_rows=BLOCK_ROWS)
    stub.state = b"touched"
    with pytest.raises(ExtractionError, match="so it is not frozen; load the backbone anew"):
        extract(manifest, network, store, settings())
    assert stub.n_embedded == 0


def test_a_store_of_other_tiles_is_refused(manifest: TileManifest, store: FeatureStore) -> None:
    fewer = manifest.take(range(N_TILES - 1))
    with pytest.raises(StoreMismatchError, match=r"22 tiles\) than these .* 21 tiles"):
        extract(fewer, as_backbone(), store)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size 0 is not positive"),
        ({"block_rows": -2}, "block_rows -2 is not positive"),
        ({"workers": -1}, "workers -1 is negative"),
        ({"max_bad_tiles": 1.5}, "max_bad_tiles 1.5 is not a share"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ExtractionError, match=message):
        Settings(**changes)


def test_two_extractors_share_the_work(manifest: TileManifest, store: FeatureStore) -> None:
    """A second one does what the first has not claimed yet, while the first is at work."""
    reports: list[ExtractionReport] = []
    second = FeatureStore.open(store.path)
    alone = settings(batch_size=8, wait=False)

    def overtake(_n_tiles: int, _bound: str) -> None:
        if not reports:
            reports.append(extract(manifest, as_backbone(), second, alone))

    report = extract(manifest, as_backbone(), store, settings(batch_size=8), progress=overtake)
    (embedding,) = report.embeddings
    n_done = [r.embeddings[0].n_blocks_done for r in (report, reports[0])]
    assert sum(n_done) == 3
    assert report.is_complete
    np.testing.assert_array_equal(store.load(embedding.spec), mean_colours(manifest))
    assert store.verify() == []


def test_a_share_of_the_blocks_is_left_alone(manifest: TileManifest, store: FeatureStore) -> None:
    report = extract(manifest, as_backbone(), store, settings(blocks={0, 2}.__contains__))
    (embedding,) = report.embeddings
    assert [block.index for block in store.pending(embedding.spec)] == [1]
    assert (embedding.n_blocks_done, report.is_complete) == (2, False)


def test_a_batch_that_does_not_fit_is_halved(manifest: TileManifest, store: FeatureStore) -> None:
    told: list[str] = []
    (report,) = extract(
        manifest, as_backbone(Cramped()), store, settings(batch_size=8), say=told.append
    ).embeddings
    np.testing.assert_array_equal(store.load(report.spec), mean_colours(manifest))
    assert told == [
        "out of memory on cpu: batches of 4 tiles from here on",
        "out of memory on cpu: batches of 2 tiles from here on",
    ]


def test_a_tile_that_does_not_fit_alone_is_told(
    manifest: TileManifest, store: FeatureStore
) -> None:
    cramped = Cramped()
    cramped.capacity = 0
    with pytest.raises(ExtractionError, match="one tile does not fit into the memory of cpu"):
        extract(manifest, as_backbone(cramped), store, settings())


def test_cost_is_recorded(manifest: TileManifest, store: FeatureStore) -> None:
    report = extract_one(manifest, as_backbone(), store)
    known = {"wall_s", "cpu_s", "gpu_s", "work_s", "peak_memory_mb", "peak_gpu_memory_mb"}
    assert known <= set(report.cost) <= known | {"bytes_read", "energy_j"}
    assert report.cost["peak_gpu_memory_mb"] == 0
    assert report.cost["wall_s"] > 0
    assert report.cost["cpu_s"] > 0
    assert report.cost["gpu_s"] == 0
    assert report.cost["peak_memory_mb"] > 50


def test_workers_change_nothing(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    network = Backbone.load("mobilenetv2_050", weights="random", preprocessing={"input_size": 32})
    spoil(manifest, 12)
    how = {"batch_size": 3, "max_bad_tiles": 0.1}
    (alone,) = extract(manifest, network, store, settings(**how)).embeddings
    other = new_store(tmp_path / "workers.store", manifest)
    (helped,) = extract(manifest, network, other, settings(**how, workers=2)).embeddings
    rows = np.delete(np.arange(N_TILES), 12)
    assert helped.refused == alone.refused
    np.testing.assert_array_equal(other.load(helped.spec, rows), store.load(alone.spec, rows))
