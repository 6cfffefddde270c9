"""Files that do not fit, and hostile ones: one line that names the file, and nothing is run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import torch
from foreign_cases import (
    DIM,
    PER_SLIDE,
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

from featurebench.errors import (
    ExtractionError,
    FeatureBenchError,
    ManifestError,
    StoreMismatchError,
)
from featurebench.extraction.foreign.importing import import_embeddings

if TYPE_CHECKING:
    from collections.abc import Callable

    from featurebench.store import FeatureStore
    from featurebench.tiles import TileManifest


@pytest.fixture
def manifest(tmp_path: Path) -> TileManifest:
    return make_manifest(tmp_path)


@pytest.fixture
def store(tmp_path: Path, manifest: TileManifest) -> FeatureStore:
    return make_store(tmp_path, manifest)


class Marker:
    """Unpickled, it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_a_store_of_other_tiles_is_refused(tmp_path: Path, store: FeatureStore) -> None:
    other = make_manifest(tmp_path, make_table().iloc[:-1])
    with pytest.raises(StoreMismatchError, match="made from other tiles"):
        import_embeddings(other, store, [write_slides(tmp_path / "h5")], name="n")


@pytest.mark.parametrize("missing", ["slide_id", "x", "y"])
def test_a_manifest_without_places_is_refused(tmp_path: Path, missing: str) -> None:
    manifest = make_manifest(tmp_path, make_table().drop(columns=missing))
    store = make_store(tmp_path, manifest)
    with pytest.raises(ManifestError, match=rf"the tile table has no {missing}: .* add these"):
        import_embeddings(manifest, store, [write_slides(tmp_path / "h5")], name="n")


def test_tiles_that_share_a_place_cannot_be_told_apart(tmp_path: Path) -> None:
    table = make_table()
    table.loc[1, "x"] = 0
    manifest = make_manifest(tmp_path, table)
    store = make_store(tmp_path, manifest)
    with pytest.raises(ManifestError, match=r"slide of s1\.h5 share x and y"):
        import_embeddings(manifest, store, [write_slides(tmp_path / "h5")], name="n")


@pytest.mark.parametrize("mpp", [[0.5, 0.25], [0.0, 0.0], [np.nan, np.nan]])
def test_a_slide_has_one_scale(tmp_path: Path, mpp: list[float]) -> None:
    manifest = make_manifest(tmp_path, make_table().assign(slide_mpp=mpp * (N // 2)))
    store = make_store(tmp_path, manifest)
    with pytest.raises(ManifestError, match="slide_mpp of a slide is not one positive number"):
        import_embeddings(manifest, store, [write_stamp(tmp_path / "stamp")], name="n")


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda s, f, c: (f[:, : DIM - (s == "s2")], c), "have widths 4, 5"),
        (lambda _, f, c: (f, c + 0.25), "are not whole pixels of level 0"),
        (lambda _, f, c: (f, c * np.nan), "are not all finite"),
        (lambda _, f, c: (f, c[1:]), "'coords' in s1.h5 has shape"),
        (lambda _, f, c: (f[0], c), "not one row per tile"),
        (lambda _, f, c: (f, c + 1_000_000), "none of the embeddings"),
        (lambda _, f, c: (f, (c + 1) * 1e300), "none of the embeddings"),
    ],
)
def test_slides_that_do_not_fit_are_told_in_one_line(
    tmp_path: Path,
    manifest: TileManifest,
    store: FeatureStore,
    edit: Callable[[str, Matrix, Matrix], tuple[Matrix, Matrix]],
    match: str,
) -> None:
    folder = write_slides(tmp_path / "h5", edit)
    with pytest.raises(ExtractionError, match=match) as told:
        import_embeddings(manifest, store, [folder], name="n")
    assert "\n" not in str(told.value)


