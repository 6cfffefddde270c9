"""An extraction shared out: over a job array, ranks, local processes or a Dask cluster."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from featurebench.config import FOREIGN, dump_config, parse_config
from featurebench.experiment.console import QUIET, Console
from featurebench.experiment.embedding import embed, open_store, pending_blocks
from featurebench.experiment.networks import check_choice, recall, recognise
from featurebench.experiment.study import load_tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from featurebench.config import BackboneConfig, ExperimentConfig
    from featurebench.store import FeatureStore
    from featurebench.tiles import TileManifest


@dataclass(frozen=True)
class BlockTask:
    """A block to embed, by its number, and its tiles; -1 stands for none."""

    index: int
    n_tiles: int

    def __str__(self) -> str:
        """Name the block."""
        return f"block {self.index}"


def embed_share(
    config: ExperimentConfig,
    make_console: Callable[..., Console],
    *,
    share: str | None = None,
    only: str | None = None,
) -> None:
    """Embed the blocks that fall to this process.

    Without a share, every process takes blocks that no other works on. Of several ranks, which
    torchrun and srun tell by environment variables, only the first shows its progress and waits
    until all blocks are done.

    Parameters
    ----------
    make_console
        Makes a console; called with ``quiet``.
    share
        Such as ``3/8``: of every eight blocks the third, and no other.
    only
        Model name of the entries to embed; all if None.
    """
    from featurebench.scaling import parse_share, rank_from_environment

    rank = rank_from_environment(os.environ)
    first = rank is None or rank.index == 0
    blocks = None if share is None else parse_share(share).takes
    console = make_console(quiet=not first)
    tiles = load_tiles(config, console if first else QUIET)
    embed(config, tiles, console, only=only, blocks=blocks, wait=first)


def local_processes(config: ExperimentConfig, asked: int | None) -> int:
    """Tell how many processes to start here: as asked, else one per GPU; 0 for this one alone."""
    from featurebench.scaling import rank_from_environment

    if asked is not None:
        return 0 if asked == 1 else asked
    if config.compute.device != "auto" or rank_from_environment(os.environ) is not None:
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.device_count() > 1 else 0


def embed_in_processes(count: int, command: Sequence[str]) -> int:
    """Run an extraction's command in several local processes; give the exit status."""
    from featurebench.scaling import run_ranks

    threads = max(1, len(os.sched_getaffinity(0)) // count)
    return run_ranks(count, command, environ=os.environ, threads_each=threads)


def embed_on_dask(
    config: ExperimentConfig,
    console: Console,
    *,
    address: str,
    processes: int | None = None,
    only: str | None = None,
) -> None:
    """Deal pending blocks to the workers of a Dask cluster; they write to the store themselves.

    Parameters
    ----------
    address
        Of a scheduler, or ``local``.
    processes
        Worker processes of ``local``.
    only
        Model name of the entries to embed; all if None.
    """
    from featurebench.scaling import deal

    tiles = load_tiles(config, console)
    store = open_store(config, tiles)
    n_cores = len(os.sched_getaffinity(0))
    n_processes = processes or n_cores
    embed_block = partial(
        _embed_block, json.dumps(dump_config(config, config.base)), str(config.base), only
    )
    send = partial(
        deal, address=address, processes=n_processes, threads_each=max(1, n_cores // n_processes)
    )
    # what was made elsewhere is complete, and no network makes more of it
    wanted = [entry for entry in check_choice(config, only) if entry.weights != FOREIGN]
    if not all(_has_room(config, entry, store) for entry in wanted):
        # a worker makes the arrays, since it knows how fast it is
        send(embed_block, [BlockTask(-1, 0)], progress=_ignore)
    specs = [spec for entry in wanted for spec in recognise(config, entry)]
    tasks = [BlockTask(index, n_tiles) for index, n_tiles in pending_blocks(store, specs).items()]
    if tasks:
        with console.track("embedding on Dask", sum(t.n_tiles for t in tasks)) as advance:
            send(embed_block, tasks, progress=advance)
    for spec in specs:
        console.say("embedding", f"{spec.name}: {len(tiles):,} tiles x {spec.dim}")


def _has_room(config: ExperimentConfig, entry: BackboneConfig, store: FeatureStore) -> bool:
    known = recall(config, entry)
    return known is not None and set(known) <= set(store.embeddings())


def _embed_block(text: str, base: str, only: str | None, task: BlockTask) -> int:
    """Embed one block on a worker, or none but make room for all; gives its tiles."""
    config, tiles = _load_once(text, base)
    embed(config, tiles, QUIET, only=only, blocks={task.index}.__contains__, wait=False)
    return task.n_tiles


def _ignore(_result: object) -> None:
    """Drop what a worker returned."""


@lru_cache(maxsize=1)
def _load_once(text: str, base: str) -> tuple[ExperimentConfig, TileManifest]:
    config = parse_config(json.loads(text), Path(base))
    return config, load_tiles(config, QUIET)
