"""extract(): embed every tile that has no embedding yet, in one pass for all backbones."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from featurebench.backbones import Backbone
from featurebench.errors import StoreMismatchError
from featurebench.extraction.badtiles import not_finite_rows, refuse_too_many, reopen_mended
from featurebench.extraction.computing import Computed, Computer
from featurebench.extraction.pace import Pace
from featurebench.extraction.passes import Target, feeds_of, make_targets, plan_forwards
from featurebench.extraction.preflight import check_space, choose_block_rows
from featurebench.extraction.readers import TileReaders
from featurebench.extraction.settings import EmbeddingReport, ExtractionReport, Settings
from featurebench.extraction.sweep import Pending, Sweep, pending_blocks
from featurebench.extraction.writing import BlockJob, BlockWriter, check_frozen
from featurebench.results import CostMeter
from featurebench.store import EmbeddingSpec, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from featurebench.extraction.readers import ReadTiles
    from featurebench.store import FeatureStore
    from featurebench.store.claims import Claims
    from featurebench.tiles import TileManifest

BATCH_SIZE = {"cpu": 32, "cuda": 256}
# How often a process looks again for blocks that another one works on.
LOOK_AGAIN_S = 1.0
# The store knows its own size, and nothing is searched.
_NOT_RECORDED = ("bytes_written", "trials")


def extract(
    manifest: TileManifest,
    backbones: Backbone | Sequence[Backbone],
    store: FeatureStore,
    settings: Settings | None = None,
    *,
    progress: Callable[[int, str], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> ExtractionReport:
    """Embed the tiles that the store has no embedding of; safe to kill and to call again.

    Each tile is read and decoded once and goes to all backbones. Several processes may work on
    one store at once, also without knowing of each other: each takes blocks that no other works
    on, and a block that two did all the same is stored once.

    Parameters
    ----------
    manifest
        The tiles that the store was made from.
    backbones
        One or more embeddings to make; those of one network (see `Backbone.variant`) share its
        forward pass. Networks are hashed before the first block and before each is committed.
    store
        Gets one array per backbone, a block of rows at a time.
    settings
        How it is done.
    progress
        Called after each batch with the number of tiles just embedded and a few words on what
        the pass is bound by.
    say
        Called with one line that a user should read.

    Returns
    -------
    ExtractionReport

    Raises
    ------
    StoreMismatchError
        If the store was made from other tiles.
    ExtractionError
        If too many tiles are unusable, a network changed, or the disk has too little room; what
        was committed stays.
    """
    started = time.perf_counter()
    settings = settings or Settings()
    _check_store(manifest, store)
    targets = make_targets([backbones] if isinstance(backbones, Backbone) else backbones)
    job = _Job(manifest, store, settings, progress or _silent, say or _mute)
    check_space(store, [target.spec for target in targets])
    job.add(targets)
    job.run(targets)
    return _report(job, targets, time.perf_counter() - started)


@dataclass
class _Job:
    """All that the passes of one call share."""

    manifest: TileManifest
    store: FeatureStore
    settings: Settings
    progress: Callable[[int, str], None]
    say: Callable[[str], None]
    pace: Pace = field(default_factory=Pace)
    n_tiles: int = 0
    done: Counter[EmbeddingSpec] = field(default_factory=Counter)
    refused: dict[EmbeddingSpec, list[Refusal]] = field(default_factory=dict)

    def add(self, targets: Sequence[Target]) -> None:
        """Make room for the embeddings that are new, and look at those that are not."""
        known = self.store.embeddings()
        new = [target for target in targets if target.spec not in known]
        if new:
            rows = self.settings.block_rows or choose_block_rows(
                Computer(plan_forwards(new), self.say), len(self.manifest), self._batch_size(new)
            )
            for target in new:
                self.store.add(
                    target.spec,
                    block_rows=rows,
                    compression=self.settings.compression,
                    provenance=_provenance(target.backbone),
                )
        for target in targets:
            self._check_earlier(target.spec)

    def run(self, targets: Sequence[Target]) -> None:
        """Embed pending blocks until none is left, whoever commits them."""
        by_rows: dict[int, list[Target]] = {}
        for target in targets:
            by_rows.setdefault(len(self.store.blocks(target.spec)[0]), []).append(target)
        for together in by_rows.values():
            lacking = {target for _, lack in self._pending(together) for target in lack}
            if unfinished := [target for target in together if target in lacking]:
                self.store.require_writable()
                check_frozen(tuple(unfinished))
                self._run_pass(unfinished)

    def _run_pass(self, targets: Sequence[Target]) -> None:
        forwards = plan_forwards(targets)
        computer = Computer(forwards, self.say)
        batch_size, workers = self._batch_size(targets), self._workers(targets)
        with (
            self.store.claims() as claims,
            BlockWriter(self.store, _Committed(self.done, claims)) as writer,
            TileReaders(
                feeds_of(forwards), batch_size=batch_size, workers=workers, say=self.say
            ) as readers,
        ):
            sweep = Sweep(self.manifest, self.store, claims, batch_size)
            device = targets[0].backbone.device
            while pending := self._pending(targets):
                before = self.n_tiles
                self._embed(readers.read(sweep.orders(pending)), computer, writer, device)
                writer.flush()
                if self.n_tiles == before and not self._wait_for_others(targets):
                    return

    def _embed(
        self,
        batches: Iterator[ReadTiles[BlockJob]],
        computer: Computer,
        writer: BlockWriter,
        device: str,
    ) -> None:
        """Keep one batch on the device while the next is read."""
        meter = CostMeter(device)
        earlier: tuple[ReadTiles[BlockJob], Computed] | None = None
        while True:
            with self.pace.waiting("reading"):
                batch = next(batches, None)
            now = None
            if batch is not None:
                with self.pace.waiting("network"):
                    now = batch, _compute(computer, batch)
            if earlier is not None and self._finish(*earlier, meter, writer):
                meter = CostMeter(device)
            if now is None:
                return
            earlier = now

    def _finish(
        self, batch: ReadTiles[BlockJob], computed: Computed, meter: CostMeter, writer: BlockWriter
    ) -> bool:
        """Put a batch's rows into its block; tell whether that is full and was handed over."""
        job = batch.tag
        with self.pace.waiting("network"):
            rows = computed.collect()
        meter.add_gpu(computed.gpu_s)
        self._fill(job, batch, rows)
        for spec, seconds in computed.seconds.items():
            job.work_s[spec] += seconds
        self.n_tiles += len(batch)
        self.progress(len(batch), self.pace.tick())
        if not job.is_full:
            return False
        _settle_cost(job, meter)
        with self.pace.waiting("writing"):
            writer.put(job)
        return True

    def _fill(
        self, job: BlockJob, batch: ReadTiles[BlockJob], rows: Mapping[EmbeddingSpec, Any]
    ) -> None:
        places = np.array(batch.rows, dtype=np.intp) - job.block.start
        job.n_read += len(batch)
        for target in job.targets:
            spec = target.spec
            bad = list(batch.unreadable)
            if batch.rows:
                job.rows[spec][places] = rows[spec]
                bad += not_finite_rows(batch.rows, rows[spec], spec.dtype)
            if bad:
                refused = self._refusals(bad)
                job.refused[spec] += refused
                self.refused[spec] += refused
                tolerated = self.settings.max_bad_tiles
                refuse_too_many(self.refused[spec], len(self.manifest), tolerated)

    def _refusals(self, bad: Iterable[tuple[int, str]]) -> list[Refusal]:
        tile_ids = self.manifest.table["tile_id"]
        return [Refusal(row, str(tile_ids.iloc[row]), reason) for row, reason in bad]

    def _check_earlier(self, spec: EmbeddingSpec) -> None:
        """Look again at tiles refused in earlier runs where they alone are too many."""
        tolerated, n_tiles = self.settings.max_bad_tiles, len(self.manifest)
        refused = self.store.refused(spec)
        if len(refused) > tolerated * n_tiles:
            reopen_mended(self.store, spec, self.manifest)
            refused = self.store.refused(spec)
        refuse_too_many(refused, n_tiles, tolerated)
        self.refused[spec] = refused

    def _pending(self, targets: Sequence[Target]) -> Pending:
        return pending_blocks(self.store, targets, self.settings.blocks)

    def _wait_for_others(self, targets: Sequence[Target]) -> bool:
        """Wait a little for blocks that others work on; False where that is not wanted."""
        pending = self._pending(targets)
        if not pending:
            return True
        if not self.settings.wait:
            return False
        self.say(f"waiting for {len(pending)} blocks that another process works on")
        for _ in range(30):
            time.sleep(LOOK_AGAIN_S)
            if len(self._pending(targets)) != len(pending):
                break
        return True

    def _batch_size(self, targets: Sequence[Target]) -> int:
        return self.settings.batch_size or max(
            BATCH_SIZE[torch.device(target.backbone.device).type] for target in targets
        )

    def _workers(self, targets: Sequence[Target]) -> int:
        if self.settings.workers is not None:
            return self.settings.workers
        return default_workers(
            on_gpu=any(target.backbone.device.startswith("cuda") for target in targets)
        )