def test_files_of_different_networks_are_not_mixed(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    folder = write_slides(tmp_path / "h5", attributes={"encoder": "uni"})
    with h5py.File(folder / "s2.h5", "r+") as file:
        file.attrs["encoder"] = "conch"
    with pytest.raises(ExtractionError, match=r"different networks \(encoder: uni, conch\)"):
        import_embeddings(manifest, store, [folder], name="n")


def test_two_files_of_one_slide_are_refused(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    folders = [write_slides(tmp_path / "a"), write_slides(tmp_path / "b")]
    with pytest.raises(ExtractionError, match=r"two of the files are of one slide \(s1\.h5\)"):
        import_embeddings(manifest, store, folders, name="n")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], ("auto", "no file to import")),
        (["absent.h5"], ("auto", "does not exist")),
        (["h5", "eva"], ("auto", "which are eva and hdf5")),
        (["h5"], ("npy", "format 'npy' does not fit")),
        (["eva"], ("clam", "format 'clam' does not fit")),
        (["h5"], ("zip", "format 'zip' is unknown")),
        (["h5"], ("stamp", "has no dataset 'feats'")),
        (["empty"], ("auto", "holds no file ending in .h5")),
        (["e.txt"], ("auto", "of no format that is read")),
        (["e.csv"], ("auto", "comes without a matrix")),
    ],
)
def test_sources_that_cannot_be_read_are_told(
    tmp_path: Path,
    manifest: TileManifest,
    store: FeatureStore,
    given: list[str],
    told: tuple[str, str],
) -> None:
    write_slides(tmp_path / "h5")
    write_eva(tmp_path / "eva")
    (tmp_path / "empty").mkdir()
    for name in ("e.txt", "e.csv"):
        (tmp_path / name).touch()
    sources = [tmp_path / name for name in given]
    with pytest.raises(ExtractionError, match=told[1]):
        import_embeddings(manifest, store, sources, format=told[0], name="n")


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        (by_id(N - 1), "has 23 rows, its matrix 24"),
        ([["name"], ["x"]], "has no column tile_id or path"),
        ([["tile_id", "n"], ["x"]], "record 2 of e.csv has 1 cells"),
        ([["tile_id"], *([f"other{i}"] for i in range(N))], "none of the embeddings"),
    ],
)
def test_a_table_that_does_not_fit_its_matrix_is_told(
    tmp_path: Path,
    manifest: TileManifest,
    store: FeatureStore,
    lines: list[list[str]],
    match: str,
) -> None:
    path = write_npy(tmp_path, true_rows(), lines)
    with pytest.raises(ExtractionError, match=match):
        import_embeddings(manifest, store, [path], name="n")


@pytest.mark.parametrize(("name", "share"), [("", 0.0), (" ", 0.0), ("n", 1.5)])
def test_arguments_are_checked(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore, name: str, share: float
) -> None:
    with pytest.raises(ExtractionError, match=r"has no name|is not a share"):
        import_embeddings(manifest, store, [tmp_path], name=name, max_bad_tiles=share)


# hostile files


def hostile_text(file: h5py.File, _folder: Path) -> None:
    file.create_dataset("features", data=["a"] * PER_SLIDE, dtype=h5py.string_dtype())


def hostile_ragged(file: h5py.File, _folder: Path) -> None:
    file.create_dataset("features", (PER_SLIDE,), dtype=h5py.vlen_dtype(np.float32))


def hostile_link(file: h5py.File, folder: Path) -> None:
    file["features"] = h5py.ExternalLink(str(folder / "secret.h5"), "/features")


def hostile_soft_link(file: h5py.File, folder: Path) -> None:
    file["away"] = h5py.ExternalLink(str(folder / "secret.h5"), "/")
    file["features"] = h5py.SoftLink("/away/features")


def hostile_virtual(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout((PER_SLIDE, DIM), np.float32)
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "features", (PER_SLIDE, DIM))
    file.create_virtual_dataset("features", layout)


def hostile_external(file: h5py.File, folder: Path) -> None:
    where = [(str(folder / "secret.h5"), 0, PER_SLIDE * DIM * 4)]
    file.create_dataset("features", (PER_SLIDE, DIM), np.float32, external=where)


