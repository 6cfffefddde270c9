"""The fingerprint changes exactly when the embedding may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from featurebench.backbones import Backbone, create_network, make_transform, state_sha256
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
        {"preprocessing": {"crop_pct": 1.0}},
        {"preprocessing": {"interpolation": "bilinear"}},
        {"preprocessing": {"input_size": 96}},
        {"model_args": {"act_layer": "gelu"}},
        {"model": "resnet18.tv_in1k"},
    ],
)
def test_fingerprint_changes_with(changes: dict[str, Any]) -> None:
    changed = Backbone.load(**{"model": "resnet18", "weights": "random", **changes})
    assert changed.fingerprint != resnet().fingerprint


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
    assert resized.embed(torch.zeros(1, 3, 64, 64)).shape == (1, 192)


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
    assert make_transform(preprocessing) is not None
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
