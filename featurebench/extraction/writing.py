"""Finished blocks on their way to disk, written in the background while the next is embedded."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.errors import ExtractionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    import numpy.typing as npt

    from featurebench.extraction.passes import Target
    from featurebench.store import Block, EmbeddingSpec, FeatureStore, Refusal

# Blocks that wait to be written; with the one being filled and the one being written, what a
# pass holds in memory.
WAITING_BLOCKS = 1


@dataclass
class BlockJob:
    """The rows of one block for all targets that lack it, filled batch by batch."""

    block: Block
    targets: tuple[Target, ...]
    rows: dict[EmbeddingSpec, npt.NDArray[np.floating[Any]]] = field(default_factory=dict)
    refused: dict[EmbeddingSpec, list[Refusal]] = field(default_factory=dict)
    work_s: dict[EmbeddingSpec, float] = field(default_factory=dict)
    cost: dict[EmbeddingSpec, Mapping[str, float]] = field(default_factory=dict)
    n_read: int = 0

    def __post_init__(self) -> None:
        for target in self.targets:
            spec = target.spec
            shape = (len(self.block), spec.dim)
            self.rows[spec] = np.full(shape, np.nan, dtype=spec.dtype)
            self.refused[spec] = []
            self.work_s[spec] = 0.0

    @property
    def is_full(self) -> bool:
        """Whether every tile of the block was embedded or refused."""
        return self.n_read == len(self.block)


class BlockWriter:
    """Commits blocks in a thread of its own.

    Each network is hashed anew before its rows are committed. Leaving the ``with`` statement
    writes what was put, also when an error or a signal is the reason to leave.

    Parameters
    ----------
    store
        Where to.
    done
        Called from the thread after each block with the job and, by embedding, whether it was
        this process that committed it.
    """

    def __init__(
        self, store: FeatureStore, done: Callable[[BlockJob, dict[EmbeddingSpec, bool]], None]
    ) -> None:
        self._store, self._done = store, done
        self._jobs: queue.Queue[BlockJob | None] = queue.Queue(WAITING_BLOCKS)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="block-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._jobs.put(None)
        self._thread.join()
        if error is None:
            self._raise()

    def put(self, job: BlockJob) -> None:
        """Hand a full block over; waits while another one waits.

        Raises
        ------
        FeatureBenchError
            What went wrong with an earlier block.
        """
        self._jobs.put(job)
        self._raise()

    def flush(self) -> None:
        """Wait until all blocks that were put are written.

        Raises
        ------
        FeatureBenchError
            What went wrong with one of them.
        """
        self._jobs.join()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._error is None:
                try:
                    self._write(job)
                except Exception as error:
                    self._error = error
            self._jobs.task_done()

    def _write(self, job: BlockJob) -> None:
        check_frozen(job.targets)
        committed = {
            target.spec: self._store.write(
                target.spec,
                job.block,
                job.rows[target.spec],
                refused=job.refused[target.spec],
                cost=job.cost[target.spec],
            )
            for target in job.targets
        }
        self._done(job, committed)


def check_frozen(targets: tuple[Target, ...]) -> None:
    """Hash the networks of some targets, each once, and compare with what was loaded.

    Raises
    ------
    ExtractionError
        If one changed.
    """
    networks = {id(t.backbone.frozen): t for t in targets}
    for target in networks.values():
        found, loaded = target.backbone.state_sha256(), target.spec.weights_sha256
        if found != loaded:
            raise ExtractionError(
                f"{target.spec.model} changed since it was loaded (state {found[:8]} instead of "
                f"{loaded[:8]}), so it is not frozen; load the backbone anew"
            )
