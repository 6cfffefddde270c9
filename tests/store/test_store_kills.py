"""Writers killed at any instant: what they called committed is there, and nothing is torn."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from store_cases import SPEC, make_store, record_file, shard_path, true_rows, write_all

from featurebench.store import FeatureStore

WRITER = """
import sys
import numpy as np
from store_cases import CLASSES, SPEC, make_obs, true_rows
from featurebench.store import FeatureStore
store = FeatureStore.open(sys.argv[1])
rows = true_rows(store.n_tiles)
print("ready", flush=True)
for block in store.pending(SPEC):
    if store.write(SPEC, block, rows[block.start : block.stop]):
        print(block.index, flush=True)
"""


def kill_writers(store: FeatureStore, *, rounds: int, seed: int) -> int:
    """Kill a writer again and again; every block that it called committed must be there."""
    draw = random.Random(seed)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    truth = true_rows(store.n_tiles).astype(np.float16)
    n_killed = 0
    for _ in range(rounds):
        command = [sys.executable, "-c", WRITER, str(store.path)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(draw.uniform(0.01, 0.25))
            writer.kill()
            said = {int(line) for line in writer.stdout.read().split()}
        n_killed += writer.returncode == -signal.SIGKILL
        assert store.verify() == []
        pending = {block.index for block in store.pending(SPEC)}
        assert not said & pending
        for block in store.blocks(SPEC):
            if block.index not in pending:
                rows = np.arange(block.start, block.stop)
                np.testing.assert_array_equal(store.load(SPEC, rows), truth[rows])
        if not pending:
            break
    return n_killed


def check_kills(folder: Path, *, n_blocks: int, rounds: int) -> None:
    store = make_store(folder, n=8 * n_blocks)
    store.add(SPEC, block_rows=8)
    assert kill_writers(store, rounds=rounds, seed=1) > 0
    undisturbed = make_store(folder, n=8 * n_blocks, name="undisturbed.store")
    undisturbed.add(SPEC, block_rows=8)
    write_all(undisturbed)
    write_all(FeatureStore.open(store.path))
    for block in store.blocks(SPEC):
        ours, theirs = (shard_path(s, block).read_bytes() for s in (store, undisturbed))
        assert ours == theirs
    assert len(list(record_file(store, block).parent.iterdir())) == n_blocks


def test_killed_writers_lose_nothing_they_called_committed(tmp_path: Path) -> None:
    check_kills(tmp_path, n_blocks=120, rounds=3)


@pytest.mark.slow
def test_killed_writers_lose_nothing_in_many_rounds(tmp_path: Path) -> None:
    check_kills(tmp_path, n_blocks=1500, rounds=50)
