"""run_ranks(): the same command in several local processes that end together."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from featurebench.errors import ConfigError
from featurebench.scaling.ranks import Rank, rank_from_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Process = subprocess.Popen[bytes]

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# SIGUSR1 announces a pre-emption, so it asks for the same as SIGTERM.
_STOPPED = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: 143}
# timeout(1) and some schedulers send a signal twice within microseconds, and mean it once
_SAME_REQUEST_S = 1.0
_POLL_S = 0.05
_PR_SET_PDEATHSIG = 1


def run_ranks(
    count: int,
    argv: Sequence[str],
    *,
    environ: Mapping[str, str],
    threads_each: int | None = None,
) -> int:
    """Run a command in several local processes, and wait for all of them.

    Each process finds its rank in ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK``; where this process
    has a rank of its own (one task of srun on each node), its ranks follow those of the tasks
    before it. Output passes through as it comes. SIGTERM, SIGINT and SIGUSR1 are forwarded once,
    for the processes to finish in order; a second one, a second or more later, kills them. On
    Linux they are terminated, too, when this process is killed. Call it from the main thread.

    Parameters
    ----------
    count
        Number of processes.
    argv
        The command; it must not start ranks itself.
    environ
        Environment variables of the processes, before the rank is added.
    threads_each
        Sets ``OMP_NUM_THREADS`` where given.

    Returns
    -------
    int
        0 where all returned 0, else the worst status: 128 + n for one killed by signal n (the
        others go on, and a line on stderr names it), 143 or 130 for a forwarded stop.

    Raises
    ------
    ConfigError
        If ``count`` is not positive, or the processes cannot be started.
    """
    if count < 1:
        raise ConfigError(f"{count} processes are too few; give 1 or more")
    environs = _environs(count, environ, threads_each)
    crew = _Crew(count)
    with _noting(crew.received), crew.none_left_behind():
        for rank_environ in environs:
            crew.start(argv, rank_environ)
        return crew.wait()


@dataclass
class _Crew:
    """The processes of one call, and what became of them."""

    count: int
    running: dict[int, Process] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    received: list[tuple[float, signal.Signals]] = field(default_factory=list)
    killed: bool = False

    def start(self, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        rank = len(self.running)
        try:
            # A group of its own: Ctrl-C reaches it through us, once, and not from the terminal.
            self.running[rank] = subprocess.Popen(
                argv,
                env=environ,
                stdin=subprocess.DEVNULL,
                process_group=0,
                preexec_fn=_end_with_parent(),  # noqa: PLW1509
            )
        except OSError as error:
            raise ConfigError(
                f"cannot start process {rank + 1} of {self.count} ({argv[0]}): {error.strerror}; "
                "start fewer processes, or correct the command"
            ) from error

    def wait(self) -> int:
        forwarded = False
        while self.running:
            if self.received and not forwarded:
                forwarded = True
                self._signal_all(self.received[0][1])
            if self._asked_twice() and not self.killed:
                self.killed = True
                self.kill()
            self._collect()
            time.sleep(_POLL_S if self.running else 0)
        return max(self.statuses, key=_badness)

    @contextlib.contextmanager
    def none_left_behind(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.kill()
            for process in self.running.values():
                process.wait()

    def kill(self) -> None:
        for process in self.running.values():
            _kill_group(process.pid)

    def _signal_all(self, signum: signal.Signals) -> None:
        for process in self.running.values():
            process.send_signal(signum)

    def _asked_twice(self) -> bool:
        return bool(self.received) and (
            self.received[-1][0] - self.received[0][0] >= _SAME_REQUEST_S
        )

    def _asked_for(self, signum: int) -> bool:
        """Tell whether we sent this signal; SIGKILL without our doing is want of memory."""
        if signum == signal.SIGKILL:
            return self.killed
        return bool(self.received) and signum == self.received[0][1]

    def _collect(self) -> None:
        for rank, process in list(self.running.items()):
            status = process.poll()
            if status is not None:
                del self.running[rank]
                self._note(rank, process.pid, status)

    def _note(self, rank: int, pid: int, status: int) -> None:
        if status >= 0:
            self.statuses.append(status)
            return
        _kill_group(pid)  # what the dead process had started
        if self._asked_for(-status):
            self.statuses.append(_STOPPED[self.received[0][1]])
            return
        self.statuses.append(128 - status)
        sys.stderr.write(
            f"featurebench: process {rank} of {self.count} died by {_name(-status)}; "
            f"{len(self.running)} go on\n"
        )


def _environs(
    count: int, environ: Mapping[str, str], threads_each: int | None
) -> list[dict[str, str]]:
    outer = rank_from_environment(environ) or Rank(index=0, count=1, local_index=0)
    shared = dict(environ)
    if threads_each:
        shared["OMP_NUM_THREADS"] = str(threads_each)
    shared["WORLD_SIZE"] = str(outer.count * count)
    return [
        shared
        | {
            "RANK": str(outer.index * count + number),
            "LOCAL_RANK": str(outer.local_index * count + number),
        }
        for number in range(count)
    ]


@contextlib.contextmanager
def _noting(received: list[tuple[float, signal.Signals]]) -> Iterator[None]:
    """Note the signals that arrive instead of acting on them."""

    def note(signum: int, _frame: object) -> None:
        received.append((time.monotonic(), signal.Signals(signum)))

    before = {signum: signal.signal(signum, note) for signum in _FORWARDED}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _end_with_parent() -> Callable[[], None] | None:
    """Give what a new process runs to be sent SIGTERM when this one is gone, however it went."""
    if sys.platform != "linux":
        return None
    parent, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # gone before we asked
            os._exit(128 + signal.SIGTERM)

    return ask


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _name(signum: int) -> str:
    if signum == signal.SIGKILL:
        return "SIGKILL (for want of memory, as a rule)"
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


def _badness(status: int) -> int:
    """Order statuses: a bug (1) is worse than what the user can mend (2)."""
    return {1: 2, 2: 1}.get(status, status)
