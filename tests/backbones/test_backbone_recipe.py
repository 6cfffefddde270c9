"""The fingerprint changes exactly when the embedding may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from featurebench.backbones import Backbone, Prepare, create_network, state_sha256
from featurebench.errors import WeightsError

if TYPE_CHECKING:
    from pathlib import Path


def resnet(**changes: Any) -> Backbone:
    return Backbone.load("resnet18", **{"weights": "random", **changes})


def test_random_weights_are_the_same_every_time() -> None:
    torch.manual_seed(99)
    first = resnet()
    torch.manual_seed(1)
    second = resnet()
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 64


def test_loading_leaves_the_callers_random_state_alone() -> None:
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    torch.manual_seed(5)
    resnet()
    assert torch.equal(torch.rand(3), undisturbed)


@pytest.mark.parametrize(
    "changes",
    [
        {"preprocessing": {"mean": 0.5}},
        {"preprocessing": {"std": 0.5}},
        {"preprocessing": {"crop_pct": 1.0}},
        {"preprocessing": {"interpolation": "bilinear"}},
        {"preprocessing": {"input_size": 96}},
        {"preprocessing": {"reduced_decoding": True}},
        {"layer": "layer3"},
        {"layer": "layer4"},
        {"pool": "max"},
        {"layer": "layer4", "pool": "gem"},
        {"precision": "bfloat16"},
        {"engine": "compile"},
        {"precision": "bfloat16", "engine": "compile"},
        {"model_args": {"act_layer": "gelu"}},
        {"model": "resnet18.tv_in1k"},
        {"model": "resnet26"},
    ],
    ids=str,
)
def test_fingerprint_changes_with(changes: dict[str, Any]) -> None:
    changed = Backbone.load(**{"model": "resnet18", "weights": "random", **changes})
    assert changed.fingerprint != resnet().fingerprint


def test_every_way_to_take_features_has_a_fingerprint_of_its_own() -> None:
    one = resnet()
    ways = [
        one.variant(layer=layer, pool=pool, view=view)
        for layer in ("final", "layer3", "layer4")
        for pool in ("avg", "max", "gem")
        for view in ("clean", "rot90", "stain0-seed0", "stain0-seed1")
    ]
    assert len({way.fingerprint for way in ways}) == len(ways)


@pytest.mark.parametrize(
    ("model", "spelling"),
    [
        ("resnet18", {"pool": "avg"}),
        ("resnet18", {"pool": "pre_logits"}),
        ("resnet18", {"layer": "final"}),
        ("resnet18", {"preprocessing": {"reduced_decoding": False}}),
        ("resnet18", {"preprocessing": {"input_size": [224, 224], "crop_pct": 0.95}}),
        ("resnet18", {"model_args": {}}),
        ("resnet18", {"device": "cpu:0"}),
        ("resnet18", {"precision": "float32", "engine": "eager"}),
        ("vit_tiny_patch16_224", {"pool": "cls"}),
        ("vit_tiny_patch16_224", {"pool": "pre_logits"}),
        ("mobilenetv3_small_050", {"pool": "pre_logits"}),
    ],
)
def test_fingerprint_ignores_what_was_meant_anyway(model: str, spelling: dict[str, Any]) -> None:
    plain = Backbone.load(model, weights="random")
    assert Backbone.load(model, weights="random", **spelling).fingerprint == plain.fingerprint


def test_a_variant_is_what_loading_it_would_give() -> None:
    one = resnet()
    other = one.variant(layer="layer3", pool="max", view="flip")
    assert other.variant(view="clean").fingerprint == (
        resnet(layer="layer3", pool="max").fingerprint
    )
    assert other.variant(pool="gem").recipe == {**other.recipe, "pool": "gem"}
    assert other.variant(layer="final").variant(view="clean").recipe == one.recipe
    assert other.frozen is one.frozen
    assert one.recipe == resnet().recipe


def test_fingerprint_changes_with_one_weight(tmp_path: Path) -> None:
    backbone = resnet()
    state = backbone.network.state_dict()
    torch.save(state, tmp_path / "same.pth")
    state["layer4.1.bn2.running_mean"][7] += 1e-3
    torch.save(state, tmp_path / "other.pth")
    same = resnet(weights="same.pth", base_dir=tmp_path)
    other = resnet(weights="other.pth", base_dir=tmp_path)
    assert same.tag == "file"
    assert same.fingerprint == backbone.fingerprint
    assert other.fingerprint != backbone.fingerprint


def test_fingerprint_ignores_spelling() -> None:
    assert resnet(preprocessing={"mean": [0.5] * 3}).fingerprint == (
        resnet(preprocessing={"mean": 0.5}).fingerprint
    )
    assert Backbone.load("resnet18.a1_in1k", weights="random").fingerprint == resnet().fingerprint


def test_state_hash_sees_buffers_and_parameters() -> None:
    network = torch.nn.BatchNorm1d(2)
    hashes = {state_sha256(network)}
    for tensor in (network.running_var, network.num_batches_tracked, network.weight.data):
        assert tensor is not None
        tensor.add_(1)
        hashes.add(state_sha256(network))
    assert len(hashes) == 4


def test_image_size_of_the_model_is_the_input_size() -> None:
    backbone = Backbone.load("vit_tiny_patch16_224", weights="random", model_args={"img_size": 64})
    assert backbone.preprocessing["input_size"] == [3, 64, 64]
    resized = Backbone.load(
        "vit_tiny_patch16_224", weights="random", preprocessing={"input_size": 64}
    )
    assert resized.embed(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).shape == (1, 192)


def test_network_for_fine_tuning_keeps_the_features() -> None:
    network, preprocessing = create_network(
        "resnet18", weights="random", num_classes=3, preprocessing={"input_size": 64}
    )
    again, _ = create_network("resnet18", weights="random", num_classes=3)
    features = resnet().network.state_dict()
    state = network.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in features.items())
    assert set(state) - set(features) == {"fc.weight", "fc.bias"}
    assert state["fc.weight"].shape == (3, 512)
    assert state_sha256(network) == state_sha256(again)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert Prepare.of(preprocessing).shape == (64, 64, 3)
    assert preprocessing["input_size"] == [3, 64, 64]


def test_new_classification_layer_follows_its_seed() -> None:
    heads = [
        create_network("resnet18", weights="random", num_classes=2, seed=seed)[0].get_submodule(
            "fc"
        )
        for seed in (0, 1)
    ]
    assert state_sha256(heads[0]) != state_sha256(heads[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_args": {"num_classes": 3}}, "may not hold 'num_classes'"),
        ({"model_args": {"wings": 2}}, "unexpected keyword argument 'wings'"),
        ({"model_args": {"act_layer": torch.nn.GELU}}, "plain JSON values"),
        ({"model_args": {"global_pool": ""}}, "one vector per tile"),
        ({"device": "gpu"}, "device 'gpu' cannot be used here"),
        ({"layer": ""}, "layer '' is not in this network; give 'final' or one of act1, layer1, "),
    ],
)
def test_impossible_arguments_are_refused_in_one_line(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        resnet(**changes)
    assert "\n" not in str(caught.value)


def test_a_size_too_small_for_the_network_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"cannot take input_size \[3, 32, 32\]"):
        Backbone.load("inception_v3", weights="random", preprocessing={"input_size": 32})
