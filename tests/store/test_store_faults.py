"""What a store survives: operations that fail, writers that die, disks that are read-only."""

from __future__ import annotations

import errno
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from store_cases import (
    CLASSES,
    SPEC,
    flip_bit,
    make_obs,
    make_store,
    shard_path,
    true_rows,
    write_all,
)

from featurebench.errors import MissingRowsError, StoreError
from featurebench.store import FeatureStore, creation
from featurebench.store import files as files_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OPERATIONS = [(os, "fsync"), (os, "link"), (os, "rename"), (os, "replace"), (os, "mkdir")]
OPERATIONS += [(os, "unlink"), (io, "open")]


class Killed(BaseException):
    """Stands for the end of the process: nothing that catches errors may act on it."""


@contextmanager
def failing(nth: int, error: Callable[[], BaseException]) -> Iterator[list[str]]:
    """Let the n-th change of the file system fail; yields the names of those that were made."""
    made: list[str] = []

    def wrap(name: str, function: Any) -> Any:
        def operation(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and "b" in str(args[1:2]) and "x" not in str(args[1:2]):
                return function(*args, **kwargs)
            made.append(name)
            if len(made) == nth:
                raise error()
            return function(*args, **kwargs)

        return operation

    with pytest.MonkeyPatch.context() as patch:
        for module, name in OPERATIONS:
            patch.setattr(module, name, wrap(name, getattr(module, name)))
        yield made


def no_space() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def no_quota() -> OSError:
    return OSError(errno.EDQUOT, "Disk quota exceeded")


def no_answer() -> OSError:
    return OSError(errno.EIO, "Input/output error")


def stale_handle() -> OSError:
    return OSError(errno.ESTALE, "Stale file handle")


ERRORS = [no_space, no_quota, no_answer, stale_handle, Killed]


def assert_valid(path: Path, rows: np.ndarray[Any, np.dtype[np.float16]]) -> int:
    """Reopen a store: what is committed is right, the rest can be written; count the rest."""
    store = FeatureStore.open(path)
    assert store.verify() == []
    pending = {block.index for block in store.pending(SPEC)}
    for block in store.blocks(SPEC):
        here = np.arange(block.start, block.stop)
        if block.index in pending:
            with pytest.raises(MissingRowsError):
                store.load(SPEC, here)
        else:
            np.testing.assert_array_equal(store.load(SPEC, here), rows[here])
    write_all(store)
    np.testing.assert_array_equal(store.load(SPEC), rows)
    assert store.verify() == []
    return len(pending)


@pytest.mark.parametrize("error", ERRORS)
def test_whichever_operation_of_a_write_fails_the_store_is_valid(
    tmp_path: Path, error: Callable[[], BaseException]
) -> None:
    template = make_store(tmp_path, n=30)
    template.add(SPEC, block_rows=16)
    rows = true_rows(30)
    template.write(SPEC, template.blocks(SPEC)[0], rows[:16])
    outcomes = []
    for nth in range(1, 99):
        copy = tmp_path / f"{nth}.store"
        shutil.copytree(template.path, copy)
        store = FeatureStore.open(copy)
        with failing(nth, error) as made, suppress(StoreError, Killed):
            store.write(SPEC, store.blocks(SPEC)[1], rows[16:])
        outcomes.append(assert_valid(copy, rows.astype(np.float16)))
        if len(made) < nth:
            break
    assert nth > 12
    assert outcomes == sorted(outcomes, reverse=True)
    assert set(outcomes) == {0, 1}
    assert {"fsync", "link", "replace", "mkdir", "unlink", "open"} <= set(made)


@pytest.mark.parametrize("error", [no_space, Killed])
def test_whichever_operation_of_adding_fails_it_can_be_repeated(
    tmp_path: Path, error: Callable[[], BaseException]
) -> None:
    template = make_store(tmp_path, n=30)
    for nth in range(1, 199, 5):
        copy = tmp_path / f"{nth}.store"
        shutil.copytree(template.path, copy)
        store = FeatureStore.open(copy)
        with failing(nth, error) as made, suppress(StoreError, Killed):
            store.add(SPEC, block_rows=16)
        assert store.embeddings() in ([], [SPEC])
        store.add(SPEC, block_rows=16)
        assert store.embeddings() == [SPEC]
        write_all(store)
        if len(made) < nth:
            break
    assert nth > 12


@pytest.mark.parametrize("error", [no_space, Killed])
def test_whichever_operation_of_a_new_table_fails_it_can_be_repeated(
    tmp_path: Path, error: Callable[[], BaseException]
) -> None:
    template = make_store(tmp_path, n=5)
    table = make_obs(5).assign(label="tumour")
    for nth in range(1, 199, 7):
        copy = tmp_path / f"{nth}.store"
        shutil.copytree(template.path, copy)
        store = FeatureStore.open(copy)
        with failing(nth, error) as made, suppress(StoreError, Killed):
            store.update_obs(table, CLASSES)
        FeatureStore.open(copy).update_obs(table, CLASSES)
        assert FeatureStore.open(copy).verify() == []
        if len(made) < nth:
            break
    assert nth > 12


@pytest.mark.parametrize("error", [no_space, Killed])
def test_whichever_operation_of_a_repair_fails_nothing_sound_is_lost(
    tmp_path: Path, error: Callable[[], BaseException]
) -> None:
    template = make_store(tmp_path, n=30)
    template.add(SPEC, block_rows=16)
    rows = write_all(template)
    flip_bit(shard_path(template, template.blocks(SPEC)[1]), 9)
    flip_bit(template.path / "embeddings.zarr" / "obsm" / SPEC.name / "zarr.json", 77)
    problems = template.verify()
    for nth in range(1, 99, 2):
        copy = tmp_path / f"{nth}.store"
        shutil.copytree(template.path, copy)
        store = FeatureStore.open(copy)
        with failing(nth, error) as made, suppress(StoreError, Killed):
            store.repair(problems)
        again = FeatureStore.open(copy)
        again.repair(again.verify())
        assert assert_valid(copy, rows) == 1
        if len(made) < nth:
            break
    assert nth > 12


def test_a_store_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    for nth in (*range(1, 200, 19), 999):
        folder = tmp_path / str(nth)
        folder.mkdir()
        with failing(nth, no_space) as made, suppress(StoreError):
            make_store(folder, n=5)
        assert [path.name for path in folder.iterdir()] in ([], ["toy.store"])
        store = make_store(folder, n=5)
        assert store.n_tiles == 5
        assert list(folder.iterdir()) == [store.path]
    assert len(made) < 999


def test_what_zarrs_threads_write_after_a_failure_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def fail(root: Path, *_: Any) -> None:
        def write() -> None:
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                root.mkdir(parents=True, exist_ok=True)
                with suppress(OSError):
                    (root / "late").write_bytes(b"0")

        threads.append(Thread(target=write))
        threads[0].start()
        raise no_space()

    monkeypatch.setattr(creation, "write_skeleton", fail)
    with pytest.raises(StoreError, match="No space"):
        make_store(tmp_path, n=5)
    threads[0].join()
    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_was_recorded_but_not_moved_is_read_and_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path, n=30)
    store.add(SPEC, block_rows=16)
    block = store.blocks(SPEC)[0]
    rows = true_rows(16)

    def read_only(*_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", read_only)
        assert store.write(SPEC, block, rows)
        assert not shard_path(store, block).exists()
        loaded = FeatureStore.open(store.path).load(SPEC, np.arange(16))
        np.testing.assert_array_equal(loaded, rows.astype(np.float16))
        assert store.verify() == []
    staged = list((store.path / "staging").iterdir())
    assert len(staged) == 1
    monkeypatch.setattr(files_module, "DAY_S", -1.0)
    FeatureStore.open(store.path)
    assert shard_path(store, block).exists()
    assert list((store.path / "staging").iterdir()) == []
    np.testing.assert_array_equal(store.load(SPEC, np.arange(16)), loaded)


def test_a_full_disk_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=4000)
    store.add(SPEC)
    block = store.pending(SPEC)[0]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        with pytest.raises(
            StoreError, match=r"block 0 of resnet18.* \(49\.5 kB\) could not be written"
        ):
            store.write(SPEC, block, true_rows(4000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert list((store.path / "staging").iterdir()) == []
    assert store.pending(SPEC) == [block]
    write_all(store)
    assert store.verify() == []


@pytest.mark.parametrize("step", ["create", "add", "update_obs"])
def test_a_disk_that_refuses_is_an_error_to_mend(tmp_path: Path, step: str) -> None:
    store = make_store(tmp_path, n=30)
    steps: dict[str, Callable[[], object]] = {
        "create": lambda: make_store(tmp_path, n=30, name="other.store"),
        "add": lambda: store.add(SPEC),
        "update_obs": lambda: store.update_obs(make_obs(30).assign(x=0), CLASSES),
    }
    with (
        failing(1, no_space),
        pytest.raises(StoreError, match=r"No space.* free\); free some space"),
    ):
        steps[step]()


@pytest.mark.parametrize("reply", [errno.EEXIST, errno.EIO])
def test_a_link_whose_answer_was_lost_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: int
) -> None:
    store = make_store(tmp_path, n=30)
    store.add(SPEC, block_rows=16)
    link = os.link

    def lost(source: Path, target: Path) -> None:
        link(source, target)
        raise OSError(reply, "answer lost")

    monkeypatch.setattr(os, "link", lost)
    write_all(store)
    assert store.pending(SPEC) == []
    assert store.verify() == []


def test_a_file_replaced_on_a_server_is_read_at_the_second_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path, n=30)
    store.add(SPEC, block_rows=16)
    rows = write_all(store)
    read, stale = Path.read_bytes, set[Path]()

    def read_bytes(path: Path) -> bytes:
        if path not in stale:
            stale.add(path)
            raise stale_handle()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    np.testing.assert_array_equal(FeatureStore.open(store.path).load(SPEC), rows)
    assert {"store.json", "0.json", "1.json", "zarr.json"} == {path.name for path in stale}


