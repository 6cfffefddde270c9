from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np
import pytest
from store_cases import SPEC, flip_bit, make_store, record_file, shard_path, write_all

from featurebench.errors import StoreCorruptError, StoreError
from featurebench.store import FeatureStore, Refusal

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    made = make_store(tmp_path, n=40)
    made.add(SPEC, block_rows=16)
    write_all(made)
    return made


def age(path: Path) -> None:
    """Make a file look as if it had not been touched for an hour."""
    then = path.stat().st_mtime - 3600
    os.utime(path, (then, then))


def test_a_flipped_bit_anywhere_in_a_shard_is_found(store: FeatureStore) -> None:
    # block 2 is cut off by the end of the array: its last chunk is padded
    for block in (store.blocks(SPEC)[0], store.blocks(SPEC)[2]):
        path = shard_path(store, block)
        rows = np.arange(block.start, block.stop)
        for offset in range(0, path.stat().st_size, 3):
            flip_bit(path, offset, bit=offset % 8)
            with pytest.raises(StoreCorruptError, match=f"block {block.index} "):
                store.load(SPEC, rows)
            assert [(p.embedding, p.block, p.start, p.stop) for p in store.verify()] == [
                (SPEC.name, block.index, block.start, block.stop)
            ]
            flip_bit(path, offset, bit=offset % 8)
        store.load(SPEC, rows)
    assert store.verify() == []


def test_a_flipped_bit_anywhere_in_a_record_is_found(store: FeatureStore) -> None:
    block = store.blocks(SPEC)[1]
    path = record_file(store, block)
    for offset in range(0, path.stat().st_size, 7):
        flip_bit(path, offset, bit=offset % 7)
        with pytest.raises(StoreCorruptError, match=r"is damaged|1\.json"):
            store.load(SPEC, np.array([20]))
        assert [p.block for p in store.verify()] == [1]
        flip_bit(path, offset, bit=offset % 7)
    assert store.verify() == []


def test_a_flipped_bit_anywhere_in_the_header_is_found(store: FeatureStore) -> None:
    path = store.path / "store.json"
    for offset in range(0, path.stat().st_size, 5):
        flip_bit(path, offset, bit=offset % 7)
        with pytest.raises(StoreError):
            FeatureStore.open(store.path)
        flip_bit(path, offset, bit=offset % 7)
    FeatureStore.open(store.path)


@pytest.mark.parametrize("size", [0, 1, 19, 20, 150, -1])
def test_a_short_shard_is_damage_and_not_fill_values(store: FeatureStore, size: int) -> None:
    path = shard_path(store, store.blocks(SPEC)[1])
    content = path.read_bytes()
    path.write_bytes(content[:size])
    with pytest.raises(StoreCorruptError, match=r"block 1 \(rows 16 to 31\) of resnet18"):
        store.load(SPEC)
    np.testing.assert_array_equal(store.load(SPEC, np.arange(16)).shape, (16, SPEC.dim))
    assert [p.block for p in store.verify()] == [1]


def test_a_lost_shard_is_damage_and_is_mended_by_discarding(store: FeatureStore) -> None:
    block = store.blocks(SPEC)[2]
    rows = store.load(SPEC)
    shard_path(store, block).unlink()
    with pytest.raises(StoreCorruptError, match=r"block 2 .* is missing; run .*verify --repair`"):
        store.load(SPEC)
    assert [p.block for p in store.verify()] == [2]
    store.discard(SPEC, block)
    write_all(store)
    np.testing.assert_array_equal(store.load(SPEC), rows)


def test_a_damaged_record_is_mended_by_discarding(store: FeatureStore) -> None:
    block = store.blocks(SPEC)[0]
    record_file(store, block).write_text("{}")
    with pytest.raises(StoreCorruptError, match="its digest does not fit"):
        store.load(SPEC)
    store.discard(SPEC, block)
    assert store.pending(SPEC) == [block]


def test_rows_of_another_block_in_a_whole_shard_are_found_by_verify(store: FeatureStore) -> None:
    first, second = (shard_path(store, block) for block in store.blocks(SPEC)[:2])
    second.write_bytes(first.read_bytes())
    assert [(p.block, p.what) for p in store.verify()] == [
        (1, "the rows are not those that were committed: another sha256")
    ]


def test_a_shard_without_the_chunk_that_its_record_vouches_for(store: FeatureStore) -> None:
    empty = make_store(store.path.parent, n=40, name="empty.store")
    empty.add(SPEC, block_rows=16)
    block = empty.blocks(SPEC)[0]
    refused = [Refusal(row, f"t{row}", "blank") for row in range(16)]
    empty.write(SPEC, block, np.zeros((16, SPEC.dim)), refused=refused)
    shard_path(store, block).write_bytes(shard_path(empty, block).read_bytes())
    for rows in (np.arange(16), np.array([3])):
        with pytest.raises(StoreCorruptError, match="lacks rows that its record vouches for"):
            store.load(SPEC, rows)


def test_a_record_of_another_block_is_refused(store: FeatureStore) -> None:
    first, second = (record_file(store, block) for block in store.blocks(SPEC)[:2])
    second.write_bytes(first.read_bytes())
    with pytest.raises(StoreCorruptError, match="speaks of other rows or another recipe"):
        store.load(SPEC)
    (record_file(store, store.blocks(SPEC)[2])).rename(first.with_name("7.json"))
    assert [(p.block, p.what[:9]) for p in store.verify()] == [(1, "the recor"), (7, "a record ")]


def test_a_settled_shard_is_checked_once_and_again_when_it_changes(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shard_path(store, store.blocks(SPEC)[0])
    checked = []
    value = google_crc32c.value

    def counting(data: bytes) -> int:
        checked.append(len(data))
        return int(value(data))

    monkeypatch.setattr(google_crc32c, "value", counting)
    age(path)
    chunk_bytes = 16 * SPEC.dim * 2
    for expected in (1, 1):
        store.load(SPEC, np.arange(4))
        assert checked.count(chunk_bytes) == expected
    flip_bit(path, 5)
    age(path)
    with pytest.raises(StoreCorruptError, match="checksum of chunk 0 does not fit"):
        store.load(SPEC, np.arange(4))
    flip_bit(path, 5)
    age(path)
    assert store.verify() == []
    before = checked.count(chunk_bytes)
    assert store.verify() == []
    assert checked.count(chunk_bytes) > before


def test_a_change_within_the_grain_of_the_time_stamp_is_found(store: FeatureStore) -> None:
    path = shard_path(store, store.blocks(SPEC)[0])
    now = time.time_ns()
    os.utime(path, ns=(now, now))
    store.load(SPEC, np.arange(4))
    flip_bit(path, 5)
    os.utime(path, ns=(now, now))
    with pytest.raises(StoreCorruptError, match="checksum of chunk 0"):
        store.load(SPEC, np.arange(4))
