"""Drift: what moved and what did not, on networks changed by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from featurebench.backbones import create_network, state_sha256
from featurebench.finetuning.drift import Drift, measure_drift
from featurebench.stats import linear_cka

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SIZES = {"test_resnet": 32, "test_vit": 160, "test_efficientnet": 32}
N_TILES = 30


class _Feed:
    """Random tiles, four at a time; says which were asked for."""

    device = torch.device("cpu")
    batch_size = 4

    def __init__(self, size: int = 32) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn((N_TILES, 3, size, size), generator=generator)
        self.asked: list[int] = []

    def batches(self, batches: Sequence[npt.NDArray[np.intp]]) -> Iterator[torch.Tensor]:
        for rows in batches:
            self.asked += rows.tolist()
            yield self.images[rows]


def _network(model: str, *, num_classes: int = 2) -> Any:
    return create_network(model, num_classes=num_classes, weights="random", seed=0)[0]


def _drift(
    start: nn.Module,
    tuned: nn.Module,
    feed: Any,
    rows: npt.NDArray[np.intp] | None = None,
    *,
    max_tiles: int = 2000,
    seed: int = 0,
) -> Drift:
    rows = np.arange(20) if rows is None else rows
    return measure_drift(start, tuned, feed, rows, max_tiles=max_tiles, seed=seed)


def _shake(module: nn.Module, strength: float = 0.3) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(strength * (parameter.abs().mean() + 0.01) * noise)


@pytest.mark.parametrize(
    ("model", "n_stages", "last"),
    [
        ("test_resnet", 5, "layer4"),
        ("test_vit", 6, "blocks.5"),
        ("test_efficientnet", 5, "blocks.4"),
    ],
)
def test_only_what_changed_and_what_follows_it_moves(model: str, n_stages: int, last: str) -> None:
    start, tuned, feed = _network(model), _network(model, num_classes=3), _Feed(SIZES[model])
    same = _drift(start, tuned, feed)
    assert list(same.cka)[-2:] == [last, "final"]
    assert len(same.cka) == n_stages + 1
    assert list(same.cka.values()) == pytest.approx([1.0] * (n_stages + 1), abs=1e-12)
    _shake(tuned.get_submodule(last), 3)
    moved = list(_drift(start, tuned, feed).cka.values())
    assert moved[:-2] == list(same.cka.values())[:-2]
    assert all(value is not None and value < 0.99 for value in moved[-2:])


@pytest.mark.parametrize("model", SIZES)
def test_features_are_what_the_tuned_classifier_sees(model: str) -> None:
    start, tuned, feed = _network(model), _network(model), _Feed(SIZES[model])
    _shake(tuned)
    rows = np.array([7, 3, 29, 0, 11])
    drift = _drift(start, tuned, feed, rows=rows)
    tuned.eval()
    with torch.inference_mode():
        maps = tuned.forward_features(feed.images[rows])
        expected = tuned.forward_head(maps, pre_logits=True)
    assert drift.features.dtype == np.float16
    np.testing.assert_allclose(drift.features, expected, rtol=2e-3, atol=1e-3)
    assert drift.n_tiles == 5


def test_cka_is_that_of_averaged_stages() -> None:
    start, tuned, feed = _network("test_resnet"), _network("test_resnet"), _Feed()
    _shake(tuned.layer2)
    drift = _drift(start, tuned, feed)
    images, averages = feed.images[:20], []
    for network in (start, tuned):
        network.eval()
        with torch.inference_mode():
            stem = network.act1(network.bn1(network.conv1(images)))
            maps = network.layer2(network.layer1(network.maxpool(stem)))
            averages.append(maps.mean(dim=(2, 3)).double().numpy())
    assert drift.cka["layer2"] == pytest.approx(linear_cka(*averages, debiased=True), abs=1e-5)


def test_many_tiles_are_sampled_for_cka_but_all_have_features() -> None:
    start, tuned, feed = _network("test_resnet"), _network("test_resnet"), _Feed()
    _shake(tuned)
    rows = np.arange(N_TILES)[::-1].copy()
    whole = _drift(start, tuned, feed, rows=rows)
    part = _drift(start, tuned, feed, rows=rows, max_tiles=10)
    again = _drift(start, tuned, feed, rows=rows, max_tiles=10)
    other = _drift(start, tuned, feed, rows=rows, max_tiles=10, seed=1)
    assert (whole.n_tiles, part.n_tiles) == (N_TILES, 10)
    np.testing.assert_allclose(part.features, whole.features, rtol=2e-3, atol=1e-3)
    assert part.cka == again.cka
    assert part.cka != other.cka


def test_networks_stay_as_they_were() -> None:
    start, tuned, feed = _network("test_resnet"), _network("test_resnet"), _Feed()
    start.eval()
    tuned.train()
    tuned.layer1.eval()
    modes = [module.training for network in (start, tuned) for module in network.modules()]
    hashes = [state_sha256(start), state_sha256(tuned)]
    random = torch.random.get_rng_state()
    _drift(start, tuned, feed)
    assert modes == [m.training for network in (start, tuned) for m in network.modules()]
    assert hashes == [state_sha256(start), state_sha256(tuned)]
    assert torch.equal(random, torch.random.get_rng_state())
    assert tuned.fc.out_features == 2
    assert not any(module._forward_hooks for module in tuned.modules())


def test_dropout_and_batch_statistics_play_no_part() -> None:
    start = create_network(
        "test_efficientnet",
        num_classes=2,
        weights="random",
        model_args={"drop_rate": 0.5, "drop_path_rate": 0.5},
    )[0]
    drift = _drift(start.train(), start.train(), _Feed())
    assert list(drift.cka.values()) == pytest.approx([1.0] * 6, abs=1e-12)


def test_held_out_rows_only() -> None:
    network, feed = _network("test_resnet"), _Feed()
    _drift(network, network, feed, rows=np.array([4, 9, 2, 17, 21]), max_tiles=4)
    assert set(feed.asked) == {4, 9, 2, 17, 21}


@pytest.mark.parametrize("n_rows", [0, 1, 3])
def test_is_undefined_for_fewer_than_four_tiles(n_rows: int) -> None:
    network = _network("test_resnet")
    drift = _drift(network, network, _Feed(), rows=np.arange(n_rows))
    assert set(drift.cka.values()) == {None}
    assert drift.features.shape == (n_rows, 96)


def test_is_undefined_where_features_do_not_vary_or_overflow() -> None:
    start, dead, burst = (_network("test_resnet") for _ in range(3))
    with torch.no_grad():
        for parameter in dead.layer4.parameters():
            parameter.zero_()
        burst.bn1.bias.fill_(1e30)
    drift = _drift(start, dead, _Feed())
    assert (drift.cka["layer4"], drift.cka["final"]) == (None, None)
    assert drift.cka["layer3"] == pytest.approx(1)
    assert np.isinf(_drift(start, burst, _Feed()).features).any()


class _Stages(nn.Module):
    """A network that names a stage that it lacks, and one whose output is a list."""

    feature_info = tuple({"module": name} for name in ("body", "forks", "absent", "idle"))

    def __init__(self) -> None:
        super().__init__()
        self.body, self.idle = nn.Conv2d(3, 8, 1), nn.Identity()
        self.forks = _Forks()
        self.fc: nn.Module = nn.Linear(8, 2)

    def reset_classifier(self, num_classes: int) -> None:
        self.fc = nn.Linear(8, num_classes) if num_classes else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first, second = self.forks(self.body(images))
        logits: torch.Tensor = self.fc((first + second).mean(dim=(2, 3)))
        return logits


class _Forks(nn.Module):
    def forward(self, maps: torch.Tensor) -> list[torch.Tensor]:
        return [maps.relu(), -maps]


def test_stages_that_cannot_be_averaged_are_left_out() -> None:
    network = _Stages()
    assert list(_drift(network, network, _Feed()).cka) == ["body", "final"]
