"""timm's hub: the cache is used, and an unreachable hub is told at once with the remedy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch

from featurebench.backbones import Backbone
from featurebench.errors import WeightsError

if TYPE_CHECKING:
    from pathlib import Path

# A port of this machine on which nothing listens.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", NOWHERE)
    return tmp_path


def test_an_unreachable_hub_is_told_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(
        WeightsError,
        match=f"no weights for 'resnet18.a1_in1k': {NOWHERE} cannot be reached; give a file ",
    ):
        Backbone.load("resnet18")
    assert time.monotonic() - started < 10


def test_a_package_is_offered_where_there_is_one() -> None:
    with pytest.raises(WeightsError, match="or say weights 'package'"):
        Backbone.load("tf_efficientnet_lite0")


def test_offline_mode_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set and they are not in its cache"):
        Backbone.load("resnet18")


def test_the_cache_is_used_without_the_hub(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository = empty_cache / "models--timm--resnet18.a1_in1k"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    state = timm.create_model("resnet18").state_dict()
    safetensors.torch.save_file(state, snapshot / "model.safetensors")
    backbone = Backbone.load("resnet18")
    own = backbone.network.state_dict()
    assert backbone.tag == "a1_in1k"
    assert all(torch.equal(tensor, state[name]) for name, tensor in own.items())


def test_a_network_without_published_weights_is_named() -> None:
    with pytest.raises(WeightsError, match="timm has no pretrained weights for 'densenet264d"):
        Backbone.load("densenet264d")
