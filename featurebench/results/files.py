"""Write a file whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def folder_bytes(folder: Path) -> int:
    """Add up the sizes of all files below a folder, in bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def write_atomically(file: Path, content: bytes | str) -> None:
    """Replace a file by new content; a reader sees the old one or the new one, never a part.

    Two processes may write the same file: each has a partial file of its own, the last one wins.

    Parameters
    ----------
    file
        In a folder that exists.
    content
        Text is written as UTF-8.
    """
    data = content.encode() if isinstance(content, str) else content
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
