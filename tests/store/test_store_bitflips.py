"""One flipped bit anywhere in a store: found by verify, and never read as an embedding."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import numpy.typing as npt
import pytest
import zarr
from store_cases import CLASSES, SPEC, create, flip_bit, make_obs, true_rows, write_all

from featurebench.errors import StoreCorruptError, StoreError
from featurebench.store import FeatureStore, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEPT = np.delete(np.arange(40), [20])


def make_whole(path: Path, compression: str = "none") -> FeatureStore:
    """Make a store with all that a store can have, a refused row, and the nodes of others."""
    store = create(path, 40, dataset="d\N{LATIN SMALL LETTER E WITH ACUTE}mo")
    store.add(SPEC, block_rows=16, provenance={"device": "\N{MICRO SIGN}"}, compression=compression)
    block = store.blocks(SPEC)[1]
    refused = [Refusal(20, "t00020", "\N{LATIN SMALL LETTER O WITH DIAERESIS}de")]
    store.write(SPEC, block, true_rows(40)[16:32], refused=refused)
    write_all(store)
    return store


def bits(store: FeatureStore, step: int) -> Iterator[tuple[Path, int]]:
    """Go through every ``step``-th bit of a store's files, counted across files."""
    first = 0
    for path in sorted(path for path in store.path.rglob("*") if path.is_file()):
        if "staging" in path.relative_to(store.path).parts:
            continue
        n_bits = 8 * path.stat().st_size
        yield from ((path, bit) for bit in range(first % step, n_bits, step))
        first = (first - n_bits) % step


def is_vital(store: FeatureStore, path: Path) -> bool:
    """Tell whether an embedding cannot be read where this file is damaged."""
    place = path.relative_to(store.path).as_posix()
    return place == "store.json" or (SPEC.name in place and "/uns/" not in place)


def read_anew(store: FeatureStore) -> npt.NDArray[Any]:
    return FeatureStore.open(store.path).load(SPEC, KEPT)


def is_found(store: FeatureStore) -> bool:
    try:
        return bool(FeatureStore.open(store.path).verify())
    except StoreError:
        return True


