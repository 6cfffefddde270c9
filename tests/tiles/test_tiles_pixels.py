"""Tiles of every kind: converted as promised, or refused with the reason."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from featurebench.errors import TileError
from featurebench.tiles import MAX_PIXELS, read_tile, tile_size

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (24, 20, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (24, 20), dtype=np.uint8)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(array: npt.NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


def png(width: int, height: int, depth: int, colour: int, channels: int) -> bytes:
    """Make a PNG by hand, for what Pillow does not write; zeros, or only a header if large."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    size = height * (1 + width * channels * depth // 8)
    data = zlib.compress(bytes(size) if size < 10_000 else b"")
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def read(folder: Path, content: bytes, name: str = "tile.png") -> Image.Image:
    path = folder / name
    path.write_bytes(content)
    return read_tile(path)


def reason(folder: Path, content: bytes) -> str:
    with pytest.raises(TileError) as error:
        read(folder, content)
    message = str(error.value)
    assert str(folder) not in message
    assert "tile.png" not in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "content",
    [
        encode(Image.fromarray(RGB), "PNG"),
        encode(Image.fromarray(RGB), "TIFF"),
        encode(Image.fromarray(RGB), "TIFF", compression="tiff_lzw"),
        tiff(RGB, photometric="rgb", bigtiff=True),
        tiff(RGB, photometric="rgb", byteorder=">"),
        tiff(RGB, photometric="rgb", tile=(16, 16)),
        tiff(np.moveaxis(RGB, 2, 0).copy(), photometric="rgb", planarconfig="separate"),
    ],
    ids=["png", "tiff", "lzw", "bigtiff", "big-endian", "tiled", "planar"],
)
def test_rgb_is_read_as_it_is_whatever_the_name(tmp_path: Path, content: bytes) -> None:
    image = read(tmp_path, content, "tile.jpg")
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), RGB)


def test_jpeg_is_read(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 24 * 20 * 3).reshape(24, 20, 3).astype(np.uint8)
    for kind, options in (("JPEG", {"quality": 95}), ("TIFF", {"compression": "jpeg"})):
        content = encode(Image.fromarray(smooth), kind, **options)
        pixels = np.asarray(read(tmp_path, content)).astype(int)
        assert np.abs(pixels - smooth).mean() < 6


def test_the_image_does_not_need_its_file(tmp_path: Path) -> None:
    image = read(tmp_path, encode(Image.fromarray(RGB), "TIFF"))
    (tmp_path / "tile.png").unlink()
    np.testing.assert_array_equal(np.asarray(image.copy()), RGB)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_greyscale_is_repeated(tmp_path: Path, kind: str) -> None:
    pixels = np.asarray(read(tmp_path, encode(Image.fromarray(GREY), kind))).astype(int)
    assert pixels.shape == (24, 20, 3)
    assert np.ptp(pixels, axis=2).max() == 0
    assert np.abs(pixels[:, :, 0] - GREY).mean() < (30 if kind == "JPEG" else 1e-9)


def test_inverted_greyscale_and_bilevel(tmp_path: Path) -> None:
    inverted = np.asarray(read(tmp_path, tiff(GREY, photometric="miniswhite")))
    np.testing.assert_array_equal(inverted[:, :, 0], 255 - GREY)
    bilevel = np.asarray(read(tmp_path, encode(Image.fromarray(GREY > 127), "PNG")))
    np.testing.assert_array_equal(bilevel[:, :, 1], np.where(GREY > 127, 255, 0))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_palettes_are_looked_up(tmp_path: Path, kind: str) -> None:
    image = Image.fromarray(RGB).quantize(16)
    pixels = np.asarray(read(tmp_path, encode(image, kind)))
    np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("alpha", "expected"), [(255, 100), (0, 255), (51, 224)])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_white(
    tmp_path: Path, mode: str, alpha: int, expected: int
) -> None:
    colour = (100,) * (len(mode) - 1) + (alpha,)
    for kind in ("PNG", "TIFF"):
        image = read(tmp_path, encode(Image.new(mode, (4, 4), colour), kind))
        assert image.getpixel((1, 2)) == (expected,) * 3


