"""What `featurebench report --check` notices: every kind of input, and an edited report."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from featurebench import experiment
from featurebench.cli import main
from featurebench.config import load_config
from featurebench.reporting.checksums import CHECKSUMS, edited_files, write_checksums

TINY = """
name: tiny
data:
  synthetic: {patients: 12, tiles_per_patient: 4, size: 48, class_effect: 3.0, seed: 1}
backbones:
  - {model: handcrafted}
splits: {folds: 3, repeats: 2, group: patient_id, seed: 0}
heads: {logistic: {Cs: [0.001, 0.1]}, dummy: {}}
few_labels: {patients: [4], draws: 1}
compare: {resamples: 100}
compute: {threads: 1}
"""
COMMAND = "write it with 'featurebench report'"


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an experiment with a curve, an audit and a report; not to be changed."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    experiment.run(load_config(folder / "tiny.yaml"))
    return folder


@pytest.fixture
def folder(reported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reported, tmp_path / "tiny"))


def check(folder: Path, *options: str) -> tuple[int, str]:
    """Run the verb as a user does: exit status, and the line that it says."""
    done = CliRunner().invoke(main, ["report", str(folder / "tiny.yaml"), "--check", *options])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, (done.stdout + done.stderr).strip()


def stale(reason: str) -> tuple[int, str]:
    return 2, f"featurebench: the report is stale: {reason}: {COMMAND}"


def spoil(file: Path) -> None:
    """Write the same document in other bytes."""
    file.write_text(json.dumps(json.loads(file.read_text())) + "\n\n")


def test_report_of_these_inputs_is_up_to_date(folder: Path) -> None:
    assert check(folder) == (0, "the report is up to date")


def test_newer_files_of_the_same_content_are_the_same_inputs(folder: Path) -> None:
    for file in folder.rglob("*"):
        os.utime(file)
    assert check(folder) == (0, "the report is up to date")


@pytest.mark.parametrize("name", ["run.json", "scores.csv", "predictions.npz"])
def test_other_runs_are_named(folder: Path, name: str) -> None:
    (file,) = folder.glob(f"results/tiny/runs/*+logistic__*/{name}")
    if name == "run.json":
        spoil(file)
    elif name == "scores.csv":
        file.write_text(file.read_text() + "\n")
    else:
        with np.load(file) as arrays:
            y_prob = arrays["y_prob"]
        np.savez(file, y_prob=y_prob[:, :, ::-1])
    assert check(folder) == stale("its runs differ")


def test_arm_that_is_lost_is_other_runs(folder: Path) -> None:
    (file,) = folder.glob("results/tiny/runs/*dummy__*/run.json")
    file.unlink()
    assert check(folder) == stale("its runs differ")


@pytest.mark.parametrize("name", ["curve.json", "curve.csv"])
def test_other_curves_are_named(folder: Path, name: str) -> None:
    file = next(iter(sorted(folder.glob(f"results/tiny/curves/*/{name}"))))
    if name == "curve.json":
        spoil(file)
    else:
        table = pd.read_csv(file)
        table["balanced_accuracy"] /= 2
        table.to_csv(file, index=False)
    assert check(folder) == stale("its curves with fewer labels differ")


def test_curve_that_is_lost_is_named(folder: Path) -> None:
    next(iter(folder.glob("results/tiny/curves/*/curve.json"))).unlink()
    assert check(folder) == stale("its curves with fewer labels differ")


def test_other_manifest_is_named(folder: Path) -> None:
    """A column that neither folds nor runs depend on, but the report shows."""
    manifest = folder / "stores/tiny.tiles/tiles.csv"
    options = ("--set", "data.synthetic=null", "--set", f"data.manifest={manifest}")
    experiment.report(load_config(folder / "tiny.yaml", options[1::2]))
    assert check(folder, *options)[0] == 0
    table = pd.read_csv(manifest)
    table["site"] = "elsewhere"
    table.to_csv(manifest, index=False)
    assert check(folder, *options) == stale("its manifest of tiles differs")


@pytest.mark.parametrize("setting", ["compare.margin=0.05", "compare.alpha=0.1", "name=other"])
def test_other_settings_are_named(folder: Path, setting: str) -> None:
    override = ("--set", setting, "--set", "output.results=results/tiny")
    reports = ("--set", "output.reports=reports/tiny")
    assert check(folder, *override, *reports) == stale("its settings differ")


def test_where_the_work_runs_is_no_input(folder: Path) -> None:
    assert check(folder, "--set", "compute.threads=2")[0] == 0


@pytest.mark.parametrize("name", ["audit.json", "embedding_map.npz"])
def test_other_audit_is_named(folder: Path, name: str) -> None:
    file = folder / "results/tiny" / name
    if name == "audit.json":
        spoil(file)
    else:
        file.unlink()
    assert check(folder) == stale("its audit differs")


def test_another_version_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurebench.experiment.provenance.__version__", "0.0.1")
    assert check(folder) == stale("it was made by another version of featurebench")


def test_report_of_an_earlier_format_is_of_another_version(folder: Path) -> None:
    file = folder / "reports/tiny/report.json"
    summary = json.loads(file.read_text())
    del summary["provenance"]["inputs"]
    file.write_text(json.dumps(summary))
    assert check(folder) == stale("it was made by another version of featurebench")


def test_several_kinds_are_told_in_one_line(folder: Path) -> None:
    spoil(folder / "results/tiny/audit.json")
    (file,) = folder.glob("results/tiny/runs/*+logistic__*/run.json")
    spoil(file)
    _, said = check(folder, "--set", "compare.margin=0.05")
    assert "its runs differ; its settings differ; its audit differs" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_absent_report_is_stale(folder: Path, name: str) -> None:
    (folder / "reports/tiny" / name).unlink()
    assert check(folder) == (2, f"featurebench: the report is absent: {COMMAND}")


@pytest.mark.parametrize("name", ["report.html", "report.md", "comparisons.csv"])
def test_edited_report_is_stale(folder: Path, name: str) -> None:
    file = folder / "reports/tiny" / name
    file.write_text(file.read_text() + " ")
    assert check(folder) == stale(f"{name} was edited or deleted")


def test_number_changed_in_the_json_is_noticed(folder: Path) -> None:
    file = folder / "reports/tiny/report.json"
    file.write_text(file.read_text().replace('"verdict": "', '"verdict": "Really: ', 1))
    assert check(folder) == stale("report.json was edited or deleted")


def test_lost_table_and_lost_checksums_are_noticed(folder: Path) -> None:
    reports = folder / "reports/tiny"
    (reports / "arms.csv").unlink()
    (reports / "scores.csv").write_text("")
    assert check(folder) == stale("arms.csv and 1 more were edited or deleted")
    (reports / CHECKSUMS).unlink()
    assert check(folder) == stale(f"{CHECKSUMS} was edited or deleted")


def test_report_written_again_is_up_to_date(folder: Path) -> None:
    (folder / "reports/tiny/report.html").write_text("mine")
    experiment.report(load_config(folder / "tiny.yaml"))
    assert check(folder)[0] == 0
    assert "mine" not in (folder / "reports/tiny/report.html").read_text()[:10]


def test_checksums_are_those_of_sha256sum(folder: Path) -> None:
    reports = folder / "reports/tiny"
    lines = (line.split("  ") for line in (reports / CHECKSUMS).read_text().splitlines())
    listed = {name: digest for digest, name in lines}
    assert {"report.html", "report.json", "report.md", "arms.csv"} <= set(listed)
    for name, digest in listed.items():
        assert hashlib.sha256((reports / name).read_bytes()).hexdigest() == digest


def test_files_of_an_earlier_report_go_unless_they_were_edited(tmp_path: Path) -> None:
    for name in ("kept.csv", "gone.csv", "mine.csv", "report.html"):
        (tmp_path / name).write_text(name)
    names = ("kept.csv", "gone.csv", "mine.csv", "report.html")
    write_checksums({name: name for name in names}, tmp_path)
    (tmp_path / "mine.csv").write_text("edited")
    write_checksums({"kept.csv": "kept.csv", "report.html": "report.html"}, tmp_path)
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {"kept.csv", "mine.csv", "report.html", CHECKSUMS}
    assert edited_files(tmp_path) == ()


def test_paths_outside_the_folder_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("outside.txt")
    folder = tmp_path / "report"
    folder.mkdir()
    digest = hashlib.sha256(b"outside.txt").hexdigest()
    (folder / CHECKSUMS).write_text(f"{digest}  ../outside.txt\n{digest}  {outside}\n")
    write_checksums({"report.html": ""}, folder)
    assert outside.exists()
