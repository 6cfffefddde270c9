"""What is around a store: clocks that are wrong, disks that are full or may only be read."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from store_cases import CLASSES, SPEC, make_obs, make_store, true_rows, write_all

from featurebench.errors import StoreError
from featurebench.store import FeatureStore, embedding, staging
from featurebench.store.files import private_name

if TYPE_CHECKING:
    from collections.abc import Iterator

YEAR_S = 365 * 86_400.0


@pytest.mark.parametrize("skew_s", [-YEAR_S, YEAR_S])
def test_a_wrong_clock_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew_s: float
) -> None:
    store = make_store(tmp_path, n=30)
    store.add(SPEC, block_rows=16)
    rows = true_rows(30)
    stage, now = staging.stage_shard, time.time
    now_ns = time.time_ns

    def stall(*args: Any) -> str:
        name = stage(*args)
        other = FeatureStore.open(store.path)
        assert [block.index for block in other.pending(SPEC)] == [0, 1]
        with other.claims() as claims:
            assert claims.take(SPEC.name, 1)
        return name

    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now() + skew_s)
        patch.setattr(time, "time_ns", lambda: now_ns() + int(skew_s * 1e9))
        patch.setattr(embedding, "stage_shard", stall)
        assert store.write(SPEC, store.blocks(SPEC)[0], rows[:16])
    again = FeatureStore.open(store.path)
    np.testing.assert_array_equal(again.load(SPEC, np.arange(16)), rows[:16].astype(np.float16))
    write_all(again)
    assert again.verify() == []


def test_a_running_writers_file_stays_however_old_it_looks(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=30)
    path = store.path / "staging" / f"{SPEC.name}.0.{private_name()}.shard"
    path.touch()
    os.utime(path, (1, 1))
    FeatureStore.open(store.path)
    assert path.exists()


def test_a_shard_removed_by_another_program_is_not_called_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path, n=30)
    store.add(SPEC, block_rows=16)
    stage = staging.stage_shard

    def lose(*args: Any) -> str:
        name = stage(*args)
        (store.path / "staging" / name).unlink()
        return name

    monkeypatch.setattr(embedding, "stage_shard", lose)
    with pytest.raises(StoreError, match="removed by another program; run the same command"):
        store.write(SPEC, store.blocks(SPEC)[0], true_rows(16))
    assert len(store.pending(SPEC)) == 2


def test_a_store_that_may_only_be_read_is_read_and_refuses_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path, n=30)
    store.add(SPEC, block_rows=16)
    rows = true_rows(30).astype(np.float16)
    store.write(SPEC, store.blocks(SPEC)[0], rows[:16])
    (store.path / "staging" / f"{SPEC.name}.1.{private_name()}.shard").touch()
    make_read_only(monkeypatch)
    again = FeatureStore.open(store.path)
    np.testing.assert_array_equal(again.load(SPEC, np.arange(16)), rows[:16])
    assert (again.verify(), again.refused(SPEC)) == ([], [])
    assert again.status()[0].n_done == 16
    again.update_obs(make_obs(30), CLASSES)
    with again.claims() as claims:
        assert claims.take(SPEC.name, 1)
    read_only = "could not be written: Read-only file system; mend that"
    with pytest.raises(StoreError, match=read_only):
        again.write(SPEC, again.blocks(SPEC)[1], true_rows(14))
    with pytest.raises(StoreError, match=read_only):
        again.update_obs(make_obs(30).assign(x=0), CLASSES)


def make_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse what a disk mounted read-only refuses, whoever runs the tests."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("mkdir", "link", "rename", "replace", "unlink", "utime", "rmdir"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(Path, "touch", refuse)
    real_open = io.open

    def open_file(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return refuse() if set(mode) & set("wxa+") else real_open(path, mode, *args, **kwargs)

    monkeypatch.setattr(io, "open", open_file)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(folder)]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("mounting a small disk takes the rights of root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_loses_nothing(small_disk: Path) -> None:
    store = make_store(small_disk, n=2000)
    store.add(SPEC, block_rows=256)
    rows = true_rows(2000)
    blocks = store.blocks(SPEC)
    store.write(SPEC, blocks[0], rows[:256])
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 8192))
    message = (
        r"block \d of .* could not be written: No space left on device "
        r"\(/.*/small/toy\.store has .*(bytes|kB) free and 3\.\d kB are needed\); free some space"
    )
    with pytest.raises(StoreError, match=message) as error:
        write_all(store)
    assert "\n" not in str(error.value)
    assert FeatureStore.open(store.path).verify() == []
    assert blocks[0] not in store.pending(SPEC)
    ballast.unlink()
    write_all(store)
    assert store.verify() == []
    np.testing.assert_array_equal(store.load(SPEC), rows.astype(np.float16))


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_a_file_system_without_links_is_refused_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(number, "not here", str(source), None, str(target))

    store = make_store(tmp_path / "a.store")
    store.require_writable()
    monkeypatch.setattr("os.link", refuse)
    with pytest.raises(StoreError, match=r"has no hard links \(not here\).*keep the store on"):
        store.require_writable()
    assert not list((store.path / "staging").iterdir())
