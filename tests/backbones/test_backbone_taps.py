"""Features are taken where they are said to be, and pooled as they are said to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from featurebench.backbones import Backbone, normalise, stage_names
from featurebench.backbones import taps as taps_module
from featurebench.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable

# Of feature maps (n, channels, height, width).
POOLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "avg": lambda maps: maps.mean(dim=(2, 3)),
    "max": lambda maps: maps.amax(dim=(2, 3)),
    "gem": lambda maps: maps.clamp(min=1e-6).pow(3).mean(dim=(2, 3)).pow(1 / 3),
}


def load(model: str, size: int = 64) -> Backbone:
    return Backbone.load(model, weights="random", preprocessing={"input_size": size})


@pytest.fixture(scope="module")
def resnet18() -> Backbone:
    return load("resnet18")


@pytest.fixture(scope="module")
def vgg16() -> Backbone:
    return load("vgg16")


@pytest.fixture(scope="module")
def swin() -> Backbone:
    return load("swin_tiny_patch4_window7_224", 112)


@pytest.fixture(scope="module")
def vit() -> Backbone:
    return load("vit_tiny_patch16_224")


def tiles(backbone: Backbone) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    size = backbone.preprocessing["input_size"][1]
    return torch.randint(0, 256, (2, size, size, 3), generator=generator, dtype=torch.uint8)


def output_of(backbone: Backbone, layer: str) -> torch.Tensor:
    """What a module gives in timm's own forward pass, before anything works on it in place."""
    kept: list[torch.Tensor] = []
    module = backbone.network.get_submodule(layer)
    handle = module.register_forward_hook(lambda _m, _i, output: kept.append(output.clone()))
    config = backbone.preprocessing
    with torch.inference_mode():
        backbone.network(normalise(tiles(backbone), config["mean"], config["std"]))
    handle.remove()
    return kept[-1]


def final_features(backbone: Backbone) -> torch.Tensor:
    config = backbone.preprocessing
    with torch.inference_mode():
        features: torch.Tensor = backbone.network.forward_features(  # type: ignore[operator]
            normalise(tiles(backbone), config["mean"], config["std"])
        )
    return features


def assert_same(backbone: Backbone, expected: torch.Tensor) -> None:
    found = backbone.embed(tiles(backbone))
    assert found.shape == (2, backbone.dim)
    assert tuple(expected.shape) == found.shape
    scale = expected.abs().max().item()
    np.testing.assert_allclose(found / scale, expected.numpy() / scale, atol=1e-6)


@pytest.mark.parametrize("pool", list(POOLS))
@pytest.mark.parametrize("layer", ["final", "layer1", "layer3", "layer3.0.conv1"])
def test_feature_maps_are_pooled(resnet18: Backbone, layer: str, pool: str) -> None:
    features = final_features(resnet18) if layer == "final" else output_of(resnet18, layer)
    assert_same(resnet18.variant(layer=layer, pool=pool), POOLS[pool](features))


def test_the_third_stage_of_a_resnet_is_what_clam_uses() -> None:
    """CLAM cuts a ResNet-50 after its third stage and averages: 1024 features."""
    backbone = load("resnet50", 96).variant(layer="layer3")
    network: Any = backbone.network
    parts = [network.conv1, network.bn1, network.act1, network.maxpool]
    cut = torch.nn.Sequential(*parts, network.layer1, network.layer2, network.layer3)
    config = backbone.preprocessing
    with torch.inference_mode():
        maps = cut(normalise(tiles(backbone), config["mean"], config["std"]))
        expected = torch.nn.AdaptiveAvgPool2d(1)(maps).flatten(1)
    assert backbone.dim == 1024
    assert backbone.recipe["pool"] == "avg"
    assert_same(backbone, expected)


def test_a_network_with_a_hidden_layer_can_be_pooled_before_it(vgg16: Backbone) -> None:
    pooled = vgg16.variant(pool="avg")
    assert (vgg16.dim, pooled.dim) == (4096, 512)
    assert (vgg16.recipe["pool"], pooled.recipe["pool"]) == ("pre_logits", "avg")
    assert_same(pooled, final_features(vgg16).mean(dim=(2, 3)))


@pytest.mark.parametrize("pool", list(POOLS))
def test_the_next_layer_may_work_in_place(vgg16: Backbone, pool: str) -> None:
    """The ReLU after this convolution overwrites its output."""
    network: Any = vgg16.network
    convolution, relu = network.features[28], network.features[29]
    assert isinstance(convolution, torch.nn.Conv2d)
    assert relu.inplace
    maps = output_of(vgg16, "features.28")
    assert maps.min() < 0
    assert_same(vgg16.variant(layer="features.28", pool=pool), POOLS[pool](maps))


@pytest.mark.parametrize("pool", list(POOLS))
@pytest.mark.parametrize("layer", ["final", "layers.1"])
def test_channels_may_come_last(swin: Backbone, layer: str, pool: str) -> None:
    features = final_features(swin) if layer == "final" else output_of(swin, layer)
    if (layer, pool) == ("final", "avg"):
        assert_same(swin, features.mean(dim=(1, 2)))
    assert_same(swin.variant(layer=layer, pool=pool), POOLS[pool](features.permute(0, 3, 1, 2)))


