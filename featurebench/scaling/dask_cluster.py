"""deal(): one task per item on a Dask cluster, a few in flight at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit

from featurebench.errors import ConfigError, ExtractionError, FeatureBenchError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from distributed import Client, Future, SpecCluster, as_completed

LOCAL = "local"
# A worker thread has one task and, so that it need not wait for us, the next one.
LOOK_AHEAD = 2
# So many items that end their workers are no accident of one item.
MAX_SUSPECTS = 8
CONNECT_S = 5.0
_LOOK_AGAIN_S = 30.0
_RESUME = "what was finished stays; run the same command again"
# How a new process that imports Dask is told what to log.
_LOG_LEVEL = "DASK_LOGGING__DISTRIBUTED"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Item = TypeVar("Item")
Result = TypeVar("Result")


def deal(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    address: str,
    progress: Callable[[Result], None],
    processes: int | None = None,
    threads_each: int = 1,
    retries: int = 3,
) -> None:
    """Run ``function`` on every item with the workers of a Dask cluster.

    Items are drawn as workers become free: at most `LOOK_AHEAD` per worker thread are in flight.
    A task whose worker died runs again, so it must bear being run twice. An item whose worker
    died too often is tried once more at the end, alone, since its neighbours may be to blame.

    Parameters
    ----------
    function
        Importable on the workers, or picklable by cloudpickle.
    items
        One task each; ``str(item)`` names it in errors.
    address
        Of a scheduler, ``tcp://host:port``, or ``local`` for processes of this machine that end
        with the call. Each of those has ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK``.
    progress
        Called in this process with each result, in the order in which they arrive.
    processes
        Worker processes of ``local``; as many as there are processors if None.
    threads_each
        Sets ``OMP_NUM_THREADS`` of the worker processes of ``local``; each runs one task at a
        time. A scheduler's workers have what they were started with.
    retries
        How often a task may be run again after its worker died, with ``local``; a scheduler has
        its own ``distributed.scheduler.allowed-failures``, 3 by default.

    Raises
    ------
    ConfigError
        If Dask is not installed, the address is no scheduler's, or a count is not positive.
    WorkerError
        If items ended their workers whenever they were tried; all others are done.
    ExtractionError
        If the scheduler was lost.
    Exception
        What ``function`` raised, as itself, as soon as it is known.

    Examples
    --------
    Here the workers are processes of this machine.

    >>> from featurebench.scaling import deal
    >>> lengths = []
    >>> deal(len, ["a", "bc"], address="local", processes=1, progress=lengths.append)
    >>> sorted(lengths)
    [1, 2]
    """
    _require_dask()
    if threads_each < 1 or (processes is not None and processes < 1):
        raise ConfigError(
            f"{processes} processes with {threads_each} threads each are too few; give 1 or more"
        )
    n_processes = processes or os.cpu_count() or 1
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        if address == LOCAL:
            cluster = stack.enter_context(_local_cluster(n_processes, threads_each, retries))
            address = cluster.scheduler_address
        client = stack.enter_context(_connected(address))
        _Dealer(client, address, function, progress).deal(items)


@dataclass(frozen=True)
class _Dealer(Generic[Item, Result]):
    """What the tasks of one call share."""

    client: Client
    address: str
    function: Callable[[Item], Result]
    progress: Callable[[Result], None]

    def deal(self, items: Iterable[Item]) -> None:
        suspects = self._round(items, alone=False)
        guilty = self._round(suspects, alone=True)
        if guilty:
            raise _poison(guilty, "all others are done")

    def _round(self, items: Iterable[Item], *, alone: bool) -> list[Item]:
        """Run the items; return those whose worker died too often."""
        from distributed import as_completed

        waiting, suspects = iter(items), list[Item]()
        in_flight: dict[Future[Any], Item] = {}
        done = as_completed(loop=self.client.loop)
        try:
            while True:
                free = (1 if alone else self._look_ahead()) - len(in_flight)
                for item in islice(waiting, max(0, free)):
                    future = self.client.submit(self.function, item, pure=False)
                    in_flight[future] = item
                    done.add(future)
                if not in_flight:
                    return suspects
                future = self._next(done)
                item = in_flight.pop(future)
                if not self._finished(future, item):
                    suspects.append(item)
                if len(suspects) >= MAX_SUSPECTS:
                    raise _poison(suspects, "stopped, since it is not one item's fault")
        finally:
            self._cancel(list(in_flight))

    def _look_ahead(self) -> int:
        return max(1, LOOK_AHEAD * sum(self._threads().values()))

    def _threads(self) -> dict[str, int]:
        """Count the threads of each worker."""
        try:
            return dict(self.client.nthreads())
        except OSError as error:
            raise self._lost() from error

    def _next(self, done: as_completed) -> Future[Any]:
        """Wait for a task to end; tell when there is nobody to run it."""
        look_again, told = time.monotonic() + CONNECT_S, False  # a worker may be restarting
        while not done.has_ready():
            if not told and time.monotonic() > look_again:
                told = not self._threads()
                if told:
                    sys.stderr.write(f"featurebench: {self.address} has no worker; waiting\n")
                look_again = time.monotonic() + _LOOK_AGAIN_S
            time.sleep(0.01)
        return next(done)

    def _finished(self, future: Future[Any], item: Item) -> bool:
        """Hand on the result; False where the worker died."""
        from distributed import CancelledError, KilledWorker

        try:
            result = future.result()  # waits again where a worker died with the result
        except KilledWorker:
            return False
        except FeatureBenchError as error:
            raise error.with_traceback(None) from None
        except (CancelledError, OSError):
            if self.client.status == "running" and future.status == "error":
                raise
            raise self._lost(item) from None
        self.progress(result)
        return True

    def _cancel(self, futures: list[Future[Any]]) -> None:
        with contextlib.suppress(OSError):
            self.client.cancel(futures)

    def _lost(self, item: Item | None = None) -> ExtractionError:
        what = "" if item is None else f", which was to run {item}"
        return ExtractionError(f"lost the Dask scheduler {self.address}{what}; {_RESUME}")


def _poison(items: Iterable[object], others: str) -> WorkerError:
    names = ", ".join(str(item) for item in items)
    return WorkerError(
        f"{names} ended the worker process each time (out of memory, as a rule); {others}; "
        "give the workers more memory and run the same command again"
    )


def _require_dask() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ConfigError("Dask is not installed; run: pip install 'featurebench[dask]'") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's log lines and version tables off the terminal; errors come as exceptions."""
    from distributed.utils import silence_logging_cmgr
    from distributed.versions import VersionMismatchWarning

    with silence_logging_cmgr(logging.CRITICAL), warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)
        yield


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Client]:
    from distributed import Client

    _reach(address)
    found = _identify(address)
    if found != "Scheduler":
        raise _unreachable(address, f"what answers there is a {found}")
    with Client(address, timeout=CONNECT_S, set_as_default=False) as client:
        yield client


