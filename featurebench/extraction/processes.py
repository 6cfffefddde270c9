"""Reader processes: each reads tiles onto shelves, and is replaced when it dies or hangs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import deque
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from featurebench.errors import ExtractionError
from featurebench.extraction.reading import Order, Reading
from featurebench.extraction.shelves import Shelf, ShelfName, read_shelf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    from featurebench.extraction.reading import Feed, Inputs

# Longer than a file server takes to come back: a reader that waits for it must not count as hung.
PATIENCE_S = 180.0
# Python's and torch's modules may come from a slow disk.
START_PATIENCE_S = 600.0
AHEAD_PER_READER = 2
# So many readers in a row that end before they begin are no accident.
STILLBORN = 3
_LOOK_S = 0.5
_END_S = 5.0


@dataclass(eq=False)
class Job:
    """An order on its shelf, and how it goes.

    ``suspects`` are places of tiles at which a reader died or hung; those at which that happened
    twice are ``refused``.
    """

    order: Order
    shelf: Shelf
    suspects: set[int] = field(default_factory=set)
    refused: dict[int, str] = field(default_factory=dict)
    reading: Reading | None = None


class ReaderProcesses:
    """Processes that read tiles, each with a queue of its own; they share no lock.

    Which tile a reader has at hand stands in shared memory, so a reader that dies or hangs gives
    away the one that did it: that tile is read once more by the next reader, and refused if it
    happens again. All others are read again.

    Parameters
    ----------
    feeds
        What to make of each tile.
    batch_size
        Most tiles of an order.
    workers
        Number of processes.
    say
        Told in one line that a reader was lost.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        batch_size: int,
        workers: int,
        say: Callable[[str], None],
    ) -> None:
        self.n_ahead = AHEAD_PER_READER * workers
        self._feeds, self._batch_size, self._say = tuple(feeds), batch_size, say
        self._context = _context(self._feeds)
        self._n_stillborn = 0
        self._shelves: list[Shelf] = []
        self._readers: list[_Reader] = []
        try:
            for _ in range(workers):
                self._readers.append(self._new_reader())
        except BaseException:
            self.close()
            raise

    def new_inputs(self) -> tuple[Shelf, Inputs]:
        """Make a shelf."""
        shelf = Shelf(self._feeds, self._batch_size)
        self._shelves.append(shelf)
        return shelf, shelf.inputs

    def start(self, order: Order, room: Shelf) -> Job:
        """Give an order to the reader that has least to do."""
        job = Job(order, room)
        min(self._readers, key=lambda reader: len(reader.jobs)).give(job)
        return job

    def finish(self, job: Job) -> Reading:
        """Wait until all of an order is read or refused.

        Raises
        ------
        ExtractionError
            If no reader gets as far as to begin.
        """
        while job.reading is None:
            self._look()
        return Reading(job.reading.unreadable | job.refused, job.reading.seconds)

    def close(self) -> None:
        """End the readers, whatever they do, and free their memory."""
        for reader in self._readers:
            reader.end()
        for shelf in self._shelves:
            shelf.close()

    def _new_reader(self) -> _Reader:
        try:
            return _Reader(self._context, self._feeds)
        except (EOFError, OSError) as error:
            raise ExtractionError(
                f"a process that reads tiles cannot be started ({error}); read without: workers 0"
            ) from error

    def _look(self) -> None:
        """Take what readers say; replace those that died or hang."""
        lines = {reader.line: reader for reader in self._readers}
        for line in connection.wait(list(lines), timeout=_LOOK_S):
            self._listen(lines[line])
        for reader in list(self._readers):
            if reader.is_stuck():
                self._replace(reader, "hung")

    def _listen(self, reader: _Reader) -> None:
        try:
            answer = reader.line.recv()
        except (EOFError, OSError):
            self._replace(reader, reader.fate())
            return
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Reading):
            reader.jobs.popleft().reading = answer
        else:
            reader.has_begun = True
            self._n_stillborn = 0

    def _replace(self, reader: _Reader, fate: str) -> None:
        reader.end()
        if not reader.has_begun:
            self._count_stillborn(fate)
        elif reader.jobs:
            self._suspect(reader.jobs[0], fate)
        fresh = self._new_reader()
        self._readers[self._readers.index(reader)] = fresh
        for job in reader.jobs:
            fresh.give(job)

    def _suspect(self, job: Job, fate: str) -> None:
        at = job.shelf.at_hand
        if at in job.suspects:
            job.refused[at] = f"reading it twice, its reader {fate}: replace the file"
            return
        self._say(f"a reader of tiles {fate}; its tiles are read again")
        if at is not None:
            job.suspects.add(at)

    def _count_stillborn(self, fate: str) -> None:
        self._n_stillborn += 1
        if self._n_stillborn >= STILLBORN:
            raise ExtractionError(
                f"processes that read tiles {fate} before they could begin; a script that calls "
                "extract needs the line if __name__ == '__main__'; or read without: workers 0"
            )


