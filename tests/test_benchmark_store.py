from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.layouts import Index, Rows

TINY = ["--rows", "300", "--columns", "16", "--block-rows", "256", "--threads", "1"]
ONCE = ["--repeats", "1", "--readings", "2", "--slow-repeats", "1"]
LAYOUTS = ("featurebench", "zarr", "zarr_fsync", "hdf5_rows", "pt_per_tile", "zarr_rows", "npy")
READINGS = {"read", "gather", "first_read"}
OPERATIONS = {"write", "create", "fill", "read", "gather"}


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Find the benchmarks, which are not installed, and let them wait for nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1])
        # no file is old enough to be trusted then: all is read in the slower way, which is as right
        patch.setattr("benchmarks.rounds.SETTLE_S", 0.0)
        patch.setattr("os.sync", lambda: None)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """Table and JSON of one run."""
    return invoke(tmp_path_factory.mktemp("benchmark"))


def invoke(folder: Path, *options: str) -> tuple[str, dict[str, Any]]:
    from benchmarks.store import main

    (kept := folder / "kept").mkdir()
    target = folder / "figures.json"
    arguments = [*TINY, *ONCE, "--folder", str(kept), "--json", str(target), *options]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert list(kept.iterdir()) == []
    return result.stdout, json.loads(target.read_text())


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_returns_what_was_written(tmp_path: Path, name: str) -> None:
    from benchmarks.layouts import LAYOUTS as FOUND
    from benchmarks.layouts import Shape
    from benchmarks.rounds import make_data

    layout = next(layout for layout in FOUND if layout.name == name)
    shape = Shape(300, 16, block_rows=256)
    data = make_data(shape, fold=0.8, seed=3)
    layout.create(tmp_path, shape)
    layout.fill(tmp_path, data.rows)
    np.testing.assert_array_equal(layout.read(tmp_path), data.rows)
    np.testing.assert_array_equal(layout.gather(tmp_path, data.index), data.rows[data.index])
    assert layout.read(tmp_path).flags.owndata or layout.name == "pt_per_tile"


def test_the_data_are_drawn_from_the_seed() -> None:
    from benchmarks.layouts import Shape
    from benchmarks.rounds import make_data

    data = make_data(Shape(2000, 8), fold=0.8, seed=1)
    assert data.rows.shape == (2000, 8)
    assert (data.rows.dtype, len(data.index)) == (np.dtype(np.float16), 1600)
    assert (np.diff(data.index) > 0).all()
    assert (data.rows >= 0).all()
    assert len(np.unique(data.rows, axis=0)) > 1900
    again, other = (make_data(Shape(2000, 8), fold=0.8, seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(data.rows, again.rows)
    assert not np.array_equal(data.rows, other.rows)


def test_every_layout_is_in_the_table_and_in_the_json(
    finished: tuple[str, dict[str, Any]],
) -> None:
    from benchmarks.layouts import LAYOUTS as FOUND
    from benchmarks.store import RATIOS

    table, report = finished
    assert [layout.name for layout in FOUND] == list(LAYOUTS)
    for layout in FOUND:
        assert layout.title in table
    measured = {(m["layout"], m["operation"]): m for m in report["measurements"]}
    expected = {(layout, operation) for layout in LAYOUTS for operation in OPERATIONS}
    assert set(measured) == expected | {("featurebench", "first_read")}
    slow = {layout.name for layout in FOUND if layout.many_files}
    for (name, operation), found in measured.items():
        n_expected = 2 if operation in READINGS and name not in slow else 1
        assert len(found["seconds"]) == n_expected
        assert found["median_s"] == pytest.approx(np.mean(found["seconds"]))
        assert found["best_s"] == min(found["seconds"]) > 0
    assert len(report["ratios"]) == len(RATIOS)
    for ratio in report["ratios"]:
        assert ratio["ratio"] in table
    read, floor = (measured[name, "read"]["median_s"] for name in ("featurebench", "npy"))
    assert report["ratios"][0]["ratio"] == "read: featurebench / npy"
    assert report["ratios"][0]["of_medians"] == pytest.approx(read / floor)
    assert report["settings"]["page_cache"] == "warm"


def test_sizes_and_the_machine_are_told(finished: tuple[str, dict[str, Any]]) -> None:
    _, report = finished
    files = {name: size["files"] for name, size in report["sizes"].items()}
    assert {name: files[name] for name in LAYOUTS[1:]} == {
        "zarr": 3,
        "zarr_fsync": 3,
        "hdf5_rows": 1,
        "pt_per_tile": 300,
        "zarr_rows": 301,
        "npy": 1,
    }
    assert all(size["length"] > 300 * 16 * 2 for size in report["sizes"].values())
    machine = report["machine"]
    assert machine["cpu"]
    assert machine["file_system"]
    assert machine["memory_bytes"] > 0
    assert {"numpy", "zarr", "h5py", "torch"} <= set(machine["libraries"])
    assert "OPENBLAS_CORETYPE" in machine
    assert all(pool["num_threads"] == 1 for pool in machine["threadpools"])


def test_files_can_be_dropped_from_the_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[int] = []
    monkeypatch.setattr("os.posix_fadvise", lambda *arguments: dropped.append(arguments[3]))
    _, report = invoke(tmp_path, "--drop-caches")
    assert report["settings"]["page_cache"] == "cold"
    # at least each file of the layout with one per tile, before reading and before gathering
    assert len(dropped) > 2 * 300


def test_a_layout_that_returns_other_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.layouts import RawNpy
    from benchmarks.store import main

    class Wrong(RawNpy):
        def gather(self, folder: Path, index: Index) -> Rows:
            return super().gather(folder, index)[::-1]

    monkeypatch.setattr("benchmarks.store.LAYOUTS", (Wrong(),))
    arguments = [*TINY, *ONCE, "--folder", str(tmp_path)]
    with pytest.raises(ValueError, match="returned other rows"):
        CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_the_default_folder_is_not_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import surroundings

    kinds = {Path("/var/tmp"): "tmpfs", tmp_path: "ext4"}
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/var/tmp")
    monkeypatch.setattr(surroundings, "file_system", lambda folder: kinds[folder])
    monkeypatch.chdir(tmp_path)
    assert surroundings.disk_folder() == tmp_path
    kinds[tmp_path] = "tmpfs"
    with pytest.raises(FileNotFoundError, match="--folder"):
        surroundings.disk_folder()
