"""Strategies: how they are written, what learns when, and that what is frozen stays so."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import timm
import torch
from torch import nn

from featurebench.errors import ConfigError
from featurebench.finetuning.strategies import (
    Strategy,
    ever_learning,
    set_learning,
    set_modes,
)

NETWORKS: dict[str, dict[str, Any]] = {
    "test_resnet": {"drop_path_rate": 0.5},
    "test_efficientnet": {"drop_path_rate": 0.5},
    "test_byobnet": {"drop_path_rate": 0.5},
    "test_vit": {
        "img_size": 32,
        "drop_path_rate": 0.5,
        "proj_drop_rate": 0.5,
        "attn_drop_rate": 0.5,
        "pos_drop_rate": 0.5,
        "patch_drop_rate": 0.5,
    },
}


def build(model: str, *, meta: bool = False, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    with torch.device("meta" if meta else "cpu"):
        network: nn.Module = timm.create_model(model, pretrained=False, num_classes=3, **arguments)
    return network


def learning_modules(network: nn.Module, text: str, epoch: int = 1, **settings: int) -> set[str]:
    """Name the modules, two deep, of which any parameter learns."""
    names = Strategy.parse(text).learning(network, epoch, **settings)
    return {".".join(name.split(".")[:-1][:2]) for name in names}


@pytest.mark.parametrize(
    ("text", "name", "argument"),
    [
        ("head", "head", None),
        ("last:2", "last", 2),
        ("from:layer3", "from", "layer3"),
        ("from:blocks.4", "from", "blocks.4"),
        ("gradual", "gradual", None),
        ("lora", "lora", None),
        ("full", "full", None),
        ("lp-ft", "lp-ft", None),
        ("scratch", "scratch", None),
    ],
)
def test_strategy_is_read_and_written_alike(
    text: str, name: str, argument: str | int | None
) -> None:
    strategy = Strategy.parse(text)
    assert (strategy.name, strategy.argument, strategy.text) == (name, argument, text)
    assert strategy.random_start == (text == "scratch")
    assert strategy.probe_start == (text == "lp-ft")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("last", r"did you mean 'last:N'"),
        ("from:", r"did you mean 'from:STAGE'"),
        ("from: layer3", r"did you mean 'from:STAGE'"),
        ("Full", r"did you mean 'full'"),
        ("lpft", r"did you mean 'lp-ft'"),
        ("full:2", r"did you mean 'full'"),
        ("heads", r"did you mean 'head'"),
        ("", r"use head, last:N, from:STAGE, lora, gradual, lp-ft, full, scratch$"),
        ("everything", r"use head, last:N"),
        ("last:0", r"N of last:N is a whole number from 1"),
        ("last:-1", r"N of last:N is a whole number from 1"),
        ("last:two", r"N of last:N is a whole number from 1"),
        ("last:1.5", r"N of last:N is a whole number from 1"),
        ("last:", r"N of last:N is a whole number from 1"),
        ("last:²", r"N of last:N is a whole number from 1"),
    ],
)
def test_wrong_strategy_is_refused_with_the_nearest(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint) as refused:
        Strategy.parse(text)
    assert repr(text) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_learns_grows_with_the_strategy() -> None:
    network = build("resnet50", meta=True)
    assert learning_modules(network, "head") == {"fc"}
    assert learning_modules(network, "last:1") == {"fc", "layer4.0", "layer4.1", "layer4.2"}
    assert learning_modules(network, "last:4") - learning_modules(network, "last:3") == {
        f"layer1.{block}" for block in range(3)
    }
    everything = {name for name, _ in network.named_parameters()}
    for text in ("full", "scratch", "lp-ft", "last:5"):
        assert Strategy.parse(text).learning(network, 1) == everything


def test_hidden_layers_of_vgg_are_no_classifier() -> None:
    network = build("vgg16", meta=True)
    assert learning_modules(network, "head") == {"head.fc"}
    assert learning_modules(network, "last:1") == {"head.fc", "pre_logits.fc1", "pre_logits.fc2"}


@pytest.mark.parametrize(
    ("model", "text", "first_that_learns"),
    [
        ("resnet50", "from:layer3", "layer3.0.conv1.weight"),
        ("resnet50", "from:layer3.4", "layer3.4.conv1.weight"),
        ("resnet50", "from:bn1", "bn1.weight"),
        ("resnet50", "from:act1", "layer1.0.conv1.weight"),
        ("resnet50", "from:global_pool", "fc.weight"),
        ("resnet50", "from:classifier", "fc.weight"),
        (
            "densenet121",
            "from:features.denseblock4",
            "features.denseblock4.denselayer1.norm1.weight",
        ),
        ("densenet121", "from:features.transition3", "features.transition3.norm.weight"),
        ("densenet121", "from:features", "features.conv0.weight"),
        ("tf_efficientnet_lite0", "from:blocks.4", "blocks.4.0.conv_pw.weight"),
        ("vit_tiny_patch16_224", "from:patch_embed", "cls_token"),
        ("vit_tiny_patch16_224", "from:norm", "norm.weight"),
        ("vit_tiny_patch16_224", "from:blocks.11.mlp", "blocks.11.mlp.fc1.weight"),
    ],
)
def test_from_learns_all_that_follows(model: str, text: str, first_that_learns: str) -> None:
    network = build(model, meta=True)
    order = [name for name, _ in network.named_parameters()]
    learning = Strategy.parse(text).learning(network, 1)
    assert learning == set(order[order.index(first_that_learns) :])


def test_gradual_adds_a_stage_from_the_top() -> None:
    network = build("test_resnet", meta=True)
    gradual = Strategy.parse("gradual")
    expected = ["head", "head", "last:1", "last:1", "last:2", "last:2", "last:3"]
    for epoch, same in enumerate(expected, start=1):
        learns = gradual.learning(network, epoch, unfreeze_every=2)
        assert learns == Strategy.parse(same).learning(network, 1)
    everything = {name for name, _ in network.named_parameters()}
    assert gradual.learning(network, 6) == gradual.learning(network, 99) == everything
    assert ever_learning(network, gradual, 5, 2) == gradual.learning(network, 5, unfreeze_every=2)
    assert ever_learning(network, gradual, 50) == everything


def test_check_names_the_stages_there_are() -> None:
    network = build("test_resnet", meta=True)
    Strategy.parse("last:5").check(network)
    stages = "conv1, layer1, layer2, layer3, layer4"
    with pytest.raises(ConfigError, match=rf"'last:6' needs 6 .* has 5 \({stages}, classifier\)$"):
        Strategy.parse("last:6").check(network)
    with pytest.raises(ConfigError, match=rf"'from:layer9' names no .* {stages}, classifier$"):
        Strategy.parse("from:layer9").check(network)


def test_exactly_what_learns_takes_gradients() -> None:
    network = build("test_resnet")
    names = Strategy.parse("last:1").learning(network, 1)
    set_learning(network, names)
    network(torch.zeros(2, 3, 32, 32)).sum().backward()
    assert {n for n, p in network.named_parameters() if p.grad is not None} == names
    set_learning(network, frozenset())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def hashes(network: nn.Module) -> dict[str, str]:
    return {
        name: hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest()
        for name, tensor in network.state_dict().items()
    }


@pytest.mark.parametrize("model", NETWORKS)
@pytest.mark.parametrize("text", ["head", "last:1", "last:2"])
def test_no_tensor_of_a_frozen_part_changes(model: str, text: str) -> None:
    network = build(model, **NETWORKS[model])
    names = Strategy.parse(text).learning(network, 1)
    set_learning(network, names)
    owners = {name.rpartition(".")[0] for name in names}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=0.1)
    before = hashes(network)
    for _ in range(2):
        set_modes(network)
        optimizer.zero_grad()
        network(torch.randn(4, 3, 32, 32)).square().sum().backward()
        optimizer.step()
    changed = {name for name, digest in hashes(network).items() if digest != before[name]}
    assert {name.rpartition(".")[0] for name in changed} == owners


@pytest.mark.parametrize("model", NETWORKS)
def test_head_sees_exactly_the_frozen_features(model: str) -> None:
    network = build(model, **NETWORKS[model])
    images = torch.randn(4, 3, 32, 32)
    network.train()
    features = []
    classifier = network.get_classifier()  # type: ignore[operator]
    classifier.register_forward_pre_hook(lambda _module, inputs: features.append(inputs[0]))
    network(images)
    network.eval()
    network(images)
    set_learning(network, Strategy.parse("head").learning(network, 1))
    set_modes(network)
    network(images)
    trained, frozen, head = features
    assert not torch.equal(trained, frozen)
    assert torch.equal(head, frozen)
    assert network.training
    assert classifier.training


def test_dropout_before_the_classifier_goes_with_the_classifier() -> None:
    network = build("test_vit", img_size=32, drop_rate=0.5, pos_drop_rate=0.5)
    set_learning(network, Strategy.parse("last:1").learning(network, 1))
    set_modes(network)
    modes = {name: module.training for name, module in network.named_modules()}
    assert modes["head_drop"]
    assert modes["blocks.5.attn.proj_drop"]
    assert not modes["pos_drop"]
    assert not modes["blocks.4.attn.proj_drop"]


def test_statistics_without_parameters_are_frozen_with_what_follows() -> None:
    network = nn.Sequential(
        nn.BatchNorm1d(4, affine=False),
        nn.Linear(4, 4),
        nn.BatchNorm1d(4, affine=False),
        nn.Linear(4, 2),
        nn.Dropout(),
    )
    set_learning(network, frozenset({"3.weight", "3.bias"}))
    set_modes(network)
    assert [module.training for module in network] == [False, False, True, True, True]
