"""Hands: who does the work of an experiment's arms, and send(), which gives it to them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from featurebench.config import dump_config
from featurebench.errors import ConfigError
from featurebench.experiment.networks import resolve_threads
from featurebench.experiment.tasks import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from featurebench.config import ExperimentConfig
    from featurebench.experiment.study import Study

LOCAL = "local"


@dataclass(frozen=True)
class Hands:
    """Who does the work.

    Parameters
    ----------
    jobs
        Processes of this machine; 1 is this one.
    dask
        Address of a Dask scheduler, or ``local``; then ``jobs`` are its processes.

    Raises
    ------
    ConfigError
        If a number of processes is given for a cluster that has its own.
    """

    jobs: int | None = None
    dask: str | None = None

    def __post_init__(self) -> None:
        if self.jobs is not None and self.dask not in {None, LOCAL}:
            raise ConfigError(
                f"--jobs {self.jobs} says nothing to the cluster {self.dask}, whose workers are "
                "there already: leave it out"
            )

    @property
    def are_here(self) -> bool:
        """Whether this process does the work."""
        return self.dask is None and self.jobs in {None, 1}


@dataclass(frozen=True, eq=False)
class Work:
    """What is to be done with every item.

    Parameters
    ----------
    config, study
        The experiment.
    do
        Importable function of an `Order` and an item.
    n_items
        Number of items: no more processes than that are started.
    """

    config: ExperimentConfig
    study: Study
    do: Callable[[Order, Any], Any]
    n_items: int

    def with_threads(self, threads: int | None) -> Callable[[Any], Any]:
        """Give the function of an item alone, which a worker can be sent."""
        config = self.config
        if threads is not None:
            compute = config.compute.model_copy(update={"threads": threads})
            config = config.model_copy(update={"compute": compute})
        text = json.dumps(dump_config(config, config.base))
        order = Order(text, str(config.base), self.study.bad_tiles, self.study.plan.id)
        return partial(self.do, order)


def send(work: Work, hands: Hands, items: Iterable[Any], take: Callable[[Any], None]) -> None:
    """Deal items out; local processes share the threads of this machine.

    Parameters
    ----------
    items
        One task each.
    take
        Called here with every result, as it arrives.
    """
    from featurebench.scaling import deal, deal_locally

    if hands.dask not in {None, LOCAL}:
        deal(work.with_threads(None), items, address=hands.dask or LOCAL, progress=take)
        return
    processes = min(hands.jobs or len(os.sched_getaffinity(0)), work.n_items)
    each = max(1, resolve_threads(work.config.compute.threads) // processes)
    deal_here = partial(deal, address=LOCAL) if hands.dask else deal_locally
    deal_here(work.with_threads(each), items, processes=processes, threads_each=each, progress=take)
