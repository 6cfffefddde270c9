"""How an extraction is done, and what it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurebench.errors import ExtractionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from featurebench.store import EmbeddingSpec, Refusal


@dataclass(frozen=True)
class EmbeddingReport:
    """What an extraction did for one embedding.

    Parameters
    ----------
    spec
        Its recipe; `FeatureStore.load` takes it.
    n_blocks_done, n_blocks_cached
        Blocks that this call committed, and those that were there or came from another process.
    refused
        All tiles without an embedding, those of earlier runs included, by row.
    cost
        Of all committed blocks: ``wall_s``, ``cpu_s`` and ``gpu_s`` (its share of a pass that made
        several, in proportion to ``work_s``), ``work_s`` (preparing its input, and its network),
        ``peak_memory_mb``, ``peak_gpu_memory_mb``; and where they are known ``bytes_read`` and
        ``energy_j``, shared likewise.
    """

    spec: EmbeddingSpec
    n_blocks_done: int
    n_blocks_cached: int
    refused: tuple[Refusal, ...]
    cost: Mapping[str, float]


@dataclass(frozen=True)
class ExtractionReport:
    """What an extraction did.

    Parameters
    ----------
    embeddings
        One report per embedding, in the order of the backbones.
    n_tiles
        Tiles that this call read; each once, however many embeddings were made of it.
    wall_s
        Seconds of this call.
    waited_s
        Seconds that it waited for ``reading``, ``network`` and ``writing``.
    is_complete
        Whether no block of any embedding is pending any more.
    """

    embeddings: tuple[EmbeddingReport, ...]
    n_tiles: int
    wall_s: float
    waited_s: Mapping[str, float]
    is_complete: bool


@dataclass(frozen=True)
class Settings:
    """How an extraction is done; nothing here changes an embedding.

    Parameters
    ----------
    batch_size
        Tiles of a forward pass; 32 on a CPU and 256 on a GPU if None. Halved where memory is
        too small.
    workers
        Processes that read tiles; 0 reads in a thread of this one. If None, none on a CPU, and
        one less than the cores beside a GPU.
    block_rows
        Tiles of a block, for embeddings that the store does not have yet; by a short trial if
        None, so that a block is about 20 seconds of work.
    compression
        ``none``, or ``zstd`` for archives and object storage.
    blocks
        Tells of a block's number whether this process may do it; all if None.
    wait
        Whether to stay until blocks that other processes work on are done.
    max_bad_tiles
        Share of the manifest that may be unusable; those tiles are refused by name and the rest
        goes on.
    """

    batch_size: int | None = None
    workers: int | None = None
    block_rows: int | None = None
    compression: str = "none"
    blocks: Callable[[int], bool] | None = None
    wait: bool = True
    max_bad_tiles: float = 0.01

    def __post_init__(self) -> None:
        for name in ("batch_size", "block_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ExtractionError(f"{name} {value} is not positive; give 1 or more")
        if self.workers is not None and self.workers < 0:
            raise ExtractionError(f"workers {self.workers} is negative; give 0 or more")
        if not 0 <= self.max_bad_tiles <= 1:
            raise ExtractionError(f"max_bad_tiles {self.max_bad_tiles} is not a share; give 0 to 1")
