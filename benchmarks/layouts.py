"""Ways of keeping a feature matrix on disk: featurebench's store, and those that others use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from featurebench.store import EmbeddingSpec, FeatureStore
from featurebench.store.files import fsync_file, fsync_tree
from featurebench.store.layout import choose_rows

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    import zarr
    from zarr.core.common import AccessModeLiteral

Rows = npt.NDArray[np.float16]
Index = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Shape:
    """Rows and columns of the matrix, and rows of a block as asked for (chosen if None)."""

    rows: int
    columns: int
    block_rows: int | None = None

    @property
    def block_and_chunk(self) -> tuple[int, int]:
        """Rows of a shard and of a chunk, as featurebench chooses them for float16."""
        return choose_rows(self.rows, 2 * self.columns, self.block_rows)


class Layout(ABC):
    """A way of keeping rows in a folder that holds nothing else.

    Every call opens the files anew, and rows come back in memory, not as a map of a file.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    many_files: ClassVar[bool] = False

    def create(self, folder: Path, shape: Shape) -> None:  # noqa: B027 - most need nothing
        """Make an existing, empty folder ready for rows of a shape."""

    @abstractmethod
    def fill(self, folder: Path, rows: Rows) -> None:
        """Write all rows, shape (rows, columns)."""

    @abstractmethod
    def read(self, folder: Path) -> Rows:
        """Read all rows."""

    def gather(self, folder: Path, index: Index) -> Rows:
        """Read the rows of a sorted index by the quickest way that the layout has.

        By default all rows are read and those asked are chosen in memory: for four fifths of the
        rows that is quicker than the selections of zarr and h5py.
        """
        return self.read(folder)[index]


class Featurebench(Layout):
    """`FeatureStore` with its table of tiles: sharded zarr, read as a map once it is checked."""

    name = "featurebench"
    title = "featurebench store"

    def create(self, folder: Path, shape: Shape) -> None:
        """Create the store and add the embedding."""
        obs = _tile_table(shape.rows)
        store = FeatureStore.create(
            folder / "features.store",
            obs,
            dataset="synthetic",
            classes=sorted(set(obs["label"])),
            manifest_sha256="00" * 32,
        )
        spec = EmbeddingSpec("synthetic", "relu", shape.columns, "00" * 32, {})
        store.add(spec, block_rows=shape.block_rows)

    def fill(self, folder: Path, rows: Rows) -> None:
        """Commit block by block."""
        store, spec = _open_store(folder)
        for block in store.pending(spec):
            store.write(spec, block, rows[block.start : block.stop])

    def read(self, folder: Path) -> Rows:
        """Load all rows; the first time in a process, checksums are compared."""
        store, spec = _open_store(folder)
        return cast("Rows", store.load(spec))

    def gather(self, folder: Path, index: Index) -> Rows:
        """Load the rows from the map."""
        store, spec = _open_store(folder)
        return cast("Rows", store.load(spec, index))


class Zarr(Layout):
    """The same chunks, shards and checksums through zarr alone, in writes of whole shards."""

    name = "zarr"
    title = "zarr, same shards"

    def create(self, folder: Path, shape: Shape) -> None:
        """Create the array."""
        from zarr.codecs import Crc32cCodec

        block_rows, chunk_rows = shape.block_and_chunk
        _create_array(folder, shape, chunk_rows, shard_rows=block_rows, checksum=Crc32cCodec())

    def fill(self, folder: Path, rows: Rows) -> None:
        """Write shard by shard."""
        array = _open_array(folder, "r+")
        shard_rows = cast("tuple[int, ...]", array.shards)[0]
        for number, start in enumerate(range(0, len(rows), shard_rows)):
            array[start : start + shard_rows] = rows[start : start + shard_rows]
            self.flush(_array(folder) / "c" / str(number) / "0")

    def read(self, folder: Path) -> Rows:
        """Read all rows at once."""
        return cast("Rows", _open_array(folder, "r")[:])

    def flush(self, shard: Path) -> None:
        """Leave a shard to the operating system."""


class ZarrFsync(Zarr):
    """`Zarr` whose files and folders are flushed to disk."""

    name = "zarr_fsync"
    title = "zarr, same shards, fsync"

    def fill(self, folder: Path, rows: Rows) -> None:
        """Write shard by shard, then flush the names above them."""
        super().fill(folder, rows)
        fsync_tree(folder)

    def flush(self, shard: Path) -> None:
        """Flush a shard and its name."""
        fsync_file(shard)
        fsync_file(shard.parent)


