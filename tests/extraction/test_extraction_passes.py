"""One pass: each tile read once, each network run once, and the same rows as one by one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import torch
from extraction_cases import N_TILES, new_manifest, new_store, settings
from PIL import Image
from reader_cases import SIDE
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

from featurebench.backbones import Backbone, Prepare
from featurebench.errors import ExtractionError
from featurebench.extraction import extract, reading
from featurebench.extraction.computing import turn
from featurebench.extraction.passes import feeds_of, make_targets, plan_forwards
from featurebench.tiles import jitter_tile, parse_view, read_tile, turn_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from featurebench.store import FeatureStore
    from featurebench.tiles import TileManifest

BATCH = 4
N_BATCHES = 6  # of three blocks of 8, 8 and 6 tiles
SQUARE = {"input_size": SIDE, "crop_pct": 1.0, "interpolation": "bicubic"}


def assert_close(
    found: npt.NDArray[np.floating[Any]], expected: npt.NDArray[np.floating[Any]]
) -> None:
    """Float16 keeps 11 significant bits; other batch sizes may be computed in another order."""
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def load(model: str, **preprocessing: Any) -> Backbone:
    return Backbone.load(model, weights="random", preprocessing={**SQUARE, **preprocessing})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> TileManifest:
    return new_manifest(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(scope="module")
def mobile() -> Backbone:
    return load("mobilenetv2_050")


@pytest.fixture(scope="module")
def resnet() -> Backbone:
    """Takes the same pixels as `mobile`, and normalises them otherwise."""
    return load("resnet18", mean=0.5, std=0.5)


@pytest.fixture(scope="module")
def larger() -> Backbone:
    return load("mobilenetv2_035", input_size=48)


@pytest.fixture(scope="module")
def everything(mobile: Backbone, resnet: Backbone, larger: Backbone) -> list[Backbone]:
    """Three networks, another layer, symmetries, a jitter, and descriptors of two views."""
    handcrafted = Backbone.load("handcrafted")
    return [
        mobile,
        mobile.variant(layer="blocks.3"),
        *[mobile.variant(view=view) for view in ("rot90", "flip_rot270", "stain0-seed0")],
        resnet,
        larger,
        handcrafted,
        handcrafted.variant(view="flip"),
    ]


@pytest.fixture(scope="module")
def together(
    everything: list[Backbone], manifest: TileManifest, tmp_path_factory: pytest.TempPathFactory
) -> list[npt.NDArray[np.floating[Any]]]:
    """Rows of all these embeddings from one pass, in the order of the backbones."""
    store = new_store(tmp_path_factory.mktemp("together") / "toy.store", manifest)
    return rows_of(manifest, everything, store)


def rows_of(
    manifest: TileManifest, backbones: Sequence[Backbone], store: FeatureStore, **changes: Any
) -> list[npt.NDArray[np.floating[Any]]]:
    how = settings(**{"batch_size": BATCH, **changes})
    report = extract(manifest, backbones, store, how)
    assert report.is_complete
    return [store.load(embedding.spec) for embedding in report.embeddings]


@dataclass
class Counted:
    """How often each tile was read, each network ran, and inputs of each size were made."""

    reads: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    inputs: Counter[tuple[int, ...]] = field(default_factory=Counter)

    def clear(self) -> None:
        for counter in (self.reads, self.runs, self.inputs):
            counter.clear()


@pytest.fixture
def counted(everything: list[Backbone], monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    counted = Counted()
    prepare = Prepare.__call__

    def count_read(path: Path, *, min_side: int | None = None) -> Image.Image:
        counted.reads[path.name] += 1
        return read_tile(path, min_side=min_side)

    def count_input(self: Prepare, image: Image.Image) -> npt.NDArray[np.uint8]:
        counted.inputs[self.input_size] += 1
        return prepare(self, image)

    monkeypatch.setattr(reading, "read_tile", count_read)
    monkeypatch.setattr(Prepare, "__call__", count_input)
    networks = {b.model: b.network for b in everything if b.model != "handcrafted"}
    handles = [
        network.register_forward_hook(lambda *_, name=name: counted.runs.update([name]))
        for name, network in networks.items()
    ]
    yield counted
    for handle in handles:
        handle.remove()


def test_what_can_be_shared_is_shared(everything: list[Backbone]) -> None:
    forwards = plan_forwards(make_targets(everything))
    planned = [
        (f.targets[0].backbone.model, f.feed.view.name, f.symmetry, len(f.targets))
        for f in forwards
    ]
    assert planned == [
        ("mobilenetv2_050", "clean", 0, 2),
        ("mobilenetv2_050", "clean", 1, 1),
        ("mobilenetv2_050", "clean", 7, 1),
        ("mobilenetv2_050", "stain0-seed0", 0, 1),
        ("resnet18", "clean", 0, 1),
        ("mobilenetv2_035", "clean", 0, 1),
        ("handcrafted", "clean", 0, 1),
        ("handcrafted", "flip", 0, 1),
    ]
    feeds = [(f.prepare.shape[0], f.view.name) for f in feeds_of(forwards)]
    n_descriptors = everything[-1].dim
    assert feeds == [
        (SIDE, "clean"),
        (SIDE, "stain0-seed0"),
        (48, "clean"),
        (n_descriptors, "clean"),
        (n_descriptors, "flip"),
    ]


def test_an_embedding_that_is_asked_for_twice_is_made_once(mobile: Backbone) -> None:
    assert (
        len(make_targets([mobile, mobile.variant(view="clean"), mobile.variant(pool="avg")])) == 1
    )


def test_every_tile_is_read_once_and_every_network_runs_once(
    everything: list[Backbone],
    manifest: TileManifest,
    tmp_path: Path,
    counted: Counted,
) -> None:
    report = extract(
        manifest, everything, new_store(tmp_path / "s", manifest), settings(batch_size=BATCH)
    )
    assert set(counted.reads.values()) == {1}
    assert len(counted.reads) == report.n_tiles == N_TILES
    assert counted.runs == {
        "mobilenetv2_050": 4 * N_BATCHES,
        "resnet18": N_BATCHES,
        "mobilenetv2_035": N_BATCHES,
    }
    assert counted.inputs == {(SIDE, SIDE): 2 * N_TILES, (48, 48): N_TILES}
    assert all(embedding.cost["work_s"] > 0 for embedding in report.embeddings)


def test_a_pass_for_many_equals_a_pass_for_each(
    everything: list[Backbone],
    together: list[npt.NDArray[np.floating[Any]]],
    manifest: TileManifest,
    tmp_path: Path,
) -> None:
    """Bit for bit."""
    for number, (backbone, expected) in enumerate(zip(everything, together, strict=True)):
        (alone,) = rows_of(manifest, [backbone], new_store(tmp_path / str(number), manifest))
        np.testing.assert_array_equal(alone, expected)


def test_views_equal_tiles_that_are_turned_and_jittered_by_hand(
    everything: list[Backbone],
    together: list[npt.NDArray[np.floating[Any]]],
    manifest: TileManifest,
) -> None:
    n_views = 0
    for backbone, found in zip(everything, together, strict=True):
        view = parse_view(backbone.view)
        shown = []
        for row, tile_id in enumerate(manifest.table["tile_id"]):
            image = jitter_tile(read_tile(manifest.path_of(row)), view, str(tile_id))
            turned = np.ascontiguousarray(turn_pixels(np.asarray(image), view.symmetry))
            shown.append(backbone.prepare(Image.fromarray(turned)))
        expected = backbone.embed(torch.from_numpy(np.stack(shown)))
        assert_close(found, expected)
        n_views += view.name != "clean"
    assert n_views == 4


@pytest.mark.parametrize("view", ["rot90", "rot180", "rot270", "flip", "flip_rot90"])
def test_a_view_is_the_network_on_its_turned_input(
    view: str, mobile: Backbone, manifest: TileManifest, tmp_path: Path
) -> None:
    (found,) = rows_of(manifest, [mobile.variant(view=view)], new_store(tmp_path / "s", manifest))
    tiles = [mobile.prepare(read_tile(manifest.path_of(row))) for row in range(N_TILES)]
    turned = turn_pixels(np.stack(tiles), parse_view(view).symmetry)
    expected = mobile.embed(torch.from_numpy(np.ascontiguousarray(turned)))
    assert_close(found, expected)
    clean = mobile.embed(torch.from_numpy(np.stack(tiles)))
    assert np.abs(found - clean).max() > 10 * np.abs(found - expected).max()


@pytest.mark.parametrize("symmetry", range(8))
def test_a_device_turns_pixels_as_a_reader_does(symmetry: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), dtype=np.uint8)
    found = turn(torch.from_numpy(pixels), symmetry).numpy()
    np.testing.assert_array_equal(found, turn_pixels(pixels, symmetry))


def test_a_backbone_that_is_added_later_runs_alone(
    mobile: Backbone,
    larger: Backbone,
    manifest: TileManifest,
    tmp_path: Path,
    counted: Counted,
) -> None:
    store = new_store(tmp_path / "s", manifest)
    rows_of(manifest, [mobile], store)
    backbones = [mobile, larger, mobile.variant(layer="blocks.3")]
    counted.clear()
    report = extract(manifest, backbones[:2], store, settings(batch_size=BATCH))
    assert [e.n_blocks_done for e in report.embeddings] == [0, 3]
    assert set(counted.reads.values()) == {1}
    assert counted.runs == {"mobilenetv2_035": N_BATCHES}
    assert counted.inputs == {(48, 48): N_TILES}
    report = extract(manifest, backbones, store, settings(batch_size=BATCH))
    assert [e.n_blocks_done for e in report.embeddings] == [0, 0, 3]
    assert counted.runs == {"mobilenetv2_035": N_BATCHES, "mobilenetv2_050": N_BATCHES}


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_the_batch_size_changes_nothing_that_matters(
    batch_size: int,
    everything: list[Backbone],
    together: list[npt.NDArray[np.floating[Any]]],
    manifest: TileManifest,
    tmp_path: Path,
) -> None:
    store = new_store(tmp_path / "s", manifest)
    for found, expected in zip(
        rows_of(manifest, everything, store, batch_size=batch_size), together, strict=True
    ):
        assert_close(found, expected)


def test_neither_workers_nor_the_order_of_the_backbones_change_a_bit(
    everything: list[Backbone],
    together: list[npt.NDArray[np.floating[Any]]],
    manifest: TileManifest,
    tmp_path: Path,
) -> None:
    helped = rows_of(manifest, everything, new_store(tmp_path / "w", manifest), workers=2)
    turned = rows_of(manifest, everything[::-1], new_store(tmp_path / "o", manifest))
    for expected, one, other in zip(together, helped, turned[::-1], strict=True):
        np.testing.assert_array_equal(one, expected)
        np.testing.assert_array_equal(other, expected)


def assert_equal_to_timm_alone(manifest: TileManifest, store: FeatureStore, device: str) -> None:
    """Tiles of the store against timm's own pipeline, pretrained weights, at its own size."""
    backbone = Backbone.load("tf_efficientnet_lite0", weights="package", device=device)
    (found,) = rows_of(manifest, [backbone], store)
    plain = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    plain.load_state_dict(backbone.network.state_dict())
    config = resolve_data_config({}, model=plain)
    transform = create_transform(**config, is_training=False)
    tiles = [Image.open(manifest.path_of(row)).convert("RGB") for row in range(N_TILES)]
    with torch.no_grad():
        expected = plain(torch.stack([transform(tile) for tile in tiles]))
    rows = torch.from_numpy(found.astype(np.float32))
    assert torch.nn.functional.cosine_similarity(rows, expected).min() > 0.9999
    assert not torch.nn.functional.cosine_similarity(rows, expected.roll(1, 0)).max() > 0.9999


