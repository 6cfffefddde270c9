"""Preprocessing: timm's own, or overridden key by key."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from featurebench.backbones.names import find_architecture
from featurebench.backbones.preprocessing import Prepare, normalise, resolve_preprocessing
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
        ({"reduced_decoding": True}, {"reduced_decoding": True}),
        ({"reduced_decoding": False}, {}),
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
        ("reduced_decoding", 1),
    ],
)
def test_an_impossible_value_is_refused(key: str, value: object) -> None:
    with pytest.raises(WeightsError, match=f"preprocessing {key} .* cannot be used; give"):
        resolve_preprocessing(RESNET, {key: value})


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(WeightsError, match="unknown preprocessing key 'size'; known: mean, std"):
        resolve_preprocessing(RESNET, {"size": 64})


def test_pixels_are_resized_cropped_and_normalised() -> None:
    """A coloured image keeps its colour whatever the resampling, so the result is known."""
    image = PIL.Image.new("RGB", (100, 50), (51, 102, 204))
    config = resolve_preprocessing(RESNET, {"mean": 0.5, "std": 0.25, "input_size": 32})
    pixels = Prepare.of(config)(image)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    tensor = normalise(torch.from_numpy(pixels)[None], config["mean"], config["std"])
    expected = (np.array([51, 102, 204]) / 255 - 0.5) / 0.25
    assert tensor.shape == (1, 3, 32, 32)
    np.testing.assert_allclose(tensor.amax(dim=(0, 2, 3)), expected, atol=1e-6)
    np.testing.assert_allclose(tensor.amin(dim=(0, 2, 3)), expected, atol=1e-6)


def test_the_shorter_side_is_scaled_and_the_middle_kept() -> None:
    """A tile twice as wide as high loses a quarter at either end, where the blue and red are."""
    pixels = np.zeros((64, 128, 3), dtype=np.uint8)
    pixels[:, :32, 0] = pixels[:, 32:96, 1] = pixels[:, 96:, 2] = 255
    config = resolve_preprocessing(
        RESNET, {"input_size": 64, "crop_pct": 1, "interpolation": "nearest"}
    )
    prepared = Prepare.of(config)(PIL.Image.fromarray(pixels))
    np.testing.assert_array_equal(prepared, pixels[:, 32:96])


@pytest.mark.parametrize("symmetry", range(8))
def test_turned_pixels_are_normalised_in_channels_last_memory(symmetry: int) -> None:
    pixels = torch.arange(2 * 4 * 4 * 3, dtype=torch.uint8).reshape(2, 4, 4, 3)
    mirrored = pixels.flip(2) if symmetry >= 4 else pixels
    turned = torch.rot90(mirrored, symmetry % 4, dims=(1, 2))
    found = normalise(turned, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected = (turned.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    torch.testing.assert_close(found, expected.contiguous(), rtol=0, atol=1e-6)
    assert pixels.flatten().tolist() == list(range(96))


def test_networks_that_want_the_same_pixels_share_the_preparation() -> None:
    """Mean and standard deviation are the network's own affair; the geometry is not."""
    own = Prepare.of(resolve_preprocessing(RESNET))
    assert own == Prepare.of(resolve_preprocessing(RESNET, {"mean": 0.5, "std": 0.5}))
    for change in (
        {"crop_pct": 1.0},
        {"input_size": 96},
        {"interpolation": "bilinear"},
        {"reduced_decoding": True},
    ):
        assert own != Prepare.of(resolve_preprocessing(RESNET, change))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, None),
        ({"reduced_decoding": True, "input_size": 224, "crop_pct": 0.875}, 256),
        ({"reduced_decoding": True, "input_size": [64, 100], "crop_pct": 0.95}, 106),
        ({"reduced_decoding": True, "input_size": 96, "crop_pct": 1}, 96),
    ],
)
def test_a_reduced_image_is_never_smaller_than_what_is_cropped_from_it(
    overrides: dict[str, Any], expected: int | None
) -> None:
    assert Prepare.of(resolve_preprocessing(RESNET, overrides)).min_side == expected
