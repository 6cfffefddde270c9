"""Files of the medmnist package: unpacked once, without loss, and bound to what they came from."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from featurebench.errors import ManifestError
from featurebench.tiles import medmnist, npz, read_tile, unpack_medmnist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Arrays = dict[str, Any]

COUNTS = {"train": 7, "val": 2, "test": 3}


def draw(*shape: int, seed: int = 0) -> Arrays:
    """Arrays as the medmnist package names them; images of the given shape, three classes."""
    rng = np.random.default_rng(seed)
    arrays: Arrays = {}
    for split, n in COUNTS.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n, dtype=np.uint8) % 3)[:, None]
    return arrays


def pack(file: Path, arrays: Arrays) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, **arrays)
    return file


def told(file: Path, **options: Any) -> str:
    with pytest.raises(ManifestError) as error:
        unpack_medmnist(file, **options)
    return str(error.value)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tiles that are written."""
    names: list[str] = []
    publish: Callable[[Path, bytes], None] = medmnist._publish

    def count(path: Path, content: bytes) -> None:
        if path.suffix == ".png":
            names.append(path.name)
        publish(path, content)

    monkeypatch.setattr(medmnist, "_publish", count)
    return names


@pytest.mark.parametrize("shape", [(9, 9, 3), (9, 9), (6, 8, 3)])
def test_tiles_have_the_pixels_labels_and_sides_of_the_file(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    arrays = draw(*shape)
    tiles = unpack_medmnist(pack(tmp_path / "some_9.npz", arrays))
    assert tiles.root == (tmp_path / "some_9.tiles").resolve()
    assert tiles.classes == ("0", "1", "2")
    assert tiles.column("split").tolist() == [s for s, n in COUNTS.items() for _ in range(n)]  # type: ignore[union-attr]
    codes = np.concatenate([arrays[f"{split}_labels"][:, 0] for split in COUNTS])
    assert tiles.labels.tolist() == codes.tolist()
    images = [image for split in COUNTS for image in arrays[f"{split}_images"]]
    for row, image in enumerate(images):
        rgb = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
        np.testing.assert_array_equal(np.asarray(read_tile(tiles.path_of(row))), rgb)
    assert tiles.table["tile_id"].iloc[0] == "some_9_train_000000"
    assert tiles.table["path"].iloc[-1] == "test/000/000002.png"


def test_no_patients_are_known_and_the_warning_says_so(tmp_path: Path) -> None:
    tiles = unpack_medmnist(pack(tmp_path / "a.npz", draw(8, 8, 3)))
    assert tiles.column("patient_id") is None
    (warning,) = tiles.warnings
    assert "tiles of one patient may be in both training and test" in warning
    assert "patient_regex" not in warning


def test_labels_may_be_flat_and_files_uncompressed(tmp_path: Path) -> None:
    arrays = draw(8, 8, 3)
    flat = {name: a[:, 0] if a.ndim == 2 else a for name, a in arrays.items()}
    np.savez(tmp_path / "flat.npz", **flat)
    expected = unpack_medmnist(pack(tmp_path / "column.npz", arrays))
    assert unpack_medmnist(tmp_path / "flat.npz").labels.tolist() == expected.labels.tolist()


def test_classes_are_named_in_the_order_of_their_codes(tmp_path: Path) -> None:
    file = pack(tmp_path / "a.npz", draw(8, 8, 3))
    by_code = unpack_medmnist(file)
    tiles = unpack_medmnist(file, class_names=["stroma", "adipose", "mucus"])
    assert tiles.classes == ("adipose", "mucus", "stroma")
    names = {"0": "stroma", "1": "adipose", "2": "mucus"}
    assert tiles.table["label"].tolist() == [names[label] for label in by_code.table["label"]]
    assert tiles.sha256 == by_code.sha256


@pytest.mark.parametrize(
    "names", [["a", "b"], ["a", "b", "c", "d"], ["a", "b", "b "], ["a", "", "c"]]
)
def test_class_names_that_do_not_fit_are_refused(tmp_path: Path, names: list[str]) -> None:
    message = told(pack(tmp_path / "a.npz", draw(8, 8, 3)), class_names=names)
    assert "a.npz has labels from 0 to 2" in message
    assert "give 3 different names" in message


def test_a_second_call_neither_reads_nor_writes_tiles(
    tmp_path: Path, written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = pack(tmp_path / "a.npz", draw(8, 8, 3))
    first = unpack_medmnist(file)
    assert len(written) == sum(COUNTS.values())
    before = contents(first.root)
    monkeypatch.setattr(medmnist, "_identify", lambda _: pytest.fail("the file was read again"))
    again = unpack_medmnist(file)
    assert len(written) == sum(COUNTS.values())
    assert contents(first.root) == before
    assert again.table.equals(first.table)


def test_the_marker_binds_the_folder_to_the_file(tmp_path: Path) -> None:
    import hashlib

    file = pack(tmp_path / "a.npz", draw(8, 8, 3))
    folder = unpack_medmnist(file).root
    marker = json.loads((folder / "medmnist.json").read_text())
    assert marker["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert marker["bytes"] == file.stat().st_size
    assert marker["tiles"] == COUNTS
    assert not (folder / "medmnist.started.json").exists()


@pytest.mark.parametrize("calls", [1, 5, sum(COUNTS.values()), sum(COUNTS.values()) + 1])
def test_what_was_cut_short_is_gone_on_with(
    tmp_path: Path, written: list[str], monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    file = pack(tmp_path / "a.npz", draw(8, 8, 3))
    whole = contents(unpack_medmnist(file, root=tmp_path / "whole").root)
    written.clear()
    monkeypatch.setattr(medmnist, "ThreadPoolExecutor", Serial)
    publish, left = medmnist._publish, calls + 1  # the first is the note that work has started

    def die(path: Path, content: bytes) -> None:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        publish(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(medmnist, "_publish", die)
        with pytest.raises(KeyboardInterrupt):
            unpack_medmnist(file)
    cut = tmp_path / "a.tiles"
    assert not (cut / "medmnist.json").exists()
    assert len(written) == min(calls, sum(COUNTS.values()))
    unpack_medmnist(file)
    assert sorted(written) == sorted(name.rpartition("/")[2] for name in whole if "png" in name)
    assert contents(cut) == whole


@pytest.mark.parametrize("lost", ["val/000/000001.png", "tiles.csv"])
def test_a_lost_file_is_written_again(tmp_path: Path, written: list[str], lost: str) -> None:
    file = pack(tmp_path / "a.npz", draw(8, 8, 3))
    folder = unpack_medmnist(file).root
    whole = contents(folder)
    written.clear()
    (folder / lost).unlink()
    unpack_medmnist(file)
    assert contents(folder) == whole
    assert written == [lost.rpartition("/")[2]] * lost.endswith(".png")
    (folder / lost).unlink()
    file.unlink()
    assert told(file)


class Serial:
    """A pool that works in turn, so that a test knows where it stops."""

    def __enter__(self) -> Serial:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    map = staticmethod(map)


def test_a_tile_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "tile.png"

    def stop(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(target), "replace", stop)
    with pytest.raises(OSError, match="No space left"):
        medmnist._publish(target, b"pixels")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = pack(tmp_path / "a.npz", draw(8, 8, 3))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(medmnist, "_publish", full)
        message = told(file, root=tmp_path / "other")
    assert "cannot unpack a.npz into other/ (No space left on device): make room there" in message
    assert len(unpack_medmnist(file, root=tmp_path / "other")) == sum(COUNTS.values())


def test_the_file_may_be_gone_once_it_is_unpacked(tmp_path: Path) -> None:
    file = pack(tmp_path / "a.npz", draw(8, 8, 3))
    first = unpack_medmnist(file)
    file.unlink()
    assert unpack_medmnist(file).table.equals(first.table)
    assert "holds the tiles of another a.npz" in told(tmp_path / "b.npz", root=first.root)
    assert f"no file b.npz in {tmp_path.name}/" in told(tmp_path / "b.npz")


def test_the_same_bytes_under_another_date_are_the_same_file(
    tmp_path: Path, written: list[str]
) -> None:
    file = pack(tmp_path / "a.npz", draw(8, 8, 3))
    folder = unpack_medmnist(file).root
    written.clear()
    os.utime(file, (0, 0))
    unpack_medmnist(file)
    assert not written
    assert json.loads((folder / "medmnist.json").read_text())["mtime_ns"] == 0


@pytest.mark.parametrize("finished", [True, False])
def test_the_folder_of_another_file_is_refused(tmp_path: Path, finished: bool) -> None:
    file = pack(tmp_path / "a.npz", draw(8, 8, 3))
    folder = unpack_medmnist(file).root
    if not finished:
        (folder / "medmnist.json").rename(folder / "medmnist.started.json")
    before = contents(folder)
    pack(file, draw(8, 8, 3, seed=1))
    assert "folder a.tiles/ holds the tiles of another a.npz" in told(file)
    assert contents(folder) == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    file = pack(tmp_path / "data" / "a.npz", draw(8, 8, 3))
    assert "folder data/ holds files but no medmnist.json" in told(file, root=tmp_path / "data")
    assert contents(tmp_path / "data").keys() == {"a.npz"}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 1}'])
def test_a_damaged_marker_is_refused(tmp_path: Path, content: str) -> None:
    file = pack(tmp_path / "a.npz", draw(8, 8, 3))
    (unpack_medmnist(file).root / "medmnist.json").write_text(content)
    assert "medmnist.json is damaged: remove folder a.tiles/" in told(file)


def test_the_folder_can_be_read_as_a_manifest(tmp_path: Path) -> None:
    from featurebench.tiles import TileManifest

    tiles = unpack_medmnist(pack(tmp_path / "a.npz", draw(8, 8, 3)))
    moved = shutil.move(tiles.root, tmp_path / "moved")
    assert TileManifest.from_table(f"{moved}/tiles.csv").table.equals(tiles.table)


def test_blocks_of_any_size_give_the_same_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = pack(tmp_path / "a.npz", draw(8, 8, 3))
    whole = contents(unpack_medmnist(file, root=tmp_path / "whole").root)
    for rows in (0.5, 1, 2, 5):
        monkeypatch.setattr(npz, "BLOCK_BYTES", int(rows * 8 * 8 * 3))
        folder = unpack_medmnist(file, root=tmp_path / f"by_{rows}").root
        assert contents(folder) == whole


def test_progress_is_told_only_where_there_is_work(tmp_path: Path) -> None:
    told_: list[tuple[str, int]] = []
    done: list[int] = []

    @contextlib.contextmanager
    def track(label: str, total: int) -> Iterator[Callable[[int], object]]:
        told_.append((label, total))
        yield done.append

    file = pack(tmp_path / "a.npz", draw(8, 8, 3))
    for _ in range(2):
        unpack_medmnist(file, track=track)
    assert told_ == [("unpacking a.npz", 12)]
    assert sum(done) == 12


def broken(name: str, value: npt.NDArray[Any]) -> Arrays:
    return draw(8, 8, 3) | {name: value}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            broken("train_labels", np.zeros((7, 14), np.uint8)),
            "is a multi-label set (train_labels has 14 columns)",
        ),
        (broken("val_labels", np.zeros((3, 1), np.uint8)), "val_labels is uint8 of shape (3, 1)"),
        (broken("val_labels", np.zeros((2, 1))), "give one integer for each image"),
        (broken("val_labels", np.array([[0], [-1]])), "val_labels has the label -1: count from 0"),
        (broken("val_labels", np.array([[0], ["a"]], object)), "val_labels holds Python objects"),
        (broken("val_images", np.zeros((2, 8, 8, 8), np.uint8)), "volumes are no tiles"),
        (broken("val_images", np.zeros((2, 8, 8, 3), np.float32)), "val_images is float32"),
        (broken("val_images", np.zeros((2, 8), np.uint8)), "tiles are uint8 of shape"),
        (
            broken("val_images", np.asfortranarray(np.ones((2, 8, 8, 3), np.uint8))),
            "val_images holds elements in Fortran's order",
        ),
        ({"train_images": np.zeros((2, 8, 8), np.uint8)}, "no array 'train_labels'"),
        ({}, "no array 'train_images'; it has none"),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path: Path, arrays: Arrays, message: str) -> None:
    refusal = told(pack(tmp_path / "other.npz", arrays))
    assert message in refusal
    assert "other.npz" in refusal
    assert "\n" not in refusal
    assert not (tmp_path / "other.tiles").exists()


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trapped: Arrays = {"train_images": np.array([Trap(tmp_path / "sprung")], dtype=object)}
    file = pack(tmp_path / "trap.npz", trapped)
    assert "train_images holds Python objects" in told(file)
    assert not (tmp_path / "sprung").exists()
    np.load(file, allow_pickle=True)["train_images"]
    assert (tmp_path / "sprung").exists()


def test_what_is_no_npz_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    file.write_bytes(b"<html>not found</html>")
    assert "a.npz: cannot be read (File is not a zip file)" in told(file)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    arrays = draw(8, 8, 3)
    np.savez(tmp_path / "a.npz", **arrays)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[content.index(arrays["val_images"].tobytes()) + 5] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    message = told(tmp_path / "a.npz")
    assert "a.npz: cannot be read (Bad CRC-32 for file 'val_images.npy')" in message
    assert not (tmp_path / "a.tiles" / "medmnist.json").exists()


def test_a_header_that_promises_more_than_there_is_is_refused(tmp_path: Path) -> None:
    array = io.BytesIO()
    np.save(array, draw(8, 8, 3)["train_images"])
    content = array.getvalue().replace(b"(7, 8, 8, 3)", b"(9, 8, 8, 3)")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("train_images.npy", content)
    message = told(tmp_path / "a.npz")
    assert "train_images has 1472 bytes, not those of an array of shape (9, 8, 8, 3)" in message