@pytest.mark.parametrize("layer", ["final", "blocks.5"])
def test_a_class_token_is_no_position(vit: Backbone, layer: str) -> None:
    tokens = final_features(vit) if layer == "final" else output_of(vit, layer)
    assert tokens.shape == (2, 17, 192)
    positions = tokens[:, 1:].transpose(1, 2).reshape(2, 192, 4, 4)
    for pool, reference in POOLS.items():
        assert_same(vit.variant(layer=layer, pool=pool), reference(positions))
    assert_same(vit.variant(layer=layer, pool="cls"), tokens[:, 0])


def test_features_without_positions_stay_as_they_are(resnet18: Backbone) -> None:
    """Also where the network's own head would not be needed for anything else."""
    pooled = resnet18.variant(layer="global_pool")
    highest = resnet18.variant(pool="max")
    both = resnet18.frozen.run(tiles(resnet18), [highest.tap, pooled.tap])
    assert torch.equal(both[1], torch.from_numpy(resnet18.embed(tiles(resnet18))))
    assert torch.equal(both[0], torch.from_numpy(highest.embed(tiles(resnet18))))


@pytest.mark.parametrize("model", ["resnet18", "vit"])
def test_one_run_serves_all_layers(model: str, request: pytest.FixtureRequest) -> None:
    backbone: Backbone = request.getfixturevalue(model)
    layers = ["final", *stage_names(backbone.network)[-4:]]
    pools = ["avg", "max"]
    variants = [backbone.variant(layer=layer, pool=pool) for layer in layers for pool in pools]
    alone = [variant.embed(tiles(backbone)) for variant in variants]
    calls: list[int] = []
    modules = [backbone.network.get_submodule(name) for name in layers[1:]]
    handles = [m.register_forward_hook(lambda *_: calls.append(1)) for m in modules]
    together = backbone.frozen.run(tiles(backbone), [variant.tap for variant in variants])
    for handle in handles:
        handle.remove()
    assert len(calls) == len(modules)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other.numpy())


def test_a_tap_may_be_asked_for_twice(resnet18: Backbone) -> None:
    tap = resnet18.variant(layer="layer2").tap
    first, second = resnet18.frozen.run(tiles(resnet18), [tap, tap])
    assert torch.equal(first, second)


def test_only_the_layers_of_this_run_are_pooled(
    resnet18: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variants that were made, or run, before cost nothing and keep no features."""
    pooled: list[str] = []
    pool_positions = taps_module.pool_positions

    def count(features: torch.Tensor, pool: str, network: torch.nn.Module) -> torch.Tensor:
        pooled.append(pool)
        return pool_positions(features, pool, network)

    for layer in ("layer1", "layer2", "layer3"):
        resnet18.variant(layer=layer, pool="gem").embed(tiles(resnet18))
    monkeypatch.setattr(taps_module, "pool_positions", count)
    resnet18.variant(layer="layer4", pool="max").embed(tiles(resnet18))
    assert pooled == ["max"] * 2  # once to learn the width
    resnet18.embed(tiles(resnet18))
    assert pooled == ["max"] * 2


def test_pooled_features_keep_no_feature_map_alive(vit: Backbone) -> None:
    """Nor can they be changed with it."""
    taps = [vit.variant(layer="blocks.3", pool="cls").tap, vit.variant(layer="fc_norm").tap]
    for features in vit.frozen.run(tiles(vit), taps):
        assert features.untyped_storage().nbytes() == features.nbytes


@pytest.mark.parametrize(
    ("model", "layer", "pool", "message"),
    [
        ("resnet18", "final", "cls", "pool 'cls' needs a network with a class token; give 'avg'"),
        ("resnet18", "layer2", "cls", "pool 'cls' needs a network with a class token; give 'avg'"),
        ("swin", "final", "cls", "pool 'cls' needs a network with a class token; give 'avg'"),
        (
            "resnet18",
            "layer5",
            None,
            "layer 'layer5' is not in this network; give 'final' or one of act1, layer1, layer2, "
            "layer3, layer4",
        ),
        ("vit", "layer3", None, "'layer3' is not in this network; .* blocks.0, blocks.1, "),
        ("resnet18", "final", "mean", "pool 'mean' is not known; give one of avg, max, gem, cls"),
        ("resnet18", "layer3", "pre_logits", "goes with layer 'final' only, not with 'layer3'"),
        ("vit", "blocks.0.attn.attn_drop", None, "is not run in the forward pass; give another"),
        ("swin", "layers.0.blocks.0.attn", None, "not give one vector per tile; choose a stage"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    model: str, layer: str, pool: str | None, message: str, request: pytest.FixtureRequest
) -> None:
    backbone: Backbone = request.getfixturevalue(model)
    with pytest.raises(WeightsError, match=message) as caught:
        backbone.variant(layer=layer, pool=pool)
    assert "\n" not in str(caught.value)
