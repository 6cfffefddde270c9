"""Header: ``store.json``, which says what a store is of, and in which version of the format."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from featurebench.errors import StoreCorruptError, StoreError
from featurebench.store.files import fsync_file, make_folder, private_name, write_file
from featurebench.store.layout import read_json
from featurebench.store.records import seal, unseal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "store.json"
FORMAT = "featurebench.store"
VERSION = "1.0"


@dataclass(frozen=True)
class Header:
    """Data set, classes and tiles of a store; ``obs_digest`` tells when ``obs`` is out of date."""

    dataset: str
    classes: tuple[str, ...]
    manifest_sha256: str
    n_tiles: int
    obs_digest: str = ""


def write_header(folder: Path, header: Header) -> None:
    """Write ``store.json``, or replace it, atomically."""
    make_folder(folder / "staging")
    private = folder / "staging" / f"{private_name()}.json"
    write_file(private, seal({"format": FORMAT, "version": VERSION, **asdict(header)}))
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
    _require_version(folder, read_json(folder / FILE))
    body = unseal(folder / FILE, f"{FILE} of {folder.name}")
    try:
        return Header(
            dataset=body["dataset"],
            classes=tuple(body["classes"]),
            manifest_sha256=body["manifest_sha256"],
            n_tiles=int(body["n_tiles"]),
            obs_digest=body.get("obs_digest", ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreCorruptError(f"{FILE} of {folder.name} lacks {error}; restore it") from error


def _require_version(folder: Path, body: Mapping[str, Any]) -> None:
    version = str(body.get("version", ""))
    major = version.partition(".")[0]
    if body.get("format") != FORMAT or not major.isdecimal():
        raise StoreError(f"{folder} is not a feature store: its format is {body.get('format')!r}")
    if int(major) > int(VERSION.partition(".")[0]):
        raise StoreError(
            f"{folder} has format version {version}, this featurebench reads {VERSION}; "
            f"install a featurebench that reads version {major}"
        )
