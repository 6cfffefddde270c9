"""Readers: tiles read ahead of the network, in order, by processes that may die."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from featurebench.extraction.processes import ReaderProcesses
from featurebench.extraction.reading import Order, Reading, new_inputs, read_tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from featurebench.extraction.reading import Feed, Inputs

Tag = TypeVar("Tag")


@dataclass(frozen=True)
class ReadTiles(Generic[Tag]):
    """Tiles whose inputs are ready; the arrays are overwritten once the next ones are asked for.

    Parameters
    ----------
    tag
        What was asked for together with these tiles.
    rows
        Of the tiles that could be read.
    inputs
        Of each feed, shape (len(rows), ...).
    unreadable
        Row and reason of each of the others.
    seconds
        What the preparation of each feed took.
    """

    tag: Tag
    rows: tuple[int, ...]
    inputs: dict[Feed, Any]
    unreadable: tuple[tuple[int, str], ...]
    seconds: dict[Feed, float]

    def __len__(self) -> int:
        """Count the tiles, readable or not."""
        return len(self.rows) + len(self.unreadable)


class _Pool(Protocol):
    """Who reads: a thread of this process, or other processes."""

    n_ahead: int

    def new_inputs(self) -> tuple[Any, Inputs]:
        """Make room for the inputs of a batch: what names it to the pool, and its arrays."""

    def start(self, order: Order, room: Any) -> Any:  # noqa: ANN401
        """Begin to read; gives what `finish` takes."""

    def finish(self, job: Any) -> Reading:  # noqa: ANN401
        """Wait until all is read; tiles that cannot be are given with the reason."""

    def close(self) -> None:
        """Stop reading and free the room."""


class TileReaders:
    """Reads tiles ahead of their use, a bounded number of batches, and gives them in order.

    Parameters
    ----------
    feeds
        What to make of each tile.
    batch_size
        Most tiles of an order.
    workers
        Processes that read; 0 reads in a thread of this one, which a file that crashes or hangs
        a decoder takes along.
    say
        Told in one line what a user should know.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        *,
        batch_size: int,
        workers: int,
        say: Callable[[str], None],
    ) -> None:
        self._feeds = tuple(feeds)
        self._pool: _Pool = (
            ReaderProcesses(self._feeds, batch_size, workers, say)
            if workers
            else _Thread(self._feeds, batch_size)
        )
        self._free = [self._pool.new_inputs() for _ in range(self._pool.n_ahead + 1)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._free.clear()
        self._pool.close()

    def read(self, orders: Iterable[tuple[Tag, Order]]) -> Iterator[ReadTiles[Tag]]:
        """Read orders, which are asked for one by one as room for them becomes free."""
        queue: deque[tuple[Tag, Order, tuple[Any, Inputs], Any]] = deque()
        source = iter(orders)
        while True:
            while self._free and (asked := next(source, None)) is not None:
                room = self._free.pop()
                queue.append((*asked, room, self._pool.start(asked[1], room[0])))
            if not queue:
                return
            tag, order, room, job = queue.popleft()
            reading = self._pool.finish(job)
            yield self._result(tag, order, room[1], reading)
            self._free.append(room)

    def _result(self, tag: Tag, order: Order, inputs: Inputs, reading: Reading) -> ReadTiles[Tag]:
        reasons = reading.unreadable
        good = [at for at in range(len(order.rows)) if at not in reasons]
        whole = len(good) == len(order.rows)
        chosen = [array[: len(good)] if whole else array[good] for array in inputs]
        return ReadTiles(
            tag,
            tuple(order.rows[at] for at in good),
            dict(zip(self._feeds, chosen, strict=True)),
            tuple((order.rows[at], reason) for at, reason in sorted(reasons.items())),
            dict(zip(self._feeds, reading.seconds, strict=True)),
        )


class _Thread:
    """One thread of this process."""

    n_ahead = 2

    def __init__(self, feeds: Sequence[Feed], batch_size: int) -> None:
        self._feeds, self._batch_size = feeds, batch_size
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="tile-reader")

    def new_inputs(self) -> tuple[Inputs, Inputs]:
        inputs = new_inputs(self._feeds, self._batch_size)
        return inputs, inputs

    def start(self, order: Order, room: Inputs) -> Future[Reading]:
        return self._executor.submit(read_tiles, order, self._feeds, room)

    def finish(self, job: Future[Reading]) -> Reading:
        return job.result()

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)