def hostile_size(file: h5py.File, _folder: Path) -> None:
    file.create_dataset("features", (10**9, DIM), np.float32, chunks=(1024, DIM))


def hostile_width(file: h5py.File, _folder: Path) -> None:
    file.create_dataset("features", (PER_SLIDE, 10**6), np.float32)


def hostile_group(file: h5py.File, _folder: Path) -> None:
    file.create_group("features")


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (hostile_text, "holds object values, not numbers"),
        (hostile_ragged, "holds object values, not numbers"),
        (hostile_link, "is a link"),
        (hostile_soft_link, "is a link"),
        (hostile_virtual, "keeps its values in other files"),
        (hostile_external, "keeps its values in other files"),
        (hostile_size, "GiB a file are read"),
        (hostile_width, "1 to 65536 columns"),
        (hostile_group, "is not a dataset"),
    ],
)
def test_hdf5_gives_only_numbers_of_its_own(
    tmp_path: Path,
    manifest: TileManifest,
    store: FeatureStore,
    make: Callable[[h5py.File, Path], None],
    match: str,
) -> None:
    folder = write_slides(tmp_path / "h5")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["features"] = np.ones((PER_SLIDE, DIM), dtype=np.float32)
    with h5py.File(folder / "s2.h5", "r+") as file:
        del file["features"]
        make(file, tmp_path)
    with pytest.raises(ExtractionError, match=match):
        import_embeddings(manifest, store, [folder], name="n")
    assert store.embeddings() == []


