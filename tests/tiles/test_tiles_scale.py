"""Tables of many rows: memory, and the same answers as from columns of Python's strings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from featurebench.tiles import TileManifest
from featurebench.tiles.columns import TEXT, as_text, to_arrow

# Writes a table of so many rows, reads it in a process of its own, and prints the most memory
# that this process held before reading and at all, in KiB.
SCRIPT = """
import pathlib, sys
from featurebench.tiles import TileManifest

def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])

before = peak()
tiles = TileManifest.from_table(sys.argv[1])
print(before, peak(), len(tiles), tiles.sha256, tiles.labels.sum())
"""
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only")


def write_rows(folder: Path, n_rows: int) -> Path:
    """List the same 10,000 files again and again, each time under ids of their own."""
    for slide in range(100):
        (folder / "tiles" / f"slide_{slide:05d}").mkdir(parents=True)
        for tile in range(100):
            (folder / "tiles" / f"slide_{slide:05d}" / f"tile_{tile:06d}_000000.jpg").touch()
    table = folder / "tiles.csv"
    with table.open("w") as text:
        text.write("tile_id,path,label,patient_id,slide_id,x,y\n")
        for start in range(0, n_rows, 100):
            slide = start // 100
            tail = f"{'xy'[slide % 2]},PATIENT-{slide // 4:06d},slide_{slide:06d}"
            text.writelines(
                f"slide_{slide:06d}_{tile:04d},"
                f"tiles/slide_{slide % 100:05d}/tile_{tile:06d}_000000.jpg,{tail},{224 * tile},0\n"
                for tile in range(min(100, n_rows - start))
            )
    return table


def peaks(table: Path) -> tuple[int, int, list[str]]:
    """Peak memory before reading and over all, in bytes, and what else the process printed."""
    command = [sys.executable, "-c", SCRIPT, str(table)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return 1024 * int(printed[0]), 1024 * int(printed[1]), printed[2:]


@needs_proc
def test_two_hundred_thousand_rows_take_little_memory(tmp_path: Path) -> None:
    table = write_rows(tmp_path, 200_000)
    before, most, (rows, digest, codes) = peaks(table)
    # Half of the 600 bytes a row that were measured are buffers, whose size does not grow.
    assert most - before < 200_000 * 1000
    tiles = TileManifest.from_table(table)
    assert [rows, digest, codes] == ["200000", tiles.sha256, str(tiles.labels.sum())]
    # As Python's strings they would be 430 bytes a row.
    assert tiles.table.memory_usage(deep=True).sum() < 200_000 * 160


@needs_proc
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_million_rows_fit_into_four_gibibytes(tmp_path: Path) -> None:
    _, most, (rows, _, codes) = peaks(write_rows(tmp_path, 10_000_000))
    assert (rows, codes) == ("10000000", "5000000")
    assert most < 4 * 2**30


@pytest.fixture(name="pair")
def make_pair(tmp_path: Path) -> tuple[TileManifest, TileManifest]:
    """Give one manifest as it is read, and with Python's strings in place of Arrow's."""
    arrow = TileManifest.from_table(write_rows(tmp_path, 500))
    return arrow, TileManifest(
        arrow.table.astype(dict.fromkeys(texts_of(arrow), object)), arrow.root, arrow.classes
    )


def texts_of(tiles: TileManifest) -> list[str]:
    return [name for name in map(str, tiles.table) if tiles.table[name].dtype == TEXT]


def test_text_columns_are_held_by_arrow(pair: tuple[TileManifest, TileManifest]) -> None:
    arrow, plain = pair
    assert texts_of(arrow) == ["tile_id", "path", "label", "patient_id", "slide_id"]
    assert texts_of(plain) == []


def test_answers_do_not_depend_on_how_text_is_held(
    pair: tuple[TileManifest, TileManifest],
) -> None:
    arrow, plain = pair
    rows = np.random.default_rng(0).permutation(500)[:123]
    for one, other in (pair, (arrow.take(rows), plain.take(rows))):
        assert one.sha256 == other.sha256
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.path_of(7) == other.path_of(7)
        for name in map(str, one.table):
            texts, expected = one.column(name), other.column(name)
            assert texts is not None
            assert expected is not None
            assert texts.dtype == object
            assert texts.tolist() == expected.tolist()
    assert arrow.table.to_csv() == plain.table.to_csv()


def test_readers_of_the_table_see_python_strings(pair: tuple[TileManifest, TileManifest]) -> None:
    arrow, plain = pair
    for name in texts_of(arrow):
        column, expected = arrow.table[name], plain.table[name]
        assert column.tolist() == expected.tolist()
        assert type(column.iloc[3]) is str
        assert column.to_numpy(dtype=str).tolist() == expected.to_numpy(dtype=str).tolist()
        assert (column == expected.iloc[0]).tolist() == (expected == expected.iloc[0]).tolist()
        assert pd.factorize(column)[0].tolist() == pd.factorize(expected)[0].tolist()
    counts = [tiles.table.groupby("label")["patient_id"].nunique().to_dict() for tiles in pair]
    assert counts[0] == counts[1]


def test_unknown_labels_have_the_code_minus_one(pair: tuple[TileManifest, TileManifest]) -> None:
    for tiles in pair:
        narrowed = TileManifest(tiles.table, tiles.root, ("y",))
        assert set(narrowed.labels[tiles.labels == 0]) == {-1}
        assert set(narrowed.labels[tiles.labels == 1]) == {0}


def test_anything_becomes_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurebench.tiles.columns.SLICE_ROWS", 2)
    columns: list[tuple[pd.Series[Any], list[str]]] = [
        (pd.Series(["a", None, "b"], dtype=object), ["a", "", "b"]),
        (pd.Series(["a", None, "b"], dtype=TEXT), ["a", "", "b"]),
        (pd.Series(pd.array([1, None, 3], dtype="Int64")), ["1", "", "3"]),
        (pd.Series([1.5, np.nan, 2.0]), ["1.5", "", "2.0"]),
        (pd.Series(pd.array([True, None, False], dtype="boolean")), ["True", "", "False"]),
        (pd.Series(["x", None, "y"], dtype="category"), ["x", "", "y"]),
        (pd.Series([], dtype=object), []),
    ]
    for column, expected in columns:
        assert as_text(column).tolist() == expected
        assert as_text(column).dtype == TEXT
        assert to_arrow(column).to_pylist() == expected
