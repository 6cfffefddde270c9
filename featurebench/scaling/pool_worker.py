"""One process of deal_locally(), seen from both ends: it runs a function on one item at a time."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import subprocess
import sys
import traceback
from functools import lru_cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_LAST_S = 5.0
_PR_SET_PDEATHSIG = 1
# What the process runs; it finds modules where this one finds them.
_SERVE = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path[:] = sys.argv[3:]
from featurebench.scaling.pool_worker import serve
serve(*map(int, sys.argv[1:3]))
"""


class Answer(NamedTuple):
    """What came of one item: a result, or an error where there is one."""

    result: Any
    error: BaseException | None


class Worker:
    """A process started from scratch, as its caller sees it.

    Parameters
    ----------
    threads
        Of OpenMP and of the BLAS libraries.

    Raises
    ------
    OSError
        If the process cannot be started.
    """

    def __init__(self, threads: int) -> None:
        self.connection, theirs = Pipe()
        with theirs:
            numbers = [str(theirs.fileno()), str(os.getpid())]
            # A group of its own: what the process starts ends with it, and Ctrl-C is ours alone.
            self.process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, *numbers, *sys.path],
                env=os.environ | dict.fromkeys(_THREADS, str(threads)),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )

    def give(self, value: object) -> None:
        """Send the function, first of all, or the next item, once the last one is answered."""
        message = _pickled(value)
        with contextlib.suppress(OSError):  # answer() tells that the process is dead
            self.connection.send_bytes(message)

    def answer(self) -> Answer | None:
        """Receive what came of the item; None where the process is dead."""
        try:
            message = self.connection.recv_bytes() if self.connection.poll() else b""
        except (EOFError, OSError):
            return None
        return Answer(*pickle.loads(message)) if message else None

    def finish(self) -> None:
        """Let the process end in order, if it is quick."""
        self.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_LAST_S)

    def end(self) -> int:
        """Kill what is left of the process and of those it started; return its status."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.connection.close()
        return self.process.wait()


def serve(descriptor: int, parent: int) -> None:
    """Run in the new process: answer items until the caller closes the pipe or is gone.

    Parameters
    ----------
    descriptor
        Of the pipe.
    parent
        Process id of the caller.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # gone before we asked
        return
    with Connection(descriptor) as connection, contextlib.suppress(EOFError, OSError):
        function = connection.recv_bytes()
        while True:
            connection.send_bytes(_answered(function, connection.recv_bytes()))


def _answered(function: bytes, item: bytes) -> bytes:
    try:
        return _pickled(Answer(_loaded(function)(pickle.loads(item)), None))
    except BaseException as error:  # whatever it is, the caller raises it
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        return _pickled(Answer(None, _portable(error)))


@lru_cache(maxsize=1)
def _loaded(function: bytes) -> Callable[[Any], Any]:
    loaded: Callable[[Any], Any] = pickle.loads(function)
    return loaded


def _portable(error: BaseException) -> BaseException:
    """Give an error that survives the journey; not all can be pickled and read again."""
    try:
        pickle.loads(_pickled(error))
    except Exception:  # whatever the methods of its class raise
        stand_in = RuntimeError(f"{type(error).__qualname__}: {error}")
        stand_in.__notes__ = error.__notes__
        return stand_in
    return error


def _pickled(value: object) -> bytes:
    return bytes(cloudpickle.dumps(value))
