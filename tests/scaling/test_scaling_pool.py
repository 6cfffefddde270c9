"""Local workers: every item is done once whatever a worker does, and none outlives the call."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from featurebench.errors import ConfigError, StoreMismatchError, WorkerError
from featurebench.scaling import deal_locally
from featurebench.scaling.pool import MAX_SUSPECTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG_S = 600
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Deals in a process of its own; each item says that it is there, then takes its time.
PARENT = f"""
import os, pathlib, signal, sys, time
# where the tests run in the background a shell has them ignore it
signal.signal(signal.SIGINT, signal.default_int_handler)
from featurebench.scaling import deal_locally
def sleep(number, folder=sys.argv[1]):
    pathlib.Path(folder, f"up-{{os.getpid()}}").touch()
    time.sleep({LONG_S})
deal_locally(sleep, range(8), processes=2, progress=print)
"""


@dataclass(frozen=True)
class Fit:
    """An item: what to do, and a folder that all processes see."""

    number: int
    folder: str = ""

    def __str__(self) -> str:
        return f"fit {self.number}"


class NoReturnError(Exception):
    """Cannot be made again from its pickle."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{code} for {reason}")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def square(number: int) -> int:
    return number**2


def same(data: bytes) -> bytes:
    return data


def environment(_number: int) -> tuple[dict[str, str], list[int]]:
    import numpy as np
    import threadpoolctl

    np.linalg.norm(np.eye(2))
    pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    return {name: os.environ[name] for name in THREADS}, pools


def ignores_interrupts(_number: int) -> bool:
    os.kill(os.getpid(), signal.SIGINT)
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@lru_cache(maxsize=1)
def loaded_by() -> tuple[int, int]:
    return os.getpid(), time.monotonic_ns()


def cached(_number: int) -> tuple[int, int]:
    return loaded_by()


def die_once(fit: Fit) -> int:
    """End the worker the first time that fit 3 is run."""
    if fit.number == 3:
        with contextlib.suppress(FileExistsError):
            Path(fit.folder, "died").touch(exist_ok=False)
            die()
    return fit.number


def die_always(fit: Fit) -> int:
    if fit.number == 3:
        Path(fit.folder, f"tried-{os.getpid()}").touch()
        die()
    return fit.number


def die_beside_others(fit: Fit) -> int:
    """End the worker as long as there are others."""
    siblings = [
        child
        for child in psutil.Process(os.getppid()).children()
        # other tests of the process may have left servers of their own
        if "pool_worker" in " ".join(child.cmdline())
    ]
    if fit.number >= 3 and len(siblings) > 1:
        die()
    return fit.number


def die_any(_fit: Fit) -> None:
    die()


def leave_a_reader_and_die_once(folder: Path) -> int:
    """End the worker while a process that it forked holds all that it held."""
    if (folder / "reader").exists():
        return int((folder / "reader").read_text())
    reader = os.fork()
    if not reader:
        time.sleep(LONG_S)
        os._exit(0)
    (folder / "reader").write_text(str(reader))
    die()
    return 0


def leave_by_status(_number: int) -> None:
    os._exit(7)


def refuse(number: int) -> int:
    raise StoreMismatchError(f"block {number} is of another store; give that store")


def fail(number: int, error: BaseException) -> int:
    raise error


def fail_without_return(number: int) -> int:
    raise NoReturnError(number, reason="a test")


def give_what_cannot_be_sent(_number: int) -> object:
    return threading.Lock()


def sleep_from_the_second(number: int) -> int:
    time.sleep(LONG_S if number else 0)
    return number


def deal(function: Any, items: Any, **options: Any) -> list[Any]:
    results: list[Any] = []
    settings: dict[str, Any] = {"processes": 2, "progress": results.append}
    deal_locally(function, items, **settings | options)
    return results


def descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(true: Callable[[], bool]) -> None:
    """Wait; the test's timeout ends it."""
    while not true():
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _none_left_behind() -> Iterator[None]:
    before = set(descendants())
    yield
    assert set(descendants()) <= before


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a parent, the first of its process group, whose two workers are at work."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as parent:
        try:
            wait_until(lambda: len(workers(tmp_path)) == 2)
            yield parent
        finally:
            parent.kill()


def workers(folder: Path) -> list[int]:
    return [int(file.name.removeprefix("up-")) for file in folder.glob("up-*")]


def test_every_item_is_done_and_what_is_in_flight_is_bounded() -> None:
    drawn, most, results = 0, 0, list[int]()

    def items() -> Iterator[int]:
        nonlocal drawn, most
        for number in range(60):
            drawn += 1
            most = max(most, drawn - len(results))
            yield number

    before = dict(os.environ)
    deal(square, items(), progress=results.append)
    assert sorted(results) == [square(number) for number in range(60)]
    assert 2 <= most <= 3  # one more while progress() waits for the next to be given
    assert dict(os.environ) == before


@pytest.mark.parametrize(("processes", "n_items", "started"), [(1, 3, 1), (3, 2, 2), (2, 0, 0)])
def test_no_more_processes_are_started_than_there_are_items(
    processes: int, n_items: int, started: int
) -> None:
    before, alive = len(descendants()), list[int]()
    deal(
        square,
        range(n_items),
        processes=processes,
        progress=lambda _: alive.append(len(descendants()) - before),
    )
    assert alive == [started] * n_items


