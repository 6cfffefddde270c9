"""Arrays of an ``.npz`` file, read row by row without holding them whole and without unpickling."""

from __future__ import annotations

import contextlib
import math
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from featurebench.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK_BYTES: Final = 32 * 2**20
_HEADERS: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# RuntimeError: what is encrypted, or packed in a way that this Python does not know.
_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError)


@dataclass(frozen=True)
class PackedArray:
    """One array of an ``.npz`` file, known by its header; make one with `find`.

    Parameters
    ----------
    file
        The ``.npz`` file.
    name
        Name of the array in it.
    shape, dtype
        Of the array; in C order, without Python objects.
    offset
        Bytes of the member before the first element.
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @classmethod
    def find(cls, file: Path, name: str) -> PackedArray:
        """Read an array's header.

        Raises
        ------
        ManifestError
            The file cannot be read, has no such array, or holds less or more than the header
            says; or the array is of Python objects or in Fortran's order.
        """
        with _told(file), zipfile.ZipFile(file) as archive:
            member = archive.NameToInfo.get(f"{name}.npy")
            if member is None:
                held = ", ".join(sorted(path.removesuffix(".npy") for path in archive.namelist()))
                raise ManifestError(f"{file.name}: no array {name!r}; it has {held or 'none'}")
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                if version not in _HEADERS:
                    raise ManifestError(f"{file.name}: {name} has an .npy header {version}")
                shape, fortran, dtype = _HEADERS[version](stream)
                offset = stream.tell()
        if dtype.hasobject or fortran:
            kind = "Python objects" if dtype.hasobject else "elements in Fortran's order"
            raise ManifestError(f"{file.name}: {name} holds {kind}: save it as a plain C array")
        if member.file_size != offset + math.prod(shape) * dtype.itemsize:
            raise ManifestError(
                f"{file.name}: {name} has {member.file_size} bytes, not those of an array of shape "
                f"{shape}: download the file again"
            )
        return cls(file, name, shape, dtype, offset)

    def blocks(self) -> Iterator[npt.NDArray[Any]]:
        """Yield the rows in order, some `BLOCK_BYTES` at a time.

        Raises
        ------
        ManifestError
            What is packed is damaged; a checksum of all of it is compared at the last block.
        """
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        step = max(1, BLOCK_BYTES // max(1, row_bytes))
        with (
            _told(self.file),
            zipfile.ZipFile(self.file) as archive,
            archive.open(f"{self.name}.npy") as stream,
        ):
            stream.read(self.offset)
            for start in range(0, self.shape[0], step):
                rows = min(step, self.shape[0] - start)
                content = stream.read(rows * row_bytes)
                yield np.frombuffer(content, self.dtype).reshape(rows, *self.shape[1:])

    def read(self) -> npt.NDArray[Any]:
        """Read the whole array; errors as in `blocks`."""
        return np.concatenate([np.empty((0, *self.shape[1:]), self.dtype), *self.blocks()])


@contextlib.contextmanager
def _told(file: Path) -> Iterator[None]:
    """Turn what damaged files raise into one line."""
    try:
        yield
    except ManifestError:
        raise
    except _DAMAGE as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ManifestError(
            f"{file.name}: cannot be read ({reason.splitlines()[0]}): name an .npz file, or "
            "download it again"
        ) from None
