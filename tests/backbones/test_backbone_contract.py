"""What every backbone promises, whatever its architecture."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import PIL.Image
import pytest
import timm
import torch
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

from featurebench.backbones import Backbone


class Expected(NamedTuple):
    """Published facts of an architecture: width, pooling, input size and mean of its pixels."""

    model: str
    dim: int
    pool: str
    size: int
    mean: float


IMAGENET_RED = 0.485
QUICK = [
    Expected("resnet18", 512, "avg", 224, IMAGENET_RED),
    Expected("mobilenetv2_100", 1280, "avg", 224, IMAGENET_RED),
    Expected("tf_efficientnet_lite0", 1280, "avg", 224, 0.5),
    Expected("vit_tiny_patch16_224", 192, "cls", 224, 0.5),
]
HEAVY = [
    Expected("vgg11", 4096, "pre_logits", 224, IMAGENET_RED),
    Expected("densenet121", 1024, "avg", 224, IMAGENET_RED),
    Expected("inception_v3", 2048, "avg", 299, 0.5),
    Expected("legacy_xception", 2048, "avg", 299, 0.5),
]


@pytest.fixture(
    scope="module",
    params=[*QUICK, *[pytest.param(case, marks=pytest.mark.slow) for case in HEAVY]],
    ids=lambda case: case.model,
)
def expected(request: pytest.FixtureRequest) -> Expected:
    case = request.param
    assert isinstance(case, Expected)
    return case


@pytest.fixture(scope="module")
def backbone(expected: Expected) -> Backbone:
    return Backbone.load(expected.model, weights="random")


@pytest.fixture(scope="module")
def plain(backbone: Backbone) -> torch.nn.Module:
    """The same network as timm alone would build it for features."""
    network: torch.nn.Module = timm.create_model(backbone.model, num_classes=0)
    network.load_state_dict(backbone.network.state_dict())
    return network.eval()


@pytest.fixture(scope="module")
def image() -> PIL.Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (260, 310, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


@pytest.fixture(scope="module")
def batch(expected: Expected) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 3, expected.size, expected.size, generator=generator)


def test_dim_and_pool_are_those_of_the_network(
    backbone: Backbone, expected: Expected, batch: torch.Tensor
) -> None:
    embedding = backbone.embed(batch)
    assert backbone.dim == expected.dim
    assert backbone.recipe["pool"] == expected.pool
    assert embedding.shape == (3, expected.dim)
    assert embedding.dtype == np.float32


def test_own_preprocessing(backbone: Backbone, expected: Expected, image: PIL.Image.Image) -> None:
    assert backbone.preprocessing["input_size"] == [3, expected.size, expected.size]
    assert backbone.preprocessing["mean"][0] == expected.mean
    assert backbone.transform(image).shape == (3, expected.size, expected.size)


def test_transform_is_timms_own(
    backbone: Backbone, plain: torch.nn.Module, image: PIL.Image.Image
) -> None:
    config = resolve_data_config({}, model=plain)  # type: ignore[no-untyped-call]
    reference = create_transform(**config, is_training=False)(image)
    assert torch.equal(backbone.transform(image), reference)


def test_frozen(backbone: Backbone, batch: torch.Tensor) -> None:
    before = backbone.state_sha256()
    backbone.embed(batch)
    assert not any(module.training for module in backbone.network.modules())
    assert not any(parameter.requires_grad for parameter in backbone.network.parameters())
    assert backbone.state_sha256() == before == backbone.recipe["weights_sha256"]


def test_embedding_equals_a_plain_forward_pass(
    backbone: Backbone, plain: torch.nn.Module, batch: torch.Tensor
) -> None:
    with torch.no_grad():
        reference = plain(batch)
    cosine = torch.nn.functional.cosine_similarity(reference, torch.tensor(backbone.embed(batch)))
    assert cosine.min() > 0.9999


def test_embedding_does_not_depend_on_the_batch(backbone: Backbone, batch: torch.Tensor) -> None:
    together = backbone.embed(batch)
    alone = np.concatenate([backbone.embed(one[None]) for one in batch])
    scale = np.abs(together).max()
    np.testing.assert_allclose(alone / scale, together / scale, atol=1e-5)


def test_recipe_is_plain_json(backbone: Backbone) -> None:
    assert json.loads(json.dumps(backbone.recipe)) == backbone.recipe
    assert set(backbone.recipe) == {
        "model",
        "tag",
        "dim",
        "weights_sha256",
        "preprocessing",
        "layer",
        "pool",
        "model_args",
        "precision",
    }