def test_hdf5_filters_that_would_load_a_plugin_are_refused(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    folder = write_slides(tmp_path / "h5")
    with h5py.File(folder / "s1.h5", "r+") as file:
        del file["features"]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((PER_SLIDE, DIM))
        plist.set_filter(32_015, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((PER_SLIDE, DIM))
        h5py.h5d.create(file.id, b"features", h5py.h5t.IEEE_F32LE, space, plist)
    with pytest.raises(ExtractionError, match=r"filters \[32015\]"):
        import_embeddings(manifest, store, [folder], name="n")


@pytest.mark.parametrize("keep", [0, 100, 2000])
def test_cut_off_hdf5_files_are_told_by_name(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore, keep: int
) -> None:
    folder = write_slides(tmp_path / "h5")
    path = folder / "s1.h5"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ExtractionError, match=r"s1\.h5"):
        import_embeddings(manifest, store, [folder], name="n")


def test_pickled_code_in_a_tensor_file_never_runs(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    folder, marker = write_eva(tmp_path / "eva"), tmp_path / "ran"
    torch.save(Marker(marker), folder / "png" / "tile3.pt")
    with pytest.raises(ExtractionError, match=r"tile3\.pt is not one plain tensor"):
        import_embeddings(manifest, store, [folder], name="n")
    (folder / "png" / "tile3.pt").write_bytes(pickle.dumps(Marker(marker)))
    with pytest.raises(ExtractionError, match=r"tile3\.pt is not one plain tensor"):
        import_embeddings(manifest, store, [folder], name="n")
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore:Validating sparse tensor:UserWarning")
@pytest.mark.parametrize(
    "content",
    [
        torch.ones(2, DIM),
        [torch.ones(DIM), torch.ones(DIM)],
        torch.ones(DIM, dtype=torch.int64),
        torch.ones(DIM, device="meta"),
        torch.ones(DIM).to_sparse(),
        torch.tensor(1.0).expand(10**9),
        {"embedding": torch.ones(DIM)},
        "text",
    ],
    ids=["rows", "patches", "integers", "meta", "sparse", "expanded", "dictionary", "text"],
)
def test_a_tensor_file_holds_one_row_of_numbers(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore, content: object
) -> None:
    folder = write_eva(tmp_path / "eva")
    torch.save(content, folder / "png" / "tile3.pt")
    with pytest.raises(ExtractionError, match=r"tile3\.pt is not one plain tensor"):
        import_embeddings(manifest, store, [folder], name="n")


def test_tensor_files_of_another_width_or_too_large_are_refused(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    folder = write_eva(tmp_path / "eva")
    torch.save(torch.ones(DIM + 1), folder / "png" / "tile3.pt")
    with pytest.raises(ExtractionError, match=r"tile3\.pt has 6 columns, others 5"):
        import_embeddings(manifest, store, [folder], name="n")
    torch.save([torch.ones(2**25)], folder / "png" / "tile3.pt")
    with pytest.raises(ExtractionError, match=r"tile3\.pt has \d+ bytes"):
        import_embeddings(manifest, store, [folder], name="n")


@pytest.mark.parametrize(
    "path", ["../secret.pt", "/etc/secret.pt", "png/a.txt", "link.pt", "\0.pt"]
)
def test_an_eva_manifest_stays_in_its_folder(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore, path: str
) -> None:
    torch.save(torch.ones(DIM), tmp_path / "secret.pt")
    folder = write_eva(tmp_path / "eva", [["png/tile0.png", path, "0", ""]])
    (folder / "link.pt").symlink_to(tmp_path / "secret.pt")
    with pytest.raises(FeatureBenchError, match=r"no \.pt file below its folder"):
        import_embeddings(manifest, store, [folder], name="n", max_bad_tiles=1.0)


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (np.array([[Marker(Path("ran"))] * DIM] * N, dtype=object), "is not a plain .npy matrix"),
        (true_rows().astype(np.complex64), "holds complex64"),
        (np.zeros(N, dtype=[("a", np.float32)]), "give numbers"),
        (true_rows()[0], "give numbers"),
        (np.full((N, DIM), "x"), "give numbers"),
    ],
    ids=["objects", "complex", "records", "vector", "text"],
)
def test_a_matrix_holds_plain_numbers(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore, rows: Matrix, match: str
) -> None:
    path = write_npy(tmp_path, rows, by_id())
    with pytest.raises(ExtractionError, match=match):
        import_embeddings(manifest, store, [path], name="n")
    assert not Path("ran").exists()


def test_archives_and_cut_off_matrices_are_told(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    path = write_npy(tmp_path, true_rows(), by_id())
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(ExtractionError, match=r"e\.npy is not a plain"):
        import_embeddings(manifest, store, [path], name="n")
    with path.open("wb") as file:
        np.savez(file, rows=true_rows())
    with pytest.raises(ExtractionError, match=r"e\.npy is an \.npz archive"):
        import_embeddings(manifest, store, [path], name="n")


@pytest.mark.parametrize("name", ["h5/s1.h5", "eva/png/tile3.pt", "e.npy", "e.csv"])
def test_damage_anywhere_is_told_as_an_error_of_ours(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore, name: str
) -> None:
    write_slides(tmp_path / "h5")
    write_eva(tmp_path / "eva")
    write_npy(tmp_path, true_rows(), by_id())
    source = tmp_path / name.partition("/")[0].replace(".csv", ".npy")
    whole = (tmp_path / name).read_bytes()
    told = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole) // 2)] = 255
        cut = damaged[: rng.integers(len(whole))] if seed % 4 == 0 else damaged
        (tmp_path / name).write_bytes(cut)
        try:
            import_embeddings(manifest, store, [source], name="n", max_bad_tiles=0.5)
        except FeatureBenchError as error:
            told.add(str(error))
    assert told
    assert not any("\n" in line for line in told)


def test_a_matrix_whose_header_does_not_end_is_told(
    tmp_path: Path, manifest: TileManifest, store: FeatureStore
) -> None:
    path = write_npy(tmp_path, true_rows(), by_id())
    path.write_bytes(path.read_bytes().replace(b"}", b" ", 1))
    with pytest.raises(ExtractionError, match=r"e\.npy is not a plain \.npy matrix"):
        import_embeddings(manifest, store, [path], name="n")