def test_without_hard_links_nothing_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path, n=30)
    store.add(SPEC, block_rows=16)

    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreError, match="Operation not permitted"):
        store.write(SPEC, store.blocks(SPEC)[0], true_rows(16))
    assert len(store.pending(SPEC)) == 2


def test_what_dead_writers_left_is_removed_and_what_live_ones_have_is_not(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=30)
    store.add(SPEC, block_rows=16)
    host = files_module.private_name().rsplit("-", 2)[0]
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    hour_ago, days_ago = time.time() - 3600, time.time() - 2 * 86_400
    cases = [  # host, pid, time of change, whether it stays
        (host, child.pid, hour_ago, False),
        (host, child.pid, time.time(), True),
        (host, os.getpid(), hour_ago, True),
        ("elsewhere", child.pid, hour_ago, True),
        ("elsewhere", child.pid, days_ago, False),
    ]
    for k, (owner, pid, changed, _) in enumerate(cases):
        for suffix in ("shard", "json", "array"):
            stem = f"{SPEC.name}.1." if suffix == "shard" else ""
            path = store.path / "staging" / f"{stem}{owner}-{pid}-{k:032x}.{suffix}"
            if suffix == "array":
                path.mkdir()
            else:
                path.write_bytes(b"half a sha")
            os.utime(path, (changed, changed))
    FeatureStore.open(store.path)
    left = {path.name for path in (store.path / "staging").iterdir()}
    for k, (*_, stays) in enumerate(cases):
        assert sum(f"-{k:032x}." in name for name in left) == (3 if stays else 0)


def test_left_behind_stores_are_removed_when_one_is_created(tmp_path: Path) -> None:
    old = tmp_path / f"toy.store.elsewhere-1-{0:032x}.tmp"
    old.mkdir()
    then = time.time() - 2 * 86_400
    os.utime(old, (then, then))
    store = make_store(tmp_path)
    assert list(tmp_path.iterdir()) == [store.path]
