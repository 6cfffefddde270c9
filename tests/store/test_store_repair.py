"""Repair: what is damaged is made anew, what is sound is not touched, and evidence is kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pytest
from store_cases import (
    CLASSES,
    SPEC,
    create,
    flip_bit,
    make_obs,
    make_store,
    record_file,
    shard_path,
    true_rows,
    write_all,
)

from featurebench.errors import MissingRowsError, StoreCorruptError, StoreMismatchError
from featurebench.store import FeatureStore, Refusal, embedding

if TYPE_CHECKING:
    from collections.abc import Callable

OBSM = Path("embeddings.zarr/obsm") / SPEC.name
NOTES = Path("embeddings.zarr/uns/featurebench") / SPEC.name


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    made = make_store(tmp_path, n=40)
    made.add(SPEC, block_rows=16, provenance={"device": "cpu"})
    write_all(made)
    return made


def quarantined(store: FeatureStore) -> list[str]:
    """List what is in quarantine as the places that it came from."""
    top = store.path / "quarantine"
    files = (path.relative_to(top) for path in top.rglob("*") if path.is_file())
    return sorted(Path(*path.parts[1:]).as_posix() for path in files)


def records_and_shards(store: FeatureStore) -> dict[str, bytes]:
    blocks = store.blocks(SPEC)
    paths = [place(store, block) for block in blocks for place in (record_file, shard_path)]
    return {path.as_posix(): path.read_bytes() for path in paths if path.exists()}


def damage_shard(store: FeatureStore) -> None:
    flip_bit(shard_path(store, store.blocks(SPEC)[1]), 9)


def lose_shard(store: FeatureStore) -> None:
    shard_path(store, store.blocks(SPEC)[1]).unlink()


def damage_record(store: FeatureStore) -> None:
    flip_bit(record_file(store, store.blocks(SPEC)[1]), 40)


@pytest.mark.parametrize("damage", [damage_shard, lose_shard, damage_record])
def test_a_damaged_block_is_pending_again(
    store: FeatureStore, damage: Callable[[FeatureStore], None]
) -> None:
    truth = store.load(SPEC)
    before = records_and_shards(store)
    damage(store)
    (problem,) = store.verify()
    assert (problem.start, problem.stop) == (16, 32)
    assert "/1.json" in problem.path or problem.path.endswith("c/1/0")
    assert store.repair([problem]) == 1
    assert store.repair([problem]) == 0
    assert [block.index for block in store.pending(SPEC)] == [1]
    assert store.verify() == []
    kept = [f"commits/{SPEC.name}/1.json"]
    kept += [f"{OBSM.as_posix()}/c/1/0"] * (damage is damage_shard)
    assert quarantined(store) == kept
    with pytest.raises(MissingRowsError):
        store.load(SPEC)
    write_all(store)
    np.testing.assert_array_equal(store.load(SPEC), truth)
    after = records_and_shards(store)
    same = {path for path, content in before.items() if after[path] == content}
    assert {path for path in before if "1.json" not in path and "/c/1/" not in path} <= same


def test_nothing_sound_is_taken_back_whatever_is_claimed(store: FeatureStore) -> None:
    before = records_and_shards(store)
    damage_shard(store)
    problems = store.verify()
    flip_bit(shard_path(store, store.blocks(SPEC)[1]), 9)
    assert store.repair(problems) == 0
    assert store.repair([]) == 0
    assert records_and_shards(store) == before
    assert quarantined(store) == []


def test_a_block_that_is_redone_meanwhile_is_kept(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_shard(store)
    problems = store.verify()
    other = FeatureStore.open(store.path)
    look = embedding.Embedding.block_problem

    def look_slowly(self: embedding.Embedding, index: int) -> object:
        found = look(self, index)
        monkeypatch.undo()
        assert other.repair(problems) == 1
        assert len(write_all(other)) == 40
        return found

    monkeypatch.setattr(embedding.Embedding, "block_problem", look_slowly)
    assert store.repair(problems) == 0
    assert (store.verify(), store.pending(SPEC)) == ([], [])
    np.testing.assert_array_equal(store.load(SPEC), true_rows(40).astype(np.float16))


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("lost", [False, True])
def test_an_arrays_metadata_is_rebuilt_from_the_notes(
    tmp_path: Path, compression: str, lost: bool
) -> None:
    store = create(tmp_path / "a.store", 40)
    store.add(SPEC, block_rows=16, compression=compression)
    truth = write_all(store)
    path = store.path / OBSM / "zarr.json"
    whole = path.read_bytes()
    damage_shard(store)
    if lost:
        path.unlink()
    else:
        flip_bit(path, 77)
    for use in (store.load, store.add):
        with pytest.raises(StoreCorruptError, match=r"is damaged: .*; run `.*verify --repair`"):
            use(SPEC)
    assert store.repair(store.verify()) == 2
    assert path.read_bytes() == whole
    assert [block.index for block in store.pending(SPEC)] == [1]
    assert len(quarantined(store)) == 2 + (not lost)
    np.testing.assert_array_equal(store.load(SPEC, np.arange(16)), truth[:16])
    write_all(store)
    assert store.verify() == []


def test_without_notes_the_whole_embedding_is_set_aside(store: FeatureStore) -> None:
    flip_bit(store.path / OBSM / "zarr.json", 77)
    flip_bit(store.path / NOTES / "spec" / "c", 30)
    n_files = sum(SPEC.name in p.as_posix() for p in store.path.rglob("*") if p.is_file())
    assert store.repair(store.verify()) == 1
    assert len(quarantined(store)) == n_files
    assert (store.verify(), store.embeddings()) == ([], [])
    store.add(SPEC, block_rows=16)
    write_all(store)
    assert store.verify() == []


@pytest.mark.parametrize("lost", [OBSM, NOTES / "layout/zarr.json"])
def test_what_is_left_of_an_embedding_is_set_aside_or_completed(
    store: FeatureStore, lost: Path
) -> None:
    if lost == OBSM:
        shutil.rmtree(store.path / lost)
    else:
        (store.path / lost).unlink()
    assert len(store.verify()) == 1
    assert store.repair(store.verify()) == 1
    assert store.verify() == []
    assert store.embeddings() == ([] if lost == OBSM else [SPEC])
    if lost != OBSM:
        assert store.status()[0].n_done == 40
        assert store.status()[0].notes == {}
        assert f"{NOTES.as_posix()}/provenance/c" in quarantined(store)


def test_stray_records_are_set_aside(store: FeatureStore) -> None:
    commits = record_file(store, store.blocks(SPEC)[0]).parent
    (commits / "99.json").write_text("{}")
    (commits / "notes.txt").touch()
    assert len(store.verify()) == 2
    assert store.repair(store.verify()) == 2
    assert (store.verify(), store.pending(SPEC)) == ([], [])


@pytest.mark.parametrize("node", ["", "obsm", "uns", "uns/featurebench", "var", "var/_index"])
def test_metadata_that_every_store_has_is_rebuilt(store: FeatureStore, node: str) -> None:
    path = store.path / "embeddings.zarr" / node / "zarr.json"
    whole = path.read_bytes()
    flip_bit(path, 20)
    damaged = FeatureStore.open(store.path, damaged=True)
    assert damaged.repair(damaged.verify()) == 1
    assert path.read_bytes() == whole
    assert quarantined(store) == [path.relative_to(store.path).as_posix()]
    assert FeatureStore.open(store.path).verify() == []


@pytest.mark.parametrize("part", ["zarr.json", "x/c/0", "label/codes/zarr.json", "tile_id/c/0"])
def test_a_damaged_table_is_written_anew_by_the_next_extraction(
    store: FeatureStore, part: str
) -> None:
    flip_bit(store.path / "embeddings.zarr" / "obs" / part, 5)
    (problem,) = store.verify()
    assert (problem.start, problem.stop, problem.block) == (0, 0, -1)
    assert store.repair([problem]) == 0
    with pytest.raises(StoreMismatchError):
        store.update_obs(make_obs(40).iloc[::-1].reset_index(drop=True), CLASSES)
    store.update_obs(make_obs(40), CLASSES)
    assert store.verify() == []
    assert anndata.read_zarr(store.path / "embeddings.zarr").n_obs == 40


def test_a_damaged_header_is_beyond_repair(store: FeatureStore) -> None:
    flip_bit(store.path / "store.json", 30)
    with pytest.raises(StoreCorruptError, match=r"cannot be repaired: restore .* new store") as e:
        FeatureStore.open(store.path, damaged=True)
    assert "\n" not in str(e.value)


def test_status_tells_what_is_there(store: FeatureStore) -> None:
    other = create(store.path.parent / "b.store", 700)
    other.add(SPEC, provenance={"device": "cpu"}, compression="zstd")
    (empty,) = other.status()
    assert (empty.n_done, empty.hosts, empty.n_tiles) == (0, (), 700)
    assert (empty.block_rows, empty.chunk_rows, empty.compression) == (768, 256, "zstd")
    assert empty.notes["provenance"] == {"device": "cpu"}
    assert "zarr" in empty.notes["versions"]
    store.discard(SPEC, store.blocks(SPEC)[0])
    refused = [Refusal(3, "t00003", "blank")]
    store.write(SPEC, store.blocks(SPEC)[0], true_rows(16), refused=refused)
    (status,) = store.status()
    assert (status.n_done, status.n_refused, status.block_rows) == (40, 1, 16)
    assert (status.name, status.spec, status.compression) == (SPEC.name, SPEC, "none")
    host = json.loads(record_file(store, store.blocks(SPEC)[0]).read_text())["staged"]
    assert len(status.hosts) == 1
    assert f".{status.hosts[0]}-" in host
    assert status.notes["host"]
    files = [
        *(store.path / OBSM).rglob("*"),
        *record_file(store, store.blocks(SPEC)[0]).parent.iterdir(),
    ]
    assert status.n_bytes == sum(path.stat().st_size for path in files if path.is_file())
