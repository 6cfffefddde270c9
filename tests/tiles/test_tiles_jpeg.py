"""JPEG tiles: pixels are Pillow's, reductions keep the side asked for, warnings are refusals."""

from __future__ import annotations

import io
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from featurebench.errors import TileError
from featurebench.tiles import pixels, read_tile

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

SIZES = [(1, 1), (7, 9), (8, 8), (17, 33), (96, 64), (225, 223), (3, 130), (130, 2)]


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 7 + y / 11), np.cos(x / 5), np.sin(y / 3)]
    noise = np.random.default_rng(width * height).normal(0, 15, (height, width, 3))
    array = np.clip(127 + 90 * np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)
    return Image.fromarray(array).convert(mode)


def jpeg(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def by_pillow(content: bytes, reduction: int = 1) -> npt.NDArray[np.uint8]:
    image = Image.open(io.BytesIO(content))
    size = (max(1, image.width // reduction), max(1, image.height // reduction))
    image.draft(None, size)
    return np.asarray(image.convert("RGB"))


def read(folder: Path, content: bytes, min_side: int | None = None) -> npt.NDArray[np.uint8]:
    path = folder / "tile.jpg"
    path.write_bytes(content)
    image = read_tile(path, min_side=min_side)
    assert image.mode == "RGB"
    return np.asarray(image)


def with_sampling(content: bytes, *factors: int) -> bytes:
    """Change how densely each component was sampled, and give the decoder bits enough to read."""
    changed = bytearray(content)
    frame = changed.index(b"\xff\xc0")
    for component, factor in enumerate(factors):
        changed[frame + 11 + 3 * component] = factor
    return bytes(changed[:-2]) + bytes(40_000) + b"\xff\xd9"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sampling", ["444", "422", "420", "440", "411", "Gray"])
def test_pixels_are_those_of_pillow(tmp_path: Path, size: tuple[int, int], sampling: str) -> None:
    if sampling == "Gray":
        content = jpeg(picture(*size, "L"))
    else:
        array = np.ascontiguousarray(picture(*size))
        content = simplejpeg.encode_jpeg(array, 85, "RGB", sampling, False)
    np.testing.assert_array_equal(read(tmp_path, content), by_pillow(content))


@pytest.mark.parametrize(
    "options",
    [
        {"progressive": True},
        {"progressive": True, "subsampling": 0},
        {"restart_marker_blocks": 3},
        {"restart_marker_rows": 1, "subsampling": 1},
        {"optimize": True},
        {"keep_rgb": True},
        {"quality": 5},
        {"quality": 100, "subsampling": 0},
        {"comment": b"\xff\xd9 not the end"},
    ],
    ids=str,
)
def test_pixels_are_those_of_pillow_in_every_coding(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    content = jpeg(picture(97, 61), **options)
    np.testing.assert_array_equal(read(tmp_path, content), by_pillow(content))


@pytest.mark.parametrize("factors", [(0x11, 0x21, 0x21), (0x42, 0x11, 0x11), (0x13, 0x11, 0x11)])
def test_rare_samplings_are_left_to_pillow(tmp_path: Path, factors: tuple[int, ...]) -> None:
    content = with_sampling(jpeg(picture(64, 48), subsampling=0), *factors)
    with pytest.raises(ValueError, match="subsampling"):
        simplejpeg.decode_jpeg(content)
    np.testing.assert_array_equal(read(tmp_path, content), by_pillow(content))
    np.testing.assert_array_equal(read(tmp_path, content, 24), by_pillow(content, 2))


def test_an_orientation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = jpeg(picture(40, 24), exif=exif)
    np.testing.assert_array_equal(read(tmp_path, content), by_pillow(content))
    assert read(tmp_path, content).shape == (24, 40, 3)


@pytest.mark.parametrize(
    ("size", "min_side", "expected"),
    [
        ((512, 512), 224, (256, 256)),
        ((512, 512), 256, (256, 256)),
        ((512, 512), 257, (512, 512)),
        ((512, 640), 128, (128, 160)),
        ((2048, 1024), 64, (256, 128)),
        ((447, 600), 224, (224, 300)),
        ((447, 600), 225, (447, 600)),
        ((100, 2000), 50, (50, 1000)),
        ((100, 90), 1000, (100, 90)),
        ((9, 9), 1, (2, 2)),
        ((1, 1), 1, (1, 1)),
    ],
)
def test_the_shorter_side_keeps_what_was_asked(
    tmp_path: Path, size: tuple[int, int], min_side: int, expected: tuple[int, int]
) -> None:
    height, width, _ = read(tmp_path, jpeg(Image.new("RGB", size, "plum")), min_side).shape
    assert (width, height) == expected


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 100))
def test_reductions_are_the_largest_that_suffice(
    tmp_path: Path, width: int, height: int, min_side: int
) -> None:
    content = jpeg(picture(width, height))
    reduced = read(tmp_path, content, min_side)
    sides = {by: -(-min(width, height) // by) for by in (8, 4, 2, 1)}
    reduction = next((by for by, side in sides.items() if side >= min_side), 1)
    assert reduced.shape == (-(-height // reduction), -(-width // reduction), 3)


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}], ids=str)
def test_reduced_pixels_are_those_of_pillow(
    tmp_path: Path, options: dict[str, Any], reduction: int
) -> None:
    content = jpeg(picture(129, 160), **options)
    expected = by_pillow(content, reduction)
    np.testing.assert_array_equal(read(tmp_path, content, -(-129 // reduction)), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_other_formats_come_in_full(tmp_path: Path, kind: str) -> None:
    image = picture(64, 48)
    image.save(tmp_path / "tile", kind)
    read_back = np.asarray(read_tile(tmp_path / "tile", min_side=6))
    np.testing.assert_array_equal(read_back, np.asarray(image))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_large_files_are_read_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    picture(64, 48).save(tmp_path / "tile", kind)
    in_memory = np.asarray(read_tile(tmp_path / "tile", min_side=24))
    monkeypatch.setattr(pixels, "IN_MEMORY", 10)
    np.testing.assert_array_equal(np.asarray(read_tile(tmp_path / "tile", min_side=24)), in_memory)


def test_images_do_not_share_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [jpeg(picture(40 + k, 30)) for k in range(24)]
    paths = [tmp_path / f"{k}.jpg" for k in range(24)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    with ThreadPoolExecutor(4) as threads:
        images = list(threads.map(read_tile, paths * 3))
    monkeypatch.setattr(pixels, "SCRATCH", 100)
    images += [read_tile(path) for path in paths]
    for image, content in zip(images, contents * 4, strict=True):
        np.testing.assert_array_equal(np.asarray(image), by_pillow(content))


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    content = jpeg(picture(24, 20), quality=50)
    for length in range(3, len(content)):
        with pytest.raises(TileError, match="does not decode"):
            read(tmp_path, content[:length])


def test_what_follows_the_image_does_not_matter(tmp_path: Path) -> None:
    content = jpeg(picture(24, 20))
    np.testing.assert_array_equal(read(tmp_path, content + b"more"), by_pillow(content))


def test_damage_that_pillow_passes_over_is_refused(tmp_path: Path) -> None:
    content = jpeg(picture(24, 20), quality=95)
    extraneous = content[:-2] + b"\x12\x34\x56\x78" + content[-2:]
    assert by_pillow(extraneous).shape == (20, 24, 3)
    with pytest.raises(TileError, match=r"decode \(Corrupt JPEG data: \d+ extraneous bytes"):
        read(tmp_path, extraneous)
    cut_short = content[: 3 * len(content) // 4] + content[-2:]
    assert by_pillow(cut_short).shape == (20, 24, 3)
    with pytest.raises(TileError, match=r"premature end of data segment\): restore the file"):
        read(tmp_path, cut_short)


def test_a_second_frame_header_does_not_change_the_size(tmp_path: Path) -> None:
    content = bytearray(jpeg(picture(24, 20)))
    frame = content.index(b"\xff\xc0")
    header = content[frame : frame + 19]
    header[5:9] = struct.pack(">HH", 60_000, 60_000)
    content[frame + 19 : frame + 19] = header
    with pytest.raises(TileError, match=r"pixels are more than 64 million|does not decode"):
        read(tmp_path, bytes(content))


@pytest.mark.parametrize("mode", ["CMYK", "YCCK"])
def test_four_inks_are_refused(tmp_path: Path, mode: str) -> None:
    content = bytearray(jpeg(Image.new("CMYK", (16, 16), (10, 20, 30, 40))))
    adobe = content.index(b"Adobe")
    content[adobe + 11] = 2 if mode == "YCCK" else 0
    with pytest.raises(TileError, match=r"^colour mode CMYK is not supported: save it as 8-bit"):
        read(tmp_path, bytes(content))


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damage_is_refused_or_decoded_as_pillow_does(tmp_path: Path, data: st.DataObject) -> None:
    options = data.draw(st.sampled_from([{}, {"progressive": True}, {"restart_marker_rows": 1}]))
    content = bytearray(jpeg(picture(24, 20), **options))  # type: ignore[arg-type]
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(3, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read(tmp_path, bytes(content))
    except TileError:
        return
    np.testing.assert_array_equal(found, by_pillow(bytes(content)))
