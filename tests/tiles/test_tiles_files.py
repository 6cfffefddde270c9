"""Files that paths name: found by listing folders, told apart from links, counted by row."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurebench.tiles import files
from featurebench.tiles.files import locate_files, relative_paths

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture(name="root")
def make_root(tmp_path: Path) -> Path:
    root = tmp_path.resolve() / "root"
    (root / "many").mkdir(parents=True)
    (root / "few").mkdir()
    for number in range(20):
        (root / "many" / f"{number}.png").touch()
    (root / "few" / "a.png").touch()
    (tmp_path / "away.png").touch()
    (root / "many" / "away.png").symlink_to(tmp_path / "away.png")
    (root / "many" / "inside.png").symlink_to(root / "few" / "a.png")
    (root / "many" / "broken.png").symlink_to(root / "none")
    (root / "elsewhere").symlink_to(tmp_path)
    return root


def texts(values: Sequence[str | None]) -> pa.LargeStringArray:
    return pa.array(values, pa.large_string())


def located(paths: Sequence[str | None], root: Path) -> tuple[list[int], list[int]]:
    missing, leaving = locate_files(texts(paths), root)
    return sorted(missing.tolist()), sorted(leaving.tolist())


def relative(paths: list[str], root: Path) -> list[str | None]:
    usable = np.ones(len(paths), dtype=bool)
    written: list[str | None] = relative_paths(texts(paths), usable, root).to_pylist()
    return written


@pytest.mark.parametrize("few", [0, 8, 1000], ids=["listed", "mixed", "asked"])
def test_every_file_is_found_or_told(root: Path, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(files, "_FEW", few)
    paths = [
        *(f"many/{number}.png" for number in range(20)),
        "many/20.png",
        "few/b.png",
        "few/a.png",
        "many/away.png",
        "many/inside.png",
        "many/broken.png",
        "elsewhere/away.png",
        None,
        "many",
        "none/1.png",
        "many/20.png",
    ]
    assert located(paths, root) == ([20, 21, 25, 28, 29, 30], [23, 26])
    backwards = [len(paths) - 1 - row for row in (30, 29, 28, 25, 21, 20)]
    assert located(paths[::-1], root)[0] == backwards


def test_nothing_is_located_in_no_paths(root: Path) -> None:
    assert located([], root) == ([], [])
    assert located([None], root) == ([], [])


def test_folders_are_listed_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    isfile = os.path.isfile

    def noting(path: str) -> bool:
        asked.append(path)
        return isfile(path)

    monkeypatch.setattr(os.path, "isfile", noting)
    assert located([f"many/{row % 20}.png" for row in range(5000)], root) == ([], [])
    assert asked == []


def test_names_that_are_not_utf_8_do_not_disturb(root: Path) -> None:
    foreign = os.fsencode(root / "many") + b"/\xff.png"
    try:
        os.close(os.open(foreign, os.O_CREAT))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    assert located([f"many/{row}.png" for row in range(21)], root) == ([20], [])


def test_rows_far_apart_share_a_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurebench.tiles.columns.SLICE_ROWS", 4)
    paths = [f"many/{row}.png" if row % 3 else "few/a.png" for row in range(30)]
    expected = [row for row in range(20, 30) if row % 3]
    assert located(paths, root) == (expected, [])


def test_plain_paths_stay_the_same_array(root: Path) -> None:
    paths = texts(["a/b.png", "ä/..b.png", "c...d", ".hidden/e"])
    assert relative_paths(paths, np.ones(4, dtype=bool), root) is paths


def test_odd_paths_are_written_plainly(root: Path) -> None:
    paths = [
        "./a//b.png",
        "a\\b.png",
        f"{root}/few/a.png",
        f"{root}/many/inside.png",
        "few/../few/a.png",
        "C:\\a.png",
        "../root/few/a.png",
        "../a.png",
        "/",
        "..",
        f"{root}",
        f"{root}2/a.png",
    ]
    assert relative(paths, root) == [
        "a/b.png",
        "a/b.png",
        "few/a.png",
        "few/a.png",
        "few/a.png",
        None,
        "few/a.png",
        None,
        None,
        None,
        ".",
        None,
    ]


def test_unusable_paths_are_passed_over(root: Path) -> None:
    paths = texts(["a.png", "../\0.png", ""])
    usable = np.array([True, False, False])
    assert relative_paths(paths, usable, root).to_pylist() == ["a.png", None, None]


PART = st.sampled_from(["a", "b.png", "few", "many", ".", "..", "", "..c", "root", "inside.png"])


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(PART, min_size=1, max_size=5), min_size=1, max_size=5), st.booleans())
def test_paths_mean_the_file_that_they_meant(
    root: Path, parts: list[list[str]], absolute: bool
) -> None:
    paths = [(f"{root}/" if absolute else "") + "/".join(part) for part in parts]
    for path, written in zip(paths, relative(paths, root), strict=True):
        meant = os.path.realpath(root / path)
        if written is None:
            assert not f"{meant}/".startswith(f"{root}/")
        else:
            assert os.path.realpath(root / written) == meant
            assert not {"", ".."} & set(written.split("/"))
