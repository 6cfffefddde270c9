"""The extraction benchmark runs each of its ways, and they embed the same tiles."""

from __future__ import annotations

import pytest
import torch

from benchmarks.extraction import Bench, compare, precisions
from featurebench.backbones import Backbone
from featurebench.tiles import write_cohort


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    manifest = write_cohort(folder / "tiles", patients=4, tiles_per_patient=2, size=32)
    names = ("mobilenetv2_050", "resnet10t")
    backbones = [Backbone.load(name, weights="random") for name in names]
    return Bench(manifest, backbones, folder, "cpu", batch_size=4)


def test_every_way_is_measured(bench: Bench) -> None:
    results = compare(bench, workers=[0], repeats=1)
    assert list(results) == ["1 backbone", "2 backbones"]
    for timings in results.values():
        names = [timing.name for timing in timings]
        assert names == ["timm loop, 0 workers", "featurebench, 0 workers", "networks alone"]
        assert all(timing.n_tiles == 8 and len(timing.seconds) == 1 for timing in timings)
        assert "bound by" in timings[1].note


def test_what_is_compared_is_the_same(bench: Bench) -> None:
    taken, report = bench.ours(bench.backbones, 0)
    assert (report.n_tiles, report.is_complete, taken > 0) == (8, True, True)
    network = bench._peer_network(bench.backbones[0])
    pixels = torch.zeros(1, 3, 224, 224)
    with torch.inference_mode():
        ours, theirs = bench.backbones[0].network(pixels), network(pixels)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_precisions_of_this_device_are_listed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def load(_model: str, *, precision: str, engine: str, **_others: object) -> Backbone:
        asked.append((precision, engine))
        return bench.backbones[0]

    monkeypatch.setattr("benchmarks.extraction.Backbone.load", load)
    assert len(precisions(bench, "mobilenetv2_050", repeats=1)) == len(asked) == 5
    assert ("bfloat16", "openvino") in asked
