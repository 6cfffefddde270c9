"""Readers that die, hang or never begin: a tile is lost at most, and no process is left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from extraction_cases import (
    N_TILES,
    Drifting,
    as_backbone,
    extract_one,
    mean_colours,
    new_manifest,
    new_store,
    settings,
)
from PIL import Image
from reader_cases import SIDE, Lost, Poisoned, Slow, write_poison

from featurebench.errors import ExtractionError
from featurebench.extraction import extract, processes
from featurebench.extraction.readers import TileReaders
from featurebench.extraction.reading import Feed, Order
from featurebench.tiles import CLEAN, TileManifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from featurebench.store import FeatureStore

BATCH = 8
KILLED = "reading it twice, its reader died (signal 9): replace the file"
LATE_S = 30.0


def reader_processes(of: psutil.Process | None = None) -> list[psutil.Process]:
    """List the readers below a process, without the servers that start and watch them."""
    found = []
    for child in (of or psutil.Process()).children():
        command = " ".join(child.cmdline())
        if "multiprocessing.forkserver" in command:
            found += child.children()
        elif "spawn_main" in command:
            found.append(child)
    return found


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + LATE_S
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _leaves_no_reader() -> Iterator[None]:
    yield
    assert reader_processes() == []


@pytest.fixture
def manifest(tmp_path: Path) -> TileManifest:
    return new_manifest(tmp_path / "tiles")


@pytest.fixture
def store(tmp_path: Path, manifest: TileManifest) -> FeatureStore:
    return new_store(tmp_path / "toy.store", manifest)


def poisoned(tmp_path: Path, n_tiles: int, kinds: dict[int, str]) -> TileManifest:
    manifest = new_manifest(tmp_path / "tiles", n_tiles)
    for row, kind in kinds.items():
        write_poison(manifest.path_of(row), kind)
    return manifest


def test_each_fatal_tile_is_refused_by_name_and_no_other_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PATIENCE_S", 1.0)
    kinds = {0: "kill", 11: "exit", 20: "hang", 29: "once", 32: "kill", 33: "kill", 47: "memory"}
    manifest = poisoned(tmp_path, 6 * BATCH, kinds)
    store = new_store(tmp_path / "toy.store", manifest)
    told: list[str] = []
    prepare = Poisoned(marks=str(tmp_path))
    report = extract(
        manifest,
        as_backbone(prepare=prepare),
        store,
        settings(batch_size=BATCH, workers=2, max_bad_tiles=0.2),
        say=told.append,
    )
    (embedding,) = report.embeddings
    twice = "reading it twice, its reader {}: replace the file".format
    assert {r.row: r.reason for r in embedding.refused} == {
        0: KILLED,
        11: twice("ended (exit status 3)"),
        20: twice("hung"),
        32: KILLED,
        33: KILLED,
        47: twice("ran out of memory"),
    }
    assert embedding.refused[0].tile_id == manifest.table["tile_id"].iloc[0]
    assert sorted(told) == sorted(
        f"a reader of tiles {fate}; its tiles are read again"
        for fate in [
            *["died (signal 9)"] * 4,
            "ended (exit status 3)",
            "hung",
            "ran out of memory",
        ]
    )
    good = np.setdiff1d(np.arange(len(manifest)), [r.row for r in embedding.refused])
    np.testing.assert_array_equal(store.load(embedding.spec, good), mean_colours(manifest)[good])
    assert (store.verify(), report.is_complete) == ([], True)


def test_a_fatal_tile_anywhere_in_a_batch(tmp_path: Path) -> None:
    places = [batch * BATCH + batch for batch in range(BATCH)]
    manifest = poisoned(tmp_path, BATCH * BATCH, dict.fromkeys(places, "kill"))
    store = new_store(tmp_path / "toy.store", manifest)
    report = extract_one(
        manifest,
        as_backbone(prepare=Poisoned()),
        store,
        batch_size=BATCH,
        workers=1,
        max_bad_tiles=0.2,
    )
    assert [(r.row, r.reason) for r in report.refused] == [(row, KILLED) for row in places]
    good = np.setdiff1d(np.arange(len(manifest)), places)
    np.testing.assert_array_equal(store.load(report.spec, good), mean_colours(manifest)[good])


def test_batches_come_in_order_however_long_each_takes(manifest: TileManifest) -> None:
    feed = Feed(Slow(), CLEAN)
    batches = [range(start, min(start + 3, N_TILES)) for start in range(0, N_TILES, 3)]
    orders = [
        (
            n,
            Order(
                rows,
                tuple(manifest.table["tile_id"].iloc[list(rows)]),
                tuple(manifest.path_of(row) for row in rows),
            ),
        )
        for n, rows in enumerate(batches)
    ]
    expected = mean_colours(manifest)
    with TileReaders([feed], batch_size=3, workers=3, say=print) as readers:
        for n, batch in enumerate(readers.read(orders)):
            assert (batch.tag, batch.rows) == (n, tuple(batches[n]))
            found = batch.inputs[feed].mean(axis=(1, 2)).astype(np.float16)
            np.testing.assert_array_equal(found, expected[list(batch.rows)])
    assert n == len(batches) - 1


def test_readers_killed_from_outside_are_replaced(
    manifest: TileManifest, store: FeatureStore
) -> None:
    told: list[str] = []

    def kill_all(_n_tiles: int, _bound: str) -> None:
        for reader in reader_processes():
            reader.kill()

    report = extract(
        manifest,
        as_backbone(),
        store,
        settings(batch_size=4, workers=2),
        progress=kill_all,
        say=told.append,
    )
    np.testing.assert_array_equal(store.load(report.embeddings[0].spec), mean_colours(manifest))
    assert set(told) <= {"a reader of tiles died (signal 9); its tiles are read again"}


def test_two_passes_of_one_process_do_not_share_memory(
    tmp_path: Path, manifest: TileManifest
) -> None:
    for colour in (50, 200):
        for row in range(N_TILES):
            Image.new("RGB", (SIDE, SIDE), (colour, row, 0)).save(manifest.path_of(row))
        store = new_store(tmp_path / f"{colour}.store", manifest)
        report = extract_one(manifest, as_backbone(), store, workers=1)
        np.testing.assert_array_equal(store.load(report.spec), mean_colours(manifest))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_no_reader_is_left_when_a_pass_is_interrupted(
    manifest: TileManifest, store: FeatureStore, error: type[BaseException]
) -> None:
    def interrupt(_n_tiles: int, _bound: str) -> None:
        assert reader_processes() != []
        raise error

    with pytest.raises(error):
        extract(manifest, as_backbone(), store, settings(workers=2), progress=interrupt)


def test_no_reader_is_left_after_an_error_of_the_writer(
    manifest: TileManifest, store: FeatureStore
) -> None:
    with pytest.raises(ExtractionError, match="changed since it was loaded"):
        extract(manifest, as_backbone(Drifting()), store, settings(workers=1))


def test_readers_start_also_where_a_socket_has_no_place(
    manifest: TileManifest, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/" + "x" * 99)
    started: list[int] = []
    report = extract(
        manifest,
        as_backbone(),
        store,
        settings(workers=1),
        progress=lambda _n, _bound: started.append(len(reader_processes())),
    )
    assert set(started) == {1}
    np.testing.assert_array_equal(store.load(report.embeddings[0].spec), mean_colours(manifest))


def test_a_mistake_in_a_preparation_is_told_with_its_place(tmp_path: Path) -> None:
    manifest = poisoned(tmp_path, N_TILES, {5: "bug"})
    store = new_store(tmp_path / "toy.store", manifest)
    with pytest.raises(ZeroDivisionError, match="a mistake in the preparation") as caught:
        extract(manifest, as_backbone(prepare=Poisoned()), store, settings(workers=1))
    assert "reader_cases.py" in caught.value.__notes__[0]


def test_readers_that_never_begin_are_told(manifest: TileManifest, store: FeatureStore) -> None:
    with pytest.raises(
        ExtractionError, match=r"ended \(exit status 1\) before they could begin.* workers 0"
    ) as caught:
        extract(manifest, as_backbone(prepare=Lost()), store, settings(workers=1))
    assert "\n" not in str(caught.value)


def test_readers_end_with_a_process_that_is_killed(tmp_path: Path) -> None:
    """Also one that hangs."""
    poisoned(tmp_path, N_TILES, dict.fromkeys(range(N_TILES), "hang"))
    with subprocess.Popen(
        [sys.executable, __file__, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as driver:
        try:
            wait_until(lambda: len(list(tmp_path.glob("hanging-*"))) == 2)
            readers = [psutil.Process(int(p.name[8:])) for p in tmp_path.glob("hanging-*")]
            assert {r.pid for r in reader_processes(psutil.Process(driver.pid))} == {
                r.pid for r in readers
            }
        finally:
            driver.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(lives(reader) for reader in readers))


def extract_until_killed(folder: Path) -> None:
    manifest = TileManifest.from_folder(folder / "tiles")
    store = new_store(folder / "toy.store", manifest)
    prepare = Poisoned(marks=str(folder))
    extract(manifest, as_backbone(prepare=prepare), store, settings(workers=2))


if __name__ == "__main__":
    extract_until_killed(Path(sys.argv[1]))