def test_extraction_equals_a_plain_forward_pass(manifest: TileManifest, tmp_path: Path) -> None:
    assert_equal_to_timm_alone(manifest, new_store(tmp_path / "s", manifest), "cpu")


def test_a_view_that_turns_needs_a_square_input(manifest: TileManifest, tmp_path: Path) -> None:
    wide = load("mobilenetv2_035", input_size=[32, 48])
    (flipped,) = rows_of(manifest, [wide.variant(view="flip")], new_store(tmp_path / "f", manifest))
    assert np.isfinite(flipped).all()
    with pytest.raises(
        ExtractionError, match="turns the input of mobilenetv2_035, which is 32 x 48 pixels; give a"
    ) as caught:
        extract(manifest, wide.variant(view="rot90"), new_store(tmp_path / "r", manifest))
    assert "\n" not in str(caught.value)


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@needs_gpu
def test_extraction_on_a_gpu_equals_a_plain_forward_pass(
    manifest: TileManifest, tmp_path: Path
) -> None:
    assert_equal_to_timm_alone(manifest, new_store(tmp_path / "s", manifest), "cuda")


@needs_gpu
def test_processor_and_gpu_in_one_pass(
    everything: list[Backbone],
    together: list[npt.NDArray[np.floating[Any]]],
    manifest: TileManifest,
    tmp_path: Path,
) -> None:
    """Descriptors and one network stay on the processor."""
    gpu = Backbone.load("mobilenetv2_050", weights="random", preprocessing=SQUARE, device="cuda")
    mixed = [gpu.variant(layer=b.tap.layer, view=b.view) for b in everything[:5]]
    store = new_store(tmp_path / "s", manifest)
    for found, expected in zip(
        rows_of(manifest, [*mixed, *everything[5:]], store), together, strict=True
    ):
        scale = np.abs(expected.astype(np.float32)).max()
        np.testing.assert_allclose(found / scale, expected / scale, atol=2e-3)