class _Reader:
    """One process as seen from here: the line to it, and the orders that it has, oldest first."""

    def __init__(self, context: Any, feeds: tuple[Feed, ...]) -> None:  # noqa: ANN401
        self.line, theirs = context.Pipe()
        # nothing is ever written here: that it is closed tells a reader that this process ended
        watched, self._life = context.Pipe(duplex=False)
        self.jobs: deque[Job] = deque()
        self.has_begun = False
        self._sign: tuple[object, ...] = ()
        self._since = time.monotonic()
        self._process = context.Process(
            target=_serve, args=(theirs, watched, feeds), name="tile-reader", daemon=True
        )
        self._process.start()
        theirs.close()
        watched.close()

    def give(self, job: Job) -> None:
        """Send an order; should the reader be dead, it will be found on the next look."""
        job.shelf.put(job.order, job.refused)
        self.jobs.append(job)
        with contextlib.suppress(OSError):
            self.line.send(job.shelf.name)

    def is_stuck(self) -> bool:
        """Tell whether it has something to do and does not get on."""
        doing = (self.jobs[0], self.jobs[0].shelf.at_hand) if self.jobs else ()
        sign = (self.has_begun, *doing)
        if sign != self._sign or (self.has_begun and not doing):
            self._sign, self._since = sign, time.monotonic()
        patience = PATIENCE_S if self.has_begun else START_PATIENCE_S
        return time.monotonic() - self._since > patience

    def fate(self) -> str:
        """Say how it ended."""
        self._process.join(_END_S)
        code = self._process.exitcode
        if code is None:
            return "fell silent"
        if code == errno.ENOMEM:
            return "ran out of memory"
        return f"died (signal {-code})" if code < 0 else f"ended (exit status {code})"

    def end(self) -> None:
        """Kill it; one that waits for a disk in the kernel is left to end by itself."""
        self.line.close()
        self._life.close()
        self._process.kill()
        self._process.join(_END_S)


def _context(feeds: Sequence[Feed]) -> Any:  # noqa: ANN401
    """Choose how readers start: as copies of a process that has all that they need loaded."""
    # the path of a socket may be 107 bytes long, and the server's is in this folder
    if len(tempfile.gettempdir()) > 60:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    needed = {type(feed.prepare).__module__ for feed in feeds}
    ours = sorted(name for name in needed if name.startswith("featurebench."))
    context.set_forkserver_preload([__name__, *ours])
    return context


def _serve(line: Connection[Any, Any], life: Connection[Any, Any], feeds: tuple[Feed, ...]) -> None:
    """Read what is ordered, shelf after shelf, until the line ends."""
    _be_a_reader(life)
    line.send(None)
    while True:
        try:
            name: ShelfName = line.recv()
        except EOFError:
            return
        line.send(_read(name, feeds))


def _read(name: ShelfName, feeds: tuple[Feed, ...]) -> Reading | Exception:
    try:
        return read_shelf(name, feeds)
    except MemoryError:
        # as if the system had killed it, which is how memory ends more often
        raise SystemExit(errno.ENOMEM) from None
    except Exception as error:
        error.add_note(f"in a process that reads tiles:\n{traceback.format_exc()}")
        return error


def _be_a_reader(life: Connection[Any, Any]) -> None:
    """Use one core, leave Ctrl-C to the main process, and never outlive it."""
    import threadpoolctl

    # the kernel sends SIGIO, which ends also a process that hangs in a decoder
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    for ignored in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(ignored, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    threadpoolctl.threadpool_limits(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