def default_workers(*, on_gpu: bool) -> int:
    """Choose the number of reader processes: one less than the cores beside a GPU, else none."""
    return max(1, len(os.sched_getaffinity(0)) - 1) if on_gpu else 0


@dataclass(frozen=True)
class _Committed:
    """Counts what was committed, and gives the claims up; runs in the writer's thread."""

    done: Counter[EmbeddingSpec]
    claims: Claims

    def __call__(self, job: BlockJob, committed: dict[EmbeddingSpec, bool]) -> None:
        for spec, by_us in committed.items():
            self.done[spec] += by_us
            self.claims.release(spec.name, job.block.index)


def _compute(computer: Computer, batch: ReadTiles[BlockJob]) -> Computed:
    if not batch.rows:
        return Computed()
    wanted = {target.spec for target in batch.tag.targets}
    return computer.compute(batch.inputs, wanted, batch.seconds)


def _settle_cost(job: BlockJob, meter: CostMeter) -> None:
    """Share a block's cost between its embeddings in proportion to their own seconds."""
    cost = {
        key: value
        for key, value in asdict(meter.read()).items()
        if value is not None and key not in _NOT_RECORDED
    }
    peaks = {key: value for key, value in cost.items() if key.startswith("peak_")}
    total = sum(job.work_s.values())
    for spec, seconds in job.work_s.items():
        share = seconds / total if total else 1 / len(job.work_s)
        parts = {key: value * share for key, value in cost.items() if key not in peaks}
        job.cost[spec] = {**parts, "work_s": seconds, **peaks}


