"""Folders of tiles, one sub-folder per class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from featurebench.errors import ManifestError
from featurebench.tiles import TileManifest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FILES = ("benign/P1_a.png", "benign/deep/er/P2_b.JPG", "malignant/P1_c.tiff", "malignant/P3_d.tif")


def make(folder: Path, files: Iterable[str]) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def message_of(folder: Path, patient_regex: str | None = None) -> str:
    with pytest.raises(ManifestError) as error:
        TileManifest.from_folder(folder, patient_regex=patient_regex)
    return str(error.value)


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    tiles = TileManifest.from_folder(make(tmp_path, FILES))
    assert list(tiles.table["path"]) == sorted(FILES)
    assert list(tiles.table["tile_id"]) == sorted(FILES)
    assert list(tiles.table["label"]) == ["benign", "benign", "malignant", "malignant"]
    assert tiles.labels.tolist() == [0, 0, 1, 1]
    assert tiles.path_of(1).is_file()
    (warning,) = tiles.warnings
    assert warning.startswith("no patient_id: folds cannot be grouped by patient")
    assert "patient_regex" in warning


@pytest.mark.parametrize("name", ["patient", "case", "p"])
def test_the_patient_is_found_in_the_path(tmp_path: Path, name: str) -> None:
    tiles = TileManifest.from_folder(make(tmp_path, FILES), patient_regex=f"/(?P<{name}>P\\d)_")
    assert list(tiles.table["patient_id"]) == ["P1", "P2", "P1", "P3"]
    assert tiles.warnings == ()


def test_what_is_ignored_is_counted(tmp_path: Path) -> None:
    extra = ("benign/notes.txt", "loose.png", ".hidden/x.png", "benign/.DS_Store", "readme.md")
    make(tmp_path, (*FILES, *extra))
    (tmp_path / "benign" / "again").symlink_to(tmp_path / "malignant")
    tiles = TileManifest.from_folder(tmp_path)
    assert len(tiles) == len(FILES)
    assert tiles.warnings[1:] == (
        "2 files ignored: not PNG, JPEG or TIFF by their ending",
        "1 images ignored: not in a class folder",
        "1 linked folders not followed",
    )


def test_links_that_leave_the_root_are_refused(tmp_path: Path) -> None:
    make(tmp_path, [f"root/{name}" for name in FILES])
    make(tmp_path, ["outside/x.png"])
    (tmp_path / "root" / "benign" / "x.png").symlink_to(tmp_path / "outside" / "x.png")
    (tmp_path / "root" / "other").symlink_to(tmp_path / "outside")
    message = message_of(tmp_path / "root")
    assert "2 links lead out of the data root: copy the tiles into the folder, or " in message


def test_links_to_files_within_the_root_are_tiles(tmp_path: Path) -> None:
    make(tmp_path, FILES)
    (tmp_path / "benign" / "z.png").symlink_to(tmp_path / "malignant" / "P1_c.tiff")
    assert len(TileManifest.from_folder(tmp_path)) == 5


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "is not a folder: name an existing one" in message_of(tmp_path / "none")


@pytest.mark.parametrize("files", [(), ("a.png", "b.png"), ("x/notes.txt",), (".x/a.png",)])
def test_a_folder_without_images_is_refused(tmp_path: Path, files: tuple[str, ...]) -> None:
    message = message_of(make(tmp_path, files))
    assert message == (
        f"folder {tmp_path.name!r}: no images in sub-folders: put the PNG, JPEG or TIFF tiles into "
        "one sub-folder per class, or list them in a table"
    )


def test_a_class_folder_without_images_is_refused(tmp_path: Path) -> None:
    message = message_of(make(tmp_path, (*FILES, "normal/x.bmp")))
    assert "no PNG, JPEG or TIFF images in class folder 'normal': remove it, or rename" in message


def test_one_class_is_refused(tmp_path: Path) -> None:
    message = message_of(make(tmp_path, FILES[:2]))
    assert "all tiles are in the one class folder 'benign': a comparison needs one" in message


@pytest.mark.parametrize(
    ("regex", "told"),
    [
        ("(?P<patient>P", "is not a regular expression: missing ), unterminated subpattern"),
        (r"/(P\d)_", "has no named group: write exactly one, such as (?P<patient>[^_/]+)"),
        (
            r"/(?P<patient>P\d)_(?P<slide_id>.)",
            "has the named groups patient, slide_id: write exactly one",
        ),
    ],
)
def test_wrong_expressions_are_refused(tmp_path: Path, regex: str, told: str) -> None:
    message = message_of(make(tmp_path, FILES), regex)
    assert f"patient_regex {regex!r} {told}" in message


def test_paths_without_a_patient_are_counted_not_shown(tmp_path: Path) -> None:
    message = message_of(make(tmp_path, (*FILES, "benign/Miller.png")), r"/(?P<p>P\d)_|(?P=p)x")
    assert "finds no patient in row 1 of 5 (files sorted by path): mend the expression" in message
    assert "Miller" not in message


def test_an_optional_group_that_is_empty_is_no_patient(tmp_path: Path) -> None:
    message = message_of(make(tmp_path, FILES), r"(?P<p>P3)?_")
    assert "finds no patient in rows 1, 2, 3 of 4" in message


def test_problems_come_together(tmp_path: Path) -> None:
    message = message_of(make(tmp_path, FILES[:2]), "(")
    assert message.startswith(f"folder {tmp_path.name!r} has 2 problems:")


def test_control_characters_in_file_names_are_refused(tmp_path: Path) -> None:
    message = message_of(make(tmp_path, (*FILES, "benign/a\nb.png")))
    assert "path has control characters or is not UTF-8 in row 2: write it as plain text" in message


@pytest.mark.shared
def test_the_shared_folder_gives_the_same_tiles_as_its_table(shared: Path) -> None:
    folder = shared / "data" / "glas_tiles"
    tiles = TileManifest.from_folder(folder, patient_regex="/(?P<patient>P[0-9]+)_")
    mapping = {"patient_id": "patient"}
    table = TileManifest.from_table(folder / "tiles.csv", columns=mapping).table
    columns = ["path", "label", "patient_id"]
    expected = table.sort_values("path")[columns].to_numpy().tolist()
    assert tiles.table[columns].to_numpy().tolist() == expected