def _reach(address: str) -> None:
    """Fail soon, and with the system's reason, where nobody listens."""
    try:
        parts = urlsplit(address)
        place = (parts.hostname or "", parts.port or 0)
    except ValueError as error:
        raise _unreachable(address, str(error)) from error
    if not parts.scheme or not all(place):
        raise _unreachable(address, "it is not of the form tcp://host:port")
    try:
        socket.create_connection(place, timeout=CONNECT_S).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from error


def _identify(address: str) -> str:
    """Ask what listens there; a Client that finds no scheduler cannot be closed."""
    from distributed import rpc

    async def ask() -> str:
        async with asyncio.timeout(CONNECT_S), rpc(address) as server:
            return str((await server.identity())["type"])

    try:
        with ThreadPoolExecutor(1) as pool:  # there may be an event loop in this thread
            return pool.submit(asyncio.run, ask()).result()
    except (OSError, ValueError, MemoryError) as error:  # other words than Dask's, read as lengths
        raise _unreachable(address, "what answers there does not speak Dask") from error


def _unreachable(address: str, reason: str) -> ConfigError:
    return ConfigError(
        f"cannot reach a Dask scheduler at {address!r}: {reason}; give its address as "
        f"'dask scheduler' prints it, tcp://host:port, or {LOCAL!r}"
    )


@contextlib.contextmanager
def _local_cluster(n_processes: int, threads_each: int, retries: int) -> Iterator[SpecCluster]:
    import dask
    from distributed import Nanny, Scheduler, SpecCluster

    settings = {
        "distributed.scheduler.allowed-failures": retries,
        "distributed.comm.timeouts.connect": "10s",  # so long a result is asked of a dead worker
        "distributed.worker.daemon": False,  # a task may start processes that read tiles
    }
    workers = {
        rank: {"cls": Nanny, "options": _worker_options(rank, n_processes)}
        for rank in range(n_processes)
    }
    here: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "dashboard": False,
        "dashboard_address": "127.0.0.1:0",  # its page of health; 8787 may be someone else's
    }
    environ = dict.fromkeys(_THREADS, str(threads_each))
    with (
        dask.config.set(settings),
        _environment(environ | {_LOG_LEVEL: "critical"}),
        SpecCluster(
            workers=workers,
            scheduler={"cls": Scheduler, "options": here},
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        try:
            yield cluster
        finally:  # a worker that is closed while it starts prints a traceback
            with contextlib.suppress(TimeoutError):
                cluster.wait_for_workers(n_processes, timeout=CONNECT_S)


def _worker_options(rank: int, count: int) -> dict[str, Any]:
    return {
        "host": "127.0.0.1",
        "nthreads": 1,
        "dashboard": False,
        "memory_limit": 0,  # Dask would halt workers at 80 % of their part of the memory
        "silence_logs": logging.CRITICAL,
        "env": {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)},
    }


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for the processes started meanwhile; Dask leaves some of its own behind."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
