"""Documents: the Zarr trees that AnnData users read beside the embeddings, checked whole."""

from __future__ import annotations

import hashlib
import itertools
import math
from typing import TYPE_CHECKING, Any

import google_crc32c

from featurebench.errors import StoreCorruptError, StoreError
from featurebench.store.obs import read_strings
from featurebench.store.seals import read_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from featurebench.store.header import Header

# what every store has, whatever it holds, and what is the same in each
FIXED = ("", "obsm", "uns", "uns/featurebench", "var", "var/_index")
CRC_BYTES = 4


def require_root(folder: Path, header: Header) -> None:
    """Refuse a store without a sound Zarr v3 group.

    Raises
    ------
    StoreError
        If there is no group of Zarr v3.
    StoreCorruptError
        If its metadata is not what was written.
    """
    root = folder / "embeddings.zarr"
    if not (root / "zarr.json").is_file():
        raise StoreError(f"{root} is not a Zarr v3 group; only Zarr v3 is read")
    meta = read_metadata(root / "zarr.json", root.name, sealed=header.sealed)
    if meta.get("zarr_format") != 3:
        raise StoreError(f"{root} is not a Zarr v3 group; only Zarr v3 is read")


def node_problem(folder: Path, *, sealed: bool) -> str | None:
    """Check one node: its seal, its members, and every chunk if it is an array.

    Parameters
    ----------
    folder
        Of the node.
    sealed
        Whether it must have a seal, and every chunk a file.

    Returns
    -------
    str or None
        What is wrong.
    """
    try:
        meta = read_metadata(folder / "zarr.json", folder.name, sealed=sealed)
        if not sealed:
            return _chunk_problem(folder, meta, sealed=False)
        lost = [name for name in _members(meta) if not (folder / name / "zarr.json").exists()]
        return f"{lost[0]} is missing" if lost else _chunk_problem(folder, meta, sealed=True)
    except FileNotFoundError:
        return "its zarr.json is missing" if sealed else None
    except StoreCorruptError as error:
        return str(error)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        return f"its metadata cannot be used: {error!r}"


def tree_problems(folder: Path, *, sealed: bool) -> Iterator[tuple[Path, str]]:
    """Check a node and all below it; gives the folder and what is wrong with it."""
    nodes = {folder, *(path.parent for path in folder.rglob("zarr.json"))}
    # a member whose metadata is lost is still a folder, as are the chunks of an array
    nodes |= {path for path in folder.glob("*") if path.is_dir() and path.name != "c"}
    for node in sorted(nodes):
        if (what := node_problem(node, sealed=sealed)) is not None:
            yield node, what


def table_problem(obs: Path, header: Header) -> str | None:
    """Compare a sound copy of the tile table with what the store was made of."""
    meta = read_metadata(obs / "zarr.json", obs.name)
    columns = meta["attributes"].get("column-order", [])
    try:
        tile_ids = read_strings(obs / str(meta["attributes"].get("_index", "tile_id")))
        if len(tile_ids) != header.n_tiles:
            return f"it has {len(tile_ids)} rows, the store {header.n_tiles}"
        if not header.sealed:
            return None
        if len(set(tile_ids)) != len(tile_ids):
            return "it has the same tile_id twice"
        if "path" not in columns or not _is_text(obs / "path"):
            return None
        found = manifest_sha256(tile_ids, read_strings(obs / "path"))
    except (StoreError, FileNotFoundError, KeyError, TypeError, ValueError) as error:
        return f"it cannot be read: {error}"
    return None if found == header.manifest_sha256 else "it is of a manifest that no longer matches"


def manifest_sha256(tile_ids: list[str], paths: list[str]) -> str:
    """Hash tiles and their order as manifests do, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for k, (tile_id, path) in enumerate(zip(tile_ids, paths, strict=True)):
        digest.update(("\n" if k else "").encode() + f"{tile_id}\0{path}".encode())
    return digest.hexdigest()


def _members(meta: Mapping[str, Any]) -> list[str]:
    """Name the nodes that AnnData looks for within this one."""
    attributes = meta["attributes"]
    if attributes.get("encoding-type") == "dataframe":
        return [attributes["_index"], *attributes["column-order"]]
    return ["codes", "categories"] if attributes.get("encoding-type") == "categorical" else []


def _chunk_problem(folder: Path, meta: Mapping[str, Any], *, sealed: bool) -> str | None:
    if meta.get("node_type") != "array":
        return None
    if meta["codecs"][-1]["name"] != "crc32c":
        return "its chunks have no checksums" if sealed else None
    for key in _chunk_keys(meta):
        try:
            content = (folder / key).read_bytes()
        except FileNotFoundError:
            if sealed:
                return f"its chunk {key} is missing"
            continue
        stored = int.from_bytes(content[-CRC_BYTES:], "little")
        if len(content) < CRC_BYTES or google_crc32c.value(content[:-CRC_BYTES]) != stored:
            return f"the checksum of its chunk {key} does not fit"
    return None


def _chunk_keys(meta: Mapping[str, Any]) -> Iterator[str]:
    separator = meta["chunk_key_encoding"].get("configuration", {}).get("separator", "/")
    shape, chunk = meta["shape"], meta["chunk_grid"]["configuration"]["chunk_shape"]
    counts = [math.ceil(rows / per_chunk) for rows, per_chunk in zip(shape, chunk, strict=True)]
    for place in itertools.product(*map(range, counts)):
        yield separator.join(("c", *map(str, place)))


def _is_text(folder: Path) -> bool:
    meta = read_metadata(folder / "zarr.json", folder.name)
    return bool(meta["attributes"].get("encoding-type") == "string-array")
