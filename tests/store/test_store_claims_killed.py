"""A process killed while it makes a claim, or takes one over, keeps nobody waiting."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from store_cases import SPEC, make_store

from featurebench.store import FeatureStore, claims
from featurebench.store.files import private_name

if TYPE_CHECKING:
    from pathlib import Path


class Killed(BaseException):
    """Stands for the end of the process: nothing that catches errors may act on it."""


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path, n=30)


def dead_owner() -> str:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    host, _, digits = private_name().rsplit("-", 2)
    return f"{host}-{child.pid}-{digits}"


@pytest.mark.parametrize("step", ["write", "link", "unlink"])
def test_a_claim_says_whose_it_is_or_is_not_there(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def die(*_: object, **__: object) -> None:
        raise Killed

    claim = store.path / "staging" / f"{SPEC.name}.0.claim"
    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr(claims, "_write", die)
        else:
            patch.setattr(os, step, die)
        with pytest.raises(Killed):
            store.claims().take(SPEC.name, 0)
    assert claim.exists() == (step == "unlink")
    assert not claim.exists() or claim.read_text().startswith(private_name()[:-32])


def test_a_lock_whose_thief_is_known_to_be_dead_is_broken_at_once(store: FeatureStore) -> None:
    staging, owner = store.path / "staging", dead_owner()
    staging.mkdir(exist_ok=True)
    (staging / f"{SPEC.name}.0.claim").write_text(owner)
    lock = staging / f"{SPEC.name}.0.{owner}.steal"
    lock.write_text(dead_owner())
    with store.claims() as ours:
        assert ours.take(SPEC.name, 0)
        assert not lock.exists()


def test_opening_a_store_removes_the_locks_of_the_dead_only(store: FeatureStore) -> None:
    staging = store.path / "staging"
    staging.mkdir(exist_ok=True)
    dead, live = (staging / f"{SPEC.name}.{n}.{dead_owner()}.steal" for n in range(2))
    dead.write_text(dead_owner())
    live.write_text(private_name())
    FeatureStore.open(store.path)
    assert (dead.exists(), live.exists()) == (False, True)