def sweep_bits(store: FeatureStore, step: int) -> int:
    truth = store.load(SPEC, KEPT)
    assert store.verify() == []
    n_flipped = 0
    for path, bit in bits(store, step):
        flip_bit(path, bit // 8, bit % 8)
        assert is_found(store), (path, bit)
        if is_vital(store, path):
            with pytest.raises(StoreError):
                read_anew(store)
        else:
            try:
                np.testing.assert_array_equal(read_anew(store), truth)
            except StoreError:
                assert path.parent.name == "embeddings.zarr"
        flip_bit(path, bit // 8, bit % 8)
        n_flipped += 1
    assert store.verify() == []
    return n_flipped


@pytest.mark.parametrize(("compression", "step"), [("none", 151), ("zstd", 499)])
def test_flipped_bits_are_found(tmp_path: Path, compression: str, step: int) -> None:
    assert sweep_bits(make_whole(tmp_path / "a.store", compression), step) > 200


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_flipped_bits_are_found_in_a_fine_sweep(tmp_path: Path, compression: str) -> None:
    assert sweep_bits(make_whole(tmp_path / "a.store", compression), 29) > 3_000


def test_case_of_an_escape_is_a_flipped_bit_too(tmp_path: Path) -> None:
    store = make_whole(tmp_path / "a.store")
    for path in [store.path / "store.json", store.path / "commits" / SPEC.name / "1.json"]:
        whole = path.read_bytes()
        offset = whole.index(b"\\u00") + 4
        flip_bit(path, offset + (whole[offset : offset + 1] < b"a"), bit=5)
        assert path.read_bytes() != whole
        with pytest.raises(StoreError, match="its digest does not fit"):
            read_anew(store)
        path.write_bytes(whole)


@pytest.mark.parametrize("size", [0, 3, -1, None])
def test_short_and_lost_files_are_found(tmp_path: Path, size: int | None) -> None:
    store = make_whole(tmp_path / "a.store")
    truth = store.load(SPEC, KEPT)
    for path in sorted(path for path in store.path.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        path.unlink()
        if size is not None:
            path.write_bytes(whole[:size])
        place = path.relative_to(store.path)
        is_record = place.parts[0] == "commits"
        # a block without a record is pending, and that is no damage
        assert is_found(store) != (is_record and size is None), place
        if is_vital(store, path):
            with pytest.raises(StoreError):
                read_anew(store)
        elif path.parent.name != "embeddings.zarr":
            np.testing.assert_array_equal(read_anew(store), truth)
        path.write_bytes(whole)
    assert store.verify() == []


@pytest.mark.filterwarnings("ignore:zarr v3 autosharding")
def test_nodes_of_others_are_left_alone(tmp_path: Path) -> None:
    store = make_whole(tmp_path / "a.store")
    root = store.path / "embeddings.zarr"
    data = anndata.read_zarr(root)
    group = zarr.open_group(root, mode="r+")
    others = {"obsm/X_umap": np.ones((40, 2)), "uns/other": {"k": "v"}, "layers": {}}
    for key, value in others.items():
        anndata.io.write_elem(group, key, value)
    assert store.verify() == []
    assert [spec.name for spec in FeatureStore.open(store.path).embeddings()] == [SPEC.name]
    again = anndata.read_zarr(root)
    assert set(again.obsm) == {SPEC.name, "X_umap"}
    assert set(again.uns) == {"featurebench", "other"}
    assert store.repair(store.verify()) == 0
    np.testing.assert_array_equal(again.obsm[SPEC.name], data.obsm[SPEC.name])


def test_an_array_that_lost_its_seal_or_its_name_is_found(tmp_path: Path) -> None:
    store = make_whole(tmp_path / "a.store")
    path = store.path / "embeddings.zarr" / "obsm" / SPEC.name / "zarr.json"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"featurebench_digest"', b'"featurebench_digesu"'))
    with pytest.raises(StoreCorruptError, match="has no digest"):
        store.load(SPEC, KEPT)
    path.write_bytes(whole.replace(b'"featurebench":', b'"featuqebench":'))
    with pytest.raises(StoreError):
        store.load(SPEC, KEPT)
    assert len(store.verify()) == 1


@pytest.mark.parametrize("lost", ["array", "records", "notes"])
def test_parts_without_the_others(tmp_path: Path, lost: str) -> None:
    store = make_whole(tmp_path / "a.store")
    root = store.path / "embeddings.zarr"
    places = {"array": root / "obsm", "records": store.path / "commits"}
    places["notes"] = root / "uns" / "featurebench"
    shutil.rmtree(places[lost] / SPEC.name)
    found = [problem.what[:60] for problem in store.verify()]
    expected = "there are records and notes of an array that is not there; r"
    assert found == ([expected] if lost == "array" else [])
    (places["records"] / SPEC.name).mkdir(exist_ok=True)
    (places["records"] / SPEC.name / "01.json").touch()
    found = [problem.what for problem in store.verify()]
    assert found[-1].startswith("there are" if lost == "array" else "01.json is not a record")


def other_table(store: FeatureStore, **changes: Any) -> list[str]:
    from featurebench.store.obs import write_obs

    obs = store.path / "embeddings.zarr" / "obs"
    shutil.rmtree(obs)
    table = make_obs(40).assign(**changes) if changes else make_obs(39)
    write_obs(obs, table, CLASSES)
    return [problem.what for problem in store.verify()]


def test_a_table_of_other_tiles_is_found(tmp_path: Path) -> None:
    store = make_whole(tmp_path / "a.store")
    assert other_table(store, label="tumour") == []
    assert "it has 39 rows, the store 40" in other_table(store)[0]
    assert "the same tile_id twice" in other_table(store, tile_id="t")[0]
    swapped = make_obs(40)["path"].iloc[::-1].to_numpy()
    assert "a manifest that no longer matches" in other_table(store, path=swapped)[0]
    assert store.verify("00" * 32)[0].what.startswith("the store was made from a manifest that no")
    assert other_table(store, label="tumour") == []
    assert store.verify(store.manifest_sha256) == []


def test_consolidated_metadata_is_refused_and_can_be_undone(tmp_path: Path) -> None:
    store = make_whole(tmp_path / "a.store")
    with pytest.warns(UserWarning, match="Consolidated metadata"):
        zarr.consolidate_metadata(store.path / "embeddings.zarr")
    with pytest.raises(StoreCorruptError, match=r"of embeddings\.zarr is damaged.*verify --repair"):
        FeatureStore.open(store.path)
    damaged = FeatureStore.open(store.path, damaged=True)
    assert damaged.repair(damaged.verify()) == 1
    assert FeatureStore.open(store.path).verify() == []
