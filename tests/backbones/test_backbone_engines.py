"""Other precisions and engines give nearly the same embeddings, or say in one line why not."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from featurebench.backbones import Backbone
from featurebench.errors import WeightsError
from featurebench.tiles import TileManifest, read_tile, write_cohort

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)


def lite0(**changes: Any) -> Backbone:
    return Backbone.load("tf_efficientnet_lite0", weights="package", **changes)


def small(**changes: Any) -> Backbone:
    return Backbone.load(
        "resnet18", **{"weights": "random", "preprocessing": {"input_size": 64}, **changes}
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> TileManifest:
    return write_cohort(tmp_path_factory.mktemp("drawn"), patients=4, tiles_per_patient=2, size=224)


def prepared(backbone: Backbone, manifest: TileManifest, step: int = 1) -> torch.Tensor:
    rows = range(0, len(manifest), step)
    tiles = [backbone.prepare(read_tile(manifest.path_of(row))) for row in rows]
    return torch.from_numpy(np.stack(tiles))


def noise(backbone: Backbone, n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (n, *backbone.prepare.shape)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def cosines(
    one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    a, b = (rows.astype(float) for rows in (one, other))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine: npt.NDArray[np.float64] = np.einsum("ij,ij->i", a, b) / lengths
    return cosine


def relative_error(expected: npt.NDArray[np.float32], found: npt.NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_bfloat16_on_drawn_tiles(drawn: TileManifest) -> None:
    """Measured on 16 such tiles: 0.9993 at least."""
    exact, rounded = lite0(), lite0(precision="bfloat16")
    pixels = prepared(exact, drawn)
    found = rounded.embed(pixels)
    assert found.dtype == np.float32
    cosine = cosines(exact.embed(pixels), found)
    assert cosine.min() > 0.998
    assert cosine.max() < 1 - 1e-6, "computed in float32"


@pytest.mark.shared
def test_bfloat16_on_real_tiles(shared: Path) -> None:
    """Measured on 136 tiles, other than these: median 0.9991, least 0.984."""
    folder = shared / "data" / "glas_tiles"
    manifest = TileManifest.from_table(folder / "tiles.csv", columns={"patient_id": "patient"})
    exact, rounded = lite0(), lite0(precision="bfloat16")
    pixels = prepared(exact, manifest, step=30)
    cosine = cosines(exact.embed(pixels), rounded.embed(pixels))
    assert np.median(cosine) > 0.998
    assert cosine.min() > 0.97


@pytest.mark.parametrize(("layer", "pool"), [("layer2", "avg"), ("layer2", "gem")])
def test_bfloat16_averages_in_float32(layer: str, pool: str) -> None:
    rounded = small(precision="bfloat16", layer=layer, pool=pool)
    found = rounded.embed(noise(rounded, 2))
    assert (found != torch.from_numpy(found).bfloat16().float().numpy()).any()


@needs_openvino
def test_openvino_is_float32() -> None:
    """All batch sizes and several layers from one conversion."""
    eager, fast = small(), small(engine="openvino")
    assert fast.recipe["precision"] == "float32 openvino"
    taps = [fast.tap, fast.variant(layer="layer2", pool="max").tap]
    for n in (1, 3, 2):
        pixels = noise(eager, n)
        for expected, found in zip(
            eager.frozen.run(pixels, taps), fast.frozen.run(pixels, taps), strict=True
        ):
            assert relative_error(expected.numpy(), found.numpy()) < 1e-5
    assert fast.state_sha256() == eager.state_sha256()


@needs_openvino
@pytest.mark.slow
def test_openvino_with_pretrained_weights(drawn: TileManifest) -> None:
    exact, fast = lite0(), lite0(engine="openvino")
    pixels = prepared(exact, drawn)
    assert relative_error(exact.embed(pixels), fast.embed(pixels)) < 1e-5


@needs_openvino
def test_what_openvino_cannot_convert_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    def fail(*_args: object, **_more: object) -> None:
        raise openvino.frontend.OpConversionFailure("no rule for aten::new\nand a long report")

    monkeypatch.setattr(openvino, "convert_model", fail)
    backbone = small(engine="openvino")
    with pytest.raises(WeightsError, match="cannot take this network: no rule for aten::new; give"):
        backbone.embed(noise(backbone, 1))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_torch_compile(precision: str) -> None:
    """Batches of three sizes, several layers."""
    eager, fast = small(precision=precision), small(precision=precision, engine="compile")
    taps = [fast.tap, fast.variant(layer="layer2", pool="max").tap]
    tolerance = 1e-5 if precision == "float32" else 3e-2
    for n in (3, 1, 4):
        pixels = noise(eager, n)
        for expected, found in zip(
            eager.frozen.run(pixels, taps), fast.frozen.run(pixels, taps), strict=True
        ):
            assert found.shape == expected.shape
            assert relative_error(expected.numpy(), found.numpy()) < tolerance


def test_compiled_batches_are_of_one_size_until_memory_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    capacity = 8

    def compiled(tapped: torch.nn.Module, **_how: object) -> Any:
        def run(images: torch.Tensor) -> Any:
            sizes.append(len(images))
            if len(images) > capacity:
                raise torch.OutOfMemoryError("out of memory")
            return tapped(images)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    backbone = small(engine="compile")
    for n in (6, 2):
        assert backbone.embed(noise(backbone, n)).shape == (n, 512)
    assert sizes == [6, 6]
    with pytest.raises(torch.OutOfMemoryError):
        backbone.embed(noise(backbone, 12))
    expected = small().embed(noise(backbone, 5))
    np.testing.assert_allclose(backbone.embed(noise(backbone, 5)), expected, rtol=1e-4, atol=1e-6)
    assert sizes == [6, 6, 12, 5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "float16"}, "'float16' needs a GPU; give 'bfloat16' or 'float32'"),
        ({"precision": "half"}, "'half' is not known; give one of float32, bfloat16, float16"),
        ({"engine": "onnx"}, "engine 'onnx' is not known; give one of eager, compile, openvino"),
        ({"engine": "openvino", "device": "cuda"}, "device 'cuda' cannot be used here"),
        ({"engine": "onnx", "weights": "not-read.pth"}, "engine 'onnx' is not known"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    changes: dict[str, Any], message: str
) -> None:
    if changes.get("device") == "cuda" and torch.cuda.is_available():
        message = "engine 'openvino' runs on processors; give device 'cpu'"
    with pytest.raises(WeightsError, match=message) as caught:
        small(**changes)
    assert "\n" not in str(caught.value)


def test_openvino_that_is_not_there_comes_with_its_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(WeightsError, match=r"run: pip install 'featurebench\[openvino\]'"):
        small(engine="openvino")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [({}, 1e-4), ({"precision": "float16"}, 1e-2), ({"precision": "bfloat16"}, 5e-2)],
)
def test_a_gpu_gives_what_the_processor_gives(changes: dict[str, Any], tolerance: float) -> None:
    processor, gpu = small(), small(device="cuda", **changes)
    pixels = noise(processor, 4)
    assert relative_error(processor.embed(pixels), gpu.embed(pixels)) < tolerance
    np.testing.assert_array_equal(gpu.embed(pixels), gpu.embed(pixels))
