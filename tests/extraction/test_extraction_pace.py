"""What is told before and during a pass: size of a block, room on the disk, rate, bottleneck."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from extraction_cases import MeanColour, as_backbone, new_manifest, new_store, spoil

from featurebench.errors import ExtractionError
from featurebench.extraction import bound_by, extract, reading, trial
from featurebench.extraction.computing import Computer
from featurebench.extraction.pace import Pace
from featurebench.extraction.passes import make_targets, plan_forwards
from featurebench.extraction.preflight import bytes_to_write, check_space, choose_block_rows
from featurebench.extraction.trial import Trial, try_out
from featurebench.store import EmbeddingSpec
from featurebench.tiles import TileManifest, read_tile

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image


class Timed(Computer):
    """Takes so many seconds for a tile, and remembers how many it was tried with."""

    def __init__(self, seconds: float) -> None:
        super().__init__([], print)
        self.seconds = seconds
        self.tried: list[int] = []

    def seconds_per_tile(self, n: int) -> float:
        self.tried.append(n)
        return self.seconds


@pytest.fixture
def manifest(tmp_path: Path) -> TileManifest:
    return new_manifest(tmp_path / "tiles")


@pytest.mark.parametrize(
    ("seconds", "n_tiles", "rows"),
    [
        (1.0, 100_000, 256),
        (20 / 1023, 100_000, 256),
        (20 / 1024, 100_000, 1024),
        (0.01, 100_000, 1024),
        (0.001, 100_000, 16_384),
        (0.001, 1_024, None),
        (0.01, 1_025, 1024),
        (1e-6, 100_000, None),
        (1.0, 257, 256),
    ],
)
def test_a_block_is_about_twenty_seconds_of_work(
    seconds: float, n_tiles: int, rows: int | None
) -> None:
    assert choose_block_rows(Timed(seconds), n_tiles, 32) == rows


@pytest.mark.parametrize(("batch_size", "tried"), [(32, 8), (8, 8), (2, 2)])
def test_the_trial_is_short(batch_size: int, tried: int) -> None:
    computer = Timed(1.0)
    choose_block_rows(computer, 1000, batch_size)
    assert computer.tried == [tried]


def test_a_few_tiles_need_no_trial() -> None:
    computer = Timed(1.0)
    assert choose_block_rows(computer, 256, 32) is None
    assert computer.tried == []


def test_networks_are_timed_on_their_second_go() -> None:
    stand_in = MeanColour()
    backbone = as_backbone(stand_in)
    forwards = plan_forwards(make_targets([backbone]))
    assert Computer(forwards, print).seconds_per_tile(5) > 0
    assert stand_in.n_embedded == 10


def test_what_does_not_fit_on_the_disk_is_told_before_the_first_tile(
    manifest: TileManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path / "toy.store", manifest)
    backbones = [as_backbone(MeanColour(state)) for state in (b"a", b"b")]
    spec = EmbeddingSpec(**backbones[0].recipe)
    assert bytes_to_write(spec, 1000) == 1000 * 3 * 2
    needed = 2 * 22 * 3 * 2
    for free in (needed, needed - 1):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _path, usage=usage: usage)
        if free == needed:
            check_space(store, [spec, spec])
    message = (
        "^2 embeddings of 22 tiles need 264 bytes more and the disk of toy.store has 263 bytes free"
    )
    with pytest.raises(ExtractionError, match=message):
        extract(manifest, backbones, store)
    assert store.embeddings() == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        ((1.0, 3.0, 0.0), "bound by the network (75 %)"),
        ((2.0, 1.0, 1.0), "bound by reading (50 %)"),
        ((0.0, 0.0, 5.0), "bound by writing (100 %)"),
        ((1.0, 1.0, 0.0), "bound by reading (50 %)"),
        ((0.0, 0.0, 0.0), ""),
    ],
)
def test_the_slowest_stage_is_named(seconds: tuple[float, float, float], text: str) -> None:
    assert bound_by(dict(zip(("reading", "network", "writing"), seconds, strict=True))) == text


def test_what_bounds_a_pass_now_counts_more_than_what_did() -> None:
    pace = Pace()
    pace.add("reading", 10.0)
    assert pace.tick() == "bound by reading (100 %)"
    told = []
    for _ in range(12):
        pace.add("network", 1.0)
        told.append(pace.tick())
    assert told[0] == "bound by reading (90 %)"
    assert told[-1].startswith("bound by the network")
    assert pace.seconds == {"reading": 10.0, "network": 12.0, "writing": 0.0}


def test_time_is_counted_even_if_waiting_ends_in_an_error() -> None:
    pace = Pace()
    with pytest.raises(KeyboardInterrupt), pace.waiting("writing"):
        raise KeyboardInterrupt
    assert pace.seconds["writing"] > 0


def test_a_pass_tells_what_it_waited_for(manifest: TileManifest, tmp_path: Path) -> None:
    told: list[str] = []
    store = new_store(tmp_path / "toy.store", manifest)
    report = extract(manifest, as_backbone(), store, progress=lambda _n, bound: told.append(bound))
    assert set(report.waited_s) == {"reading", "network", "writing"}
    assert 0 < sum(report.waited_s.values()) <= report.wall_s
    assert all(text.startswith("bound by ") and text.endswith(" %)") for text in told)
    assert told


class Clock:
    """Goes on by a second whenever it is looked at."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1
        return self.now


def test_a_trial_counts_what_it_cannot_read(
    manifest: TileManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(manifest, 0, 5, 21)
    manifest.path_of(7).unlink()
    monkeypatch.setattr(trial, "time", Clock())
    found = try_out(manifest, [as_backbone()], batch_size=64, seconds=0)
    # One batch of all tiles; reading it and embedding it took a second each.
    assert found == Trial(22, 4, 1 / 22, 1 / 22)


def test_a_trial_looks_at_tiles_from_all_over_and_at_others_each_time(
    manifest: TileManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    rows = {manifest.path_of(row): row for row in range(len(manifest))}

    def look(path: Path, *, min_side: int | None = None) -> Image.Image:
        seen.append(rows[path])
        return read_tile(path, min_side=min_side)

    monkeypatch.setattr(trial, "time", Clock())
    monkeypatch.setattr(reading, "read_tile", look)
    found = try_out(manifest, [as_backbone()], batch_size=4, seconds=9)
    assert found.n_tiles == len(seen) == 12
    assert seen == [0, 5, 10, 15, 1, 6, 11, 16, 2, 7, 12, 17]


@pytest.mark.parametrize(
    ("reading_s", "network_s", "n_readers", "rate"),
    [(0.1, 0.01, 1, 10), (0.1, 0.01, 4, 40), (0.1, 0.05, 4, 20), (0.1, 0.05, 0, 10)],
)
def test_a_pass_is_as_fast_as_its_slower_half(
    reading_s: float, network_s: float, n_readers: int, rate: float
) -> None:
    assert Trial(1, 0, reading_s, network_s).tiles_per_s(n_readers) == pytest.approx(rate)
