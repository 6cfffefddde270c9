"""Tables of tiles: what is read, and the message of every problem."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from featurebench.errors import ManifestError
from featurebench.tiles import TileManifest

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [
    "a/1.png,benign,P1",
    "a/2.png,malignant,P2",
    "a/3.png,benign,P3",
]
HEADER = "path,label,patient_id"


def write_table(
    folder: Path, lines: list[str], *, header: str = HEADER, newline: str = "\n"
) -> Path:
    (folder / "a").mkdir(exist_ok=True)
    for name in ("1", "2", "3"):
        (folder / "a" / f"{name}.png").touch()
    table = folder / "tiles.csv"
    table.write_bytes(newline.join([header, *lines, ""]).encode())
    return table


def message_of(table: Path, **options: object) -> str:
    with pytest.raises(ManifestError) as error:
        TileManifest.from_table(table, **options)  # type: ignore[arg-type]
    return str(error.value)


def test_a_table_becomes_a_manifest(tmp_path: Path) -> None:
    tiles = TileManifest.from_table(write_table(tmp_path, ROWS))
    assert len(tiles) == 3
    assert tiles.classes == ("benign", "malignant")
    assert tiles.labels.tolist() == [0, 1, 0]
    assert tiles.labels.dtype == np.int64
    assert tiles.warnings == ()
    assert tiles.root == tmp_path.resolve()
    assert tiles.path_of(1) == tmp_path.resolve() / "a" / "2.png"
    assert list(tiles.table["tile_id"]) == ["a/1.png", "a/2.png", "a/3.png"]
    patients = tiles.column("patient_id")
    assert patients is not None
    assert patients.tolist() == ["P1", "P2", "P3"]
    assert tiles.column("site") is None


def test_the_digest_covers_ids_and_paths_in_order(tmp_path: Path) -> None:
    header = "tile_id,path,label"
    lines = ["t1,a/1.png,x", "t2,a/2.png,y", "t3,a/3.png,x"]
    tiles = TileManifest.from_table(write_table(tmp_path, lines, header=header))
    text = "t1\0a/1.png\nt2\0a/2.png\nt3\0a/3.png"
    assert tiles.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert tiles.take([1, 0, 2]).sha256 != tiles.sha256
    assert tiles.take([0, 1, 2]).sha256 == tiles.sha256


def test_take_keeps_the_classes_and_their_codes(tmp_path: Path) -> None:
    tiles = TileManifest.from_table(write_table(tmp_path, ROWS))
    malignant = tiles.take(np.array([False, True, False]))
    assert malignant.classes == ("benign", "malignant")
    assert malignant.labels.tolist() == [1]
    assert list(malignant.table.index) == [0]
    assert len(tiles.take([])) == 0


@pytest.mark.parametrize("labels", [("0", "1"), ("01", "1"), ("NA", "nan"), ("1.0", "1")])
def test_labels_stay_as_they_are_written(tmp_path: Path, labels: tuple[str, str]) -> None:
    lines = [f"a/{i}.png,{label}" for i, label in enumerate(labels, 1)]
    tiles = TileManifest.from_table(write_table(tmp_path, lines, header="path,label"))
    assert tiles.classes == tuple(sorted(labels))


def test_windows_tables_are_read(tmp_path: Path) -> None:
    lines = [line.replace("a/", ".\\a\\") for line in ROWS]
    table = write_table(tmp_path, lines, header="\ufeff" + HEADER, newline="\r\n")
    tiles = TileManifest.from_table(table)
    assert list(tiles.table["path"]) == ["a/1.png", "a/2.png", "a/3.png"]
    assert list(tiles.table.columns) == ["tile_id", "path", "label", "patient_id"]


def test_blanks_around_text_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    lines = ["a/1.png, x ", "", "a/2.png,y", "a/3.png,x"]
    tiles = TileManifest.from_table(write_table(tmp_path, lines, header="path, label"))
    assert list(tiles.table["label"]) == ["x", "y", "x"]


def test_integers_and_further_columns(tmp_path: Path) -> None:
    header = "path,label,x,y,level,scanner"
    lines = ["a/1.png,p,0,224.0,1,007", "a/2.png,q,224,-5,0,AT2"]
    table = TileManifest.from_table(write_table(tmp_path, lines, header=header)).table
    assert table["y"].tolist() == [224, -5]
    assert {table[name].dtype for name in ("x", "y", "level")} == {np.dtype(np.int64)}
    assert table["scanner"].tolist() == ["007", "AT2"]


def test_columns_are_mapped(tmp_path: Path) -> None:
    table = write_table(tmp_path, ROWS, header="file,label,case")
    mapping = {"path": "file", "tile_id": "file", "patient_id": "case"}
    tiles = TileManifest.from_table(table, columns=mapping)
    assert list(tiles.table.columns) == ["tile_id", "path", "label", "patient_id"]
    assert tiles.warnings == ()


def test_a_shadowed_column_is_told(tmp_path: Path) -> None:
    table = write_table(tmp_path, ["a/1.png,x,low", "a/2.png,x,high"], header="path,label,grade")
    tiles = TileManifest.from_table(table, columns={"label": "grade"})
    assert tiles.classes == ("high", "low")
    assert tiles.warnings[0] == (
        "the table's own column 'label' is not used: columns maps label to 'grade'"
    )


def test_two_columns_may_swap_names(tmp_path: Path) -> None:
    table = write_table(tmp_path, ["x,a/1.png", "y,a/2.png"], header="path,label")
    tiles = TileManifest.from_table(table, columns={"path": "label", "label": "path"})
    assert tiles.classes == ("x", "y")
    assert len(tiles.warnings) == 1  # only that there is no patient_id


def test_tiles_of_a_slide_stand_together(tmp_path: Path) -> None:
    header = "tile_id,path,label,patient_id,slide_id"
    slides = [("P2", "s1"), ("P1", "s1"), ("P2", "s1"), ("P1", "s0"), ("P1", "s1")]
    lines = [f"t{i},a/1.png,{'xy'[i % 2]},{p},{s}" for i, (p, s) in enumerate(slides)]
    tiles = TileManifest.from_table(write_table(tmp_path, lines, header=header))
    assert list(tiles.table["tile_id"]) == ["t0", "t2", "t1", "t4", "t3"]
    assert list(tiles.table.index) == list(range(5))
    assert tiles.warnings == (
        "1 slide_id occur with several patients and count as one slide each: where slide_id only "
        "numbers the slides of a patient, write the patient into it",
    )


def test_without_patients_there_is_a_warning(tmp_path: Path) -> None:
    header = "path,label,site"
    table = write_table(tmp_path, ["a/1.png,x,", "a/2.png,y,Basel"], header=header)
    warnings = TileManifest.from_table(table).warnings
    assert "folds cannot be grouped by patient" in warnings[0]
    assert warnings[1] == "site is empty for 1 tiles"


def test_parquet_keeps_integer_labels_and_gaps(tmp_path: Path) -> None:
    write_table(tmp_path, ROWS)
    frame = pd.DataFrame(
        {
            "path": ["a/1.png", "a/2.png", "a/3.png"],
            "label": [0, 1, 1],
            "x": [1, 2, 3],
            "mpp": [0.25, 0.5, 0.5],
            "age": pd.array([50, None, 70], dtype="Int64"),
        }
    )
    frame.to_parquet(tmp_path / "tiles.parquet")
    table = TileManifest.from_table(tmp_path / "tiles.parquet").table
    assert table["label"].tolist() == ["0", "1", "1"]
    assert table["x"].dtype == np.int64
    assert table["mpp"].dtype == np.float64
    assert table["age"].tolist() == ["50", "", "70"]


def test_parquet_rows_are_counted_from_one(tmp_path: Path) -> None:
    write_table(tmp_path, ROWS)
    frame = pd.DataFrame({"path": ["a/1.png", "a/9.png"], "label": ["x", None]})
    frame.to_parquet(tmp_path / "tiles.parquet")
    message = message_of(tmp_path / "tiles.parquet")
    assert "file is missing in row 2: " in message
    assert "label is empty in row 2: " in message


def test_root_may_be_another_folder(tmp_path: Path) -> None:
    table = write_table(tmp_path, ROWS)
    (tmp_path / "lists").mkdir()
    moved = table.rename(tmp_path / "lists" / "tiles.csv")
    assert TileManifest.from_table(moved, root=tmp_path).path_of(0).is_file()
    assert "file is missing in rows 2, 3, 4: check the path" in message_of(moved)
    message = message_of(moved, root=tmp_path / "none")
    assert "is not a folder: name an existing one" in message


def test_absolute_paths_and_detours_under_the_root_become_relative(tmp_path: Path) -> None:
    lines = [f"{tmp_path}/a/1.png,x", f"../{tmp_path.name}/a/2.png,y", "a/../a//3.png,x"]
    tiles = TileManifest.from_table(write_table(tmp_path, lines, header="path,label"))
    assert list(tiles.table["path"]) == ["a/1.png", "a/2.png", "a/3.png"]


def test_links_within_the_root_are_followed(tmp_path: Path) -> None:
    table = write_table(tmp_path, ["b.png,x", "c/2.png,y"], header="path,label")
    (tmp_path / "b.png").symlink_to(tmp_path / "a" / "1.png")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    assert len(TileManifest.from_table(table)) == 2


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../outside.png",
        "a/../../outside.png",
        "C:\\t.png",
        "link.png",
        "linked/o.png",
    ],
)
def test_paths_that_leave_the_root_are_refused(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    table = write_table(root, [*ROWS, f"{path},benign,P4"])
    (tmp_path / "outside.png").touch()
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "o.png").touch()
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "linked").symlink_to(tmp_path / "far")
    assert message_of(table) == (
        "tiles.csv: path leaves the data root in row 5: move the tiles under root/ or set root to "
        "a folder that holds them all"
    )


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    header = "tile_id,path,label,patient_id,x"
    lines = [
        "t1,a/1.png,benign,P1,0",
        "t1,a/2.png,malignant,,0",
        "t3,a/9.png,,P3,0",
        ",../z.png,benign,P3,left",
        "t5,,benign,P3,1.5",
    ]
    message = message_of(write_table(tmp_path, lines, header=header))
    assert message.startswith("tiles.csv has 8 problems:\n  1. ")
    for told in (
        "x is not an integer in rows 5, 6: write whole numbers",
        "path is empty in row 6: name the tile's file",
        "path leaves the data root in row 5: move",
        "file is missing in row 4: check the path, which is read relative to ",
        "tile_id is empty in row 5: give every tile an id",
        "duplicate tile_id in rows 2, 3: give every tile an id of its own",
        "patient_id is empty in row 3: fill it in, remove those tiles, or remove the column",
        "label is empty in row 4: fill it in or remove those tiles",
    ):
        assert told in message
    assert "P3" not in message


def test_many_rows_are_abridged(tmp_path: Path) -> None:
    lines = [f"gone/{i}.png,{'xy'[i % 2]},P{i}" for i in range(20)]
    message = message_of(write_table(tmp_path, lines))
    assert "file is missing in rows 2, 3, 4, 5, 6 and 15 more: " in message


def test_line_numbers_are_those_of_an_editor(tmp_path: Path) -> None:
    header = "path,label,note"
    lines = ['a/1.png,x,"two\nlines"', "", "a/2.png,y,", "a/9.png,x,"]
    message = message_of(write_table(tmp_path, lines, header=header))
    text = (tmp_path / "tiles.csv").read_text().splitlines()
    (line,) = [number for number, row in enumerate(text, 1) if row.startswith("a/9.png")]
    assert f"file is missing in row {line}: " in message


def test_a_path_listed_twice_needs_ids(tmp_path: Path) -> None:
    lines = ["a/1.png,x", "./a/1.png,y", "a/2.png,x"]
    assert "duplicate path, which serves as tile_id in rows 2, 3: list every file once" in (
        message_of(write_table(tmp_path, lines, header="path,label"))
    )


@pytest.mark.parametrize("name", ["tile_id", "patient_id", "label"])
def test_control_characters_are_refused(tmp_path: Path, name: str) -> None:
    write_table(tmp_path, ROWS)
    frame = pd.DataFrame(
        {
            "tile_id": ["1", "2", "3"],
            "path": ["a/1.png", "a/2.png", "a/3.png"],
            "label": ["x", "y", "x"],
            "patient_id": ["P1", "P2", "P3"],
        }
    )
    frame.loc[1, name] = "a\0b"
    frame.to_parquet(tmp_path / "tiles.parquet")
    assert message_of(tmp_path / "tiles.parquet") == (
        f"tiles.parquet: {name} has control characters or is not UTF-8 in row 2: write it as "
        "plain text"
    )


@pytest.mark.parametrize("path", ["a/\0.png", "a/1.png\0", "a/\n1.png", "\x1b[31m.png"])
def test_hostile_paths_are_refused(tmp_path: Path, path: str) -> None:
    frame = pd.DataFrame({"path": [path, "a/2.png", "a/3.png"], "label": ["x", "y", "x"]})
    write_table(tmp_path, ROWS)
    frame.to_parquet(tmp_path / "tiles.parquet")
    assert "path has control characters or is not UTF-8 in row 1" in (
        message_of(tmp_path / "tiles.parquet")
    )


def test_a_very_long_path_is_missing(tmp_path: Path) -> None:
    table = write_table(tmp_path, [*ROWS, f"{'n' * 5000}/{'m' * 300}.png,benign,P4"])
    assert "file is missing in row 5" in message_of(table)


def test_a_folder_is_no_tile(tmp_path: Path) -> None:
    assert "file is missing in row 5" in message_of(write_table(tmp_path, [*ROWS, "a,benign,P4"]))


def test_one_class_is_refused(tmp_path: Path) -> None:
    message = message_of(write_table(tmp_path, [ROWS[0], ROWS[2]]))
    assert message == (
        "tiles.csv: all tiles have the one label 'benign': a comparison needs two classes or more"
    )


def test_a_missing_column_is_told_with_the_nearest(tmp_path: Path) -> None:
    message = message_of(write_table(tmp_path, ROWS, header="pth,Label,case"))
    assert message.startswith("tiles.csv has 2 problems:")
    assert (
        "no column path (did you mean 'pth'?): rename one, or map it as columns: {path: NAME}; "
        "the table has pth, Label, case"
    ) in message
    assert "no column label (did you mean 'Label'?)" in message


def test_semicolons_are_recognised(tmp_path: Path) -> None:
    lines = [line.replace(",", ";") for line in ROWS]
    message = message_of(write_table(tmp_path, lines, header="path;label;patient_id"))
    assert "no column path, and cells are not separated by commas: save it with commas" in message


def test_a_mapped_column_must_exist(tmp_path: Path) -> None:
    table = write_table(tmp_path, ROWS, header="path,label,patient")
    assert message_of(table, columns={"patient_id": "pateint"}) == (
        "tiles.csv: columns maps patient_id to 'pateint', which the table does not have "
        "(did you mean 'patient'?): it has path, label, patient"
    )


def test_a_mapped_required_column_is_told_once(tmp_path: Path) -> None:
    message = message_of(write_table(tmp_path, ROWS), columns={"path": "file"})
    assert message.startswith("tiles.csv: columns maps path to 'file', which the table does not")


def test_only_known_columns_are_mapped(tmp_path: Path) -> None:
    message = message_of(write_table(tmp_path, ROWS), columns={"patent_id": "patient_id"})
    assert "columns: 'patent_id' is not a column of ours (did you mean 'patient_id'?)" in message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the file is empty: it needs a header and rows"),
        (b"\n\n", "the file is empty: it needs a header and rows"),
        (b"path,label\n", "no rows: list one tile in each row"),
        (b"path,label\nb\xfc.png,x\n", "not UTF-8 at byte "),
        (b"path,label,label\na,b,c\n", "column 'label' occurs twice: rename one of them"),
        (b"path,label\na,b,c,d\n", "row 2 has 4 cells and the header 2: put cells that"),
    ],
)
def test_unreadable_tables_are_refused(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "tiles.csv").write_bytes(content)
    assert told in message_of(tmp_path / "tiles.csv")


def test_a_missing_table_and_a_false_parquet_are_refused(tmp_path: Path) -> None:
    assert message_of(tmp_path / "no.csv") == (
        "no.csv: cannot be read (No such file or directory): name a CSV (UTF-8) or Parquet table"
    )
    (tmp_path / "t.parquet").write_text("path,label\n")
    assert "t.parquet: cannot be read (" in message_of(tmp_path / "t.parquet")


def test_rows_that_end_in_a_comma(tmp_path: Path) -> None:
    table = write_table(tmp_path, [f"{row}," for row in ROWS], header=f"{HEADER},")
    tiles = TileManifest.from_table(table)
    assert list(tiles.table.columns) == ["tile_id", "path", "label", "patient_id"]


def test_a_table_of_a_hundred_thousand_rows(tmp_path: Path) -> None:
    folders = [tmp_path / f"s{k}" for k in range(10)]
    for folder in folders:
        folder.mkdir()
        (folder / "0.png").touch()
        for name in range(1, 1000):
            os.link(folder / "0.png", folder / f"{name}.png")
    lines = [
        f"t{repeat}_{k}_{i},s{k}/{i}.png,{'xy'[i % 2]},P{k}"
        for repeat in range(10)
        for k in range(10)
        for i in range(1000)
    ]
    table = tmp_path / "tiles.csv"
    table.write_text("\n".join(["tile_id,path,label,patient_id", *lines]))
    tiles = TileManifest.from_table(table)
    assert len(tiles) == 100_000
    assert len(set(tiles.table["patient_id"])) == 10


@pytest.mark.shared
def test_the_shared_tiles_are_read(shared: Path) -> None:
    folder = shared / "data" / "glas_tiles"
    mapping = {"patient_id": "patient", "slide_id": "image"}
    tiles = TileManifest.from_table(folder / "tiles.csv", columns=mapping)
    assert len(tiles) == 950
    assert np.bincount(tiles.labels).tolist() == [426, 524]
    assert tiles.table["patient_id"].nunique() == 16
    slides = tiles.table["slide_id"].to_numpy()
    assert (slides[1:] != slides[:-1]).sum() + 1 == tiles.table["slide_id"].nunique() == 165
