"""Adding an embedding to a store: its empty Zarr array and the notes about it, each in one step."""

from __future__ import annotations

import json
import platform
import socket
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from featurebench.errors import StoreError
from featurebench.store.files import make_folder, private_name, publish_folder
from featurebench.store.layout import choose_rows
from featurebench.store.obs import write_notes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zarr.core.common import JSON

    from featurebench.store.spec import EmbeddingSpec

LIBRARIES = ("anndata", "featurebench", "numpy", "pillow", "timm", "torch", "zarr")


def add_array(
    folder: Path,
    spec: EmbeddingSpec,
    n_tiles: int,
    *,
    block_rows: int | None,
    provenance: Mapping[str, Any],
) -> None:
    """Write ``uns/featurebench/<name>`` and then ``obsm/<name>``, unless they are there.

    Each is built in private and given its name by one rename: of two processes that add the same
    embedding at once, one does and the other finds it done.
    """
    root, staging = folder / "embeddings.zarr", folder / "staging"
    make_folder(staging)
    private = staging / f"{private_name()}.notes"
    write_notes(private, _notes(spec, provenance))
    publish_folder(private, root / "uns" / "featurebench" / spec.name)
    private = staging / f"{private_name()}.array"
    _write_array(private, spec, n_tiles, *choose_rows(n_tiles, block_rows))
    publish_folder(private, root / "obsm" / spec.name)


def _write_array(
    folder: Path, spec: EmbeddingSpec, n_tiles: int, block_rows: int, chunk_rows: int
) -> None:
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
        compressors=(Crc32cCodec(),),
        filters=(),
        fill_value=float("nan"),
        attributes=attributes,
    )


def _notes(spec: EmbeddingSpec, provenance: Mapping[str, Any]) -> dict[str, str]:
    try:
        extra = json.dumps(dict(provenance), sort_keys=True)
    except (TypeError, ValueError) as error:
        raise StoreError(f"the provenance cannot be written as JSON: {error}") from error
    return {
        "spec": json.dumps(spec.to_dict(), sort_keys=True),
        "fingerprint": spec.fingerprint,
        "versions": json.dumps(_versions(), sort_keys=True),
        "host": socket.gethostname(),
        "provenance": extra,
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