def _report(job: _Job, targets: Sequence[Target], wall_s: float) -> ExtractionReport:
    reports = []
    for target in targets:
        spec = target.spec
        n_cached = len(job.store.blocks(spec)) - len(job.store.pending(spec)) - job.done[spec]
        refused = tuple(job.store.refused(spec))
        reports.append(
            EmbeddingReport(spec, job.done[spec], n_cached, refused, job.store.cost(spec))
        )
    complete = not any(job.store.pending(target.spec) for target in targets)
    return ExtractionReport(tuple(reports), job.n_tiles, wall_s, dict(job.pace.seconds), complete)


def _silent(_n_tiles: int, _bound: str) -> None:
    """Tell nobody."""


def _mute(_line: str) -> None:
    """Tell nobody."""


def _check_store(manifest: TileManifest, store: FeatureStore) -> None:
    if (store.manifest_sha256, store.n_tiles) != (manifest.sha256, len(manifest)):
        raise StoreMismatchError(
            f"{store.path.name} was made from other tiles (manifest {store.manifest_sha256[:8]}, "
            f"{store.n_tiles} tiles) than these ({manifest.sha256[:8]}, {len(manifest)} tiles); "
            "give another store path, or the tiles that it was made from"
        )


def _provenance(backbone: Backbone) -> dict[str, object]:
    return {"device": backbone.device, "threads": torch.get_num_threads()}
