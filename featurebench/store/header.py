"""Header: ``store.json``, which says what a store is of, and in which version of the format."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from featurebench.errors import StoreCorruptError, StoreError
from featurebench.store.files import (
    fsync_file,
    make_folder,
    private_name,
    read_file,
    write_file,
)
from featurebench.store.seals import parse_json, seal, unseal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "store.json"
FORMAT = "featurebench.store"
VERSION = "1.1"
REMEDY = "it cannot be repaired: restore it from a copy, or extract into a new store"


@dataclass(frozen=True)
class Header:
    """Data set, classes and tiles of a store; ``obs_digest`` tells when ``obs`` is out of date."""

    dataset: str
    classes: tuple[str, ...]
    manifest_sha256: str
    n_tiles: int
    obs_digest: str = ""
    version: str = VERSION

    @property
    def sealed(self) -> bool:
        """Whether every piece of metadata must carry its own hash: since version 1.1."""
        major, minor = self.version.split(".")
        return (int(major), int(minor)) >= (1, 1)


def write_header(folder: Path, header: Header) -> None:
    """Write ``store.json``, or replace it, atomically."""
    make_folder(folder / "staging")
    private = folder / "staging" / f"{private_name()}.json"
    write_file(private, seal({"format": FORMAT, **asdict(header)}))
    private.replace(folder / FILE)
    fsync_file(folder)


def read_header(folder: Path) -> Header:
    """Read ``store.json``.

    Raises
    ------
    StoreError
        If the folder is no feature store, or one of a later format.
    StoreCorruptError
        If the file is not what was written.
    """
    if not (folder / FILE).is_file():
        raise StoreError(f"{folder} is not a feature store; `featurebench extract` makes one")
    name = f"{FILE} of {folder.name}"
    _require_version(folder, parse_json(read_file(folder / FILE), name, REMEDY))
    body = unseal(folder / FILE, name, REMEDY)
    try:
        return Header(
            dataset=body["dataset"],
            classes=tuple(body["classes"]),
            manifest_sha256=body["manifest_sha256"],
            n_tiles=int(body["n_tiles"]),
            obs_digest=body.get("obs_digest", ""),
            version=body["version"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreCorruptError(f"{name} lacks {error}; {REMEDY}") from error


def _require_version(folder: Path, body: Mapping[str, Any]) -> None:
    version = str(body.get("version", ""))
    major, _, minor = version.partition(".")
    if body.get("format") != FORMAT or not (major.isdecimal() and minor.isdecimal()):
        found = f"{body.get('format')!r}, version {version!r}"
        raise StoreError(f"{folder} is not a feature store: its format is {found}")
    if int(major) > int(VERSION.partition(".")[0]):
        raise StoreError(
            f"{folder} has format version {version}, this featurebench reads {VERSION}; "
            f"install a featurebench that reads version {major}"
        )