class Hdf5Rows(Layout):
    """One data set with a chunk per row, as CLAM's and TRIDENT's ``save_hdf5`` make it."""

    name = "hdf5_rows"
    title = "HDF5, one-row chunks (CLAM, TRIDENT)"

    def fill(self, folder: Path, rows: Rows) -> None:
        """Write all rows at once, as for a slide whose features are all there."""
        import h5py

        chunks, most = (1, rows.shape[1]), (None, rows.shape[1])
        with h5py.File(folder / "features.h5", "w") as file:
            file.create_dataset("features", data=rows, chunks=chunks, maxshape=most)

    def read(self, folder: Path) -> Rows:
        """Read all rows at once."""
        import h5py

        with h5py.File(folder / "features.h5", "r") as file:
            return cast("Rows", file["features"][:])


class PtPerTile(Layout):
    """A file per tile that holds a list of one tensor, as eva's embeddings writer makes it."""

    name = "pt_per_tile"
    title = "one .pt per tile (eva)"
    many_files = True

    def fill(self, folder: Path, rows: Rows) -> None:
        """Write tile by tile."""
        import torch

        tensors = torch.from_numpy(rows)
        for row in range(len(rows)):
            # a view would be saved with the whole matrix behind it
            torch.save([tensors[row].clone()], folder / f"{row:08d}.pt")

    def read(self, folder: Path) -> Rows:
        """Read tile by tile, in the order of the rows."""
        return self.gather(folder, np.arange(sum(1 for _ in folder.iterdir())))

    def gather(self, folder: Path, index: Index) -> Rows:
        """Read the tiles of the index."""
        import torch

        paths = [folder / f"{row:08d}.pt" for row in index]
        tensors = [torch.load(path, map_location="cpu", weights_only=True)[0] for path in paths]
        return cast("Rows", torch.stack(tensors).numpy())


class ZarrRows(Layout):
    """A chunk, and so a file, per row through zarr; no shards, no checksums."""

    name = "zarr_rows"
    title = "zarr, one-row chunks"
    many_files = True

    def create(self, folder: Path, shape: Shape) -> None:
        """Create the array."""
        _create_array(folder, shape, 1)

    def fill(self, folder: Path, rows: Rows) -> None:
        """Write all rows at once."""
        _open_array(folder, "r+")[:] = rows

    def read(self, folder: Path) -> Rows:
        """Read all rows at once."""
        return cast("Rows", _open_array(folder, "r")[:])


class RawNpy(Layout):
    """The floor: the bytes of the rows in one file, without checksums or a flush to disk."""

    name = "npy"
    title = "raw .npy map (the floor)"

    def fill(self, folder: Path, rows: Rows) -> None:
        """Save the array."""
        np.save(folder / "features.npy", rows)

    def read(self, folder: Path) -> Rows:
        """Copy the map to memory."""
        return np.array(np.load(folder / "features.npy", mmap_mode="r"), subok=False)

    def gather(self, folder: Path, index: Index) -> Rows:
        """Copy rows of the map to memory."""
        return np.asarray(np.load(folder / "features.npy", mmap_mode="r")[index])


LAYOUTS: tuple[Layout, ...] = (
    Featurebench(),
    Zarr(),
    ZarrFsync(),
    Hdf5Rows(),
    PtPerTile(),
    ZarrRows(),
    RawNpy(),
)


def _tile_table(n_tiles: int) -> pd.DataFrame:
    number = np.arange(n_tiles)
    return pd.DataFrame(
        {
            "tile_id": [f"tile{i:08d}" for i in number],
            "path": [f"tiles/{i:08d}.jpg" for i in number],
            "label": np.where(number % 3, "benign", "malignant"),
            "patient_id": [f"P{i // 500:05d}" for i in number],
        }
    )


def _open_store(folder: Path) -> tuple[FeatureStore, EmbeddingSpec]:
    store = FeatureStore.open(folder / "features.store")
    return store, store.embeddings()[0]


def _array(folder: Path) -> Path:
    return folder / "features.zarr"


def _open_array(folder: Path, mode: AccessModeLiteral) -> zarr.Array[Any]:
    import zarr

    return zarr.open_array(_array(folder), mode=mode)


def _create_array(
    folder: Path,
    shape: Shape,
    chunk_rows: int,
    *,
    shard_rows: int | None = None,
    checksum: Any = None,  # noqa: ANN401
) -> None:
    import zarr
    from zarr.codecs import BytesCodec

    zarr.create_array(
        _array(folder),
        shape=(shape.rows, shape.columns),
        dtype="float16",
        chunks=(chunk_rows, shape.columns),
        shards=None if shard_rows is None else (shard_rows, shape.columns),
        serializer=BytesCodec(endian="little"),
        compressors=() if checksum is None else (checksum,),
        filters=(),
        fill_value=float("nan"),
    )
