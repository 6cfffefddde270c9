"""extract(): embed every tile that has no embedding yet, block by block."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from featurebench.errors import ExtractionError, StoreMismatchError
from featurebench.extraction.badtiles import not_finite_rows, refuse_too_many, reopen_mended
from featurebench.extraction.loading import TileLoader
from featurebench.results import CostMeter
from featurebench.store import EmbeddingSpec, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy.typing as npt

    from featurebench.backbones import Backbone
    from featurebench.store import Block, FeatureStore
    from featurebench.tiles import TileManifest

# Tiles of a batch, and of a block: at most about a minute's work, even of VGG-16 on two cores.
BATCH_SIZE = {"cpu": 32, "cuda": 256}
BLOCK_ROWS = {"cpu": 256, "cuda": 16_384}


@dataclass(frozen=True)
class ExtractionReport:
    """What an extraction did.

    Parameters
    ----------
    embedding
        Its recipe; `FeatureStore.load` takes it.
    n_blocks_done, n_blocks_cached
        Blocks that this call committed, and those that were there or came from another writer.
    refused
        All tiles without an embedding, those of earlier runs included, by row.
    cost
        Of all committed blocks: ``wall_s``, ``cpu_s``, ``gpu_s``, ``peak_memory_mb``.
    """

    embedding: EmbeddingSpec
    n_blocks_done: int
    n_blocks_cached: int
    refused: tuple[Refusal, ...]
    cost: Mapping[str, float]


def extract(
    manifest: TileManifest,
    backbone: Backbone,
    store: FeatureStore,
    *,
    batch_size: int | None = None,
    workers: int = 0,
    max_bad_tiles: float = 0.01,
    progress: Callable[[int], None] | None = None,
) -> ExtractionReport:
    """Embed the tiles that the store has no embedding of; safe to kill and to call again.

    Parameters
    ----------
    manifest
        The tiles that the store was made from.
    backbone
        Frozen network; hashed before the first block and before each is committed.
    store
        Gets one array for this backbone, a block of rows at a time.
    batch_size
        Tiles of a forward pass; 32 on a CPU and 256 on a GPU if None.
    workers
        Processes that read tiles; 0 reads them in this one.
    max_bad_tiles
        Share of the manifest that may be unusable; those tiles are refused by name and the rest
        goes on.
    progress
        Called with the number of tiles just embedded, after each batch.

    Returns
    -------
    ExtractionReport

    Raises
    ------
    StoreMismatchError
        If the store was made from other tiles.
    ExtractionError
        If too many tiles are unusable, or the network changed; what was committed stays.
    """
    _check_arguments(batch_size, workers, max_bad_tiles)
    _check_store(manifest, store)
    spec = EmbeddingSpec(**backbone.recipe)
    kind = "cuda" if backbone.device.startswith("cuda") else "cpu"
    store.add(spec, block_rows=BLOCK_ROWS[kind], provenance=_provenance(backbone))
    _check_earlier(manifest, store, spec, max_bad_tiles)
    n_done = 0
    if store.pending(spec):
        _check_frozen(backbone, spec)
        size = batch_size or BATCH_SIZE[kind]
        loader = TileLoader(manifest, backbone.transform, batch_size=size, workers=workers)
        job = _Job(manifest, backbone, store, spec, max_bad_tiles, progress or _silent)
        n_done = job.run(loader)
    n_blocks = len(store.blocks(spec))
    refused = tuple(store.refused(spec))
    return ExtractionReport(spec, n_done, n_blocks - n_done, refused, store.cost(spec))


@dataclass(frozen=True)
class _Job:
    """All that the blocks of one call share."""

    manifest: TileManifest
    backbone: Backbone
    store: FeatureStore
    spec: EmbeddingSpec
    max_bad_tiles: float
    progress: Callable[[int], None]

    def run(self, loader: TileLoader) -> int:
        """Embed pending blocks until none is left, whoever commits them; count our own."""
        n_done = 0
        while pending := self.store.pending(self.spec):
            n_done += self._embed_block(pending[0], loader)
        return n_done

    def _embed_block(self, block: Block, loader: TileLoader) -> bool:
        meter = CostMeter()
        rows = np.full((len(block), self.spec.dim), np.nan, dtype=np.float32)
        earlier = self.store.refused(self.spec)
        refused: list[Refusal] = []
        for batch in loader.batches(block):
            refused += self._refusals(batch.unreadable)
            if batch.pixels is not None:
                embedding = self._embed(batch.pixels, meter)
                rows[np.array(batch.rows) - block.start] = embedding
                refused += self._refusals(not_finite_rows(batch.rows, embedding, self.spec.dtype))
            refuse_too_many([*earlier, *refused], len(self.manifest), self.max_bad_tiles)
            self.progress(len(batch))
        _check_frozen(self.backbone, self.spec)
        return self.store.write(self.spec, block, rows, refused=refused, cost=asdict(meter.read()))

    def _embed(self, pixels: torch.Tensor, meter: CostMeter) -> npt.NDArray[np.float32]:
        started = time.perf_counter()
        embedding = self.backbone.embed(pixels)
        if self.backbone.device.startswith("cuda"):
            meter.add_gpu(time.perf_counter() - started)
        return embedding

    def _refusals(self, bad: Iterable[tuple[int, str]]) -> list[Refusal]:
        tile_ids = self.manifest.table["tile_id"]
        return [Refusal(row, str(tile_ids.iloc[row]), reason) for row, reason in bad]


def _silent(_n_tiles: int) -> None:
    """Tell nobody."""


def _check_arguments(batch_size: int | None, workers: int, max_bad_tiles: float) -> None:
    if batch_size is not None and batch_size < 1:
        raise ExtractionError(f"batch_size {batch_size} is not positive; give 1 or more")
    if workers < 0:
        raise ExtractionError(f"workers {workers} is negative; give 0 or more")
    if not 0 <= max_bad_tiles <= 1:
        raise ExtractionError(f"max_bad_tiles {max_bad_tiles} is not a share; give 0 to 1")


def _check_store(manifest: TileManifest, store: FeatureStore) -> None:
    if (store.manifest_sha256, store.n_tiles) != (manifest.sha256, len(manifest)):
        raise StoreMismatchError(
            f"{store.path.name} was made from other tiles (manifest {store.manifest_sha256[:8]}, "
            f"{store.n_tiles} tiles) than these ({manifest.sha256[:8]}, {len(manifest)} tiles); "
            "give another store path, or the tiles that it was made from"
        )


def _check_earlier(
    manifest: TileManifest, store: FeatureStore, spec: EmbeddingSpec, max_bad_tiles: float
) -> None:
    """Look again at tiles refused in earlier runs where they alone are too many."""
    if len(store.refused(spec)) > max_bad_tiles * len(manifest):
        reopen_mended(store, spec, manifest)
    refuse_too_many(store.refused(spec), len(manifest), max_bad_tiles)


def _check_frozen(backbone: Backbone, spec: EmbeddingSpec) -> None:
    found = backbone.state_sha256()
    if found != spec.weights_sha256:
        raise ExtractionError(
            f"{spec.model} changed since it was loaded (state {found[:8]} instead of "
            f"{spec.weights_sha256[:8]}), so it is not frozen; load the backbone anew"
        )


def _provenance(backbone: Backbone) -> dict[str, object]:
    return {"device": backbone.device, "threads": torch.get_num_threads()}
