"""An extraction over shares, processes and Dask gives what one process gives."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from featurebench.cli import main
from featurebench.config import load_config
from featurebench.experiment import QUIET, embed_in_processes, embed_on_dask, embed_tiles
from featurebench.experiment.sharing import local_processes
from featurebench.store import FeatureStore

if TYPE_CHECKING:
    from pathlib import Path

    from featurebench.config import ExperimentConfig

TINY = """
data: {synthetic: {patients: 6, tiles_per_patient: 4, size: 32, seed: 2}}
backbones:
  - {model: handcrafted, model_args: {groups: [colour]}, views: 2}
heads: {knn: {k: 3}}
compute: {block_rows: 4}
"""

WITH_FOREIGN = TINY.replace("backbones:", "backbones:\n  - {model: uni, weights: foreign}")


@pytest.fixture
def config(tmp_path: Path) -> ExperimentConfig:
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    return load_config(tmp_path / "tiny.yaml")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """The store of an undisturbed run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    config = load_config(folder / "tiny.yaml")
    embed_tiles(config)
    return FeatureStore.open(config.store)


def invoke(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stderr


def assert_same(config: ExperimentConfig, expected: FeatureStore) -> None:
    store = FeatureStore.open(config.store)
    assert store.embeddings() == expected.embeddings()
    for spec in expected.embeddings():
        np.testing.assert_array_equal(store.load(spec), expected.load(spec))
    assert store.verify() == []


def test_shares_add_up(config: ExperimentConfig, alone: FeatureStore) -> None:
    file = config.base / "tiny.yaml"
    for share, n_left in (("1/3", 4), ("3/3", 2), ("2/3", 0)):
        assert invoke("extract", file, "--blocks", share)[0] == 0
        store = FeatureStore.open(config.store)
        assert [len(store.pending(spec)) for spec in store.embeddings()] == [n_left, n_left]
    assert_same(config, alone)


def test_a_share_that_does_not_exist_is_refused(config: ExperimentConfig) -> None:
    status, error = invoke("extract", config.base / "tiny.yaml", "--blocks", "4/3")
    assert status == 2
    assert error.count("\n") == 1
    assert "4/3" in error


def test_ways_to_share_do_not_mix(config: ExperimentConfig) -> None:
    file = config.base / "tiny.yaml"
    for other in (["--dask", "local"], ["--processes", "2"]):
        status, error = invoke("extract", file, "--blocks", "1/2", *other)
        assert status == 2
        assert "do not go together" in error


def test_processes_share_the_work(config: ExperimentConfig, alone: FeatureStore) -> None:
    file = str(config.base / "tiny.yaml")
    command = [sys.executable, "-m", "featurebench.cli", "extract", file]
    assert embed_in_processes(2, command) == 0
    assert_same(config, alone)


def test_one_process_stays_here(config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_processes(config, 1) == 0
    assert local_processes(config, 3) == 3
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert local_processes(config, None) == 4
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert local_processes(config, None) == 0


def test_dask_gives_the_same(config: ExperimentConfig, alone: FeatureStore) -> None:
    embed_on_dask(config, QUIET, address="local", processes=2)
    assert_same(config, alone)
    # nothing is pending now, so no cluster is asked
    embed_on_dask(config, QUIET, address="tcp://127.0.0.1:9", processes=2)


def test_doctor_looks_at_machine_and_experiment(
    config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurebench.experiment.doctor.TRIAL_S", 0.1)
    result = CliRunner().invoke(main, ["doctor", str(config.base / "tiny.yaml"), "--json"])
    found = {row["subject"]: row for row in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert found["tiles"]["text"] == "24 tiles, 2 classes"
    assert "handcrafted.v1 found: 2 embeddings" in found["weights"]["text"]
    assert "tiles/s" in found["trial"]["text"]
    assert {"processor", "versions", "decoders", "disk"} <= set(found)
    assert found["heads"] == {"subject": "heads", "state": "good", "text": "knn"}
    embed_tiles(config)
    result = CliRunner().invoke(main, ["doctor", str(config.base / "tiny.yaml")])
    assert "every embedding is complete" in result.stdout


def test_doctor_names_what_will_stop_a_run(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        TINY.replace("handcrafted, model_args: {groups: [colour]}", "resnet18, weights: a.pth")
    )
    result = CliRunner().invoke(main, ["doctor", str(file)])
    assert result.exit_code == 2
    assert "! weights" in result.stdout
    assert "a.pth" in result.stdout
    assert "1 of these will stop a run" in result.stderr


def test_doctor_looks_at_the_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from featurebench.experiment import examine

    monkeypatch.setattr("featurebench.experiment.doctor.TRIAL_S", 0.1)
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY.replace("{knn: {k: 3}}", "{knn: , dummy: }") + "search: {}\n")
    found = {finding.subject: finding for finding in examine(file)}
    assert found["heads"].text == "knn, dummy; searched in every fold: knn"
    file.write_text(TINY.replace("k: 3", "class_weight: {ill: 2}"))
    found = {finding.subject: finding for finding in examine(file)}
    assert found["heads"].state == "wrong"
    assert "class_weight names no class 'ill'" in found["heads"].text


def test_imported_embeddings_are_probed(config: ExperimentConfig, tmp_path: Path) -> None:
    tiles, (spec,) = (
        embed_tiles(config)[0],
        [s for s in embed_tiles(config)[1] if s.view == "clean"],
    )
    store = FeatureStore.open(config.store)
    np.save(tmp_path / "other.npy", store.load(spec).astype(np.float32) * 2)
    tiles.table[["tile_id"]].to_csv(tmp_path / "other.csv", index=False)
    file = config.base / "tiny.yaml"
    status, error = invoke("store", "import", file, tmp_path / "other.npy", "--name", "uni")
    assert (status, "24 of 24 tiles" in error) == (0, True)
    foreign = file.read_text().replace(
        "backbones:", "backbones:\n  - {model: uni, weights: foreign}"
    )
    file.write_text(foreign + "splits: {folds: 2, repeats: 1, group: patient_id}\n")
    assert invoke("probe", file)[0] == 0
    runs = sorted(
        path.name.partition("__")[0] for path in (tmp_path / "results/tiny/runs").iterdir()
    )
    assert runs == ["handcrafted.v1+knn", "uni.foreign+knn"]


def test_an_embedding_that_was_not_imported_is_named(config: ExperimentConfig) -> None:
    file = config.base / "tiny.yaml"
    file.write_text(WITH_FOREIGN)
    status, error = invoke("extract", file)
    assert status == 2
    assert "no imported embeddings are called 'uni'" in error


@pytest.mark.slow
def test_a_dask_worker_may_be_killed(config: ExperimentConfig, tmp_path: Path) -> None:
    """Its block is dealt to another worker, and the store is that of an undisturbed run."""
    many = TINY.replace("tiles_per_patient: 4", "tiles_per_patient: 8")
    (tmp_path / "tiny.yaml").write_text(many.replace("block_rows: 4", "block_rows: 2"))
    config = load_config(tmp_path / "tiny.yaml")
    command = [sys.executable, "-m", "featurebench.cli", "extract", str(tmp_path / "tiny.yaml")]
    with subprocess.Popen(
        [*command, "--dask", "local", "--processes", "2"], stderr=subprocess.PIPE, text=True
    ) as process:
        records = config.store / "commits"
        while not list(records.glob("*/*.json")) and process.poll() is None:
            time.sleep(0.02)
        workers = [c for c in psutil.Process(process.pid).children() if is_worker(c)]
        workers[0].kill()
        assert process.stderr is not None
        told = process.stderr.read()
    assert len(workers) == 2
    assert process.returncode == 0, told
    undisturbed = load_config(tmp_path / "tiny.yaml", ["store=undisturbed.store"])
    embed_tiles(undisturbed)
    assert_same(config, FeatureStore.open(undisturbed.store))


def is_worker(process: psutil.Process) -> bool:
    return any("spawn_main" in word for word in process.cmdline())
