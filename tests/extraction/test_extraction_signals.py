"""`featurebench extract` told to end at random moments: what is done stays, and it resumes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from featurebench.backbones.handcrafted import Descriptors
from featurebench.store import FeatureStore
from featurebench.tiles import TileManifest, read_tile

if TYPE_CHECKING:
    from pathlib import Path

GROUPS = ("haralick", "gabor")
CONFIG = """
name: signals
data: {synthetic: {patients: 16, tiles_per_patient: 32, size: 64, seed: 1}}
store: signals.store
backbones:
  - {model: handcrafted, model_args: {groups: [haralick, gabor]}}
splits: {folds: 2, repeats: 1, group: patient_id}
heads: {dummy: {}}
output: {results: results, reports: reports}
compute: {block_rows: 32, batch_size: 8, threads: 1, workers: 0}
"""
RESUME = (
    "featurebench: interrupted: finished blocks, folds and runs are kept; "
    "the same command goes on from there"
)
# What schedulers leave between the signal and the kill; it takes well under one.
GRACE_S = 20.0
LATE_S = 120.0


class Verb:
    """One run of `featurebench extract`, in a session of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.store, self._log = folder / "signals.store", folder / "log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "featurebench.cli", "extract", "signals.yaml", *options],
                cwd=folder,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait_for_more_than(self, n_blocks: int) -> None:
        deadline = time.monotonic() + LATE_S
        while len(committed(self.store)) <= n_blocks:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.005)

    def end(self) -> int:
        """Wait for the end; kill it where it does not come in time."""
        try:
            return self.process.wait(GRACE_S)
        finally:
            self.process.kill()


def committed(store: Path) -> set[str]:
    return {path.name for path in store.glob("commits/*/*.json")}


def private_files(store: Path) -> list[str]:
    return sorted(path.name for path in (store / "staging").glob("*"))


def some_rows_are_right(store: FeatureStore, folder: Path) -> None:
    (spec,) = store.embeddings()
    manifest = TileManifest.from_table(folder / "tiles.csv")
    describe = Descriptors(GROUPS)
    for row in range(0, len(manifest), 37):
        expected = describe(read_tile(manifest.path_of(row))).astype(np.float16)
        np.testing.assert_array_equal(store.load(spec, np.array([row]))[0], expected)


@pytest.mark.slow
def test_signals_at_random_moments_lose_no_finished_block(tmp_path: Path) -> None:
    """Each run goes on from where the one before was told to end."""
    (tmp_path / "signals.yaml").write_text(CONFIG)
    moments = random.Random(3)
    before: set[str] = set()
    for sent, status, options in [
        ([signal.SIGTERM], {143}, []),
        ([signal.SIGINT], {130}, []),
        ([signal.SIGUSR1], {143}, ["--set", "compute.workers=2"]),
        ([signal.SIGINT, signal.SIGTERM], {130, 143}, []),
    ]:
        verb = Verb(tmp_path, *options)
        verb.wait_for_more_than(len(before))
        time.sleep(moments.uniform(0, 0.4))
        at_signal = committed(verb.store)
        for signum in sent:
            # a scheduler tells every process of a job, the readers too
            os.killpg(verb.process.pid, signum)
            time.sleep(0.002)
        assert verb.end() in status, verb.said
        assert verb.said.count(RESUME) == 1
        assert "Traceback" not in verb.said
        after = committed(verb.store)
        assert before < at_signal <= after
        if len(sent) == 1:
            assert private_files(verb.store) == []
        assert FeatureStore.open(verb.store).verify() == []
        before = after
    last = Verb(tmp_path)
    assert last.process.wait(LATE_S) == 0, last.said
    store = FeatureStore.open(last.store)
    assert (len(committed(last.store)), store.verify()) == (16, [])
    assert private_files(last.store) == []
    (tiles,) = tmp_path.glob("*.tiles")
    some_rows_are_right(store, tiles)
