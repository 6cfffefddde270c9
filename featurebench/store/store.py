"""FeatureStore: create, open, pending, write, load, verify."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.errors import MissingRowsError, StoreError, StoreMismatchError
from featurebench.store.catalog import (
    find_embedding,
    find_record,
    list_embeddings,
    require_no_remains,
)
from featurebench.store.claims import Claims
from featurebench.store.documents import require_root
from featurebench.store.files import disk_errors, make_folder, require_links
from featurebench.store.header import Header, read_header
from featurebench.store.records import record_path
from featurebench.store.staging import sweep

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from featurebench.store.encoding import Rows
    from featurebench.store.spec import Block, EmbeddingSpec, Problem, Refusal
    from featurebench.store.status import EmbeddingStatus


class FeatureStore:
    """Embeddings of one data set's tiles: row i is the manifest's tile i in every matrix.

    Only rows of committed blocks exist. A block is committed by one atomic step after its bytes
    are on disk; a kill at any moment leaves it either committed whole or pending. Any number of
    processes may write and read one store. The format is ``docs/store-format.md``.

    Use `create` or `open`.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import pandas as pd
    >>> from featurebench.store import EmbeddingSpec
    >>> obs = pd.DataFrame({"tile_id": ["a", "b"], "path": ["a.png", "b.png"], "label": ["x", "y"]})
    >>> folder = tempfile.mkdtemp() + "/toy.store"
    >>> store = FeatureStore.create(
    ...     folder, obs, dataset="toy", classes=["x", "y"], manifest_sha256="00" * 32
    ... )
    >>> spec = EmbeddingSpec("resnet50", "a1_in1k", 3, "ab" * 32, {})
    >>> store.add(spec)
    >>> store.write(spec, store.pending(spec)[0], np.ones((2, 3)))
    True
    >>> store.load(spec).shape
    (2, 3)
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self._header = header

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        obs: pd.DataFrame,
        *,
        dataset: str,
        classes: Sequence[str],
        manifest_sha256: str,
    ) -> FeatureStore:
        """Make a store without embeddings, or open the one that is there.

        Parameters
        ----------
        path
            Folder, by convention ``<dataset>.store``; it appears whole or not at all.
        obs
            The manifest's table, one row per tile: ``tile_id`` and any other column.
        dataset, classes
            Names, kept for people.
        manifest_sha256
            Hash of the tiles and their order; binds the store to them.

        Raises
        ------
        StoreMismatchError
            If the store that is there was made from other tiles.
        StoreError
            If the folder holds something else, or there are no tiles.
        """
        from featurebench.store.creation import build_store

        if not len(obs):
            raise StoreError("the tile table has no rows; a store needs at least one tile")
        folder = Path(path).absolute()
        header = Header(dataset, tuple(classes), manifest_sha256, len(obs))
        with disk_errors(f"the store {folder}", folder):
            build_store(folder, obs, header)
        store = cls.open(folder)
        if (store.manifest_sha256, store.n_tiles) != (manifest_sha256, len(obs)):
            raise StoreMismatchError(
                f"{folder} was made from other tiles (manifest {store.manifest_sha256[:8]}, now "
                f"{manifest_sha256[:8]}); give another store path, or delete that store"
            )
        return store

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, damaged: bool = False) -> FeatureStore:
        """Open a store; what killed writers left is finished or removed on the way.

        Parameters
        ----------
        path
            Its folder.
        damaged
            Whether to open it also if its root metadata is damaged, to `verify` and `repair` it.

        Raises
        ------
        StoreError
            If there is no store, it needs a later featurebench, or it is not Zarr v3.
        StoreCorruptError
            If the header is not what was written.
        """
        folder = Path(path).absolute()
        header = read_header(folder)
        if not damaged:
            require_root(folder, header)
        sweep(folder / "staging", partial(find_record, folder, header))
        return cls(folder, header)

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.path)!r}, {self.n_tiles} tiles)"

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self._header.dataset

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes when the tile table was last copied; analyses use the manifest's."""
        return self._header.classes

    @property
    def manifest_sha256(self) -> str:
        """Hash of the tiles and their order."""
        return self._header.manifest_sha256

    @property
    def n_tiles(self) -> int:
        """Rows of every matrix."""
        return self._header.n_tiles

    def update_obs(self, obs: pd.DataFrame, classes: Sequence[str]) -> None:
        """Copy the tile table anew if anything in it changed; cheap if nothing did.

        The copy is there for AnnData users; featurebench itself never reads labels from it.
        While it is replaced, other readers may find no ``obs`` for an instant.

        Raises
        ------
        StoreMismatchError
            If the table holds other tiles, or in another order.
        """
        from featurebench.store.creation import rewrite_obs

        with disk_errors(f"the tile table of {self.path.name}", self.path):
            self._header = rewrite_obs(self.path, self._header, obs, classes)

    def embeddings(self) -> list[EmbeddingSpec]:
        """List what was added, by name.

        Raises
        ------
        StoreError
            If an array's metadata is damaged or asks for a codec that is not allowed.
        """
        return [embedding.layout.spec for embedding in list_embeddings(self.path, self._header)]

    def add(
        self,
        spec: EmbeddingSpec,
        *,
        block_rows: int | None = None,
        provenance: Mapping[str, Any] | None = None,
        compression: str = "none",
    ) -> None:
        """Make room for an embedding; nothing happens if it is there.

        Parameters
        ----------
        spec
            The recipe.
        block_rows
            Rows of a block; if None, 16,384 for up to a million tiles, 65,536 for up to 100
            million, 262,144 above, fewer where a shard would exceed half a gigabyte. Rounded down
            to a multiple of the 256, 512 or 1024 rows of a chunk, unless below that.
        provenance
            What else to note beside the spec, the library versions and the host; JSON-ready.
        compression
            ``none``: rows can be mapped into memory. ``zstd``: files are a tenth to a quarter
            smaller and reading is several times slower, for archives.

        Raises
        ------
        StoreMismatchError
            If another recipe has the same name.
        StoreError
            If ``block_rows`` or ``compression`` is none of these.

        Notes
        -----
        An embedding that is there keeps the blocks and the compression that it was added with;
        neither changes the numbers, so neither is part of the recipe.
        """
        from featurebench.store.arrays import add_array

        if not (self.path / "embeddings.zarr" / "obsm" / spec.name / "zarr.json").exists():
            require_no_remains(self.path, spec.name)
            with disk_errors(f"the array {spec.name}", self.path):
                add_array(
                    self.path,
                    spec,
                    self.n_tiles,
                    block_rows=block_rows,
                    provenance=provenance or {},
                    compression=compression,
                )
        find_embedding(self.path, self._header, spec)

    def blocks(self, spec: EmbeddingSpec) -> list[Block]:
        """List all blocks of an embedding, in the order of their rows."""
        return find_embedding(self.path, self._header, spec).blocks()

    def pending(self, spec: EmbeddingSpec) -> list[Block]:
        """List the blocks that are not committed yet."""
        return find_embedding(self.path, self._header, spec).pending()

    def is_committed(self, spec: EmbeddingSpec, block: Block) -> bool:
        """Tell whether a block has a record: one look at the disk, however many there are."""
        return record_path(self.path / "commits" / spec.name, block.index).exists()

    def write(
        self,
        spec: EmbeddingSpec,
        block: Block,
        rows: Rows,
        *,
        refused: Sequence[Refusal] = (),
        cost: Mapping[str, float] | None = None,
    ) -> bool:
        """Commit a block: True means that it survives whatever happens to this process.

        Parameters
        ----------
        spec, block
            The embedding, and one of its `blocks`.
        rows
            Floating point, shape (len(block), dim); those of refused tiles are ignored.
        refused
            Tiles of this block without an embedding.
        cost
            What the block took: ``wall_s``, ``cpu_s``, ``gpu_s``, ``peak_memory_mb``; and, where
            it is known, ``peak_gpu_memory_mb``, ``bytes_read`` and ``energy_j``.

        Returns
        -------
        bool
            False if another writer committed the block first: these rows were dropped.

        Raises
        ------
        StoreError
            If rows cannot be stored (see `storable_rows`) or the disk refuses them.
        """
        return find_embedding(self.path, self._header, spec).write(block, rows, refused, cost or {})

    def load(self, spec: EmbeddingSpec, rows: npt.NDArray[np.intp] | None = None) -> Rows:
        """Read rows, in the order asked; all if None.

        Returns
        -------
        ndarray
            Of the spec's dtype, shape (len(rows), dim), every value finite.

        Raises
        ------
        MissingRowsError
            If a row is not committed, was refused, or is not in the store.
        StoreCorruptError
            If a block is missing, cut off or changed on disk.
        """
        asked = np.arange(self.n_tiles) if rows is None else np.asarray(rows)
        if asked.ndim != 1 or (asked.size and not np.issubdtype(asked.dtype, np.integer)):
            raise StoreError(f"rows are whole numbers in one dimension, not {asked.dtype} values")
        if len(outside := asked[(asked < 0) | (asked >= self.n_tiles)]):
            raise MissingRowsError(f"row {outside[0]} is asked of a store of {self.n_tiles} tiles")
        return find_embedding(self.path, self._header, spec).load(asked.astype(np.intp))

    def refused(self, spec: EmbeddingSpec) -> list[Refusal]:
        """List the tiles of committed blocks that have no embedding, by row."""
        records = find_embedding(self.path, self._header, spec).records()
        return sorted((r for rec in records for r in rec.refused), key=lambda r: r.row)

    def cost(self, spec: EmbeddingSpec) -> dict[str, float]:
        """Sum what the committed blocks took; of peaks, the largest.

        What only some of the blocks recorded, other than seconds and ``peak_memory_mb``, is not
        known of the embedding and left out.
        """
        always = ("wall_s", "cpu_s", "gpu_s", "peak_memory_mb")
        costs = [each.cost for each in find_embedding(self.path, self._header, spec).records()]
        everywhere = set.intersection(*(set(cost) for cost in costs)) if costs else set()
        total = {}
        for key in (*always, *sorted(everywhere.difference(always))):
            values = [cost.get(key, 0.0) for cost in costs]
            total[key] = max(values, default=0.0) if key.startswith("peak_") else sum(values, 0.0)
        return total

    def stored_bytes(self, spec: EmbeddingSpec) -> int:
        """Count the bytes of an embedding's files: its array and its records."""
        from featurebench.store.status import read_status

        return read_status(find_embedding(self.path, self._header, spec)).n_bytes

    def claims(self) -> Claims:
        """Make polite notes of the blocks that this process works on; close them when done."""
        return Claims(self.path / "staging")

    def require_writable(self) -> None:
        """Make sure that blocks can be committed here, before work is done in vain.

        Raises
        ------
        StoreError
            Naming why not: no permission, a read-only or full disk, no hard links.
        """
        staging = self.path / "staging"
        with disk_errors(f"the store {self.path.name}", self.path):
            make_folder(staging)
            require_links(staging)

    def discard(self, spec: EmbeddingSpec, block: Block) -> None:
        """Take back a block, so that it is pending again."""
        find_embedding(self.path, self._header, spec).discard(block)

    def verify(self, manifest_sha256: str | None = None) -> list[Problem]:
        """Read all that the store holds from disk and compare it with what was written.

        Parameters
        ----------
        manifest_sha256
            Of the tiles as they are now, to compare with those that the store was made from.

        Returns
        -------
        list of Problem
            Empty if all is well.
        """
        from featurebench.store.verification import find_problems

        return find_problems(self.path, self._header, manifest_sha256)

    def repair(self, problems: Sequence[Problem]) -> int:
        """Take back what is damaged, so that the next extraction makes it anew.

        Damaged shards and records go to ``quarantine/`` in the store and their blocks are pending
        again; metadata is rebuilt where all that it says is known from elsewhere. Each problem is
        looked at again first, so nothing that is sound is touched. A damaged copy of the tile
        table stays: `update_obs`, which every extraction calls, writes it anew.

        Parameters
        ----------
        problems
            From `verify`.

        Returns
        -------
        int
            How many blocks and pieces of metadata were taken back or rebuilt.
        """
        from featurebench.store.repairing import repair_problems

        with disk_errors(f"a repair of {self.path.name}", self.path):
            return repair_problems(self.path, self._header, problems)

    def status(self) -> list[EmbeddingStatus]:
        """Tell of each embedding how much of it is done, how it is stored and where it was made."""
        from featurebench.store.status import read_status

        return [read_status(each) for each in list_embeddings(self.path, self._header)]
