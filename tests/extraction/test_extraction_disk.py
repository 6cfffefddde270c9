"""Disks that fill up, fail or may only be read: extraction loses nothing and says what to do."""

from __future__ import annotations

import errno
import io
import os
import resource
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from extraction_cases import (
    BLOCK_ROWS,
    MeanColour,
    as_backbone,
    mean_colours,
    new_manifest,
    new_store,
    settings,
)
from fork_cases import picture

from featurebench.errors import ExtractionError, FeatureBenchError, StoreError
from featurebench.extraction import extract
from featurebench.store import FeatureStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from featurebench.tiles import TileManifest

N_TILES = 4 * BLOCK_ROWS
CHANGES = [(os, name) for name in ("fsync", "link", "rename", "replace", "mkdir", "unlink")]
CHANGES += [(io, "open")]


@pytest.fixture
def manifest(tmp_path: Path) -> TileManifest:
    return new_manifest(tmp_path / "tiles", N_TILES)


@pytest.fixture
def calm(tmp_path: Path, manifest: TileManifest) -> dict[str, Any]:
    """What an undisturbed extraction leaves on disk."""
    store = new_store(tmp_path / "calm.store", manifest)
    extract(manifest, as_backbone(), store, settings())
    return picture(store.path)


@contextmanager
def failing(number: int, store: Path) -> Iterator[list[str]]:
    """Let one change of a store's files fail, or none; yields those that were made."""
    made: list[str] = []

    def wrap(name: str, function: Any) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            writes = name != "open" or set("xwa+") & set(str(args[1] if args[1:] else "r"))
            if writes and (name == "fsync" or str(store) in f"{args[0]}"):
                made.append(name)
                if len(made) == number:
                    raise OSError(errno.EIO, "Input/output error")
            return function(*args, **kwargs)

        return operation

    with pytest.MonkeyPatch.context() as patch:
        for module, name in CHANGES:
            patch.setattr(module, name, wrap(name, getattr(module, name)))
        yield made


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 9])
def test_whichever_change_of_the_disk_fails_the_next_run_completes(
    tmp_path: Path, manifest: TileManifest, calm: dict[str, Any], step: int
) -> None:
    template = new_store(tmp_path / "template.store", manifest)
    outcomes = set()
    for number in range(1, 999, step):
        store = FeatureStore.open(shutil.copytree(template.path, tmp_path / f"{number}.store"))
        failed = None
        with failing(number, store.path) as made:
            try:
                extract(manifest, as_backbone(), store, settings())
            except StoreError as error:
                failed = str(error)
        outcomes.add(failed is None)
        if failed is not None:
            assert "could not be written: Input/output error" in failed
            assert "run the same command again, what is committed stays" in failed
            assert "\n" not in failed
        again = FeatureStore.open(store.path)
        # an array that was about to be added is all that may be missing
        assert {(p.block, p.stop) for p in again.verify()} <= {(-1, N_TILES)}
        extract(manifest, as_backbone(), again, settings())
        assert again.verify() == []
        assert picture(store.path) == calm
        if len(made) < number:
            break
    # claims and what is tidied up may fail without any harm
    assert outcomes == {True, False}
    assert number > 12 * N_TILES // BLOCK_ROWS


@contextmanager
def files_end_at(n_bytes: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes, as a quota or a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_in_the_middle_loses_nothing(
    tmp_path: Path,
    manifest: TileManifest,
    calm: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = new_store(tmp_path / "toy.store", manifest)
    write = FeatureStore.write
    blocks = iter(range(99))

    def write_less(*args: Any, **kwargs: Any) -> bool:
        if next(blocks) < 2:
            return write(*args, **kwargs)
        with files_end_at(20):
            return write(*args, **kwargs)

    monkeypatch.setattr(FeatureStore, "write", write_less)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with pytest.raises(StoreError, match=r"block 2 of mean_colour.* could not be written") as told:
        extract(manifest, as_backbone(), store, settings())
    signal.signal(signal.SIGXFSZ, before)
    monkeypatch.undo()
    assert "\n" not in str(told.value)
    (spec,) = store.embeddings()
    assert [block.index for block in store.pending(spec)] == [2, 3]
    assert (store.verify(), list((store.path / "staging").iterdir())) == ([], [])
    extract(manifest, as_backbone(), store, settings())
    assert picture(store.path) == calm


def test_too_little_room_is_told_before_the_first_tile(
    tmp_path: Path, manifest: TileManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path / "toy.store", manifest)
    networks = [MeanColour(name) for name in (b"first", b"second")]
    needed = 2 * N_TILES * 3 * 2
    disk = SimpleNamespace(total=10**12, used=10**12, free=needed - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: disk)
    with pytest.raises(
        ExtractionError,
        match=rf"2 embeddings of 32 tiles need {needed} bytes more and the disk of toy.store has "
        rf"{needed - 1} bytes free; make room",
    ) as told:
        extract(manifest, [as_backbone(network) for network in networks], store, settings())
    assert "\n" not in str(told.value)
    assert (store.embeddings(), networks[0].n_embedded) == ([], 0)
    disk.free = needed
    one_block = settings(blocks={0}.__contains__)
    extract(manifest, [as_backbone(network) for network in networks], store, one_block)
    # what is there already needs no room
    disk.free = needed - 2 * BLOCK_ROWS * 3 * 2
    extract(manifest, [as_backbone(network) for network in networks], store, settings())
    for spec in store.embeddings():
        np.testing.assert_array_equal(store.load(spec), mean_colours(manifest))


@pytest.mark.parametrize("known", [False, True], ids=["a new embedding", "an old one"])
def test_a_store_that_may_only_be_read_is_refused_early(
    tmp_path: Path, manifest: TileManifest, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    store = new_store(tmp_path / "toy.store", manifest)
    if known:
        extract(manifest, as_backbone(), store, settings(blocks={0}.__contains__))
    stub = MeanColour()
    with monkeypatch.context() as patch:
        make_read_only(patch, store.path)
        again = FeatureStore.open(store.path)
        with pytest.raises(FeatureBenchError, match="could not be written: Read-only") as told:
            extract(manifest, as_backbone(stub), again, settings())
    assert "\n" not in str(told.value)
    assert stub.n_embedded == 0
    report = extract(manifest, as_backbone(stub), store, settings())
    np.testing.assert_array_equal(store.load(report.embeddings[0].spec), mean_colours(manifest))


def make_read_only(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Refuse what a disk mounted read-only refuses, whoever runs the tests."""

    def refused(name: str, function: Any) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            mode = args[1] if args[1:] else kwargs.get("mode", "r")
            if str(folder) in f"{args[0]}" and (name != "open" or set("xwa+") & set(str(mode))):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return function(*args, **kwargs)

        return operation

    for module, name in CHANGES[1:]:
        patch.setattr(module, name, refused(name, getattr(module, name)))
    patch.setattr(Path, "touch", refused("touch", Path.touch))
