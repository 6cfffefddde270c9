"""Dask: everything is done once whatever workers do, and one line says what went wrong."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from featurebench import errors
from featurebench.errors import (
    ConfigError,
    ExtractionError,
    FeatureBenchError,
    StoreMismatchError,
    WorkerError,
)
from featurebench.scaling import dask_cluster, deal
from featurebench.scaling.dask_cluster import LOOK_AHEAD, MAX_SUSPECTS

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG_S = 600


@dataclass(frozen=True)
class Block:
    """An item: what to do, and a folder that all processes see."""

    number: int
    folder: str = ""

    def __str__(self) -> str:
        return f"block {self.number}"


def double(number: int) -> int:
    return 2 * number


def environment(_number: int) -> dict[str, str]:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "OMP_NUM_THREADS")
    return {name: os.environ[name] for name in names}


def number_of_new_process(_number: int) -> int:
    """Start a process, as a reader of tiles does; a worker that may not would raise."""
    process = multiprocessing.get_context("spawn").Process(target=double, args=(1,))
    process.start()
    process.join()
    return process.exitcode or 0


def die_once(block: Block) -> int:
    """End the worker the first time that block 3 is run."""
    if block.number == 3:
        with contextlib.suppress(FileExistsError):
            Path(block.folder, "died").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
    return block.number


def die_always(block: Block) -> int:
    if block.number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return block.number


def die(_block: Block) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def refuse(number: int) -> int:
    raise StoreMismatchError(f"block {number} is of another store; give that store")


def full_disk(_number: int) -> int:
    raise OSError(28, "No space left on device", "shard")


def sleep_from_the_second(number: int) -> int:
    time.sleep(LONG_S if number else 0)
    return number


def local(function: object, items: object, **options: object) -> list[int]:
    results: list[int] = []
    settings = {"address": "local", "processes": 2, "progress": results.append} | options
    deal(function, items, **settings)  # type: ignore[arg-type]
    return sorted(results)


@pytest.fixture
def service() -> Iterator[str]:
    """Address of something that is no Dask scheduler."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3)
                        connection.recv(1000)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Address of a scheduler with one worker, as others would start it."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address=None, scheduler_port=0
    ) as cluster:
        yield cluster.scheduler_address


def test_every_item_is_done_and_what_is_in_flight_is_bounded() -> None:
    n_processes, drawn, most = 2, 0, 0
    results: list[int] = []

    def items() -> Iterator[int]:
        nonlocal drawn, most
        for number in range(60):
            drawn += 1
            most = max(most, drawn - len(results))
            yield number

    before = dict(os.environ)
    deal(double, items(), address="local", processes=n_processes, progress=results.append)
    assert sorted(results) == [2 * number for number in range(60)]
    assert n_processes < most <= n_processes * LOOK_AHEAD
    assert dict(os.environ) == before


def test_workers_know_their_rank_and_threads() -> None:
    seen: list[dict[str, str]] = []
    deal(
        environment,
        range(8),
        address="local",
        processes=2,
        threads_each=3,
        progress=seen.append,
    )
    ranks = {each["RANK"] for each in seen}
    assert ranks <= {"0", "1"}
    assert all(each["LOCAL_RANK"] == each["RANK"] for each in seen)
    assert {(each["WORLD_SIZE"], each["OMP_NUM_THREADS"]) for each in seen} == {("2", "3")}


def test_a_task_may_start_processes() -> None:
    assert local(number_of_new_process, [0], processes=1) == [0]


def test_a_task_whose_worker_died_runs_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    items = [Block(number, str(tmp_path)) for number in range(12)]
    assert local(die_once, items) == list(range(12))
    assert (tmp_path / "died").exists()
    assert capfd.readouterr().err == ""


def test_an_item_that_always_ends_its_worker_is_named_and_others_are_done(
    capfd: pytest.CaptureFixture[str],
) -> None:
    results: list[int] = []
    with pytest.raises(WorkerError, match=r"^block 3 ended the worker process") as error:
        local(die_always, map(Block, range(12)), progress=results.append, retries=0)
    assert "\n" not in str(error.value)
    assert sorted(results) == [number for number in range(12) if number != 3]
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_it_stops_where_every_item_ends_its_worker() -> None:
    drawn = iter(map(Block, range(1000)))
    with pytest.raises(WorkerError, match="not one item's fault"):
        local(die, drawn, retries=0)
    assert next(drawn).number <= MAX_SUSPECTS + 2 * LOOK_AHEAD


@pytest.mark.parametrize(
    "error", [each for each in vars(errors).values() if isinstance(each, type)]
)
def test_errors_of_this_package_survive_the_journey(error: type[FeatureBenchError]) -> None:
    back = pickle.loads(pickle.dumps(error("the value; the remedy")))
    assert type(back) is error
    assert str(back) == "the value; the remedy"


def test_what_a_task_raises_comes_back_as_itself(scheduler: str) -> None:
    with pytest.raises(StoreMismatchError, match=r"^block 5 is of another store; give that store$"):
        local(refuse, [5], address=scheduler)
    with pytest.raises(OSError, match="No space left") as error:
        local(full_disk, [5], address=scheduler)
    assert (error.value.errno, error.value.filename) == (28, "shard")
    assert local(double, range(20), address=scheduler) == [2 * number for number in range(20)]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_stop_does_not_wait_for_what_is_in_flight(stop: type[BaseException]) -> None:
    def interrupt(_result: int) -> None:
        raise stop

    with pytest.raises(stop):
        local(sleep_from_the_second, range(10), progress=interrupt)
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_scheduler_that_goes_away_is_said() -> None:
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        pytest.raises(ExtractionError, match=r"^lost the Dask scheduler tcp://.*again$"),
    ):
        local(
            sleep_from_the_second,
            range(10),
            address=cluster.scheduler_address,
            progress=lambda _: cluster.close(),
        )


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("tcp://127.0.0.1:1", "Connection refused"),
        ("tcp://nohost.invalid:8786", "not known|resolution"),
        ("127.0.0.1:8786", "not of the form"),
        ("tcp://127.0.0.1", "not of the form"),
        ("tcp://127.0.0.1:99999", "Port out of range"),
        ("tcp://[::1", "Invalid IPv6"),
        ("", "not of the form"),
    ],
)
def test_an_address_that_cannot_be_reached_is_named(address: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as error:
        local(double, [1], address=address)
    assert repr(address) in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_scheduler_is_said(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "CONNECT_S", 1.0)
    with pytest.raises(ConfigError, match="does not speak Dask"):
        local(double, [1], address=service)


def test_the_address_of_a_worker_is_not_that_of_a_scheduler(scheduler: str) -> None:
    from distributed import Client

    with Client(scheduler, set_as_default=False) as client:
        (worker,) = client.nthreads()
    with pytest.raises(ConfigError, match="what answers there is a Worker"):
        local(double, [1], address=worker)


def test_other_versions_on_the_workers_make_no_noise(
    scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import versions

    ours = versions.get_versions()
    ours["packages"]["numpy"] = "0.1"  # the client and the scheduler are here, the worker is not
    monkeypatch.setattr(versions, "get_versions", lambda: ours)
    with warnings.catch_warnings(record=True) as shown:
        assert local(double, [1], address=scheduler) == [2]
    assert [str(each.message) for each in shown] == []


def test_without_dask_the_command_to_install_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install 'featurebench\[dask\]'"):
        local(double, [1])


@pytest.mark.parametrize("options", [{"processes": 0}, {"threads_each": 0}])
def test_counts_below_one_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="too few"):
        local(double, [1], **options)
