"""Preprocessing: timm's own, or overridden key by key."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from featurebench.backbones.names import find_architecture
from featurebench.backbones.preprocessing import make_transform, resolve_preprocessing
from featurebench.errors import WeightsError

RESNET = find_architecture("resnet18")


def test_default_is_timms_configuration() -> None:
    assert resolve_preprocessing(find_architecture("inception_v3")) == {
        "input_size": [3, 299, 299],
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "crop_pct": 0.875,
        "crop_mode": "center",
    }


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"mean": 0}, {"mean": [0.0, 0.0, 0.0]}),
        ({"std": [0.1, 0.2, 0.3]}, {"std": [0.1, 0.2, 0.3]}),
        ({"input_size": 64}, {"input_size": [3, 64, 64]}),
        ({"input_size": [64, 96]}, {"input_size": [3, 64, 96]}),
        ({"input_size": (3, 64, 96)}, {"input_size": [3, 64, 96]}),
        ({"crop_pct": 1}, {"crop_pct": 1.0}),
        ({"interpolation": "nearest"}, {"interpolation": "nearest"}),
    ],
)
def test_an_override_changes_its_key_only(
    overrides: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert resolve_preprocessing(RESNET, overrides) == {**resolve_preprocessing(RESNET), **expected}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mean", "0.5"),
        ("mean", [0.5, 0.5]),
        ("mean", math.nan),
        ("std", 0),
        ("std", [0.2, -0.2, 0.2]),
        ("input_size", 0),
        ("input_size", 64.0),
        ("input_size", [1, 64, 64]),
        ("interpolation", "cubic"),
        ("crop_pct", 0),
        ("crop_pct", 1.5),
        ("crop_pct", True),
    ],
)
def test_an_impossible_value_is_refused(key: str, value: object) -> None:
    with pytest.raises(WeightsError, match=f"preprocessing {key} .* cannot be used; give"):
        resolve_preprocessing(RESNET, {key: value})


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(WeightsError, match="unknown preprocessing key 'size'; known: mean, std"):
        resolve_preprocessing(RESNET, {"size": 64})


def test_transform_resizes_crops_and_normalises() -> None:
    """A grey image keeps its grey whatever the resampling, so the result is known."""
    image = PIL.Image.new("RGB", (100, 50), (51, 102, 204))
    config = resolve_preprocessing(RESNET, {"mean": 0.5, "std": 0.25, "input_size": 32})
    tensor = make_transform(config)(image)
    expected = (np.array([51, 102, 204]) / 255 - 0.5) / 0.25
    assert tensor.shape == (3, 32, 32)
    np.testing.assert_allclose(tensor.amax(dim=(1, 2)), expected, atol=1e-6)
    np.testing.assert_allclose(tensor.amin(dim=(1, 2)), expected, atol=1e-6)


def test_transform_can_be_sent_to_another_process() -> None:
    image = PIL.Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    transform = make_transform(resolve_preprocessing(RESNET))
    copy = pickle.loads(pickle.dumps(transform))
    assert torch.equal(copy(image), transform(image))
