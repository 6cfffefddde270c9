"""The sealed protocol: declared once before any result, every later change noted and told."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from featurebench import experiment
from featurebench.cli import main
from featurebench.config import ExperimentConfig, load_config
from featurebench.errors import ConfigError, ResultsError
from featurebench.experiment.protocol import (
    PROTOCOL_FILE,
    Protocol,
    protocol_section,
    protocol_sha256,
    read_protocol,
    seal_protocol,
)

TINY = """
name: tiny
data:
  synthetic: {patients: 12, tiles_per_patient: 4, size: 48, class_effect: 3.0, seed: 1}
backbones:
  - {model: handcrafted}
splits: {folds: 3, repeats: 2, group: patient_id, seed: 0}
heads: {logistic: {Cs: [0.001, 0.1]}, dummy: {}}
audit: false
compare: {margin: 0.01, floor: 0.8, resamples: 100}
compute: {threads: 1}
"""
ARMS = {"net+logistic": "aaaa", "dummy": "bbbb"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    (tmp_path / "results/tiny").mkdir(parents=True)
    return tmp_path


def config_of(folder: Path, *overrides: str) -> ExperimentConfig:
    return load_config(folder / "tiny.yaml", overrides)


def seal(
    folder: Path, *overrides: str, plan: str = "p1", arms: dict[str, str] = ARMS, **more: Any
) -> Protocol:
    return seal_protocol(config_of(folder, *overrides), plan, arms, **more)


def file_of(folder: Path) -> Path:
    return folder / "results/tiny" / PROTOCOL_FILE


def finish_a_run(folder: Path) -> None:
    run = folder / "results/tiny/runs/dummy__bbbb"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")


def told(protocol: Protocol) -> str:
    return " | ".join(protocol_section(protocol)["caveats"])


def test_the_first_run_seals_what_claims_rest_on(folder: Path) -> None:
    found = seal(folder)
    document = json.loads(file_of(folder).read_text())
    assert document["protocol"] == {
        "metric": "balanced_accuracy",
        "margin": 0.01,
        "margin_rationale": None,
        "floor": 0.8,
        "min_recall": None,
        "max_ece": None,
        "alpha": 0.05,
        "reference": None,
        "weights": "auto",
        "operating_point": None,
        "prevalence": None,
        "plan": {
            "id": "p1", "folds": 3, "repeats": 2, "holdout": None, "given": None,
            "group": "patient_id", "seed": 0,
        },
        "arms": ARMS,
    }  # fmt: skip
    assert document["sha256"] == protocol_sha256(document["protocol"])
    assert (document["after_results"], document["changes"]) == (False, [])
    assert document["declared"].endswith("+00:00")
    (sentence,) = protocol_section(found)["sentences"]
    assert sentence == (
        f"Declared on {document['declared'][:10]} (sha256 {document['sha256'][:16]}), before any "
        "result; not changed since."
    )
    assert told(found) == ""


def test_the_same_protocol_leaves_the_file_as_it_is(folder: Path) -> None:
    first = seal(folder)
    before = file_of(folder).read_bytes()
    finish_a_run(folder)
    again = seal(folder, "compare.resamples=500", "compute.threads=2", "compare.tests=[anova]")
    assert file_of(folder).read_bytes() == before
    assert (again.sha256, again.changes) == (first.sha256, ())


def test_a_margin_changed_after_results_is_noted_and_told(folder: Path) -> None:
    first = seal(folder)
    finish_a_run(folder)
    found = seal(folder, "compare.margin=0.05")
    document = json.loads(file_of(folder).read_text())
    assert document["protocol"]["margin"] == 0.01
    assert document["sha256"] == first.sha256
    (change,) = document["changes"]
    assert change["keys"] == {"margin": {"old": 0.01, "new": 0.05}}
    assert change["sha256"] == protocol_sha256({**document["protocol"], "margin": 0.05})
    assert told(found) == (
        f"The protocol was changed after results were seen, on {change['date'][:10]}: margin 0.01 "
        "-> 0.05."
    )
    assert "changed since as follows" in protocol_section(found)["sentences"][0]


def test_a_change_before_any_result_is_listed_without_a_caveat(folder: Path) -> None:
    seal(folder)
    found = seal(folder, "compare.floor=null")
    assert told(found) == ""
    assert "changed before any result" in protocol_section(found)["sentences"][1]
    assert "floor 0.8 -> none" in protocol_section(found)["sentences"][1]


def test_going_back_is_a_change_too(folder: Path) -> None:
    seal(folder)
    finish_a_run(folder)
    seal(folder, "compare.margin=0.05")
    seal(folder, "compare.margin=0.05")
    found = seal(folder)
    assert [change.keys["margin"]["new"] for change in found.changes] == [0.05, 0.01]
    assert found.changes[-1].sha256 == found.sha256
    assert read_protocol(folder / "results/tiny") == found


def test_arms_are_told_as_added_later_left_out_or_changed(folder: Path) -> None:
    seal(folder)
    finish_a_run(folder)
    found = seal(folder, arms={"net+logistic": "cccc", "net+knn": "dddd"})
    text = told(found)
    for part in ("arm added later: net+knn", "arm left out: dummy", "arm changed: net+logistic"):
        assert part in text
    many = {**ARMS, **{f"net+{i}": "eeee" for i in range(5)}}
    assert "arms added later: 6;" in told(seal(folder, arms=many))
    sealed = read_protocol(folder / "results/tiny")
    assert sealed is not None
    assert len(sealed.changes) == 2


def test_another_plan_is_told_without_the_arms_that_it_moves(folder: Path) -> None:
    seal(folder)
    finish_a_run(folder)
    moved = dict.fromkeys(ARMS, "ffff")
    text = told(seal(folder, "splits.seed=1", plan="p2", arms=moved))
    assert "plan p1 -> p2" in text
    assert "seed 0 -> 1" in text
    assert "arm" not in text


def test_results_that_were_there_before_are_said(folder: Path) -> None:
    finish_a_run(folder)
    found = seal(folder)
    assert found.after_results
    assert "when results were there already" in told(found)


def test_a_comparison_that_is_only_printed_writes_nothing(folder: Path) -> None:
    assert seal(folder, record=False).protocol["margin"] == 0.01
    assert not file_of(folder).exists()
    seal(folder)
    finish_a_run(folder)
    before = file_of(folder).read_bytes()
    assert "margin 0.01 -> 0.05" in told(seal(folder, "compare.margin=0.05", record=False))
    assert file_of(folder).read_bytes() == before


@pytest.mark.parametrize("is_sealed", [False, True], ids=["sealing", "changing"])
def test_an_interrupt_leaves_the_file_that_was_there(
    folder: Path, is_sealed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_sealed:
        seal(folder)
        finish_a_run(folder)
    before = file_of(folder).read_bytes() if is_sealed else None
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            seal(folder, "compare.margin=0.05")
    assert (file_of(folder).read_bytes() if is_sealed else None) == before
    assert [path.name for path in file_of(folder).parent.glob("*protocol*")] == (
        [PROTOCOL_FILE] if is_sealed else []
    )
    found = seal(folder, "compare.margin=0.05")
    assert len(found.changes) == int(is_sealed)


def _interrupt(_: int) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"margin": 0.01', '"margin": 0.05'),
        lambda text: text.replace('"new": 0.05', '"new": 0.02'),
        lambda text: text.replace('"changes"', '"change"'),
        lambda text: text.replace('"after_results": true', '"seen": true'),
        lambda _: "[]",
        lambda _: "",
    ],
    ids=["cut", "declared", "changed", "key", "field", "list", "empty"],
)
def test_a_damaged_file_is_refused_with_what_to_do(folder: Path, spoil: Any) -> None:
    seal(folder)
    finish_a_run(folder)
    seal(folder, "compare.margin=0.05")
    file = file_of(folder)
    damaged = spoil(file.read_text())
    assert damaged != file.read_text()
    file.write_text(damaged)
    with pytest.raises(ResultsError, match=r"protocol.json in tiny/ is damaged .* restore it from"):
        seal(folder)
    assert file.read_text() == damaged


def test_a_file_of_a_newer_version_is_not_touched(folder: Path) -> None:
    seal(folder)
    file = file_of(folder)
    file.write_text(file.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(ResultsError, match="newer featurebench: upgrade"):
        seal(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny experiment that was run; not to be changed."""
    made = tmp_path_factory.mktemp("protocol")
    (made / "tiny.yaml").write_text(TINY, encoding="utf-8")
    experiment.run(load_config(made / "tiny.yaml"))
    return made


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "tiny"))