def test_transparent_colours_are_white(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode=None).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    image = read(tmp_path, encode(palette, "PNG", transparency=0))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (40, 50, 60)]
    content = encode(Image.new("RGB", (2, 2), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert read(tmp_path, content).getpixel((0, 0)) == (255, 255, 255)


DEEP = (RNG.random((24, 20, 3)) * 60_000).astype(np.uint16)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (encode(Image.fromarray(DEEP[:, :, 0]), "PNG"), "16-bit samples"),
        (png(8, 8, 16, 2, 3), "16-bit samples"),
        (png(8, 8, 16, 4, 2), "16-bit samples"),
        (png(8, 8, 16, 6, 4), "16-bit samples"),
        (tiff(DEEP[:, :, 0]), "16-bit samples"),
        (tiff(DEEP, photometric="rgb"), "16-bit samples"),
        (tiff(DEEP, photometric="rgb", compression="zlib"), "16-bit samples"),
        (
            tiff(np.moveaxis(DEEP, 2, 0).copy(), photometric="rgb", planarconfig="separate"),
            "16-bit samples",
        ),
        (tiff(DEEP[:, :, 0].astype(np.int16)), "16-bit signed integer samples"),
        (tiff(GREY.astype(np.int8)), "8-bit signed integer samples"),
        (tiff(GREY.astype(np.uint32)), "32-bit samples"),
        (tiff(GREY.astype(np.float32)), "32-bit floating-point samples"),
        (tiff(RGB.astype(np.float32), photometric="rgb"), "32-bit floating-point samples"),
        (tiff(RGB.astype(np.float16), photometric="rgb"), "16-bit floating-point samples"),
        (encode(Image.new("CMYK", (8, 8)), "JPEG"), "colour mode CMYK"),
        (encode(Image.new("CMYK", (8, 8)), "TIFF"), "colour mode CMYK"),
        (encode(Image.new("LAB", (8, 8)), "TIFF"), "colour mode LAB"),
        (encode(Image.new("YCbCr", (8, 8)), "TIFF"), "colour mode YCbCr"),
        (
            tiff(RGB[:, :, :2].copy(), photometric="minisblack", planarconfig="contig"),
            "1 further channels of unknown meaning",
        ),
    ],
)
def test_what_would_be_cut_is_refused_by_name(tmp_path: Path, content: bytes, told: str) -> None:
    message = reason(tmp_path, content)
    assert message.startswith(told)
    assert message.endswith(": save it as 8-bit RGB")


def test_several_images_in_a_file_are_refused(tmp_path: Path) -> None:
    first, second = Image.fromarray(RGB), Image.fromarray(RGB[:12, :10])
    told = "the file holds 2 images: save the one meant as a file of its own"
    pyramid = encode(first, "TIFF", save_all=True, append_images=[second])
    assert reason(tmp_path, pyramid) == told
    assert reason(tmp_path, encode(first, "MPO", save_all=True, append_images=[second])) == told
    animated = encode(first, "PNG", save_all=True, append_images=[Image.new("RGB", first.size)])
    assert reason(tmp_path, animated) == told


SIDE = int(MAX_PIXELS**0.5)


@pytest.mark.parametrize("side", [SIDE + 1, 12_000, 30_000, 2**31 - 1])
def test_decompression_bombs_are_refused_by_their_header(tmp_path: Path, side: int) -> None:
    told = f"{side} x {side} pixels are more than 64 million: cut the image into tiles"
    assert reason(tmp_path, png(side, side, 8, 2, 3)) == told
    jpeg = bytearray(encode(Image.new("RGB", (8, 8)), "JPEG"))
    frame = jpeg.index(b"\xff\xc0") + 5
    jpeg[frame : frame + 4] = struct.pack(">HH", min(side, 65_000), min(side, 65_000))
    assert "pixels are more than 64 million" in reason(tmp_path, bytes(jpeg))


