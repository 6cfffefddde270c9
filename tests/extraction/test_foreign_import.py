"""Foreign embeddings: each tile gets its own or none, however the files name it."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr
from foreign_cases import (
    DIM,
    MPP,
    STEP,
    Matrix,
    N,
    by_id,
    make_manifest,
    make_store,
    make_table,
    true_rows,
    write_eva,
    write_npy,
    write_slides,
    write_stamp,
)

from featurebench.errors import ExtractionError, MissingRowsError
from featurebench.extraction.foreign import assembly
from featurebench.extraction.foreign.importing import ForeignImport, import_embeddings
from featurebench.extraction.foreign.sources import SourceFile
from featurebench.store import FeatureStore
from featurebench.store.export import export_embedding

if TYPE_CHECKING:
    from pathlib import Path

    from featurebench.tiles import TileManifest


@pytest.fixture
def manifest(tmp_path: Path) -> TileManifest:
    return make_manifest(tmp_path)


@pytest.fixture
def store(tmp_path: Path, manifest: TileManifest) -> FeatureStore:
    return make_store(tmp_path, manifest)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    add = FeatureStore.add

    def small(*args: Any, **kwargs: Any) -> None:
        add(*args, **{**kwargs, "block_rows": 8})

    monkeypatch.setattr(FeatureStore, "add", small)


def check_rows(store: FeatureStore, done: ForeignImport, exact: Matrix | None = None) -> None:
    wanted = true_rows().astype(done.spec.dtype) if exact is None else exact
    np.testing.assert_array_equal(store.load(done.spec), wanted)
    assert done.n_rows == N
    assert store.verify() == []


def notes_of(store: FeatureStore, done: ForeignImport) -> dict[str, Any]:
    folder = store.path / "embeddings.zarr" / "uns" / "featurebench" / done.spec.name
    text = zarr.open_array(folder / "provenance", mode="r")[()]
    notes: dict[str, Any] = json.loads(str(text))
    return notes


# the formats


def test_clam_files_are_matched_by_slide_and_place(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    folder = write_slides(tmp_path / "h5_files")
    done = import_embeddings(manifest, store, [folder], name="resnet50_trunc")
    check_rows(store, done)
    spec = done.spec
    assert (spec.model, spec.tag, spec.dim, spec.dtype) == (
        "resnet50_trunc",
        "foreign",
        DIM,
        "float16",
    )
    assert (spec.layer, spec.pool, spec.precision) == ("unknown", "unknown", "unknown")
    assert spec.preprocessing["source"] == "clam"
    assert spec.preprocessing["files"] == 2
    assert [file.name for file in done.sources] == ["s1.h5", "s2.h5"]


def test_a_leading_axis_of_one_is_taken_off(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    folder = write_slides(tmp_path / "h5", lambda _, f, c: (f[None], c[None]))
    check_rows(store, import_embeddings(manifest, store, [folder], format="clam", name="n"))


def test_trident_attributes_are_noted_without_folders(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    attributes = {"patch_size_level0": 512, "target_magnification": 20, "savetodir": "/home/me/x"}
    folder = write_slides(
        tmp_path / "features_uni_v1",
        lambda _, f, c: (f, c.astype(np.float64)),
        attributes={"encoder": "uni_v1", "log": "C:\\secret", "sizes": [1, 2]},
        coord_attributes=attributes,
    )
    done = import_embeddings(manifest, store, [folder], name="uni")
    check_rows(store, done)
    assert done.spec.preprocessing["source"] == "trident"
    notes = notes_of(store, done)
    assert notes["foreign"] is True
    assert notes["attributes"] == {
        "encoder": ["uni_v1"],
        "patch_size_level0": [512],
        "target_magnification": [20],
    }
    assert notes["files"] == [
        {"name": file.name, "sha256": file.sha256, "n_files": 1} for file in done.sources
    ]
    assert str(tmp_path) not in json.dumps(notes)


@pytest.mark.parametrize("offset", [0.0, -0.6, 0.6])
def test_stamp_micrometres_become_pixels_by_the_slides_own_scale(
    tmp_path: Path, offset: float
) -> None:
    table = make_table().assign(slide_mpp=MPP)
    table["x"] = table["x"] + 700
    manifest = make_manifest(tmp_path, table)
    store = make_store(tmp_path, manifest)
    folder = write_stamp(tmp_path / "stamp", tile_size_um=256.0, tile_size_px=224)
    for path in folder.iterdir():
        with h5py.File(path, "r+") as file:
            file["coords"][:] = file["coords"][:] + np.array([(700 + offset) * MPP, 0])
    done = import_embeddings(manifest, store, [folder], name="uni")
    check_rows(store, done)
    assert done.spec.preprocessing["source"] == "stamp"
    assert notes_of(store, done)["attributes"]["extractor"] == ["uni"]


def test_stamp_tile_size_is_used_where_every_tile_then_finds_its_partner(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    folder = write_stamp(tmp_path / "stamp", tile_size_um=STEP * MPP, tile_size_px=STEP)
    check_rows(store, import_embeddings(manifest, store, [folder], format="stamp", name="uni"))


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({"tile_size_um": 256.0, "tile_size_px": 224}, "add a column slide_mpp"),
        # twice the scale: a quarter of the grid would fall onto tiles that it does not belong to
        ({"tile_size_um": STEP * MPP, "tile_size_px": STEP // 2}, "add a column slide_mpp"),
        ({"tile_size_um": 256.0}, "add a column slide_mpp"),
        ({"tile_size_um": 0.0, "tile_size_px": 0}, "add a column slide_mpp"),
        ({"unit": "px"}, "does not say that its coords are micrometres"),
        ({"feat_type": "slide"}, "holds slide embeddings"),
    ],
)
def test_stamp_scale_that_is_not_known_is_not_guessed(
    tmp_path: Path,
    manifest: TileManifest,
    store: FeatureStore,
    attributes: dict[str, Any],
    match: str,
) -> None:
    folder = write_stamp(tmp_path / "stamp", **attributes)
    with pytest.raises(ExtractionError, match=match):
        import_embeddings(manifest, store, [folder], name="uni", max_bad_tiles=1.0)


@pytest.mark.parametrize("as_list", [True, False])
@pytest.mark.parametrize("given", [".", "manifest.csv"])
def test_eva_folders_are_matched_by_origin(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore, as_list: bool, given: str
) -> None:
    folder = write_eva(tmp_path / "eva", as_list=as_list)
    done = import_embeddings(manifest, store, [folder / given], name="dino")
    check_rows(store, done)
    assert done.sources == (SourceFile("*.pt", done.sources[0].sha256, N),)
    assert done.spec.preprocessing["source"] == "eva"


@pytest.mark.parametrize("origin", ["elsewhere/{}.png", "{}", "C:\\images\\{}.tif"])
def test_eva_origins_of_another_folder_are_matched_by_tile_id(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore, origin: str
) -> None:
    lines = [[origin.format(f"tile{i}"), f"png/tile{i}.pt", "0", ""] for i in range(N)]
    folder = write_eva(tmp_path / "eva", lines)
    check_rows(store, import_embeddings(manifest, store, [folder], name="dino"))


def test_an_origin_that_could_be_two_tiles_is_none(tmp_path: Path) -> None:
    table = make_table()
    table.loc[1, "tile_id"] = "tile0.png"
    manifest = make_manifest(tmp_path, table)
    store = make_store(tmp_path, manifest)
    lines = [[f"other/tile{i}.png", f"png/tile{i}.pt", "0", ""] for i in range(N)]
    folder = write_eva(tmp_path / "eva", lines)
    done = import_embeddings(manifest, store, [folder], name="dino", max_bad_tiles=0.1)
    assert [refusal.row for refusal in done.refused] == [0, 1]


@pytest.mark.parametrize("column", ["tile_id", "path"])
def test_a_matrix_is_matched_by_the_table_beside_it(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore, column: str
) -> None:
    order = np.random.default_rng(2).permutation(N)
    lines = [["n", column], *(["x", manifest.table[column][i]] for i in order)]
    path = write_npy(tmp_path, np.asfortranarray(true_rows()[order], dtype=np.float64), lines)
    check_rows(store, import_embeddings(manifest, store, [path], name="mine"))


def test_the_table_may_have_another_name_if_it_is_given(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    path = write_npy(tmp_path, true_rows(), by_id())
    table = path.with_suffix(".csv").rename(tmp_path / "names.csv")
    check_rows(store, import_embeddings(manifest, store, [path, table], name="mine"))


def test_what_is_exported_comes_back(tmp_path: Path) -> None:
    table = make_table()
    table.loc[[0, 1, 2, 3], "tile_id"] = ["=1+1", "'=1+1", "@x", "-x,y"]
    manifest = make_manifest(tmp_path, table)
    store = make_store(tmp_path, manifest)
    path = write_npy(tmp_path, true_rows(), [["path"], *([p] for p in table["path"])])
    first = import_embeddings(manifest, store, [path], name="mine")
    export = export_embedding(store, first.spec, tmp_path / "out" / "e.npy")
    other = make_store(tmp_path, manifest, "other.store")
    again = import_embeddings(manifest, other, [export.path], name="mine")
    np.testing.assert_array_equal(other.load(again.spec), store.load(first.spec))
    assert again.n_rows == N


# what is kept, and what is refused


def scaled(by: float, _slide: str, feats: Matrix, coords: Matrix) -> tuple[Matrix, Matrix]:
    return feats * by, coords


def test_values_beyond_half_precision_are_kept_as_float32(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    for n, factor in enumerate((1e5, 1e-7)):
        folder = write_slides(tmp_path / f"h5{n}", partial(scaled, factor))
        done = import_embeddings(manifest, store, [folder], name=f"scaled{n}")
        assert done.spec.dtype == "float32"
        check_rows(store, done, true_rows() * np.float32(factor))


def test_tiles_without_an_embedding_are_refused_by_name(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore, small_blocks: None
) -> None:
    def edit(slide: str, feats: Matrix, coords: Matrix) -> tuple[Matrix, Matrix]:
        feats = feats.copy()
        if slide == "s1":
            feats[np.flatnonzero((coords == 0).all(axis=1))[0], 2] = np.nan
            return feats, coords
        keep = (coords != [STEP, 0]).any(axis=1)
        return feats[keep], coords[keep]

    folder = write_slides(tmp_path / "h5", edit)
    done = import_embeddings(manifest, store, [folder], name="n", max_bad_tiles=0.1)
    assert [(r.row, r.tile_id, r.reason) for r in done.refused] == [
        (0, "tile0", "embedding is not finite"),
        (13, "tile13", "not in the imported files"),
    ]
    assert store.refused(done.spec) == list(done.refused)
    fine = np.setdiff1d(np.arange(N), [0, 13])
    rows = store.load(done.spec, fine)
    np.testing.assert_array_equal(rows, true_rows().astype(np.float16)[fine])
    with pytest.raises(MissingRowsError):
        store.load(done.spec)


def test_too_many_tiles_without_an_embedding_stop_the_import(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    folder = write_slides(tmp_path / "h5", lambda _, f, c: (f[1:], c[1:]))
    with pytest.raises(ExtractionError, match=r"2 of 24 tiles \(8.33%\) have no embedding") as told:
        import_embeddings(manifest, store, [folder], name="n")
    assert "not in the imported files" in str(told.value)
    assert "\n" not in str(told.value)
    assert store.embeddings() == []


def test_embeddings_of_no_tile_and_of_other_slides_are_left_alone(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    folder = write_slides(
        tmp_path / "h5",
        lambda _, f, c: (np.vstack([f, f[:1] + 1]), np.vstack([c, [[9_999, 9_999]]])),
    )
    (folder / "s3.h5").write_bytes(b"not read")
    done = import_embeddings(manifest, store, [folder], name="n")
    check_rows(store, done)
    assert done.n_unmatched == 2


def test_a_tile_that_stands_twice_is_taken_once_if_both_are_equal(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    folder = write_slides(
        tmp_path / "h5", lambda _, f, c: (np.vstack([f, f[:1]]), np.vstack([c, c[:1]]))
    )
    check_rows(store, import_embeddings(manifest, store, [folder], name="n"))


def test_a_tile_with_two_different_embeddings_is_refused(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    rows = np.vstack([true_rows(), true_rows()[[5, 6]] + [[0], [1]]])
    path = write_npy(tmp_path, rows, [*by_id(), ["tile5"], ["tile6"]])
    done = import_embeddings(manifest, store, [path], name="n", max_bad_tiles=0.1)
    assert [(r.row, r.reason) for r in done.refused] == [(6, assembly.CLASH)]


# again, and elsewhere


def test_an_interrupted_import_goes_on_where_it_stopped(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore, small_blocks: None
) -> None:
    folder = write_slides(tmp_path / "h5")

    def stop(_n_rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_embeddings(manifest, store, [folder], name="n", progress=stop)
    told: list[int] = []
    done = import_embeddings(manifest, store, [folder], name="n", progress=told.append)
    assert (done.n_blocks_done, done.n_blocks_cached, told) == (2, 1, [8, 8])
    check_rows(store, done)
    again = import_embeddings(manifest, store, [folder], name="n")
    assert (again.n_blocks_done, again.n_blocks_cached) == (0, 3)
    assert again.spec == done.spec


def test_order_and_folder_of_the_files_do_not_change_the_recipe(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    here, there = write_slides(tmp_path / "here"), write_slides(tmp_path / "there")
    first = import_embeddings(manifest, store, [here], name="n")
    files = [there / "s2.h5", there / "s1.h5"]
    again = import_embeddings(manifest, store, files, name="n")
    assert again.spec == first.spec
    assert again.n_blocks_done == 0


def test_other_contents_or_another_match_are_another_embedding(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    first = import_embeddings(manifest, store, [write_slides(tmp_path / "a")], name="n").spec
    other = write_slides(tmp_path / "b", lambda _, f, c: (f + 1, c))
    contents = import_embeddings(manifest, store, [other], name="n").spec
    table = make_table()
    table[["x", "y"]] = table[["x", "y"]].to_numpy()[::-1]
    swapped = make_manifest(tmp_path, table)
    match = import_embeddings(swapped, store, [tmp_path / "a"], name="n").spec
    assert len({first.name, contents.name, match.name}) == 3
    assert first.weights_sha256 == match.weights_sha256 != contents.weights_sha256


def test_a_file_that_changes_meanwhile_is_refused(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore, small_blocks: None
) -> None:
    path = write_npy(tmp_path, true_rows(), by_id())

    def change(_n_rows: int) -> None:
        np.save(path, true_rows() + 1)
        os.utime(path, ns=(1, 1))

    with pytest.raises(ExtractionError, match=r"e\.npy changed while it was imported"):
        import_embeddings(manifest, store, [path], name="n", progress=change)