def report_of(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "reports/tiny/report.json").read_text())
    return report


def test_the_protocol_is_sealed_before_the_first_arm(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        assert not seal(folder, plan="?", record=False).after_results
        raise KeyboardInterrupt

    monkeypatch.setattr("featurebench.experiment.probing.run_probes", stop)
    with pytest.raises(KeyboardInterrupt):
        experiment.run(config_of(folder))
    sealed = read_protocol(folder / "results/tiny")
    assert sealed is not None
    assert not sealed.after_results
    monkeypatch.undo()
    experiment.run(config_of(folder))
    assert read_protocol(folder / "results/tiny") == sealed


def test_the_report_shows_when_it_was_declared(run: Path) -> None:
    report = report_of(run)
    (sentence,) = report["protocol"]["sentences"]
    assert "before any result; not changed since." in sentence
    assert report["protocol"]["sha256"] == json.loads(file_of(run).read_text())["sha256"]
    assert set(report["protocol"]["protocol"]["arms"]) == {arm["id"] for arm in report["arms"]}
    assert sentence in (run / "reports/tiny/report.html").read_text()
    assert "**Protocol**" in (run / "reports/tiny/report.md").read_text()


def test_a_report_with_another_margin_tells_that_it_was_changed(run: Path) -> None:
    experiment.report(config_of(run, "compare.margin=0.05"))
    report = report_of(run)
    assert any(
        "changed after results were seen" in caveat and "margin 0.01 -> 0.05" in caveat
        for caveat in report["caveats"]
    )
    assert len(report["protocol"]["changes"]) == 1
    for name in ("report.html", "report.md"):
        text = (run / "reports/tiny" / name).read_text().replace("\\", "").replace("&gt;", ">")
        assert "margin 0.01 -> 0.05" in text
    experiment.report(config_of(run))
    assert len(report_of(run)["protocol"]["changes"]) == 2


def test_comparing_tells_it_too_and_notes_nothing(run: Path) -> None:
    before = file_of(run).read_bytes()
    options = ["--set", "compare.margin=0.05", "--json"]
    done = CliRunner().invoke(main, ["compare", str(run / "tiny.yaml"), *options])
    assert done.exit_code == 0, done.output
    assert "margin 0.01 -> 0.05" in " ".join(json.loads(done.stdout)["caveats"])
    assert file_of(run).read_bytes() == before


def test_a_head_that_is_added_later_is_told(run: Path) -> None:
    experiment.run(config_of(run, "heads.knn={k: 3}"))
    text = " ".join(report_of(run)["caveats"])
    assert "arm added later: handcrafted" in text
    assert "+knn" in text


def test_a_protocol_that_changed_makes_the_report_stale(run: Path) -> None:
    assert experiment.report_differences(config_of(run)) == ()
    seal_protocol(config_of(run, "compare.margin=0.05"), "p9", {})
    assert "its protocol differs" in experiment.report_differences(config_of(run))


def test_a_damaged_file_stops_the_run_with_one_line(run: Path) -> None:
    file_of(run).write_text("{")
    done = CliRunner().invoke(main, ["run", str(run / "tiny.yaml")])
    assert done.exit_code == 2
    assert "protocol.json in tiny/ is damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reference_that_is_no_arm_is_not_sealed(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"compare.reference 'nobody' is unknown"):
        experiment.run(config_of(folder, "compare.reference=nobody"))
    assert not file_of(folder).exists()


def test_a_floor_beyond_the_metric_is_refused_before_any_work(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"compare.floor is 80.0: give a value of balanced_accur"):
        experiment.run(config_of(folder, "compare.floor=80"))
    assert not (folder / "stores").exists()


def test_without_a_margin_a_run_works_and_says_so(run: Path) -> None:
    experiment.report(config_of(run, "compare.margin=null"))
    report = report_of(run)
    assert report["metric"]["margin"] == 0
    assert any("No margin was declared" in caveat for caveat in report["caveats"])
    assert any("margin 0.01 -> none" in caveat for caveat in report["caveats"])
    assert {each["relevance"] for each in report["comparisons"]} == {"open"}


def test_the_hash_is_that_of_canonical_json() -> None:
    one = protocol_sha256({"b": 0.02, "a": {"z": None, "y": "é"}})
    assert one == protocol_sha256({"a": {"y": "é", "z": None}, "b": 0.02})
    text = '{"a":{"y":"é","z":null},"b":0.02}'
    assert one == hashlib.sha256(text.encode()).hexdigest()
