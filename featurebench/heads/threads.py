"""own_threads(): the threads that BLAS was given, used for pieces of our own work instead."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_info, threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Pool = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@contextmanager
def own_threads(threads: int | None = None) -> Iterator[Pool]:
    """Give a ``map`` over as many threads as BLAS has now, and BLAS one thread meanwhile.

    Pieces of work that each make a product of their own need no waiting for each other. BLAS's
    threads wait by spinning, so that on a machine that has other work, too, two of them can be
    ten times slower than one. And sums do not depend on how many there are.

    Parameters
    ----------
    threads
        Instead of BLAS's number.
    """
    count = threads or blas_threads()
    with threadpool_limits(1, user_api="blas"):
        if count == 1:
            yield map
            return
        with ThreadPoolExecutor(count) as executor:
            yield executor.map


def blas_threads() -> int:
    """Threads that BLAS has now."""
    return max([i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"], default=1)
