"""What every backbone promises, whatever its architecture."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import PIL.Image
import pytest
import timm
import torch
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

from featurebench.backbones import HANDCRAFTED, Backbone, normalise, stage_names
from featurebench.backbones.taps import resolve_tap

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt


class Expected(NamedTuple):
    """Published facts of an architecture: width, pooling, input size and normalisation."""

    dim: int
    pool: str
    size: int
    mean: float
    std: float


IMAGENET = (0.485, 0.229)
HALF = (0.5, 0.5)
NETWORKS = {
    "vgg11": Expected(4096, "pre_logits", 224, *IMAGENET),
    "vgg16": Expected(4096, "pre_logits", 224, *IMAGENET),
    "resnet50": Expected(2048, "avg", 224, *IMAGENET),
    "densenet121": Expected(1024, "avg", 224, *IMAGENET),
    "inception_v3": Expected(2048, "avg", 299, *HALF),
    "inception_v4": Expected(1536, "avg", 299, *HALF),
    "inception_resnet_v2": Expected(1536, "avg", 299, *HALF),
    "legacy_xception": Expected(2048, "avg", 299, *HALF),
    "mobilenetv2_100": Expected(1280, "avg", 224, *IMAGENET),
    "tf_efficientnet_lite0": Expected(1280, "avg", 224, *HALF),
    "convnext_atto": Expected(320, "avg", 224, *IMAGENET),
    "vit_tiny_patch16_224": Expected(192, "cls", 224, *HALF),
    "swin_tiny_patch4_window7_224": Expected(768, "avg", 224, *IMAGENET),
}
networks = pytest.mark.parametrize("backbone", list(NETWORKS), indirect=True, scope="module")
backbones = pytest.mark.parametrize(
    "backbone", [*NETWORKS, HANDCRAFTED], indirect=True, scope="module"
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return Backbone.load(request.param, weights="random")


@pytest.fixture(scope="module")
def images() -> list[PIL.Image.Image]:
    """A dark and a light tile with large and small structure, neither of them square."""
    generator = np.random.default_rng(0)
    coarse = np.kron(generator.random((2, 9, 11, 1)), np.ones((1, 36, 36, 3)))
    fine = generator.random(coarse.shape)
    levels = np.array([60.0, 140.0]).reshape(2, 1, 1, 1)
    tiles = (levels + 70 * coarse + 40 * fine).astype(np.uint8)
    return [PIL.Image.fromarray(tile) for tile in tiles]


@pytest.fixture(scope="module")
def batch(backbone: Backbone, images: list[PIL.Image.Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack([backbone.prepare(image) for image in images]))


@pytest.fixture(scope="module")
def embedding(backbone: Backbone, batch: torch.Tensor) -> npt.NDArray[np.float32]:
    return backbone.embed(batch)


@networks
def test_dim_and_pool_are_those_of_the_network(
    backbone: Backbone, embedding: npt.NDArray[np.float32]
) -> None:
    expected = NETWORKS[backbone.model]
    assert backbone.recipe["pool"] == expected.pool
    assert backbone.recipe["dim"] == backbone.dim == expected.dim
    assert embedding.shape == (2, expected.dim)


@networks
def test_own_preprocessing(backbone: Backbone, batch: torch.Tensor) -> None:
    expected = NETWORKS[backbone.model]
    assert backbone.preprocessing["input_size"] == [3, expected.size, expected.size]
    assert backbone.preprocessing["mean"][0] == expected.mean
    assert backbone.preprocessing["std"][0] == expected.std
    assert batch.shape == (2, expected.size, expected.size, 3)
    assert batch.dtype == torch.uint8


@networks
def test_frozen(backbone: Backbone, batch: torch.Tensor) -> None:
    """In evaluation mode, without gradients, and with the same state after as before."""
    with torch.enable_grad():
        (features,) = backbone.frozen.run(batch, [backbone.tap])
    assert not features.requires_grad
    assert not any(module.training for module in backbone.network.modules())
    assert not any(parameter.requires_grad for parameter in backbone.network.parameters())
    assert backbone.state_sha256() == backbone.recipe["weights_sha256"]


@networks
def test_equal_to_timm_alone(
    backbone: Backbone,
    batch: torch.Tensor,
    images: list[PIL.Image.Image],
    embedding: npt.NDArray[np.float32],
) -> None:
    """Pixels bit for bit; embeddings as from the network that timm builds for features."""
    plain = timm.create_model(backbone.model, num_classes=0).eval()
    plain.load_state_dict(backbone.network.state_dict())
    config = resolve_data_config({}, model=plain)
    transform = create_transform(**config, is_training=False)
    inputs = torch.stack([transform(image) for image in images])
    own = normalise(batch, backbone.preprocessing["mean"], backbone.preprocessing["std"])
    assert torch.equal(own, inputs)
    with torch.no_grad():
        reference = plain(inputs)
    # untrained, some networks give features of 1e-11, which a cosine takes for zero
    scale = reference.abs().max()
    reference, found = reference / scale, torch.tensor(embedding) / scale
    assert torch.nn.functional.cosine_similarity(reference, found).min() > 0.9999
    assert (found - reference).abs().max() < 1e-4


@networks
def test_every_stage_gives_features(backbone: Backbone, batch: torch.Tensor) -> None:
    """Of the width that timm names, all in one run."""
    stages = stage_names(backbone.network)
    taps = [resolve_tap(backbone.network, stage, None) for stage in stages]
    info: Any = backbone.network.feature_info
    named = info.get_dicts() if hasattr(info, "get_dicts") else info
    widths = [features.shape[1] for features in backbone.frozen.run(batch[:1], taps)]
    assert len(stages) >= 4
    assert widths == [entry["num_chs"] for entry in named]
    assert documented(backbone.model)["stages and their widths"] in (
        ", ".join(f"{stage} {width}" for stage, width in zip(stages, widths, strict=True)),
        f"{stages[0]} {widths[0]}, {stages[1]} {widths[1]}, ... {stages[-1]} {widths[-1]}",
    )


@networks
def test_the_documented_table_is_true(backbone: Backbone) -> None:
    row = documented(backbone.model)
    family = {IMAGENET: "imagenet", HALF: "half"}
    config = backbone.preprocessing
    assert row["pixels"] == str(config["input_size"][1])
    assert row["normalised"] == family[config["mean"][0], config["std"][0]]
    assert (row["own pool"], row["dim"]) == (backbone.recipe["pool"], str(backbone.dim))


def documented(model: str) -> dict[str, str]:
    """The network's row in the documentation."""
    lines = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text("utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    header = next(row for row in cells if row[0] == "model" and "dim" in row)
    (found,) = [row for row in cells if row[0] == model]
    return dict(zip(header, found, strict=True))


@backbones
def test_embedding_does_not_depend_on_the_batch(
    backbone: Backbone, batch: torch.Tensor, embedding: npt.NDArray[np.float32]
) -> None:
    alone = np.concatenate([backbone.embed(one[None]) for one in batch])
    scale = np.abs(embedding).max()
    np.testing.assert_allclose(alone / scale, embedding / scale, atol=1e-5)
    assert np.abs(embedding[0] - embedding[1]).max() > 1e-3 * scale


@backbones
def test_embedding_is_a_finite_row_per_tile(
    backbone: Backbone, embedding: npt.NDArray[np.float32]
) -> None:
    assert embedding.shape == (2, backbone.dim)
    assert embedding.dtype == np.float32
    assert np.isfinite(embedding).all()


@backbones
def test_preparation_goes_to_other_processes(
    backbone: Backbone, batch: torch.Tensor, images: list[PIL.Image.Image]
) -> None:
    copy = pickle.loads(pickle.dumps(backbone.prepare))
    assert (copy, hash(copy)) == (backbone.prepare, hash(backbone.prepare))
    np.testing.assert_array_equal(copy(images[0]), batch[0].numpy())
    assert (copy.shape, copy.dtype) == (tuple(batch[0].shape), str(batch.numpy().dtype))


@backbones
def test_recipe_is_plain_json(backbone: Backbone) -> None:
    assert json.loads(json.dumps(backbone.recipe)) == backbone.recipe
    assert backbone.recipe["view"] == "clean"
    assert set(backbone.recipe) == {
        "model",
        "tag",
        "dim",
        "weights_sha256",
        "preprocessing",
        "layer",
        "pool",
        "view",
        "model_args",
        "precision",
    }