def test_a_tiff_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    content = tiff(np.zeros((16, 16, 3), np.uint8), photometric="rgb")
    for side in (12_000, 200_000):
        bomb = content
        for tag in (256, 257):
            old = struct.pack("<HHII", tag, 4, 1, 16), struct.pack("<HHIHH", tag, 3, 1, 16, 0)
            new = struct.pack("<HHII", tag, 4, 1, side)
            for entry in old:
                bomb = bomb.replace(entry, new)
        assert "pixels are more than 64 million" in reason(tmp_path, bomb)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the file is empty: restore it or remove the tile"),
        (b"these are not pixels", "not a PNG, JPEG or TIFF image: convert it"),
        (encode(Image.fromarray(RGB), "BMP"), "not a PNG, JPEG or TIFF image: convert it"),
        (png(0, 8, 8, 2, 3), "the image is 0 x 8 pixels: remove the tile"),
        (b"\x89PNG\r\n\x1a\n", "the image does not decode ("),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "the image does not decode (incomplete header)"),
    ],
)
def test_files_without_an_image(tmp_path: Path, content: bytes, told: str) -> None:
    assert reason(tmp_path, content).startswith(told)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(TileError, match=r"^the file is missing: restore it or remove the tile$"):
        read_tile(tmp_path / "none.png")
    with pytest.raises(TileError, match=r"^the file cannot be read \(Is a directory\)$"):
        read_tile(tmp_path)


CONTENTS = {
    "png": encode(Image.fromarray(RGB), "PNG"),
    "flat": encode(Image.new("RGB", (64, 64), "pink"), "PNG"),
    "jpeg": encode(Image.fromarray(RGB), "JPEG"),
    "progressive": encode(Image.fromarray(RGB), "JPEG", progressive=True),
    "raw": encode(Image.fromarray(RGB), "TIFF"),
    # Whole tiles, or the end of the file would be padding that nobody misses.
    "tiled": tiff(RGB[:16, :16].copy(), photometric="rgb", tile=(16, 16)),
    "zlib": tiff(RGB, photometric="rgb", compression="zlib"),
    "lzw": encode(Image.fromarray(RGB), "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("name", CONTENTS)
def test_truncated_files_are_refused(tmp_path: Path, name: str, share: float) -> None:
    content = CONTENTS[name]
    assert read(tmp_path, content).mode == "RGB"
    assert "does not decode" in reason(tmp_path, content[: int(share * len(content))])


def test_a_flipped_bit_in_a_png_is_found(tmp_path: Path) -> None:
    content = bytearray(CONTENTS["png"])
    content[len(content) // 2] ^= 4
    assert "broken PNG file" in reason(tmp_path, bytes(content))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damage_never_raises_anything_else(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(CONTENTS[data.draw(st.sampled_from(sorted(CONTENTS)))])
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    (tmp_path / "tile.png").write_bytes(content)
    with contextlib.suppress(TileError):
        assert read_tile(tmp_path / "tile.png").mode == "RGB"


def test_global_settings_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    read(tmp_path, CONTENTS["png"])
    assert limit == Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(TileError, match="LOAD_TRUNCATED_IMAGES is set, which hides damaged files"):
        read_tile(tmp_path / "tile.png")


@pytest.mark.shared
def test_a_real_tile_is_read(shared: Path) -> None:
    path = next((shared / "data" / "glas_tiles" / "benign").glob("*.jpg"))
    image = read_tile(path)
    assert (image.mode, image.size) == ("RGB", (224, 224))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_size_is_read_from_the_header_alone(tmp_path: Path, kind: str) -> None:
    content = encode(Image.fromarray(RGB), kind)
    path = tmp_path / "tile"
    # A TIFF may have its header's tags behind the pixels.
    path.write_bytes(content if kind == "TIFF" else content[: -len(content) // 3])
    assert tile_size(path) == (20, 24)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_size_of_what_is_no_tile_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tile").write_bytes(content)
    with pytest.raises(TileError):
        tile_size(tmp_path / "tile")
    with pytest.raises(TileError):
        tile_size(tmp_path / "absent")
