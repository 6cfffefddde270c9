"""read_tile(): one tile's file as an 8-bit RGB image, or the reason why it cannot be used."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final

from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from featurebench.errors import TileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_PIXELS: Final = 64_000_000
PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC: Final = b"\xff\xd8\xff"
TIFF_MAGIC: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SAVE_AS_RGB: Final = "save it as 8-bit RGB"

_MODES: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_SAMPLE_FORMATS: Final = {2: "signed integer", 3: "floating-point", 5: "complex", 6: "complex"}
# What Pillow's decoders raise on damaged files. Warnings are errors where the user made them so.
_DAMAGE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    AssertionError,
    EOFError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)


def read_tile(path: Path) -> Image.Image:
    """Read one tile as 8-bit RGB, decoded completely.

    PNG, JPEG and TIFF are told apart by content, not by name. RGB stays as it is; greyscale,
    palette and bilevel images are converted; transparency is laid over white. Colour profiles are
    not applied. What would have to be guessed or cut is refused: more than 8 bits, floating-point
    or signed samples, CMYK, LAB, further channels, several images in a file.

    Parameters
    ----------
    path
        The tile's file.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, at most `MAX_PIXELS` pixels; independent of the file.

    Raises
    ------
    TileError
        The tile cannot be used; the message is the reason and the remedy, without the path.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise TileError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, which hides damaged files: unset it"
        )
    try:
        with path.open("rb") as file:
            return _decode(file)
    except TileError:
        raise
    except FileNotFoundError:
        raise TileError("the file is missing: restore it or remove the tile") from None
    except OSError as error:
        raise TileError(f"the file cannot be read ({error.strerror})") from error


def _decode(file: BinaryIO) -> Image.Image:
    head = file.read(26)
    file.seek(0)
    if not head:
        raise TileError("the file is empty: restore it or remove the tile")
    if head.startswith(PNG_MAGIC):
        _check_png(file, head)
        return _load(file, PngImagePlugin.PngImageFile)
    if head.startswith(JPEG_MAGIC):
        return _load(file, JpegImagePlugin.jpeg_factory)
    if head.startswith(TIFF_MAGIC):
        _check_tiff(file, head)
        return _load(file, TiffImagePlugin.TiffImageFile)
    raise TileError("not a PNG, JPEG or TIFF image: convert it")


def _load(file: BinaryIO, plugin: Callable[[BinaryIO], ImageFile.ImageFile]) -> Image.Image:
    """Decode with one of Pillow's plugins; ``Image.open`` would warn of large images globally."""
    try:
        image = plugin(file)
        _check_header(image)
        image.load()
        return _to_rgb(image)
    except TileError:
        raise
    except _DAMAGE as error:
        raise TileError(_damaged(error)) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert("RGB")


def _check_header(image: Image.Image) -> None:
    """Refuse what Pillow's header tells, before any pixel is decoded."""
    _check_size(*image.size)
    count = getattr(image, "n_frames", 1)
    if count > 1:
        raise TileError(f"the file holds {count} images: save the one meant as a file of its own")
    if image.mode.startswith(("I", "F")):
        raise TileError(f"more than 8 bits per sample (mode {image.mode}): {SAVE_AS_RGB}")
    if image.mode not in _MODES:
        raise TileError(f"colour mode {image.mode} is not supported: {SAVE_AS_RGB}")


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise TileError(f"the image is {width} x {height} pixels: remove the tile")
    if width * height > MAX_PIXELS:
        raise TileError(
            f"{width} x {height} pixels are more than {MAX_PIXELS // 10**6} million: cut the image "
            "into tiles"
        )


def _check_depth(bits: int, kind: str = "") -> None:
    if bits > 8 or kind:
        raise TileError(f"{bits}-bit{kind} samples are not supported: {SAVE_AS_RGB}")


def _check_png(file: BinaryIO, head: bytes) -> None:
    """Refuse 16 bits, which Pillow would cut to 8, and blocks whose checksum fails."""
    try:
        width, height, depth = struct.unpack(">IIB", head[16:25])
        _check_size(width, height)
        _check_depth(depth)
        PngImagePlugin.PngImageFile(file).verify()
    except TileError:
        raise
    except _DAMAGE as error:
        raise TileError(_damaged(error)) from error
    file.seek(0)


def _check_tiff(file: BinaryIO, head: bytes) -> None:
    """Refuse samples and channels that Pillow would cut, drop or misread without a word."""
    try:
        header = file.read(16 if head[2:4] in (b"+\0", b"\0+") else 8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(header)
        file.seek(tags.next)
        tags.load(file)
        _check_size(int(tags[256]), int(tags[257]))
        _check_samples(tags)
    except TileError:
        raise
    except _DAMAGE as error:
        raise TileError(_damaged(error)) from error
    file.seek(0)


def _check_samples(tags: TiffImagePlugin.ImageFileDirectory_v2) -> None:
    odd = [_SAMPLE_FORMATS[f] for f in tags.get(339) or () if f in _SAMPLE_FORMATS]
    _check_depth(max(tags.get(258) or (1,)), f" {odd[0]}" if odd else "")
    unknown = [extra for extra in tags.get(338) or () if extra not in (1, 2)]
    if unknown:
        raise TileError(f"{len(unknown)} further channels of unknown meaning: {SAVE_AS_RGB}")


def _damaged(error: BaseException) -> str:
    """Name the decoder's complaint, in one short line."""
    # The keys of a lookup are numbers of tags, which tell a reader nothing.
    told = "incomplete header" if isinstance(error, LookupError) else " ".join(str(error).split())
    complaint = told[:80] or type(error).__name__
    return f"the image does not decode ({complaint}): restore the file or remove the tile"
