"""Runs on disk: what is written comes back, and what is damaged or foreign is refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from featurebench.errors import ResultsError
from featurebench.results import (
    Cost,
    FoldScore,
    ResultsTable,
    RunResult,
    is_complete,
    load_failure,
    load_run,
    run_folder,
    run_id,
    save_failure,
    save_run,
    write_atomically,
)

if TYPE_CHECKING:
    from pathlib import Path


def make_run(**changes: object) -> RunResult:
    y_prob = np.random.default_rng(0).dirichlet([1, 1], size=(2, 6)).astype(np.float32)
    y_prob[1, 3] = np.nan
    run = RunResult(
        arm="net.package+logistic",
        kind="probe",
        embedding="net.package@00000000",
        head="logistic",
        strategy=None,
        params={"head": "logistic", "Cs": [0.1, 1.0]},
        fingerprint="f" * 64,
        plan_id="0123456789abcdef",
        seed=3,
        classes=("benign", "malignant"),
        y_prob=y_prob,
        scores=(FoldScore(0, 0, "accuracy", 0.5, 3), FoldScore(0, 1, "roc_auc", float("nan"), 3)),
        cost=Cost(1.5, 2.5, 0.0, 100.0),
        extraction_cost=Cost(3.0, 5.0, 0.0, 250.0, 0.0, 600, None, 8.5),
        embedding_costs={"net.package@00000000": Cost(3.0, 5.0, 0.0, 250.0, 0.0, 600, None, 8.5)},
        details={"folds": [{"C": 0.1}]},
        provenance={"versions": {"numpy": "2"}},
    )
    return replace(run, **changes)  # type: ignore[arg-type]


def test_run_comes_back_as_it_was(tmp_path: Path) -> None:
    run = make_run()
    folder = save_run(run, tmp_path)
    assert folder.name == f"net.package+logistic__{run.run_id[:8]}"
    assert is_complete(folder)
    again = load_run(folder)
    np.testing.assert_array_equal(again.y_prob, run.y_prob)
    assert again.y_prob.dtype == np.float32
    assert again.scores[0] == run.scores[0]
    assert np.isnan(again.scores[1].value)
    for name in (
        "arm",
        "kind",
        "params",
        "cost",
        "extraction_cost",
        "embedding_costs",
        "classes",
        "details",
        "run_id",
    ):
        assert getattr(again, name) == getattr(run, name), name


@pytest.mark.parametrize(
    "change",
    [
        {"arm": "other"},
        {"params": {"head": "logistic", "Cs": [0.1]}},
        {"fingerprint": "e" * 64},
        {"plan_id": "fedcba9876543210"},
        {"seed": 4},
    ],
)
def test_identity_changes_with_what_changes_the_numbers(change: dict[str, object]) -> None:
    assert make_run(**change).run_id != make_run().run_id


@pytest.mark.parametrize(
    "change", [{"device": "cuda"}, {"cost": Cost(9)}, {"details": {}}, {"provenance": {}}]
)
def test_identity_does_not_change_with_how_it_was_done(change: dict[str, object]) -> None:
    assert make_run(**change).run_id == make_run().run_id


def test_order_of_parameters_is_no_identity() -> None:
    assert run_id("a", {"x": 1, "y": 2}, "", "p", 0) == run_id("a", {"y": 2, "x": 1}, "", "p", 0)


def test_unfinished_run_is_neither_complete_nor_loaded(tmp_path: Path) -> None:
    folder = save_run(make_run(), tmp_path)
    (folder / "run.json").unlink()
    assert not is_complete(folder)
    with pytest.raises(ResultsError, match="delete its folder and run again"):
        load_run(folder)


@pytest.mark.parametrize("name", ["predictions.npz", "run.json", "scores.csv"])
def test_damaged_file_is_named_with_its_run(tmp_path: Path, name: str) -> None:
    folder = save_run(make_run(), tmp_path)
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ResultsError, match=r"net\.package\+logistic"):
        load_run(folder)


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    folder = save_run(make_run(), tmp_path)
    header = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(header | {"schema_version": 99}))
    with pytest.raises(ResultsError, match="upgrade"):
        load_run(folder)


def test_run_of_before_there_were_bytes_and_energy_is_read(tmp_path: Path) -> None:
    folder = save_run(make_run(), tmp_path)
    header = json.loads((folder / "run.json").read_text())
    old = {"wall_s": 1.5, "cpu_s": 2.5, "gpu_s": 0.0, "peak_memory_mb": 100.0}
    header |= {"cost": old, "extraction_cost": old}
    del header["embedding_costs"]
    (folder / "run.json").write_text(json.dumps(header))
    run = load_run(folder)
    assert run.cost == run.extraction_cost == Cost(1.5, 2.5, 0.0, 100.0)
    assert (run.cost.bytes_read, run.cost.energy_j, run.cost.trials) == (None, None, 0)
    assert run.embedding_costs == {}


def test_run_copied_into_another_runs_folder_is_refused(tmp_path: Path) -> None:
    folder = save_run(make_run(), tmp_path)
    other = tmp_path / "net.package+logistic__00000000"
    folder.rename(other)
    with pytest.raises(ResultsError, match="holds another run"):
        load_run(other)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    folder = save_run(make_run(), tmp_path)
    np.savez(folder / "predictions.npz", y_prob=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ResultsError, match="cannot be read"):
        load_run(folder)


def test_failure_is_a_row_until_the_arm_succeeds(tmp_path: Path) -> None:
    run = make_run()
    save_failure(tmp_path, run.arm, run.kind, run.run_id, "lost its way")
    folder = run_folder(tmp_path, run.arm, run.run_id)
    failure = load_failure(folder)
    assert failure is not None
    assert (failure.arm, failure.error) == (run.arm, "lost its way")
    assert not is_complete(folder)
    save_run(run, tmp_path)
    assert load_failure(folder) is None


def test_patients_and_slides_of_a_table_are_codes() -> None:
    names: dict[str, Any] = {"patients": list("aabbcc"), "slides": list("xxyyzz")}
    about: dict[str, Any] = {
        "y_true": np.zeros(6, np.int64),
        "test_fold": np.zeros((2, 6), np.int16),
        "tile_ids": np.arange(6).astype(str),
    }
    table = ResultsTable.of([make_run()], **about, **names)
    assert table.patients is not None
    assert table.slides is not None
    assert table.patients.tolist() == table.slides.tolist() == [0, 0, 1, 1, 2, 2]
    unknown = ResultsTable.of([make_run()], **about)
    assert (unknown.patients, unknown.slides) == (None, None)


def test_folder_name_keeps_to_safe_characters(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, "my arm/../x", "0123456789abcdef")
    assert folder.parent == tmp_path
    assert folder.name == "my-arm-..-x__01234567"


def test_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.json"
    write_atomically(file, "old ä")
    assert file.read_text(encoding="utf-8") == "old ä"

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_atomically(file, b"new")
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]
    assert file.read_text(encoding="utf-8") == "old ä"
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new"


def test_writers_of_one_file_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process writes the same file while the first is about to publish its own."""
    file = tmp_path / "a.json"
    real = os.fsync
    calls: list[int] = []

    def overtaken(descriptor: int) -> None:
        real(descriptor)
        calls.append(descriptor)
        if len(calls) == 1:
            with monkeypatch.context() as patch:
                patch.setattr("os.getpid", lambda: 99999)
                write_atomically(file, "theirs")

    monkeypatch.setattr("os.fsync", overtaken)
    write_atomically(file, "ours")
    assert file.read_text() == "ours"
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]
