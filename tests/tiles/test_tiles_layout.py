"""Guesses about a folder of somebody's tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

from featurebench.errors import ManifestError
from featurebench.tiles import (
    TileManifest,
    find_manifest,
    guess_columns,
    suggest_patient_regex,
    unused_ids,
)

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, header: str) -> Path:
    path.write_text(f"{header}\n")
    return path


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("path,label,patient,image", {"patient_id": "patient", "slide_id": "image"}),
        ("tile_id,path,label,patient_id,slide_id,site", {}),
        ("filename,class", {"path": "filename", "label": "class"}),
        (
            "Image Path,Target,Case-ID,WSI,Centre",
            {
                "path": "Image Path",
                "label": "Target",
                "patient_id": "Case-ID",
                "slide_id": "WSI",
                "site": "Centre",
            },
        ),
        ("path,label,patient_id,subject,hospital", {"site": "hospital"}),
        ("path,label,case,patient", {"patient_id": "patient"}),
        ("Label,path", {"label": "Label"}),
        ("\ufeffFile,class,stage", {"path": "File", "label": "class"}),
    ],
)
def test_columns_are_guessed(tmp_path: Path, header: str, expected: dict[str, str]) -> None:
    assert guess_columns(write(tmp_path / "t.csv", header)) == expected
    frame = pd.DataFrame({name: ["x"] for name in header.lstrip("\ufeff").split(",")})
    frame.to_parquet(tmp_path / "t.parquet")
    assert guess_columns(tmp_path / "t.parquet") == expected


def test_a_guess_can_be_used(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).touch()
    table = tmp_path / "t.csv"
    table.write_text("File,class,subject\na,x,1\nb,y,2\n")
    tiles = TileManifest.from_table(table, columns=guess_columns(table))
    assert list(tiles.table["patient_id"]) == ["1", "2"]


@pytest.mark.parametrize(
    "name", ["patient", "Case ID", "case_id", "subject", "Patient-No", "PatientID", "participant"]
)
def test_column_that_looks_like_patients_is_told_where_none_are_known(name: str) -> None:
    assert unused_ids(pd.DataFrame({"path": ["a"], "slide_id": ["s"], name: ["1"]})) == (
        f"Column {name} looks like patient_id and is not mapped to it, so no patient_id is known: "
        f"map it as columns: {{patient_id: {name}}}.",
    )
    assert unused_ids(pd.DataFrame({"patient_id": ["p"], name: ["1"]})) == ()


def test_column_that_looks_like_slides_is_told_beside_that_of_patients() -> None:
    found = unused_ids(pd.DataFrame({"wsi": ["1"], "slide": ["2"], "case": ["3"]}))
    assert [sentence[:35] for sentence in found] == [
        "Column case looks like patient_id a",
        "Column wsi looks like slide_id and ",
    ]


@pytest.mark.parametrize("name", ["patient_age", "slides", "image", "case_mix", "showcase"])
def test_other_columns_are_not_taken_for_ids(name: str) -> None:
    assert unused_ids(pd.DataFrame({name: ["1"]})) == ()


def test_an_unreadable_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="the file is empty: it needs a header and rows"):
        guess_columns(write(tmp_path / "t.csv", ""))


def test_the_manifest_is_found(tmp_path: Path) -> None:
    assert find_manifest(tmp_path) is None
    write(tmp_path / "clinical.csv", "patient,age")
    (tmp_path / "broken.csv").write_bytes(b"")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    write(tmp_path / "notes.txt", "path,label")
    write(tmp_path / ".hidden.csv", "path,label")
    assert find_manifest(tmp_path) is None
    other = write(tmp_path / "cases.csv", "filename,class")
    assert find_manifest(tmp_path) == other
    tiles = write(tmp_path / "tiles.CSV", "path,label")
    assert find_manifest(tmp_path) == tiles


def paths(template: str, patients: int = 6, tiles: int = 3) -> list[str]:
    return [template.format(c="ab"[p % 2], p=p, t=t) for p in range(patients) for t in range(tiles)]


@pytest.mark.parametrize(
    "template",
    [
        "{c}/TCGA-AA-A00{p}-01Z-00-DX1_{t}.png",
        "{c}/P{p:02d}_x{t}.jpg",
        "{c}/{p}-{t}.png",
        "{c}/patient_{p}_{t}.png",
        "{c}/case {p}/{t}.png",
    ],
)
def test_a_patient_pattern_is_suggested(tmp_path: Path, template: str) -> None:
    names = paths(template)
    regex = suggest_patient_regex(names)
    assert regex is not None
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    tiles = TileManifest.from_folder(tmp_path, patient_regex=regex)
    number = {name: i // 3 for i, name in enumerate(names)}
    pairs = {(number[p], patient) for p, patient in tiles.table[["path", "patient_id"]].to_numpy()}
    assert len(pairs) == 6
    assert len({patient for _, patient in pairs}) == 6


@pytest.mark.parametrize(
    "names",
    [
        paths("{c}/P{p}_{t}.png", patients=4),
        paths("{c}/tile{p}{t}_x.png"),
        [*paths("{c}/P{p}_{t}.png"), "a/other.png"],
        paths("{c}/{p}x{t}.png"),
        [],
    ],
    ids=["too few", "one each", "not all", "no pattern", "nothing"],
)
def test_nothing_is_suggested_without_a_clear_pattern(names: list[str]) -> None:
    assert suggest_patient_regex(names) is None


@pytest.mark.shared
def test_the_shared_tiles_are_recognised(shared: Path) -> None:
    folder = shared / "data" / "glas_tiles"
    table = find_manifest(folder)
    assert table == folder / "tiles.csv"
    assert table is not None
    assert guess_columns(table) == {"patient_id": "patient", "slide_id": "image"}
    frame = pd.read_csv(table)
    regex = suggest_patient_regex(frame["path"])
    assert regex is not None
    assert frame["path"].str.extract(regex)["patient"].tolist() == frame["patient"].tolist()
