from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pandas as pd
import pytest
import zarr
from store_cases import CLASSES, SPEC, make_obs, make_store, shard_path, true_rows, write_all

from featurebench.errors import StoreError, StoreMismatchError
from featurebench.store import FeatureStore, Refusal

if TYPE_CHECKING:
    from pathlib import Path


def test_anndata_opens_the_store(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.add(SPEC, block_rows=16, provenance={"device": "cpu"})
    rows = write_all(store)
    data = anndata.read_zarr(store.path / "embeddings.zarr")
    assert (data.n_obs, data.n_vars) == (100, 0)
    np.testing.assert_array_equal(data.obsm[SPEC.name], rows)
    expected = make_obs(100).set_index("tile_id")
    expected["label"] = pd.Categorical(expected["label"], categories=CLASSES)
    pd.testing.assert_frame_equal(data.obs, expected)
    notes = data.uns["featurebench"][SPEC.name]
    assert json.loads(notes["spec"]) == SPEC.to_dict()
    assert json.loads(notes["provenance"]) == {"device": "cpu"}
    assert {"zarr", "numpy", "python"} <= set(json.loads(notes["versions"]))


def test_anndata_opens_a_store_without_embeddings(tmp_path: Path) -> None:
    data = anndata.read_zarr(make_store(tmp_path, n=3).path / "embeddings.zarr")
    assert (data.n_obs, list(data.obsm)) == (3, [])


def test_plain_zarr_reads_the_same_rows_and_nan_elsewhere(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=700)
    store.add(SPEC, block_rows=256)
    rows = true_rows(700).astype(np.float16)
    refused = [Refusal(260, "t00260", "blank")]
    store.write(SPEC, store.blocks(SPEC)[1], rows[256:512], refused=refused)
    array = zarr.open_array(store.path / "embeddings.zarr" / "obsm" / SPEC.name, mode="r")
    expected = np.full((700, SPEC.dim), np.nan, dtype=np.float16)
    expected[256:512] = rows[256:512]
    expected[260] = np.nan
    np.testing.assert_array_equal(array[:], expected)


def test_shards_are_byte_for_byte_those_of_zarr(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=700)
    store.add(SPEC, block_rows=512)
    rows = write_all(store)
    ours = [shard_path(store, block).read_bytes() for block in store.blocks(SPEC)]
    array = zarr.open_array(store.path / "embeddings.zarr" / "obsm" / SPEC.name, mode="r+")
    array[:] = np.zeros_like(rows)
    array[:] = rows
    assert [shard_path(store, block).read_bytes() for block in store.blocks(SPEC)] == ours


def test_columns_of_every_kind(tmp_path: Path) -> None:
    obs = make_obs(4)
    obs["site/ward"] = ["N", None, "S", "S"]
    obs["ok"] = [True, False, True, True]
    obs["zarr.json"] = "v"
    obs["index"] = 1
    obs["größe"] = pd.Categorical(["k", "g", "k", "g"])
    obs["site_ward"] = 7
    store = FeatureStore.create(
        tmp_path / "a.store", obs, dataset="a", classes=CLASSES, manifest_sha256="00"
    )
    read = anndata.read_zarr(store.path / "embeddings.zarr").obs
    assert list(read["site_ward"]) == ["N", "", "S", "S"]
    assert list(read["site_ward_2"]) == [7, 7, 7, 7]
    assert read["ok"].dtype == bool
    assert list(read["größe"]) == ["k", "g", "k", "g"]
    assert list(read["zarr.json_2"]) == ["v"] * 4
    assert list(read["index_2"]) == [1] * 4


def test_labels_outside_of_the_classes_are_refused(tmp_path: Path) -> None:
    obs = make_obs(4)
    with pytest.raises(StoreError, match=r"2 labels are none of the classes \['stroma'\]"):
        FeatureStore.create(
            tmp_path / "a.store", obs, dataset="a", classes=["stroma"], manifest_sha256="00"
        )
    with pytest.raises(StoreError, match="no column tile_id"):
        FeatureStore.create(
            tmp_path / "a.store",
            obs.drop(columns="tile_id"),
            dataset="a",
            classes=CLASSES,
            manifest_sha256="00",
        )
    assert list(tmp_path.iterdir()) == []


def test_changed_annotations_are_copied_anew(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.add(SPEC)
    rows = write_all(store)
    changed = make_obs(100).assign(label="necrosis", reviewer="B")
    store.update_obs(changed, ["necrosis"])
    again = FeatureStore.open(store.path)
    data = anndata.read_zarr(store.path / "embeddings.zarr")
    assert again.classes == store.classes == ("necrosis",)
    assert set(data.obs["label"]) == {"necrosis"}
    assert set(data.obs["reviewer"]) == {"B"}
    np.testing.assert_array_equal(again.load(SPEC), rows)
    assert list((store.path / "staging").iterdir()) == []


def test_unchanged_annotations_cost_nothing_and_a_lost_copy_is_written_anew(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    copy = store.path / "embeddings.zarr" / "obs"
    before = copy.stat().st_ino
    store.update_obs(make_obs(100), CLASSES)
    assert copy.stat().st_ino == before
    copy.rename(tmp_path / "lost")
    FeatureStore.open(store.path).update_obs(make_obs(100), CLASSES)
    assert anndata.read_zarr(copy.parent).n_obs == 100


def test_annotations_of_other_tiles_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for other in (make_obs(99), make_obs(100).iloc[::-1].reset_index(drop=True)):
        with pytest.raises(StoreMismatchError, match=r"toy\.store holds 100 tiles"):
            store.update_obs(other, CLASSES)
