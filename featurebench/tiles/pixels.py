"""read_tile(): one tile's file as an 8-bit RGB image, or the reason why it cannot be used."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final

import simplejpeg
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
# Larger files hold more than a tile; they stay on disk, where a header is enough to refuse most.
IN_MEMORY: Final = 256 * 2**20
# Bytes of 1024 x 1024 pixels as they are decoded.
SCRATCH: Final = 4 * 2**20

_THREAD: Final = threading.local()
_MODES: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_SAMPLE_FORMATS: Final = {2: "signed integer", 3: "floating-point", 5: "complex", 6: "complex"}
# Luma samples per chroma sample (across, down) that simplejpeg knows; others are left to Pillow.
_SAMPLINGS: Final = frozenset({(1, 1), (2, 1), (2, 2), (4, 1), (1, 2), (1, 4)})
# What the decoders raise on damaged files. Warnings are errors where the user made them so.
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


def read_tile(path: Path, *, min_side: int | None = None) -> Image.Image:
    """Read one tile as 8-bit RGB, decoded completely.

    PNG, JPEG and TIFF are told apart by content, not by name. RGB stays as it is; greyscale,
    palette and bilevel images are converted; transparency is laid over white. Colour profiles are
    not applied. What would have to be guessed or cut is refused: more than 8 bits, floating-point
    or signed samples, CMYK, LAB, further channels, several images in a file.

    Parameters
    ----------
    path
        The tile's file.
    min_side
        Pixels, 1 or more. A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, which is faster:
        the smallest of these whose shorter side still has so many pixels. Without it, and for
        other formats, the image comes in full.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, at most `MAX_PIXELS` pixels; independent of the file. An orientation that EXIF
        data name is not applied.

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
            small = os.fstat(file.fileno()).st_size <= IN_MEMORY
            return _decode(io.BytesIO(file.read()) if small else file, min_side)
    except TileError:
        raise
    except FileNotFoundError:
        raise TileError("the file is missing: restore it or remove the tile") from None
    except OSError as error:
        raise TileError(f"the file cannot be read ({error.strerror})") from error


def tile_size(path: Path) -> tuple[int, int]:
    """Read width and height in pixels from a tile's header; no pixel is decoded.

    Raises
    ------
    TileError
        The header cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(26)
            file.seek(0)
            if head.startswith(PNG_MAGIC):
                width, height = struct.unpack(">II", head[16:24])
                return width, height
            if head.startswith(JPEG_MAGIC):
                return JpegImagePlugin.jpeg_factory(file).size
            return TiffImagePlugin.TiffImageFile(file).size
    except _DAMAGE as error:
        raise TileError(_damaged(error)) from error


def _decode(file: BinaryIO, min_side: int | None) -> Image.Image:
    head = file.read(26)
    file.seek(0)
    if not head:
        raise TileError("the file is empty: restore it or remove the tile")
    if head.startswith(PNG_MAGIC):
        _check_png(file, head)
        return _load(file, PngImagePlugin.PngImageFile)
    if head.startswith(JPEG_MAGIC):
        return _load_jpeg(file, min_side)
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


def _load_jpeg(file: BinaryIO, min_side: int | None) -> Image.Image:
    """Check the header with Pillow, then decode with simplejpeg.

    Both give the same pixels, as both run libjpeg-turbo; simplejpeg refuses what libjpeg only
    warns of, such as codes that make no sense, and can decode into memory that is there already.
    """
    try:
        image = JpegImagePlugin.jpeg_factory(file)
        _check_header(image)
        reduction = _reduction(min(image.size), min_side)
        if isinstance(file, io.BytesIO) and _is_common(image):
            return _decode_jpeg(file.getvalue(), image.size, reduction)
        image.draft(image.mode, (image.width // reduction or 1, image.height // reduction or 1))
        return image.convert("RGB")
    except TileError:
        raise
    except _DAMAGE as error:
        raise TileError(_damaged(error)) from error


def _decode_jpeg(content: bytes, size: tuple[int, int], reduction: int) -> Image.Image:
    width, height = (-(-side // reduction) for side in size)
    # Four bytes a pixel is how Pillow holds RGB, so that its copy is a plain one.
    pixels = simplejpeg.decode_jpeg(
        content,
        "RGBX",
        min_height=height,
        min_width=width,
        min_factor=reduction,
        buffer=_scratch(4 * width * height),
        strict=True,
    )
    if pixels.shape != (height, width, 4):
        raise ValueError(f"{size[0]} x {size[1]} pixels announced, other data found")
    return Image.frombytes("RGB", (width, height), pixels, "raw", "RGBX")


def _scratch(n_bytes: int) -> bytearray:
    """Lend this thread's buffer: to be given fresh memory costs a quarter of a tile's decoding."""
    if n_bytes > SCRATCH:
        return bytearray(n_bytes)
    if not hasattr(_THREAD, "scratch"):
        _THREAD.scratch = bytearray(SCRATCH)
    scratch: bytearray = _THREAD.scratch
    return scratch


def _reduction(shorter: int, min_side: int | None) -> int:
    """Find the largest of libjpeg's fast reductions that leaves the shorter side long enough."""
    if min_side is None:
        return 1
    return next((by for by in (8, 4, 2) if -(-shorter // by) >= min_side), 1)


def _is_common(image: JpegImagePlugin.JpegImageFile) -> bool:
    """Tell whether simplejpeg can decode how densely the colours were sampled."""
    luma, *chroma = [(across, down) for _, across, down, _ in image.layer]
    return not chroma or (luma in _SAMPLINGS and set(chroma) == {(1, 1)})


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
