"""Claims: who works on which block, told politely, with no harm done when it is told wrongly."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from store_cases import SPEC, make_store

from featurebench.store import Claims, FeatureStore, claims
from featurebench.store.files import private_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.synchronize import Barrier

NAME = SPEC.name


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path, n=30)


@pytest.fixture
def pair(store: FeatureStore) -> Iterator[tuple[Claims, Claims]]:
    with store.claims() as first, store.claims() as second:
        yield first, second


def claim_file(store: FeatureStore, block: int = 0) -> Path:
    return store.path / "staging" / f"{NAME}.{block}.claim"


def dead_owner() -> str:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    host, _, digits = private_name().rsplit("-", 2)
    return f"{host}-{child.pid}-{digits}"


def test_a_block_is_held_by_one(pair: tuple[Claims, Claims], store: FeatureStore) -> None:
    first, second = pair
    assert not first.held_elsewhere(NAME, 0)
    assert first.take(NAME, 0)
    assert first.take(NAME, 0)
    assert not second.take(NAME, 0)
    assert (first.held_elsewhere(NAME, 0), second.held_elsewhere(NAME, 0)) == (False, True)
    assert second.take(NAME, 1)
    assert second.take("another", 0)
    first.release(NAME, 0)
    first.release(NAME, 0)
    second.release(NAME, 7)
    assert second.take(NAME, 0)
    second.close()
    assert list((store.path / "staging").glob("*claim*")) == []
    assert first.take(NAME, 0)


def test_a_claim_of_a_process_that_died_is_taken_over_at_once(
    pair: tuple[Claims, Claims], store: FeatureStore
) -> None:
    first, second = pair
    first.take(NAME, 5)
    claim_file(store).write_text(dead_owner())
    assert not first.held_elsewhere(NAME, 0)
    assert first.take(NAME, 0)
    assert not second.take(NAME, 0)
    left = {path.name for path in (store.path / "staging").iterdir()}
    assert left == {f"{NAME}.{block}.claim" for block in (0, 5)}


@pytest.mark.parametrize("owner", [f"elsewhere-1-{0:032x}", ""])
@pytest.mark.parametrize("skew_s", [-3e7, 0, 3e7])
def test_a_claim_that_nobody_touches_for_a_minute_is_taken_over(
    pair: tuple[Claims, Claims],
    store: FeatureStore,
    monkeypatch: pytest.MonkeyPatch,
    owner: str,
    skew_s: float,
) -> None:
    first, _ = pair
    path, now = claim_file(store), time.monotonic()
    path.write_text(owner)
    os.utime(path, (time.time() + skew_s, time.time() + skew_s))
    clock = [now]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    assert not first.take(NAME, 0)
    clock[0] += 59
    assert first.held_elsewhere(NAME, 0)
    os.utime(path, (time.time() + skew_s - 5, time.time() + skew_s - 5))
    clock[0] += 59
    assert not first.take(NAME, 0)
    clock[0] += 59
    assert not first.take(NAME, 0)
    clock[0] += 2
    assert not first.held_elsewhere(NAME, 0)
    assert first.take(NAME, 0)


def test_a_held_claim_is_touched_and_a_stolen_one_is_let_go(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.01)
    with store.claims() as ours:
        ours.take(NAME, 0)
        path = claim_file(store)
        os.utime(path, (1, 1))
        wait_until(lambda: path.stat().st_mtime > 1)
        path.write_text(thief := private_name())
        wait_until(lambda: ours.held_elsewhere(NAME, 0))
        os.utime(path, (1, 1))
        time.sleep(0.05)
        assert path.stat().st_mtime == 1
    assert path.read_text() == thief


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    pytest.fail("it never came about")


def race(path: Path, rank: int, ready: Barrier, won: Path) -> None:
    ours = FeatureStore.open(path).claims()
    ready.wait()
    for block in range(40):
        if ours.take(NAME, block):
            (won / f"{block}-{rank}").touch()
    ready.wait()


@pytest.mark.parametrize("dead", [True, False])
def test_of_processes_that_race_one_wins(store: FeatureStore, tmp_path: Path, dead: bool) -> None:
    spawn = multiprocessing.get_context("spawn")
    (won := tmp_path / "won").mkdir()
    ready = spawn.Barrier(3)
    racers = [spawn.Process(target=race, args=(store.path, k, ready, won)) for k in range(2)]
    for racer in racers:
        racer.start()
    owner = dead_owner()
    for block in range(40 if dead else 0):
        claim_file(store, block).write_text(owner)
    ready.wait()
    ready.wait()
    for racer in racers:
        racer.join()
        assert racer.exitcode == 0
    assert sorted(int(p.name.partition("-")[0]) for p in won.iterdir()) == list(range(40))


def test_of_threads_that_steal_one_wins(store: FeatureStore) -> None:
    everyone, owner = [store.claims() for _ in range(8)], dead_owner()
    for block in range(30):
        claim_file(store, block).write_text(owner)
        barrier = threading.Barrier(8)
        won: list[bool] = []
        threads = [
            threading.Thread(target=steal, args=(ours, block, barrier, won)) for ours in everyone
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(won) == 1
    for ours in everyone:
        ours.close()


def steal(ours: Claims, block: int, barrier: threading.Barrier, won: list[bool]) -> None:
    barrier.wait()
    won.append(ours.take(NAME, block))


def test_a_lock_whose_thief_died_is_broken_in_time(
    pair: tuple[Claims, Claims], store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = pair
    owner = dead_owner()
    claim_file(store).write_text(owner)
    lock = claim_file(store).with_name(f"{NAME}.0.{owner}.steal")
    lock.touch()
    clock = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    assert not first.take(NAME, 0)
    clock[0] += 61
    assert not first.take(NAME, 0)
    assert not lock.exists()
    assert first.take(NAME, 0)


@pytest.mark.parametrize("reason", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_whatever_the_disk_refuses_is_permission(
    pair: tuple[Claims, Claims], monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    first, second = pair
    first.take(NAME, 0)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(reason, os.strerror(reason))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        assert second.take(NAME, 0)
        assert second.take(NAME, 1)
        assert not second.held_elsewhere(NAME, 0)
        first.release(NAME, 0)
    assert not second.take(NAME, 0)


def test_a_store_that_is_gone_is_permission(tmp_path: Path) -> None:
    with Claims(tmp_path / "gone.store" / "staging") as ours:
        assert ours.take(NAME, 0)
        assert not ours.held_elsewhere(NAME, 0)
    assert list(tmp_path.iterdir()) == []


def test_opening_a_store_removes_dead_claims_only(
    pair: tuple[Claims, Claims], store: FeatureStore
) -> None:
    pair[0].take(NAME, 0)
    claim_file(store, 1).write_text(dead_owner())
    claim_file(store, 2).write_text(f"elsewhere-1-{0:032x}")
    claim_file(store, 3).write_text(f"elsewhere-1-{0:032x}")
    then = time.time() - 2 * 86_400
    os.utime(claim_file(store, 3), (then, then))
    FeatureStore.open(store.path)
    left = {path.name for path in (store.path / "staging").iterdir()}
    assert left == {f"{NAME}.{block}.claim" for block in (0, 2)}
