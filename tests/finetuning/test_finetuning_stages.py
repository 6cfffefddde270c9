"""Stages of depth: every parameter once, in order, under names that mean something."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from featurebench.errors import WeightsError
from featurebench.finetuning.stages import CLASSIFIER, classifier_modules, stages_of

# Written down from the architectures' papers and timm's module names, not from the code.
STAGES = {
    "vgg16": [
        *(f"features.{i}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
        "pre_logits",
    ],
    "resnet50": ["conv1", "layer1", "layer2", "layer3", "layer4"],
    "inception_v3": [
        *("Conv2d_1a_3x3", "Conv2d_3b_1x1"),
        *(f"Mixed_{block}" for block in ("5b", "5c", "5d", *(f"6{i}" for i in "abcde"))),
        *("Mixed_7a", "Mixed_7b", "Mixed_7c"),
    ],
    "legacy_xception": ["conv1", *(f"block{i}" for i in range(1, 13)), "conv3"],
    "xception41": ["stem", *(f"blocks.{i}" for i in range(13))],
    "densenet121": ["features.conv0", *(f"features.denseblock{i}" for i in range(1, 5))],
    "tf_efficientnet_lite0": ["conv_stem", *(f"blocks.{i}" for i in range(7))],
    "mobilenetv2_100": ["conv_stem", *(f"blocks.{i}" for i in range(7))],
    "vit_tiny_patch16_224": ["patch_embed", *(f"blocks.{i}" for i in range(12))],
    "convnext_atto": ["stem", *(f"stages.{i}" for i in range(4))],
    "swin_tiny_patch4_window7_224": ["patch_embed", *(f"layers.{i}" for i in range(4))],
    "test_resnet": ["conv1", "layer1", "layer2", "layer3", "layer4"],
    "test_vit": ["patch_embed", *(f"blocks.{i}" for i in range(6))],
    "test_efficientnet": ["conv_stem", *(f"blocks.{i}" for i in range(5))],
    "test_byobnet": ["stem", *(f"stages.{i}" for i in range(4))],
    # timm says that it has no coarse groups
    "rdnet_tiny": ["stem", *(f"dense_stages.{i}" for i in range(7))],
    # timm has no groups for it
    "pit_ti_224": ["patch_embed", *(f"transformers.{i}" for i in range(3))],
}


def build(model: str, **arguments: Any) -> nn.Module:
    """Build without memory for weights, so that large networks cost nothing."""
    with torch.device("meta"):
        network: nn.Module = timm.create_model(model, pretrained=False, **arguments)
    return network


@pytest.mark.parametrize("model", STAGES)
def test_stages_are_the_architecture_s(model: str) -> None:
    network = build(model)
    stages = stages_of(network)
    assert [stage.name for stage in stages] == [*STAGES[model], CLASSIFIER]
    listed = [name for stage in stages for name in stage.parameters]
    assert listed == [name for name, _ in network.named_parameters()]


def test_last_normalisation_joins_the_stage_before_it() -> None:
    for model, last in (
        ("densenet121", "features.norm5.weight"),
        ("convnext_atto", "head.norm.bias"),
    ):
        assert last in stages_of(build(model))[-2].parameters


def test_distilled_network_has_two_classifiers_in_one_stage() -> None:
    network = build("deit_tiny_distilled_patch16_224")
    assert list(classifier_modules(network)) == ["head", "head_dist"]
    assert stages_of(network)[-1].parameters == (
        "head.weight",
        "head.bias",
        "head_dist.weight",
        "head_dist.bias",
    )


def test_auxiliary_classifier_is_no_step_of_depth() -> None:
    stages = stages_of(build("inception_v3", aux_logits=True))
    assert [stage.name for stage in stages[:-1]] == STAGES["inception_v3"]
    tops = {name.partition(".")[0] for name in stages[-1].parameters}
    assert tops == {"AuxLogits", "fc"}


class Loose(nn.Module):
    """No network of timm: a parameter of its own, a sequence, one module, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 4))
        self.steps = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 4))
        self.neck = nn.Linear(4, 4)
        self.drop = nn.Dropout()
        self.out = nn.Linear(4, 2)


def test_network_of_another_library_falls_back_to_its_children() -> None:
    stages = stages_of(Loose())
    assert [stage.name for stage in stages] == ["steps.0", "steps.3", "neck", CLASSIFIER]
    assert stages[0].parameters[0] == "token"
    assert stages[0].parameters[-1] == "steps.1.bias"
    assert stages[-1].parameters == ("out.weight", "out.bias")


def test_network_without_classes_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"'ResNet' has no classification layer"):
        stages_of(build("test_resnet", num_classes=0))


@pytest.mark.slow
def test_every_family_of_timm_has_stages() -> None:
    names = timm.list_models()
    families = {name.partition("_")[0].rstrip("0123456789"): name for name in reversed(names)}
    for model in families.values():
        network = build(model)
        if not network.num_classes:
            continue
        stages = stages_of(network)
        listed = [name for stage in stages for name in stage.parameters]
        assert sorted(listed) == sorted(name for name, _ in network.named_parameters()), model
        assert len({stage.name for stage in stages}) == len(stages) > 2, model
