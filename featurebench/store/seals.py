"""Seals: the hash of a JSON document within it, so that no bit of it changes unnoticed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from featurebench.errors import StoreCorruptError
from featurebench.store.files import read_file
from featurebench.store.spec import canonical_json, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ATTRIBUTE = "featurebench_digest"
REPAIR = "run `featurebench store verify --repair`, or restore it from a copy"


def seal(body: Mapping[str, Any]) -> bytes:
    """Write a JSON object with the hash of its canonical form as the key ``digest``."""
    return canonical_json({**body, "digest": sha256_hex(canonical_json(body))}).encode()


def unseal(path: Path, name: str, remedy: str = REPAIR) -> dict[str, Any]:
    """Read what `seal` wrote, without the digest.

    Raises
    ------
    StoreCorruptError
        If the file is not what was written.
    FileNotFoundError
        If there is none.
    """
    raw = read_file(path)
    body = parse_json(raw, name, remedy)
    digest = body.pop("digest", None)
    if not _fits(raw, body, digest):
        raise StoreCorruptError(f"{name} is damaged: its digest does not fit; {remedy}")
    return body


def seal_tree(folder: Path) -> None:
    """Seal the metadata of every node of a Zarr tree that nobody else sees yet; not flushed."""
    for path in folder.rglob("zarr.json"):
        path.write_bytes(seal_metadata(json.loads(path.read_bytes())))


def seal_metadata(meta: Mapping[str, Any]) -> bytes:
    """Write a node's metadata with the hash of its canonical form as an attribute."""
    others = {k: v for k, v in meta.get("attributes", {}).items() if k != ATTRIBUTE}
    digest = sha256_hex(canonical_json({**meta, "attributes": others}))
    return canonical_json({**meta, "attributes": {**others, ATTRIBUTE: digest}}).encode()


def read_metadata(path: Path, name: str, *, sealed: bool = False) -> dict[str, Any]:
    """Read a node's ``zarr.json``.

    Parameters
    ----------
    path
        The file.
    name
        What it is of, for messages.
    sealed
        Whether it must have a seal; one that it has must fit.

    Raises
    ------
    StoreCorruptError
        If the file is not what was written.
    FileNotFoundError
        If there is none.
    """
    raw = read_file(path)
    meta = parse_json(raw, f"zarr.json of {name}")
    attributes = meta.get("attributes")
    has_seal = isinstance(attributes, dict) and ATTRIBUTE in attributes
    if (has_seal or sealed) and not (has_seal and _metadata_fits(raw, meta)):
        what = "its digest does not fit" if has_seal else "it has no digest"
        raise StoreCorruptError(f"zarr.json of {name} is damaged: {what}; {REPAIR}")
    return meta


def parse_json(raw: bytes, name: str, remedy: str = REPAIR) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    StoreCorruptError
        If the bytes are not one.
    """
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise StoreCorruptError(f"{name} is damaged: it is not JSON; {remedy}") from error
    if not isinstance(value, dict):
        raise StoreCorruptError(f"{name} is damaged: it is not a JSON object; {remedy}")
    return cast("dict[str, Any]", value)


def _fits(raw: bytes, body: Mapping[str, Any], digest: object) -> bool:
    try:
        # format 1.0 allows other spellings of the same JSON
        if body.get("version") == "1.0":
            return digest == sha256_hex(canonical_json(body))
        return raw == seal(body)
    except ValueError:
        return False


def _metadata_fits(raw: bytes, meta: Mapping[str, Any]) -> bool:
    try:
        return raw == seal_metadata(meta)
    except ValueError:
        return False
