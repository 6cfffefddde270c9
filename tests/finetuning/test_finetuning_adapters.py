"""Adapters: they start as nothing, learn alone and fold away; heads and probes fit exactly."""

from __future__ import annotations

import copy
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from featurebench.backbones.network import state_sha256
from featurebench.errors import ConfigError
from featurebench.finetuning.adapters import (
    add_lora,
    lora_targets,
    merge_lora,
    pre_logits,
    replace_classifier,
    start_from_probe,
)
from featurebench.finetuning.strategies import Strategy, set_learning, set_modes

if TYPE_CHECKING:
    from collections.abc import Mapping

SMALL: Mapping[str, Mapping[str, Any]] = {
    "test_vit": {"img_size": 32},
    "test_resnet": {},
    "test_efficientnet": {},
    "test_byobnet": {},
}


def build(model: str, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(
        model, pretrained=False, **{"num_classes": 3, **SMALL.get(model, {}), **arguments}
    )
    return network.eval()


def on_meta(model: str, **arguments: Any) -> nn.Module:
    """Build without memory for weights, so that large networks cost nothing."""
    with torch.device("meta"):
        return build(model, **arguments)


def images(n: int = 4, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def take_steps(network: nn.Module, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for step in range(steps):
        set_modes(network)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images(6, step)), torch.arange(6) % 3)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    network.eval()


def without_adapters(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keep what the network had before, under its name of then."""
    return {
        name.replace(".base_layer", ""): value
        for name, value in state.items()
        if ".lora_" not in name
    }


@pytest.mark.parametrize("model", SMALL)
def test_adapters_start_as_nothing_and_learn_alone(model: str) -> None:
    pytest.importorskip("peft", reason="needs the extra 'lora'")
    network = build(model)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        start = network(images())
        assert add_lora(network, rank=2, seed=3) is network
        assert torch.equal(network(images()), start)

    learning = Strategy.parse("lora").learning(network, 1)
    set_learning(network, learning)
    take_steps(network)
    classifier = {name for name in learning if ".lora_" not in name}
    assert len(classifier) == 2
    assert len(learning) == 2 + 2 * len(lora_targets(build(model)))
    after = without_adapters(network.state_dict())
    assert list(after) == list(before)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == classifier


@pytest.mark.parametrize("model", SMALL)
def test_adapters_fold_into_the_original_layers(model: str) -> None:
    pytest.importorskip("peft", reason="needs the extra 'lora'")
    network = build(model)
    before = network.state_dict()
    with torch.no_grad():
        start = network(images())
        add_lora(network, rank=2)
        for name, parameter in network.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.2)
        adapted = network(images())
        assert merge_lora(network) is network
        merged = network(images())
    assert (adapted - start).abs().max() > 0.1 * start.abs().max()
    torch.testing.assert_close(merged, adapted, rtol=1e-5, atol=1e-5)
    assert list(network.state_dict()) == list(before)
    assert not hasattr(network, "peft_config")
    plain = build(model)
    plain.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(plain(images()), merged)


def test_every_adapter_takes_part() -> None:
    pytest.importorskip("peft", reason="needs the extra 'lora'")
    for model in SMALL:
        network = add_lora(build(model), rank=1)
        set_learning(network, Strategy.parse("lora").learning(network, 1))
        network(images()).square().sum().backward()
        ups = [p for name, p in network.named_parameters() if ".lora_B." in name]
        assert ups
        # gates before a dead ReLU have a gradient of 0, but they have one
        assert all(p.grad is not None for p in ups), model


def test_adapters_depend_on_the_seed_and_leave_the_random_state_alone() -> None:
    pytest.importorskip("peft", reason="needs the extra 'lora'")
    torch.manual_seed(5)
    state = torch.get_rng_state()
    seeds = (0, 0, 1)
    hashes = []
    for seed in seeds:
        network = copy.deepcopy(build("test_vit"))
        torch.set_rng_state(state)
        hashes.append(state_sha256(add_lora(network, rank=2, seed=seed)))
        assert torch.equal(torch.get_rng_state(), state)
    assert hashes[0] == hashes[1] != hashes[2]


def test_alpha_scales_the_adapter() -> None:
    pytest.importorskip("peft", reason="needs the extra 'lora'")
    weights = []
    for alpha in (None, 2.0, 6.0):
        network = add_lora(build("test_vit"), rank=2, alpha=alpha)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if ".lora_B." in name:
                    parameter.fill_(0.1)
        plain = dict(build("test_vit").named_parameters())
        merged = dict(merge_lora(network).named_parameters())
        weights.append(merged["blocks.0.mlp.fc1.weight"] - plain["blocks.0.mlp.fc1.weight"])
    torch.testing.assert_close(weights[0], weights[1])
    torch.testing.assert_close(weights[2], 3 * weights[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "kinds"),
    [
        ("vit_tiny_patch16_224", {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}),
        # the module around it reads its weight and adds the bias itself
        ("swinv2_tiny_window8_256", {"attn.proj", "mlp.fc1", "mlp.fc2"}),
        ("beit_base_patch16_224", {"attn.proj", "mlp.fc1", "mlp.fc2"}),
    ],
)
def test_transformers_are_adapted_in_their_blocks(model: str, kinds: set[str]) -> None:
    targets = lora_targets(on_meta(model))
    assert {".".join(name.split(".")[-2:]) for name in targets if "blocks" in name} >= kinds
    assert ("attn.qkv" in kinds) == any(name.endswith("attn.qkv") for name in targets)
    assert "head" not in targets


@pytest.mark.parametrize(
    "model", ["densenet121", "resnet50", "tf_efficientnet_lite0", "vgg16", "inception_v3"]
)
def test_convolutions_are_adapted_where_they_are_1_by_1(model: str) -> None:
    network = on_meta(model)
    layers = dict(network.named_modules())
    targets = lora_targets(network)
    assert targets
    for name in targets:
        layer = layers[name]
        assert isinstance(layer, nn.Conv2d)
        assert layer.weight.shape[2:] == (1, 1)
        assert layer.groups == 1
        assert layer is not network.get_classifier()  # type: ignore[operator]
    left_out = [name for name, layer in layers.items() if name.endswith("conv_dw")]
    assert not set(left_out) & set(targets)


class OnlyLarge(nn.Module):
    """Nothing but a 3 x 3 convolution, torch's own attention and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.attention = nn.MultiheadAttention(4, 1)
        self.fc = nn.Linear(4, 2)


def test_network_without_a_layer_for_adapters_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"'lora' does not apply to 'OnlyLarge'.*use 'last:1'"):
        Strategy.parse("lora").check(OnlyLarge())
    Strategy.parse("lora").check(build("test_vit"))


def test_rank_below_one_is_refused() -> None:
    pytest.importorskip("peft", reason="needs the extra 'lora'")
    with pytest.raises(ConfigError, match=r"rank 0 cannot be used: it must be at least 1"):
        add_lora(build("test_vit"), rank=0)


def test_missing_peft_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    for act in (partial(add_lora, rank=2), merge_lora):
        with pytest.raises(ConfigError, match=r"run: pip install 'featurebench\[lora\]'$"):
            act(build("test_vit"))


@pytest.mark.parametrize("model", SMALL)
def test_dense_head_computes_on_what_the_classifier_saw(model: str) -> None:
    network = build(model, num_classes=5)
    with torch.no_grad():
        seen = pre_logits(network, images())
        replace_classifier(network, 3, head="dense", hidden=7, dropout=0.25)
        head = network.get_classifier()  # type: ignore[operator]
        w1, b1, w2, b2 = head.parameters()
        expected = torch.clamp(seen @ w1.T + b1, min=0) @ w2.T + b2
        torch.testing.assert_close(network(images()), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", [*SMALL, "vgg11", "densenet121", "tf_efficientnet_lite0"])
def test_dense_head_is_the_classifier_with_its_dropout(model: str) -> None:
    network = on_meta(model)
    replace_classifier(network, 4, head="dense", hidden=7, dropout=0.25)
    head = network.get_classifier()  # type: ignore[operator]
    dim = network.head_hidden_size
    assert [tuple(p.shape) for p in head.parameters()] == [(7, dim), (7,), (4, 7), (4,)]
    assert [m.p for m in head.modules() if isinstance(m, nn.Dropout)] == [0.25]
    assert not head.training
    size = 32 if model in SMALL else 224
    assert network(torch.zeros(2, 3, size, size, device="meta")).shape == (2, 4)
    parameters = dict(network.named_parameters())
    learning = Strategy.parse("head").learning(network, 1)
    assert {id(parameters[name]) for name in learning} == {id(p) for p in head.parameters()}


@pytest.mark.parametrize("head", ["linear", "dense"])
def test_head_depends_on_the_seed_and_leaves_the_random_state_alone(head: str) -> None:
    hashes = []
    for seed in (0, 0, 1):
        network = build("test_resnet")
        state = torch.get_rng_state()
        replace_classifier(network, 4, head=head, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        hashes.append(state_sha256(network))
    assert hashes[0] == hashes[1] != hashes[2]


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"head 'deep' does not exist: use linear or dense"):
        replace_classifier(build("test_resnet"), 2, head="deep")
    convolutional = on_meta("dpn68")
    with pytest.raises(ConfigError, match=r"'dense' does not apply to 'dpn68'.* is Conv2d"):
        replace_classifier(convolutional, 2, head="dense")


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("model", ["test_vit", "test_byobnet"])
def test_network_starts_as_the_probe(model: str, n_classes: int) -> None:
    network = build(model, num_classes=n_classes)
    pixels = images(24)
    with torch.no_grad():
        features = pre_logits(network, pixels).double().numpy()
    labels = np.arange(24) % n_classes
    probe = LogisticRegression(C=10, max_iter=5000).fit(features, labels)
    start_from_probe(network, probe.coef_, probe.intercept_)
    with torch.no_grad():
        y_prob = network(pixels).softmax(dim=1).numpy()
    assert np.ptp(y_prob, axis=0).max() > 0.01
    np.testing.assert_allclose(y_prob, probe.predict_proba(features), atol=1e-5)


def test_distilled_network_starts_as_the_probe_on_both_tokens() -> None:
    network = build("deit_tiny_distilled_patch16_224", img_size=32, depth=2)
    coef = np.random.default_rng(0).normal(size=(3, 192))
    with torch.no_grad():
        features = pre_logits(network, images()).double().numpy()
        start_from_probe(network, coef, np.arange(3.0))
        logits = network(images()).numpy()
    np.testing.assert_allclose(logits, features @ coef.T + np.arange(3), atol=1e-4)


def test_probes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"probe of shape \(3, 5\) does not fit .*'test_vit'"):
        start_from_probe(build("test_vit"), np.zeros((3, 5)), np.zeros(3))
    dense = build("test_vit")
    replace_classifier(dense, 3, head="dense")
    with pytest.raises(ConfigError, match=r"'lp-ft' does not apply .* is Sequential, not one"):
        start_from_probe(dense, np.zeros((3, 64)), np.zeros(3))


def test_features_are_what_timm_calls_pre_logits() -> None:
    for model in SMALL:
        network = build(model)
        with torch.no_grad():
            whole = network.forward_features(images())  # type: ignore[operator]
            expected = network.forward_head(whole, pre_logits=True)  # type: ignore[operator]
            features = pre_logits(network, images())
        assert torch.equal(features, expected)


def test_classifier_of_a_whole_map_has_no_features() -> None:
    maps = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))
    with pytest.raises(ConfigError, match=r"'Sequential' does not see one vector per image"):
        pre_logits(maps, images())
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 2, 1))
    torch.testing.assert_close(pre_logits(pooled, images()), images().mean(dim=(2, 3)))
