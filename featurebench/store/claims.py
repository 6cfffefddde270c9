"""Claims: polite notes of which blocks a process works on, so that two seldom do the same one."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurebench.store.files import owner_runs, private_name

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

HEARTBEAT_S = 10.0
STALE_S = 60.0


@dataclass(frozen=True)
class _Sign:
    """What a claim looked like: who holds it, and when it was last touched by its own clock."""

    owner: str
    touched_ns: int


class Claims:
    """Blocks that this process says it works on, each a small file in a store's ``staging``.

    Nothing that is committed depends on claims: a claim that is lost, stolen or ignored costs
    double work and no more. So whatever the disk refuses is taken for permission to go on.

    A claim is touched every ten seconds by a thread. It is dead, and taken over by whoever asks
    next, when its owner is a process of this host that no longer runs, or when it has not been
    touched for a minute by the steady clock of the process that asks.

    Made by `FeatureStore.claims`; use it in a ``with`` statement, or call `close`.
    """

    def __init__(self, staging: Path) -> None:
        self._staging = staging
        self._held: dict[Path, str] = {}
        self._watched: dict[Path, tuple[_Sign, float]] = {}
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._heart: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def take(self, spec_name: str, block: int) -> bool:
        """Claim a block of an embedding.

        Returns
        -------
        bool
            False if another live process holds it; True if it is ours now, was ours already, or
            no claim can be made here.
        """
        path = self._path(spec_name, block)
        with self._lock:
            if path in self._held:
                return True
            try:
                taken = self._create(path) or self._take_over(path)
            except OSError:
                return True
            if taken:
                self._start()
            return taken

    def held_elsewhere(self, spec_name: str, block: int) -> bool:
        """Tell whether another live process works on a block."""
        path = self._path(spec_name, block)
        with self._lock:
            if path in self._held:
                return False
            try:
                sign = _read_sign(path)
            except OSError:
                return False
            return sign is not None and not self._is_dead(path, sign)

    def release(self, spec_name: str, block: int) -> None:
        """Give a block up, done or not; nothing happens if it is not ours."""
        with self._lock:
            self._drop(self._path(spec_name, block))

    def close(self) -> None:
        """Give every block up and stop touching claims."""
        self._stop.set()
        with self._lock:
            for path in list(self._held):
                self._drop(path)
            heart, self._heart = self._heart, None
        if heart is not None:
            heart.join()

    def _path(self, spec_name: str, block: int) -> Path:
        return self._staging / f"{spec_name}.{block}.claim"

    def _create(self, path: Path) -> bool:
        self._staging.mkdir(exist_ok=True)
        owner = private_name()
        try:
            _write_new(path, owner)
        except FileExistsError:
            return False
        self._held[path] = owner
        return True

    def _is_dead(self, path: Path, sign: _Sign) -> bool:
        return owner_runs(sign.owner) is False or self._has_rested(path, sign)

    def _has_rested(self, path: Path, sign: _Sign) -> bool:
        """Tell whether a file looks as it did a minute ago; the first look starts the minute."""
        now = time.monotonic()
        before, since = self._watched.get(path, (sign, now))
        if before != sign:
            since = now
        self._watched[path] = (sign, since)
        return now - since > STALE_S

    def _take_over(self, path: Path) -> bool:
        """Put our claim in the place of a dead one; of several processes that try, one does."""
        sign = _read_sign(path)
        if sign is None or not self._is_dead(path, sign):
            return False
        lock = path.with_name(f"{path.stem}.{sign.owner}.steal")
        if not (self._lock_up(lock) or (self._break(lock) and self._lock_up(lock))):
            return False
        try:
            return _owner(path) == sign.owner and self._replace(path)
        finally:
            lock.unlink(missing_ok=True)

    def _replace(self, path: Path) -> bool:
        owner = private_name()
        private = path.with_name(f"{owner}.claim")
        _write(private, owner)
        private.replace(path)
        self._held[path] = owner
        return True

    def _lock_up(self, lock: Path) -> bool:
        try:
            _write_new(lock, private_name())
        except FileExistsError:
            return False
        return True

    def _break(self, lock: Path) -> bool:
        """Remove the lock of a process that died while it took a claim over.

        Tells whether it died for certain; of one that may have stood still, whoever comes next
        takes the claim.
        """
        sign = _read_sign(lock)
        died = sign is not None and owner_runs(sign.owner) is False
        if died or (sign is not None and self._has_rested(lock, sign)):
            lock.unlink(missing_ok=True)
        return died

    def _drop(self, path: Path) -> None:
        owner = self._held.pop(path, None)
        with contextlib.suppress(OSError):
            if owner is not None and _owner(path) == owner:
                path.unlink(missing_ok=True)

    def _start(self) -> None:
        if self._heart is None:
            self._stop = threading.Event()
            self._heart = threading.Thread(
                target=self._beat, args=(self._stop,), name="featurebench claims", daemon=True
            )
            self._heart.start()

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(HEARTBEAT_S):
            with self._lock:
                for path, owner in list(self._held.items()):
                    self._touch(path, owner)

    def _touch(self, path: Path, owner: str) -> None:
        with contextlib.suppress(OSError):
            if _owner(path) == owner:
                os.utime(path)
            else:
                # stolen or swept away while this process stood still
                del self._held[path]


def is_dead_claim(path: Path) -> bool:
    """Tell whether a file is the claim of a process of this host that no longer runs."""
    if path.suffix not in {".claim", ".steal"}:
        return False
    owner = _owner(path)
    return owner is not None and owner_runs(owner or path.stem) is False


def _owner(path: Path) -> str | None:
    sign = _read_sign(path)
    return None if sign is None else sign.owner


def _read_sign(path: Path) -> _Sign | None:
    try:
        # opening, unlike stat, makes a network file system ask its server again
        with path.open("rb") as file:
            owner = file.read(256).decode("ascii", "replace")
            return _Sign(owner, os.fstat(file.fileno()).st_mtime_ns)
    except FileNotFoundError:
        return None


def _write_new(path: Path, text: str) -> None:
    """Make a file that appears whole: a kill must leave none that does not say whose it is."""
    private = path.with_name(f"{private_name()}.claim")
    _write(private, text)
    try:
        os.link(private, path)
    except FileExistsError:
        # over a network file system a link that was made can be answered with an error
        if private.stat().st_nlink != 2:
            raise
    finally:
        private.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    """Write a file, not flushed: a claim need not outlive the machine."""
    with path.open("xb") as file:
        try:
            file.write(text.encode())
            file.flush()
        except OSError:
            path.unlink(missing_ok=True)
            raise