def test_what_is_longer_than_a_pipe_gets_through_both_ways() -> None:
    items = [os.urandom(3_000_000) for _ in range(5)]
    assert sorted(deal(same, items)) == sorted(items)


def test_what_a_module_caches_stays_in_its_process() -> None:
    seen = deal(cached, range(20), processes=1)
    assert len(seen) == 20
    assert len(set(seen)) == 1


def test_a_function_of_no_module_is_sent() -> None:
    offset = 5
    assert sorted(deal(lambda number: number + offset, range(4))) == [5, 6, 7, 8]


def test_threads_are_set_before_numpy_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    for variables, pools in deal(environment, range(2), threads_each=1):
        assert variables == dict.fromkeys(THREADS, "1")
        assert pools
        assert set(pools) == {1}
    assert os.environ["OMP_NUM_THREADS"] == "2"
    # BLAS takes no more threads than there are processors, so only the variables can be compared
    assert deal(environment, [0], threads_each=3)[0][0] == dict.fromkeys(THREADS, "3")


def test_a_worker_leaves_interrupts_to_us() -> None:
    assert deal(ignores_interrupts, range(2)) == [True, True]


def test_a_task_whose_worker_died_runs_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    items = [Fit(number, str(tmp_path)) for number in range(12)]
    assert sorted(deal(die_once, items)) == list(range(12))
    assert (tmp_path / "died").exists()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("processes", [1, 2])
def test_an_item_that_always_ends_its_worker_is_named_and_others_are_done(
    processes: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    results: list[int] = []
    items = [Fit(number, str(tmp_path)) for number in range(12)]
    with pytest.raises(WorkerError, match=r"^fit 3 \(Killed\) ended the worker") as error:
        deal(die_always, items, progress=results.append, retries=2, processes=processes)
    assert "\n" not in str(error.value)
    assert "all others are done" in str(error.value)
    assert sorted(results) == [number for number in range(12) if number != 3]
    assert len(list(tmp_path.glob("tried-*"))) == 1 + 2 + 1
    assert capfd.readouterr().err == ""


def test_an_item_that_needs_the_machine_for_itself_gets_it() -> None:
    assert sorted(deal(die_beside_others, map(Fit, range(6)), retries=0)) == list(range(6))


def test_it_stops_where_every_item_ends_its_worker() -> None:
    drawn = map(Fit, range(1000))
    with pytest.raises(WorkerError, match="not one item's fault"):
        deal(die_any, drawn, retries=0)
    assert next(drawn).number <= MAX_SUSPECTS + 2


def test_how_the_worker_ended_is_said() -> None:
    with pytest.raises(WorkerError, match=r"^4 \(status 7\) ended the worker"):
        deal(leave_by_status, [4], retries=0)


def test_a_death_is_seen_though_a_forked_process_lives_on(tmp_path: Path) -> None:
    (reader,) = deal(leave_a_reader_and_die_once, [tmp_path])
    wait_until(lambda: gone(reader))


def test_what_a_task_raises_comes_back_as_itself(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StoreMismatchError) as mismatch:
        deal(refuse, [5])
    assert str(mismatch.value) == "block 5 is of another store; give that store"
    with pytest.raises(OSError, match="No space left") as full:
        deal(partial(fail, error=OSError(28, "No space left on device", "shard")), [5])
    assert (full.value.errno, full.value.filename) == (28, "shard")
    assert "in fail\n    raise error" in full.value.__notes__[0]
    assert capfd.readouterr().err == ""


def test_an_error_that_cannot_be_sent_is_told_in_words() -> None:
    with pytest.raises(RuntimeError, match=r"^NoReturnError: 5 for a test") as error:
        deal(fail_without_return, [5])
    assert "in fail_without_return" in error.value.__notes__[0]


def test_a_result_that_cannot_be_sent_is_an_error() -> None:
    with pytest.raises(TypeError, match="lock"):
        deal(give_what_cannot_be_sent, [5])


def test_an_error_does_not_wait_for_what_is_in_flight() -> None:
    with pytest.raises(ZeroDivisionError):
        deal(lambda number: sleep_from_the_second(number) or 1 // number, range(10))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, StopIteration])
def test_a_stop_does_not_wait_for_what_is_in_flight(
    stop: type[BaseException], capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_result: int) -> None:
        raise stop

    with pytest.raises(stop):
        deal(sleep_from_the_second, range(10), progress=interrupt)
    assert capfd.readouterr().err == ""


def test_ctrl_c_ends_parent_and_workers(parent: subprocess.Popen[str], tmp_path: Path) -> None:
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
    _, said = parent.communicate()
    assert parent.returncode == -signal.SIGINT
    assert said.count("Traceback") == 1
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert [psutil.pid_exists(worker) for worker in workers(tmp_path)] == [False, False]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers finish their task first")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_a_parent_that_is_killed(
    signum: signal.Signals, parent: subprocess.Popen[str], tmp_path: Path
) -> None:
    parent.send_signal(signum)
    _, said = parent.communicate()
    assert (parent.returncode, said) == (-signum, "")
    wait_until(lambda: all(map(gone, workers(tmp_path))))


@pytest.mark.parametrize("options", [{"processes": 0}, {"threads_each": 0}])
def test_counts_below_one_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="too few"):
        deal(square, [1], **options)


def test_a_process_that_cannot_be_started_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ConfigError, match=r"^cannot start process 1 of 2: No such file") as error:
        deal(square, [1])
    assert "\n" not in str(error.value)
