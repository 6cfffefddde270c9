from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import (
    CLASSES,
    DIM,
    SPEC,
    make_obs,
    make_store,
    manifest_sha256,
    shard_path,
    true_rows,
    write_all,
)

from featurebench.errors import MissingRowsError, StoreError, StoreMismatchError
from featurebench.store import Block, EmbeddingSpec, FeatureStore, Refusal, storable_rows
from featurebench.store.layout import choose_rows

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    made = make_store(tmp_path)
    made.add(SPEC, block_rows=16)
    return made


def test_rows_come_back_in_the_order_asked(store: FeatureStore) -> None:
    rows = write_all(store)
    asked = np.array([99, 0, 17, 17, 16, 50])
    loaded = store.load(SPEC, asked)
    assert loaded.dtype == np.float16
    np.testing.assert_array_equal(loaded, rows[asked])
    np.testing.assert_array_equal(store.load(SPEC), rows)
    assert store.load(SPEC, np.array([], dtype=np.intp)).shape == (0, DIM)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 699), max_size=40), st.booleans())
def test_any_selection_equals_numpy(
    shared_store: tuple[FeatureStore, npt.NDArray[np.float16]], rows: list[int], ordered: bool
) -> None:
    store, truth = shared_store
    asked = np.array(sorted(rows) if ordered else rows, dtype=np.intp)
    np.testing.assert_array_equal(store.load(SPEC, asked), truth[asked])


@pytest.fixture(scope="module")
def shared_store(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[FeatureStore, npt.NDArray[np.float16]]:
    store = make_store(tmp_path_factory.mktemp("selection"), n=700)
    store.add(SPEC, block_rows=512)
    return store, write_all(store)


def test_work_is_resumed_where_it_stopped(store: FeatureStore) -> None:
    rows = true_rows(100)
    blocks = store.blocks(SPEC)
    assert [(b.start, b.stop) for b in blocks[-2:]] == [(80, 96), (96, 100)]
    for block in (blocks[0], blocks[3]):
        assert store.write(SPEC, block, rows[block.start : block.stop])
    again = FeatureStore.open(store.path)
    assert [b.index for b in again.pending(SPEC)] == [1, 2, 4, 5, 6]
    np.testing.assert_array_equal(
        again.load(SPEC, np.arange(48, 64)), rows[48:64].astype(np.float16)
    )
    with pytest.raises(MissingRowsError, match=r"1 of 2 rows \(row 20\).*featurebench extract"):
        again.load(SPEC, np.array([3, 20]))
    write_all(again)
    assert again.pending(SPEC) == []
    np.testing.assert_array_equal(store.load(SPEC), rows.astype(np.float16))


def test_a_record_that_exists_wins(store: FeatureStore) -> None:
    block = store.blocks(SPEC)[1]
    assert store.write(SPEC, block, np.ones((16, DIM)), cost={"wall_s": 1.0})
    assert not store.write(SPEC, block, np.zeros((16, DIM)), cost={"wall_s": 9.0})
    assert (store.load(SPEC, np.arange(16, 32)) == 1).all()
    assert store.cost(SPEC)["wall_s"] == 1.0


def test_refused_rows_are_listed_and_never_returned(store: FeatureStore) -> None:
    rows = true_rows(100)
    rows[18] = np.nan
    refused = [Refusal(18, "t00018", "truncated file"), Refusal(20, "t00020", "too small")]
    block = store.blocks(SPEC)[1]
    assert store.write(SPEC, block, rows[16:32], refused=refused)
    assert FeatureStore.open(store.path).refused(SPEC) == refused
    with pytest.raises(MissingRowsError, match=r"2 of 16 rows \(row 18, 20\).*refused"):
        store.load(SPEC, np.arange(16, 32))
    rest = np.setdiff1d(np.arange(16, 32), [18, 20])
    np.testing.assert_array_equal(store.load(SPEC, rest), rows[rest].astype(np.float16))
    assert store.verify() == []


@pytest.mark.parametrize("refused_rows", [range(512, 768), range(512, 700), range(600)])
def test_chunks_or_blocks_of_refused_rows_alone(tmp_path: Path, refused_rows: range) -> None:
    store = make_store(tmp_path, n=700)
    store.add(SPEC, block_rows=512)
    rows = true_rows(700)
    listed = [Refusal(row, f"t{row:05d}", "blank") for row in refused_rows if row < 700]
    for block in store.pending(SPEC):
        mine = [r for r in listed if block.start <= r.row < block.stop]
        assert store.write(SPEC, block, rows[block.start : block.stop], refused=mine)
    kept = np.setdiff1d(np.arange(700), refused_rows)
    np.testing.assert_array_equal(store.load(SPEC, kept), rows[kept].astype(np.float16))
    assert (store.pending(SPEC), store.verify()) == ([], [])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones((16, DIM + 1)), r"shape \(16, 6\), not float64 \(16, 7\)"),
        (np.ones((15, DIM)), r"shape \(16, 6\), not float64 \(15, 6\)"),
        (np.ones((16, DIM), dtype=np.int64), "not int64"),
        (np.where(np.arange(16)[:, None] < 3, np.nan, np.ones((16, DIM))), "3 rows of block 0"),
        (np.where(np.arange(16)[:, None] < 2, 7e4, np.ones((16, DIM))), "2 rows of block 0"),
    ],
)
def test_rows_that_cannot_be_stored_are_refused(
    store: FeatureStore, rows: npt.NDArray[Any], message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        store.write(SPEC, store.blocks(SPEC)[0], rows)
    assert len(store.pending(SPEC)) == 7


def test_storable_rows_tells_which() -> None:
    rows = np.array([[1, 2], [np.inf, 1], [7e4, 0], [-65504, 0]])
    assert storable_rows(rows).tolist() == [True, False, False, True]
    assert storable_rows(rows, "float32").tolist() == [True, False, True, True]


def test_refusals_and_blocks_of_another_place_are_refused(store: FeatureStore) -> None:
    block = store.blocks(SPEC)[0]
    with pytest.raises(StoreError, match="row 16 is refused in block 0, which holds rows 0 to 15"):
        store.write(SPEC, block, np.ones((16, DIM)), refused=[Refusal(16, "t", "x")])
    for wrong in (Block(0, 0, 15), Block(7, 112, 128), Block(-1, -16, 0)):
        with pytest.raises(StoreError, match="is not a block"):
            store.write(SPEC, wrong, np.ones((16, DIM)))


def test_float32_keeps_what_float16_cannot(tmp_path: Path) -> None:
    store, spec = make_store(tmp_path, n=20), replace(SPEC, dtype="float32")
    store.add(spec)
    rows = true_rows(20) * 1e6
    assert store.write(spec, store.blocks(spec)[0], rows)
    np.testing.assert_array_equal(store.load(spec), rows)
    assert store.load(spec).dtype == np.float32


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (np.array([100]), MissingRowsError, "row 100 is asked of a store of 100 tiles"),
        (np.array([-1]), MissingRowsError, "row -1 is asked"),
        (np.array([0.5]), StoreError, "whole numbers"),
        (np.ones((2, 2), dtype=int), StoreError, "one dimension"),
    ],
)
def test_rows_that_do_not_exist_are_refused(
    store: FeatureStore, rows: npt.NDArray[Any], error: type[StoreError], message: str
) -> None:
    write_all(store)
    with pytest.raises(error, match=message):
        store.load(SPEC, rows)


