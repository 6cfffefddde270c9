"""Model names: canonical, deprecated, misspelt."""

from __future__ import annotations

import pytest

from featurebench.backbones.names import find_architecture
from featurebench.errors import WeightsError


@pytest.mark.parametrize(
    ("written", "name", "tag"),
    [
        ("resnet50", "resnet50", "a1_in1k"),
        ("resnet50.tv_in1k", "resnet50", "tv_in1k"),
        ("xception", "legacy_xception", "tf_in1k"),
        ("vgg16", "vgg16", "tv_in1k"),
        ("tf_efficientnet_lite0", "tf_efficientnet_lite0", "in1k"),
    ],
)
def test_names_become_canonical(written: str, name: str, tag: str) -> None:
    architecture = find_architecture(written)
    assert (architecture.name, architecture.tag) == (name, tag)
    assert architecture.full_name == f"{name}.{tag}"


def test_deprecated_name_leads_to_the_weights_it_stood_for() -> None:
    assert find_architecture("tf_efficientnet_b0_ns").full_name == (
        "tf_efficientnet_b0.ns_jft_in1k"
    )


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("resnet5O", r"unknown model 'resnet5O', did you mean .*resnet50"),
        ("zzzzzzzz", r"unknown model 'zzzzzzzz'; see timm.list_models\(\)"),
        ("hf-hub:someone/network", "unknown model 'hf-hub:someone/network'"),
        ("resnet18.best", "no pretrained tag 'best'; it has: a1_in1k, "),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(written: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        find_architecture(written)
