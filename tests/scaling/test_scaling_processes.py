"""Local ranks: they see who they are, end together, and leave nobody behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from featurebench.errors import ConfigError
from featurebench.scaling import run_ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Says that it is there (a file named after its process id), then does what a test wants.
CHILD = """
import os, pathlib, signal, subprocess, sys, time
folder, rank = pathlib.Path(sys.argv[1]), os.environ["RANK"]
def here(name=None):
    (folder / (name or f"up-{os.getpid()}")).touch()
def on(signum, status):
    signal.signal(signum, lambda *_: (here(f"got-{rank}"), sys.exit(status)))
"""
# Calls run_ranks in a process of its own, whose signals a test can send.
PARENT = """
import os, sys
from featurebench.scaling import run_ranks
sys.exit(run_ranks(int(sys.argv[1]), sys.argv[2:], environ=os.environ))
"""
LONG_S = 600


def child(body: str, folder: Path) -> list[str]:
    return [sys.executable, "-c", CHILD + body, str(folder)]


def run(count: int, body: str, folder: Path, **environ: str) -> int:
    return run_ranks(count, child(body, folder), environ=os.environ | environ)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[int, str], subprocess.Popen[str]]]:
    """Start ranks under a parent of their own, and wait until all are there."""

    parents: list[subprocess.Popen[str]] = []

    def started(count: int, body: str) -> subprocess.Popen[str]:
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(count), *child(body, tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
        )
        parents.append(parent)
        wait_until(lambda: len(children(tmp_path)) >= count)
        return parent

    yield started
    for parent in parents:
        with parent:
            parent.kill()


def wait_until(true: Callable[[], bool]) -> None:
    """Wait; the test's timeout ends it."""
    while not true():
        time.sleep(0.02)


def children(folder: Path) -> list[int]:
    return [int(file.name.removeprefix("up-")) for file in folder.glob("up-*")]


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def status_of(parent: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = parent.communicate()
    return parent.returncode, said


def test_each_process_knows_its_rank(tmp_path: Path) -> None:
    body = (
        "here('-'.join(os.environ[k] for k in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', "
        "'OMP_NUM_THREADS', 'GREETING')))"
    )
    environ = os.environ | {"GREETING": "hello"}
    assert run_ranks(3, child(body, tmp_path), environ=environ, threads_each=2) == 0
    assert {file.name for file in tmp_path.iterdir()} == {
        "0-3-0-2-hello",
        "1-3-1-2-hello",
        "2-3-2-2-hello",
    }


def test_ranks_follow_those_of_the_tasks_before(tmp_path: Path) -> None:
    body = "here('-'.join(os.environ[k] for k in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')))"
    outer = {
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "0",
    }
    assert run(2, body, tmp_path, **outer) == 0
    assert {file.name for file in tmp_path.iterdir()} == {"6-8-0", "7-8-1"}


def test_what_a_process_writes_is_passed_through(capfd: pytest.CaptureFixture[str]) -> None:
    body = "import sys; print('result'); print('line', file=sys.stderr)"
    assert run_ranks(2, [sys.executable, "-c", body], environ=os.environ) == 0
    said = capfd.readouterr()
    assert said.out == "result\n" * 2
    assert said.err == "line\n" * 2


@pytest.mark.parametrize(
    ("statuses", "worst"), [("0,0", 0), ("0,2", 2), ("2,1", 1), ("1,143", 143)]
)
def test_the_worst_status_is_returned(statuses: str, worst: int, tmp_path: Path) -> None:
    own = f"({statuses})[int(rank)]"
    assert run(2, f"sys.exit({own})", tmp_path) == worst


def test_one_that_is_killed_is_named_and_the_others_go_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    body = """
if rank == "1":
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(0.3)
here(f"done-{rank}")
"""
    assert run(3, body, tmp_path) == 128 + signal.SIGKILL
    assert {file.name for file in tmp_path.iterdir()} == {"done-0", "done-2"}
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert "process 1 of 3 died by SIGKILL" in said[0]


def test_what_a_killed_process_had_started_ends_with_it(tmp_path: Path) -> None:
    body = f"""
reader = subprocess.Popen(["sleep", "{LONG_S}"])
here(f"up-{{reader.pid}}")
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run(1, body, tmp_path) == 128 + signal.SIGKILL
    (reader,) = children(tmp_path)
    wait_until(lambda: gone(reader))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_reaches_every_process_once(
    signum: signal.Signals, start: Callable[[int, str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    parent = start(2, f"on({signum}, 143); here(); time.sleep({LONG_S})")
    parent.send_signal(signum)
    parent.send_signal(signum)  # some senders repeat it at once, and mean it once
    assert status_of(parent) == (143, "")
    assert {file.name for file in tmp_path.glob("got-*")} == {"got-0", "got-1"}


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGUSR1, 143), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_process_that_cannot_handle_it_yet_counts_as_stopped(
    signum: signal.Signals, status: int, start: Callable[[int, str], subprocess.Popen[str]]
) -> None:
    parent = start(2, f"signal.signal({signum}, signal.SIG_DFL); here(); time.sleep({LONG_S})")
    parent.send_signal(signum)
    assert status_of(parent) == (status, "")


def test_work_that_was_finished_all_the_same_is_done(
    start: Callable[[int, str], subprocess.Popen[str]],
) -> None:
    parent = start(2, f"on({signal.SIGTERM}, 0); here(); time.sleep({LONG_S})")
    parent.terminate()
    assert status_of(parent) == (0, "")


def test_a_second_signal_kills(
    start: Callable[[int, str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    body = f"""
signal.signal(signal.SIGTERM, lambda *_: here(f"got-{{rank}}"))
reader = subprocess.Popen(["sleep", "{LONG_S}"])
here(f"up-{{reader.pid}}")
here()
end = time.monotonic() + {LONG_S}
while time.monotonic() < end:
    time.sleep(1)
"""
    parent = start(2, body)
    wait_until(lambda: len(children(tmp_path)) == 4)
    parent.terminate()
    wait_until(lambda: len(list(tmp_path.glob("got-*"))) == 2)
    time.sleep(1.1)  # a repetition within a second is the same request
    parent.terminate()
    assert status_of(parent) == (143, "")
    wait_until(lambda: all(map(gone, children(tmp_path))))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_nobody_is_left_behind_by_a_parent_that_is_killed(
    start: Callable[[int, str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    parent = start(2, f"on({signal.SIGTERM}, 143); here(); time.sleep({LONG_S})")
    parent.kill()
    status_of(parent)
    wait_until(lambda: all(map(gone, children(tmp_path))))
    assert {file.name for file in tmp_path.glob("got-*")} == {"got-0", "got-1"}


def test_handlers_are_put_back(tmp_path: Path) -> None:
    before = [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)]
    run(1, "", tmp_path)
    assert [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)] == before


def test_too_few_processes_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 processes are too few"):
        run_ranks(0, ["true"], environ={})


def test_a_command_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"process 1 of 2 \(no-such-command\)"):
        run_ranks(2, ["no-such-command"], environ=os.environ)