def test_embeddings_are_added_once_and_kept_apart(store: FeatureStore) -> None:
    other = replace(SPEC, pool="max", dim=3)
    with pytest.raises(MissingRowsError, match="holds no embedding"):
        store.pending(other)
    store.add(other)
    store.add(SPEC, block_rows=64, provenance={"ignored": True})
    assert len(store.blocks(SPEC)) == 7
    assert store.embeddings() == sorted([SPEC, other], key=lambda spec: spec.name)
    write_all(store, other)
    assert store.load(other).shape == (100, 3)
    assert len(store.pending(SPEC)) == 7


def test_another_recipe_under_the_same_name_is_refused(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(SPEC, pool="max")
    monkeypatch.setattr(EmbeddingSpec, "name", property(lambda _: "same.name"))
    store.add(SPEC)
    with pytest.raises(StoreMismatchError, match=r"same\.name in toy\.store"):
        store.add(other)


@pytest.mark.parametrize(
    ("n", "dim", "asked", "chosen"),
    [
        (10**6, 1024, None, (16_384, 256)),
        (10**6 + 1, 1024, None, (65_536, 512)),
        (10**8, 1024, None, (65_536, 512)),
        (10**9, 1024, None, (262_144, 1024)),
        (10**9, 64, None, (262_144, 1024)),
        (10**9, 1536, None, (174_080, 1024)),
        (10**5, 10**5, None, (2560, 256)),
        (10**5, 10**7, None, (26, 26)),
        (10**5, 10**9, None, (1, 1)),
        (300, 6, None, (512, 256)),
        (10**6, 6, 1000, (768, 256)),
        (10**7, 6, 1000, (512, 512)),
        (10**6, 6, 100, (100, 100)),
        (10, 6, 16384, (256, 256)),
    ],
)
def test_rows_per_block(n: int, dim: int, asked: int | None, chosen: tuple[int, int]) -> None:
    assert choose_rows(n, 2 * dim, asked) == chosen


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_compression_changes_files_and_no_rows(tmp_path: Path, compression: str) -> None:
    store = make_store(tmp_path, n=700)
    store.add(SPEC, block_rows=512, compression=compression)
    store.add(SPEC, compression="none")
    rows = np.round(true_rows(700)).astype(np.float16)
    refused = [Refusal(row, f"t{row:05d}", "blank") for row in (3, *range(512, 700))]
    for block in store.pending(SPEC):
        mine = [refusal for refusal in refused if block.start <= refusal.row < block.stop]
        assert store.write(SPEC, block, rows[block.start : block.stop], refused=mine)
    again = FeatureStore.open(store.path)
    assert again.verify() == []
    for asked in (np.delete(np.arange(512), 3), np.array([511, 0, 256, 0]), np.array([4])):
        np.testing.assert_array_equal(again.load(SPEC, asked), rows[asked])
    with pytest.raises(MissingRowsError, match=r"2 of 2 rows \(row 3, 600\).*refused"):
        again.load(SPEC, np.array([3, 600]))
    (status,) = again.status()
    assert status.compression == compression
    n_bytes = shard_path(again, again.blocks(SPEC)[0]).stat().st_size
    assert (n_bytes < 512 * DIM * 2) == (compression == "zstd")


def test_an_unknown_compression_is_refused(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match="compression 'lz4' is unknown; give none or zstd"):
        store.add(replace(SPEC, pool="max"), compression="lz4")


def test_no_rows_per_block_are_refused(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match="block_rows is 0"):
        store.add(replace(SPEC, pool="max"), block_rows=0)


def test_cost_sums_seconds_and_keeps_the_peak(store: FeatureStore) -> None:
    for k, block in enumerate(store.pending(SPEC)[:3]):
        cost = {"wall_s": 1.5, "cpu_s": 2.0, "peak_memory_mb": [10.0, 30.0, 20.0][k]}
        store.write(SPEC, block, np.ones((16, DIM)), cost=cost)
    assert store.cost(SPEC) == {"wall_s": 4.5, "cpu_s": 6.0, "gpu_s": 0.0, "peak_memory_mb": 30.0}


def test_what_some_blocks_did_not_record_is_not_known_of_the_embedding(store: FeatureStore) -> None:
    for k, block in enumerate(store.blocks(SPEC)):
        cost = {"wall_s": 1.0, "bytes_read": 100.0, "peak_gpu_memory_mb": 10.0 * k}
        cost |= {"energy_j": 5.0} if k else {}
        store.write(SPEC, block, np.ones((len(block), DIM)), cost=cost)
    found = store.cost(SPEC)
    n_blocks = len(store.blocks(SPEC))
    assert n_blocks > 1
    assert found["bytes_read"] == 100.0 * n_blocks
    assert found["peak_gpu_memory_mb"] == 10.0 * (n_blocks - 1)
    assert "energy_j" not in found


def test_stored_bytes_are_those_of_the_embeddings_files(store: FeatureStore) -> None:
    empty = store.stored_bytes(SPEC)
    for block in store.blocks(SPEC):
        store.write(SPEC, block, np.ones((len(block), DIM)))
    assert store.stored_bytes(SPEC) - empty > store.n_tiles * DIM * 2


def test_numpy_numbers_are_recorded_and_infinite_costs_refused(store: FeatureStore) -> None:
    block = store.blocks(SPEC)[0]
    with pytest.raises(StoreError, match="the cost gpu_s is nan"):
        store.write(SPEC, block, np.ones((16, DIM)), cost={"gpu_s": float("nan")})
    refused = [Refusal(np.int64(3), "t00003", "blank")]  # type: ignore[arg-type]
    cost = {"gpu_s": np.float32(0.5)}
    assert store.write(SPEC, block, np.ones((16, DIM)), refused=refused, cost=cost)  # type: ignore[arg-type]
    assert store.refused(SPEC) == [Refusal(3, "t00003", "blank")]
    assert store.cost(SPEC)["gpu_s"] == 0.5


def test_a_discarded_block_is_pending_and_can_be_written_anew(store: FeatureStore) -> None:
    write_all(store)
    block = store.blocks(SPEC)[2]
    store.discard(SPEC, block)
    assert store.pending(SPEC) == [block]
    with pytest.raises(MissingRowsError):
        store.load(SPEC, np.array([block.start]))
    assert store.write(SPEC, block, np.full((16, DIM), 5.0))
    assert (store.load(SPEC, np.arange(block.start, block.stop)) == 5).all()
    assert store.verify() == []


def test_creating_twice_opens_what_is_there(store: FeatureStore, tmp_path: Path) -> None:
    write_all(store)
    assert make_store(tmp_path).pending(SPEC) == []
    with pytest.raises(StoreMismatchError, match="made from other tiles"):
        FeatureStore.create(
            store.path, make_obs(100), dataset="toy", classes=CLASSES, manifest_sha256="d1" * 32
        )


def test_create_refuses_files_strangers_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "file.store").write_text("x")
    (tmp_path / "folder.store").mkdir()
    (tmp_path / "folder.store" / "thesis.txt").write_text("x")
    with pytest.raises(StoreError, match="is a file"):
        make_store(tmp_path, name="file.store")
    with pytest.raises(StoreError, match="is not a feature store"):
        make_store(tmp_path, name="folder.store")
    with pytest.raises(StoreError, match="no rows"):
        make_store(tmp_path, n=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file.store", "folder.store"]


def test_header_tells_what_the_store_is_of(store: FeatureStore) -> None:
    again = FeatureStore.open(str(store.path))
    assert (again.dataset, again.classes, again.n_tiles) == ("toy", CLASSES, 100)
    assert again.manifest_sha256 == manifest_sha256(make_obs(100))
    assert again.path == store.path
