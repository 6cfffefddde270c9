"""Several processes on one store at the same moment."""

from __future__ import annotations

import multiprocessing
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from store_cases import DIM, SPEC, create, make_store

from featurebench.errors import MissingRowsError
from featurebench.store import FeatureStore, embedding, staging

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

SPAWN = multiprocessing.get_context("spawn")
N_BLOCKS, ROWS = 25, 8


def write_same_blocks(path: Path, rank: int, barrier: Barrier, said: Path) -> None:
    barrier.wait()
    made = create(path, ROWS * N_BLOCKS, "race")
    barrier.wait()
    made.add(SPEC, block_rows=ROWS)
    first = []
    for block in made.blocks(SPEC):
        barrier.wait()
        if made.write(SPEC, block, np.full((ROWS, DIM), 1.0 + rank), cost={"wall_s": 1.0}):
            first.append(block.index)
    said.write_text(" ".join(map(str, first)))


def watch(store: FeatureStore, writers: list[SpawnProcess]) -> dict[int, float]:
    """Read whatever is committed until the writers are done; return the first value seen."""
    seen: dict[int, float] = {}
    while any(writer.is_alive() for writer in writers):
        pending = {block.index for block in store.pending(SPEC)}
        assert not pending & set(seen)
        for block in store.blocks(SPEC):
            rows = np.arange(block.start, block.stop)
            try:
                loaded = store.load(SPEC, rows)
            except MissingRowsError:
                assert block.index in pending
                continue
            assert len(np.unique(loaded)) == 1
            assert seen.setdefault(block.index, float(loaded[0, 0])) == float(loaded[0, 0])
    return seen


def test_two_writers_with_different_bytes_and_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "race.store"
    barrier = SPAWN.Barrier(2)
    said = [tmp_path / f"said-{rank}" for rank in range(2)]
    writers = [
        SPAWN.Process(target=write_same_blocks, args=(path, rank, barrier, said[rank]))
        for rank in range(2)
    ]
    for writer in writers:
        writer.start()
    array = path / "embeddings.zarr" / "obsm" / SPEC.name / "zarr.json"
    while not array.exists() and any(writer.is_alive() for writer in writers):
        time.sleep(0.01)
    store = FeatureStore.open(path)
    seen = watch(store, writers)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0

    first = [{int(index) for index in file.read_text().split()} for file in said]
    assert first[0] | first[1] == set(range(N_BLOCKS))
    assert not first[0] & first[1]
    for block in store.blocks(SPEC):
        value = 1.0 if block.index in first[0] else 2.0
        rows = store.load(SPEC, np.arange(block.start, block.stop))
        assert (rows == value).all()
        assert seen.get(block.index, value) == value
    assert store.verify() == []
    assert store.cost(SPEC)["wall_s"] == N_BLOCKS
    assert [p.name for p in tmp_path.glob("race.store*")] == ["race.store"]
    assert list((path / "staging").iterdir()) == []


def share_blocks(path: Path, rank: int, barrier: Barrier, said: Path) -> None:
    store = FeatureStore.open(path)
    n_written = n_wasted = 0
    barrier.wait()
    with store.claims() as ours:
        while pending := store.pending(SPEC):
            for block in pending:
                if not ours.take(SPEC.name, block.index):
                    continue
                if block in store.pending(SPEC):
                    time.sleep(0.002)
                    was_first = store.write(SPEC, block, np.full((ROWS, DIM), 1.0 + rank))
                    n_written, n_wasted = n_written + was_first, n_wasted + (not was_first)
                ours.release(SPEC.name, block.index)
    said.write_text(f"{n_written} {n_wasted}")


def test_writers_with_claims_waste_no_work(tmp_path: Path) -> None:
    store = create(tmp_path / "race.store", ROWS * N_BLOCKS)
    store.add(SPEC, block_rows=ROWS)
    barrier = SPAWN.Barrier(2)
    said = [tmp_path / f"said-{rank}" for rank in range(2)]
    writers = [
        SPAWN.Process(target=share_blocks, args=(store.path, rank, barrier, said[rank]))
        for rank in range(2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    written, wasted = np.array([file.read_text().split() for file in said], dtype=int).T
    assert (written.sum(), wasted.sum()) == (N_BLOCKS, 0)
    assert (store.verify(), store.pending(SPEC)) == ([], [])
    assert list((store.path / "staging").iterdir()) == []


def test_a_writer_who_stalls_before_its_record_changes_nothing(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=16)
    store.add(SPEC)
    block = store.blocks(SPEC)[0]
    other = FeatureStore.open(store.path)

    stage = staging.stage_shard

    def stall(*args: object, **kwargs: object) -> str:
        name = stage(*args, **kwargs)  # type: ignore[arg-type]
        patched.undo()
        assert other.write(SPEC, block, np.full((16, DIM), 2.0))
        return name

    patched = pytest.MonkeyPatch()
    patched.setattr(embedding, "stage_shard", stall)
    assert not store.write(SPEC, block, np.full((16, DIM), 1.0))
    assert (store.load(SPEC) == 2).all()
    assert store.verify() == []
    assert list((store.path / "staging").iterdir()) == []
