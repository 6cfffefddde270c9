"""Adding an embedding to a store: its empty Zarr array and the notes about it, each in one step."""

from __future__ import annotations

import json
import platform
import socket
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from featurebench.errors import StoreError
from featurebench.store.files import make_folder, private_name, publish_folder
from featurebench.store.layout import choose_rows
from featurebench.store.obs import write_notes
from featurebench.store.seals import seal_tree
from featurebench.store.spec import EmbeddingSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zarr.core.common import JSON

COMPRESSIONS: dict[str, tuple[ZstdCodec, ...]] = {"none": (), "zstd": (ZstdCodec(level=1),)}
# rows of a block, rows of a chunk, compression
Shape = tuple[int, int, str]
LIBRARIES = ("anndata", "featurebench", "numpy", "pillow", "timm", "torch", "zarr")


def add_array(
    folder: Path,
    spec: EmbeddingSpec,
    n_tiles: int,
    *,
    block_rows: int | None,
    provenance: Mapping[str, Any],
    compression: str = "none",
) -> None:
    """Write ``uns/featurebench/<name>`` and then ``obsm/<name>``, unless they are there.

    Each is built in private and given its name by one rename: of two processes that add the same
    embedding at once, one does and the other finds it done.
    """
    if compression not in COMPRESSIONS:
        raise StoreError(f"compression {compression!r} is unknown; give none or zstd")
    rows = choose_rows(n_tiles, spec.dim * np.dtype(spec.dtype).itemsize, block_rows)
    root, staging = folder / "embeddings.zarr", folder / "staging"
    make_folder(staging)
    shape = (*rows, compression)
    more = {**_origin(), "provenance": _provenance(provenance)}
    # a store that another program wrote in version 1.0 may have no place for notes
    if (notes := root / "uns" / "featurebench").is_dir():
        private = staging / f"{private_name()}.notes"
        build_notes(private, spec, shape, more)
        publish_folder(private, notes / spec.name)
    private = staging / f"{private_name()}.array"
    build_array(private, spec, n_tiles, shape)
    publish_folder(private, root / "obsm" / spec.name)


def build_array(folder: Path, spec: EmbeddingSpec, n_tiles: int, shape: Shape) -> None:
    """Write an empty array with its recipe, sealed."""
    block_rows, chunk_rows, compression = shape
    attributes: dict[str, JSON] = {
        "encoding-type": "array",
        "encoding-version": "0.2.0",
        "featurebench": {"fingerprint": spec.fingerprint, "spec": spec.to_dict()},
    }
    zarr.create_array(
        folder,
        shape=(n_tiles, spec.dim),
        dtype=spec.dtype,
        chunks=(chunk_rows, spec.dim),
        shards=(block_rows, spec.dim),
        serializer=BytesCodec(endian="little"),
        # the checksum comes last: it is that of the bytes on disk
        compressors=(*COMPRESSIONS[compression], Crc32cCodec()),
        filters=(),
        fill_value=float("nan"),
        attributes=attributes,
    )
    seal_tree(folder)


def build_notes(
    folder: Path, spec: EmbeddingSpec, shape: Shape, more: Mapping[str, str] | None = None
) -> None:
    """Write what is known of an embedding beside its array, sealed."""
    block_rows, chunk_rows, compression = shape
    layout = {"block_rows": block_rows, "chunk_rows": chunk_rows, "compression": compression}
    notes = {
        "spec": json.dumps(spec.to_dict(), sort_keys=True),
        "fingerprint": spec.fingerprint,
        "layout": json.dumps(layout, sort_keys=True),
    }
    write_notes(folder, {**notes, **(more or {})})
    seal_tree(folder)


def parse_notes(notes: Mapping[str, str]) -> tuple[EmbeddingSpec, Shape]:
    """Read the recipe and the shape that `build_notes` wrote.

    Raises
    ------
    StoreError
        If the recipe lacks a field.
    KeyError, ValueError
        If something is not there, or is not JSON.
    """
    spec = EmbeddingSpec.from_dict(json.loads(notes["spec"]))
    layout = json.loads(notes["layout"])
    return spec, (int(layout["block_rows"]), int(layout["chunk_rows"]), layout["compression"])


def _provenance(provenance: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(provenance), sort_keys=True)
    except (TypeError, ValueError) as error:
        raise StoreError(f"the provenance cannot be written as JSON: {error}") from error


def _origin() -> dict[str, str]:
    return {"versions": json.dumps(_versions(), sort_keys=True), "host": socket.gethostname()}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
