"""Exports: what other programs read is what was committed, and nothing that was not."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
import pytest
from store_cases import CLASSES, DIM, SPEC, flip_bit, make_obs, make_store, shard_path, true_rows

from featurebench.errors import MissingRowsError, StoreCorruptError, StoreError
from featurebench.store import FeatureStore, Refusal, exporters
from featurebench.store.export import PENDING, Export, export_embedding, find_spec

if TYPE_CHECKING:
    from pathlib import Path

N = 25
BLOCK_ROWS = 8
REFUSED = 9
PENDING_BLOCK = 2  # rows 16 to 23
DONE = [row for row in range(N) if row != REFUSED and not 16 <= row < 24]


def half_done(folder: Path, obs: pd.DataFrame | None = None) -> FeatureStore:
    """Make a store with one refused row and one block that is not committed."""
    table = make_obs(N) if obs is None else obs
    store = FeatureStore.create(
        folder / "toy.store", table, dataset="toy", classes=CLASSES, manifest_sha256="c0" * 32
    )
    store.add(SPEC, block_rows=BLOCK_ROWS)
    rows = true_rows(N)
    for block in store.pending(SPEC):
        if block.index != PENDING_BLOCK:
            inside = block.start <= REFUSED < block.stop
            refused = [Refusal(REFUSED, "t00009", "=unreadable")] if inside else []
            store.write(SPEC, block, rows[block.start : block.stop], refused=refused)
    return store


def expected() -> npt.NDArray[np.float16]:
    return true_rows(N).astype(np.float16)[DONE]


def read_csv(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def check_counts(export: Export) -> None:
    assert (export.n_rows, export.n_refused, export.n_pending) == (len(DONE), 1, 8)


def test_npy_holds_committed_rows_and_their_names(tmp_path: Path) -> None:
    export = export_embedding(half_done(tmp_path), SPEC, tmp_path / "out" / "e.npy")
    matrix = np.load(export.path, allow_pickle=False)
    assert matrix.dtype == np.dtype("<f2")
    np.testing.assert_array_equal(matrix, expected())
    lines = read_csv(tmp_path / "out" / "e.csv")
    assert lines[0] == ["row", "tile_id"]
    assert lines[1:] == [[str(row), f"t{row:05d}"] for row in DONE]
    check_counts(export)


def test_rows_left_out_are_named_with_the_reason(tmp_path: Path) -> None:
    export = export_embedding(half_done(tmp_path), SPEC, tmp_path / "out" / "e.parquet")
    assert names_in(tmp_path / "out") == {"e.parquet", "e.left_out.csv"}
    lines = read_csv(export.files[1])
    assert lines[1] == ["9", "t00009", "'=unreadable"]
    assert lines[2:] == [[str(row), f"t{row:05d}", PENDING] for row in range(16, 24)]


def test_a_complete_embedding_leaves_nothing_out(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=N)
    store.add(SPEC)
    store.write(SPEC, store.pending(SPEC)[0], true_rows(N))
    export = export_embedding(store, SPEC, tmp_path / "out" / "e.npy")
    assert names_in(tmp_path / "out") == {"e.npy", "e.csv"}
    assert (export.n_rows, export.n_refused, export.n_pending) == (N, 0, 0)


def test_parquet_holds_the_tile_table_and_lists_of_fixed_length(tmp_path: Path) -> None:
    store = half_done(tmp_path)
    export = export_embedding(store, SPEC, tmp_path / "e.parquet")
    file = pq.ParquetFile(export.path)
    table = file.read()
    frame = table.to_pandas().drop(columns="embedding")
    obs = make_obs(N).iloc[DONE].reset_index(drop=True)
    pd.testing.assert_frame_equal(frame, obs, check_dtype=False)
    assert frame["x"].dtype == np.int64
    assert frame["mpp"].dtype == np.float64
    assert str(table.schema.field("embedding").type).startswith("fixed_size_list<")
    rows = np.stack(table["embedding"].to_pylist()).astype(np.float16)
    np.testing.assert_array_equal(rows, expected())
    assert file.metadata.num_row_groups == 3
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    facts = json.loads(table.schema.metadata[b"featurebench"])
    assert facts["spec"] == SPEC.to_dict()
    assert (facts["n_refused"], facts["n_pending"]) == (1, 8)
    check_counts(export)


def test_a_column_called_embedding_keeps_its_name(tmp_path: Path) -> None:
    store = half_done(tmp_path, make_obs(N).assign(embedding="mine"))
    export = export_embedding(store, SPEC, tmp_path / "e.parquet")
    table = pq.read_table(export.path)
    assert set(table["embedding"].to_pylist()) == {"mine"}
    assert np.stack(table[SPEC.name].to_pylist()).shape == (len(DONE), DIM)


def test_hdf5_holds_features_names_and_places(tmp_path: Path) -> None:
    obs = make_obs(N).assign(y=np.arange(N) // 3, slide_id="sl\u00efde")
    store = half_done(tmp_path, obs)
    export = export_embedding(store, SPEC, tmp_path / "e.h5")
    with h5py.File(export.path, "r") as file:
        np.testing.assert_array_equal(file["features"][:], expected())
        assert file["features"].dtype == np.float16
        assert file["row"][:].tolist() == DONE
        assert file["tile_id"].asstr()[:].tolist() == [f"t{row:05d}" for row in DONE]
        assert set(file["slide_id"].asstr()[:]) == {"sl\u00efde"}
        assert file["coords"][:].tolist() == [[row * 64, row // 3] for row in DONE]
        assert json.loads(file.attrs["spec"]) == SPEC.to_dict()
        assert (file.attrs["n_refused"], file.attrs["n_pending"]) == (1, 8)
        assert file.attrs["embedding"] == SPEC.name
    check_counts(export)


def test_hdf5_is_chunked_by_256_rows(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=600)
    store.add(SPEC, block_rows=256)
    rows = true_rows(600)
    for block in store.pending(SPEC):
        store.write(SPEC, block, rows[block.start : block.stop])
    export = export_embedding(store, SPEC, tmp_path / "e.hdf5")
    with h5py.File(export.path, "r") as file:
        assert file["features"].chunks == (256, DIM)
        assert "coords" not in file
        np.testing.assert_array_equal(file["features"][:], rows.astype(np.float16))


def test_only_the_rows_asked_for_are_written_and_counted(tmp_path: Path) -> None:
    asked = np.array([20, 9, 3, 3, 0])
    export = export_embedding(half_done(tmp_path), SPEC, tmp_path / "e.npy", rows=asked)
    np.testing.assert_array_equal(np.load(export.path), true_rows(N).astype(np.float16)[[0, 3]])
    assert (export.n_rows, export.n_refused, export.n_pending) == (2, 1, 1)


@pytest.mark.parametrize("kind", ["npy", "parquet", "hdf5"])
def test_float32_stays_exact(tmp_path: Path, kind: str) -> None:
    store, spec = make_store(tmp_path, n=N), replace(SPEC, dtype="float32")
    store.add(spec)
    store.write(spec, store.pending(spec)[0], true_rows(N))
    target = tmp_path / f"e{ending_of(kind)}"
    rows = read_matrix(export_embedding(store, spec, target, format=kind).path)
    np.testing.assert_array_equal(rows, true_rows(N))


def ending_of(kind: str) -> str:
    return {"npy": ".npy", "parquet": ".pq", "hdf5": ".h5"}[kind]


def read_matrix(path: Path) -> npt.NDArray[Any]:
    if path.suffix == ".npy":
        return np.asarray(np.load(path))
    if path.suffix == ".h5":
        with h5py.File(path, "r") as file:
            return np.asarray(file["features"][:])
    return np.stack(pq.read_table(path)["embedding"].to_numpy())


def test_cells_that_a_spreadsheet_would_compute_are_guarded(tmp_path: Path) -> None:
    ids = ["=1+1", "+x", "-x", "@x", "'=x", "plain", *(f"t{i}" for i in range(N - 6))]
    store = half_done(tmp_path, make_obs(N).assign(tile_id=ids))
    export_embedding(store, SPEC, tmp_path / "e.npy")
    written = [line[1] for line in read_csv(tmp_path / "e.csv")[1:7]]
    assert written == ["'=1+1", "'+x", "'-x", "'@x", "''=x", "plain"]


def test_files_that_are_there_are_kept_unless_told_otherwise(tmp_path: Path) -> None:
    store = half_done(tmp_path)
    (tmp_path / "e.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(StoreError, match=r"e\.csv is there already"):
        export_embedding(store, SPEC, tmp_path / "e.npy")
    assert (tmp_path / "e.csv").read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "e.npy").exists()
    export = export_embedding(store, SPEC, tmp_path / "e.npy", overwrite=True)
    assert len(read_csv(tmp_path / "e.csv")) == export.n_rows + 1


def test_overwriting_removes_the_list_of_what_was_left_out_before(tmp_path: Path) -> None:
    store = half_done(tmp_path)
    export_embedding(store, SPEC, tmp_path / "e.npy")
    assert (tmp_path / "e.left_out.csv").exists()
    export_embedding(store, SPEC, tmp_path / "e.npy", rows=np.arange(4), overwrite=True)
    assert not (tmp_path / "e.left_out.csv").exists()


@pytest.mark.parametrize("kind", ["npy", "parquet", "hdf5"])
def test_a_damaged_store_gives_no_file_at_all(tmp_path: Path, kind: str) -> None:
    store = half_done(tmp_path)
    flip_bit(shard_path(store, store.blocks(SPEC)[1]), 3)
    target = tmp_path / "out" / f"e{ending_of(kind)}"
    with pytest.raises(StoreCorruptError):
        export_embedding(store, SPEC, target, format=kind)
    assert names_in(tmp_path / "out") == set()


def test_a_disk_that_refuses_leaves_the_old_export_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = half_done(tmp_path)
    export = export_embedding(store, SPEC, tmp_path / "out" / "e.npy")
    before = export.path.read_bytes()

    def refuse(*_args: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setitem(exporters.WRITERS, "npy", refuse)
    with pytest.raises(StoreError, match="No space left"):
        export_embedding(store, SPEC, export.path, overwrite=True)
    assert export.path.read_bytes() == before
    assert names_in(tmp_path / "out") == {"e.npy", "e.csv", "e.left_out.csv"}


def test_what_a_killed_export_left_is_removed(tmp_path: Path) -> None:
    old, young, other = (
        tmp_path / f"{name}.gone-1-{'0' * 32}.tmp" for name in ("e.npy", "e.csv", "f.npy")
    )
    for path in (old, young, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (0, 0))
    export_embedding(half_done(tmp_path), SPEC, tmp_path / "e.npy")
    assert not old.exists()
    assert young.exists()
    assert other.exists()


def test_nothing_committed_is_nothing_to_export(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=N)
    store.add(SPEC)
    with pytest.raises(MissingRowsError, match="none of the 25 rows"):
        export_embedding(store, SPEC, tmp_path / "e.npy")


@pytest.mark.parametrize(
    ("name", "kind"), [("e.txt", "auto"), ("e.npy", "hdf5"), ("e.npy", "xlsx"), ("e.csv", "npy")]
)
def test_endings_and_formats_must_fit(tmp_path: Path, name: str, kind: str) -> None:
    with pytest.raises(StoreError, match="do not fit together"):
        export_embedding(half_done(tmp_path), SPEC, tmp_path / name, format=kind)


@pytest.mark.parametrize("rows", [np.array([N]), np.array([-1])])
def test_rows_outside_of_the_store_are_refused(tmp_path: Path, rows: npt.NDArray[np.intp]) -> None:
    with pytest.raises(MissingRowsError, match="is asked of a store"):
        export_embedding(half_done(tmp_path), SPEC, tmp_path / "e.npy", rows=rows)


def test_an_embedding_is_found_by_name_or_by_how_it_begins(tmp_path: Path) -> None:
    store, other = make_store(tmp_path, n=N), replace(SPEC, view="rot90")
    store.add(SPEC)
    store.add(other)
    assert find_spec(store, SPEC.name) == SPEC
    assert find_spec(store, other.name[:-2]) == other
    with pytest.raises(StoreError, match="2 embeddings that begin with 'resnet'"):
        find_spec(store, "resnet")
    with pytest.raises(StoreError, match=f"no embedding 'uni'; choose one of: {SPEC.model}"):
        find_spec(store, "uni")


def test_a_tile_table_with_an_unknown_codec_is_not_decoded(tmp_path: Path) -> None:
    store = half_done(tmp_path)
    path = store.path / "embeddings.zarr" / "obs" / "tile_id" / "zarr.json"
    meta = json.loads(path.read_bytes())
    meta["attributes"].pop("featurebench_digest", None)
    meta["codecs"].append({"name": "pickle", "configuration": {}})
    path.write_text(json.dumps(meta), encoding="utf-8")
    with pytest.raises(StoreError, match="uses the codecs"):
        export_embedding(store, SPEC, tmp_path / "e.npy")
