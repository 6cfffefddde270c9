"""Tables as they are met: both readers of CSV agree, and faults are told by their line."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from featurebench.errors import ManifestError
from featurebench.tiles import TileManifest, readers
from featurebench.tiles.columns import TEXT
from featurebench.tiles.readers import read_csv, read_header, read_parquet

if TYPE_CHECKING:
    from pathlib import Path

ROWS = ["t1,a/1.png,x,P1", "t2,a/2.png,y,P2", "t3,a/3.png,x,P3", "t4,a/4.png,y,P4"]
HEADER = "tile_id,path,label,patient_id"


@pytest.fixture(name="folder")
def make_folder(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    for number in range(1, 5):
        (tmp_path / "a" / f"{number}.png").touch()
    return tmp_path


def write(folder: Path, content: str | bytes) -> Path:
    table = folder / "tiles.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    return table


def refusal(table: Path) -> str:
    with pytest.raises(ManifestError) as error:
        TileManifest.from_table(table)
    return str(error.value)


def both(table: Path, monkeypatch: pytest.MonkeyPatch) -> list[pd.DataFrame]:
    """Read as it is read, and as a file is whose quotes ask for care."""
    with monkeypatch.context() as patch:
        patch.setattr(readers, "_read_plain", lambda _: None)
        careful = read_csv(table)
    return [read_csv(table), careful]


CELL = st.text(st.characters(codec="utf-8", exclude_characters='",\r\n\ufeff'), max_size=4)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=12),
    st.tuples(st.sampled_from(["", "\ufeff"]), st.sampled_from(["\n", "\r\n"]), st.booleans()),
)
@example([["\0", "a\0b", "\0"], ["", "", ""], ["é", "日本", "𝄞"]], ("", "\n", True))
def test_both_readers_agree(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[list[str]],
    style: tuple[str, str, bool],
) -> None:
    mark, newline, final = style
    lines = ["a,b,c", *(",".join(row) for row in rows)]
    table = write(tmp_path, mark + newline.join(lines) + newline * final)
    plain, careful = both(table, monkeypatch)
    pd.testing.assert_frame_equal(plain, careful)
    assert plain.to_numpy().tolist() == [row for row in rows if any(row)]
    assert list(plain.index) == [line for line, row in enumerate(rows, 2) if any(row)]
    assert set(plain.dtypes) == {TEXT}


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(st.text('ab ,"\n', max_size=5), min_size=2, max_size=2), max_size=12))
def test_quoted_cells_keep_what_they_hold(tmp_path: Path, rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([["p", "q"], *rows])
    table = read_csv(write(tmp_path, text.getvalue()))
    assert table.to_numpy().tolist() == [row for row in rows if any(row)]
    lines = text.getvalue().split("\n")
    for line, cells in zip(table.index, table.to_numpy().tolist(), strict=True):
        assert lines[line - 1].startswith(
            f'"{cells[0].partition(chr(10))[0]}'.replace('"', '""')[1:]
        )


def test_most_files_are_read_by_arrow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(readers, "_read_records")
    assert len(read_csv(write(folder, "\r\n".join([HEADER, *ROWS, ""])))) == 4


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_the_line_of_a_fault_is_exact(folder: Path, newline: str, mark: str, quote: str) -> None:
    lines = [HEADER, *ROWS[:2], "", "", *ROWS[2:], "t1,a/1.png,x,P1", ",,,", "t5,a/9.png,y,P5"]
    quoted = [
        ",".join(f"{quote}{c}{quote}" for c in line.split(",")) if line else "" for line in lines
    ]
    message = refusal(write(folder, mark + newline.join(quoted)))
    assert "duplicate tile_id in rows 2, 8: " in message
    assert "file is missing in row 10: " in message


def test_quoted_line_breaks_count_as_lines(folder: Path) -> None:
    lines = [f"{HEADER},note", f'{ROWS[0]},"one\ntwo\r\nthree"', f"{ROWS[1]},", "t3,a/9.png,x,P3,"]
    assert "file is missing in row 6: " in refusal(write(folder, "\n".join(lines)))


@pytest.mark.parametrize("column", ["tile_id", "label", "patient_id", "path"])
def test_a_nul_is_found_and_never_cuts_a_cell(folder: Path, column: str) -> None:
    cells = dict(zip(HEADER.split(","), ROWS[1].split(","), strict=True))
    cells[column] += "\0rest"
    content = "\n".join([HEADER, ROWS[0], ",".join(cells.values()), ROWS[2]])
    assert f"{column} has control characters or is not UTF-8 in row 3: " in (
        refusal(write(folder, content))
    )


def test_short_rows_are_filled_wherever_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "SLICE_ROWS", 3)
    rows = [[str(i), "x", "y"][: 1 + i % 3] for i in range(20)]
    table = read_csv(write(tmp_path, "\n".join(["a,b,c", *(",".join(row) for row in rows)])))
    assert table.to_numpy().tolist() == [row + [""] * (3 - len(row)) for row in rows]
    assert list(table.index) == list(range(2, 22))


def test_a_long_row_is_told_with_its_line(folder: Path) -> None:
    content = "\n".join([HEADER, ROWS[0], "", f"{ROWS[1]},more"])
    assert refusal(write(folder, content)) == (
        "tiles.csv: row 4 has 5 cells and the header 4: put cells that hold commas in quotation "
        "marks"
    )


@pytest.mark.parametrize(
    "rest", ["", "x" * 200_000, "line\n" * 50_000], ids=["end", "long", "lines"]
)
def test_a_quote_that_stays_open_is_told_with_its_line(folder: Path, rest: str) -> None:
    content = "\n".join([HEADER, *ROWS[:2], f't3,a/3.png,x,"P3{rest}', ROWS[3]])
    message = refusal(write(folder, content))
    assert message.startswith("tiles.csv: a cell in row 4 does not end (its quotation mark is not")
    assert "\n" not in message


@pytest.mark.parametrize("block", [3, 16, 2**20])
def test_the_first_foreign_byte_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    content = "\n".join([HEADER, ROWS[0], "t2,a/2.png,ä,P2", ""]).encode()
    foreign = "t3,a/3.png,ü,P3\n".encode("latin-1")
    table = write(folder, content + foreign)
    monkeypatch.setattr(readers, "_BLOCK_BYTES", block)
    byte = len(content) + foreign.index(b"\xfc")
    assert refusal(table) == (
        f"tiles.csv: not UTF-8 at byte {byte} in row 4: save the table as UTF-8"
    )


def test_utf_16_is_refused(folder: Path) -> None:
    table = write(folder, "\n".join([HEADER, *ROWS]).encode("utf-16"))
    assert refusal(table) == "tiles.csv: not UTF-8 at byte 0 in row 1: save the table as UTF-8"
    with pytest.raises(ManifestError, match="not UTF-8 at byte 0 in row 1"):
        read_header(table)


def test_blank_lines_may_come_first(folder: Path) -> None:
    table = write(folder, "\n\n" + "\n".join([HEADER, *ROWS]))
    assert read_header(table) == HEADER.split(",")
    assert list(read_csv(table).index) == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("column", "twin"),
    [
        ("patient_id", "Р1"),  # a Cyrillic letter
        ("patient_id", "Ρ1"),  # a Greek one
        ("patient_id", "P\u200b1"),  # a space without width
        ("patient_id", "Ｐ１"),  # full width
        ("label", "\ufeffx"),
        ("label", "х"),  # Cyrillic
    ],
)
def test_groups_that_only_look_alike_are_refused(folder: Path, column: str, twin: str) -> None:
    cells = dict(zip(HEADER.split(","), ROWS[2].split(","), strict=True))
    cells[column] = twin
    message = refusal(write(folder, "\n".join([HEADER, *ROWS[:2], ",".join(cells.values())])))
    assert message == (
        f"tiles.csv: {column} looks like another {column} but has other Unicode characters in row "
        "4: spell it alike in all rows"
    )


def test_two_spellings_of_one_accent_are_refused(folder: Path) -> None:
    rows = [ROWS[0].replace("P1", "Mu\u0308ller"), ROWS[1].replace("P2", "M\u00fcller"), *ROWS[2:]]
    message = refusal(write(folder, "\n".join([HEADER, *rows])))
    assert "patient_id looks like another patient_id but has other Unicode characters in row 2" in (
        message
    )
    assert "ller" not in message


def test_other_scripts_are_kept(folder: Path) -> None:
    rows = [
        row.replace(f"P{k}", patient)
        for row, k, patient in zip(
            ROWS, range(1, 5), ["Ωμέγα", "Пациент", "患者", "P1"], strict=True
        )
    ]
    tiles = TileManifest.from_table(write(folder, "\n".join([HEADER, *rows])))
    assert tiles.table["patient_id"].tolist() == ["Ωμέγα", "Пациент", "患者", "P1"]


def test_parquet_text_of_every_kind_is_text(tmp_path: Path) -> None:
    texts = ["x", None, "y"]
    columns = {
        "string": pa.array(texts),
        "large": pa.array(texts, pa.large_string()),
        "view": pa.array(texts, pa.string_view()),
        "coded": pa.array(texts).dictionary_encode(),
        "whole": pa.array([1, None, 3], pa.int32()),
        "a.b": pa.array([True, False, None]),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = read_parquet(tmp_path / "t.parquet")
    assert list(table) == list(columns)
    assert {str(table[name].dtype) for name in ("string", "large", "view", "coded")} == {str(TEXT)}
    assert table["coded"].fillna("").tolist() == ["x", "", "y"]
    assert str(table["whole"].dtype) == "Int32"
    assert list(table.index) == [1, 2, 3]


def test_the_index_of_a_data_frame_is_no_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": ["a", "b"], "label": ["x", "y"]}, index=["i", "j"])
    frame.to_parquet(tmp_path / "t.parquet")
    table = read_parquet(tmp_path / "t.parquet")
    assert list(table) == ["path", "label"]
    assert list(table.index) == [1, 2]


def test_parquet_text_that_is_not_utf_8_is_refused(folder: Path) -> None:
    broken = pa.array([b"x\xff", b"y"], pa.binary()).view(pa.string())
    table = pa.table({"path": ["a/1.png", "a/2.png"], "label": broken})
    pq.write_table(table, folder / "tiles.parquet")
    assert "tiles.parquet: cannot be read (Column 1: " in refusal(folder / "tiles.parquet")
