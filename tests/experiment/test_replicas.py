"""Runs of an arm with other seeds: read from disk, shown beside the arm, never compared."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from featurebench.config import load_config
from featurebench.experiment.console import QUIET
from featurebench.experiment.study import load_tiles, make_study
from featurebench.experiment.verdict import compare_findings, gather, summarize_findings
from featurebench.metrics import score_folds
from featurebench.results import Cost, FoldScore, RunResult, save_failure, save_run

if TYPE_CHECKING:
    from pathlib import Path

    from featurebench.config import ExperimentConfig
    from featurebench.experiment.study import Study
    from featurebench.results import ArmKind

TINY = """
data: {synthetic: {patients: 9, tiles_per_patient: 3, size: 32, seed: 2}}
backbones: [{model: handcrafted, model_args: {groups: [colour]}}]
splits: {folds: 3, repeats: 2}
heads: {knn: {k: 3}}
compare: {resamples: 100}
"""
SWEPT = [("net+full,epochs=5", 5), ("net+full,epochs=10", 10)]
REPLICAS = [f"{SWEPT[0][0]}, seed {number}" for number in (2, 3, 4)]


def draw_run(study: Study, arm: str, kind: ArmKind, *, seed: int) -> RunResult:
    """Probabilities that tell something of the class, without any training."""
    rng = np.random.default_rng(seed)
    truth = np.eye(2)[study.tiles.labels]
    y_prob = np.float32(0.3 + 0.4 * truth + rng.uniform(-0.3, 0.3, (2, *truth.shape)))
    y_prob /= y_prob.sum(axis=2, keepdims=True)
    scores = score_folds(study.tiles.labels, y_prob, study.plan.test_fold)
    return RunResult(
        arm=arm,
        kind=kind,
        embedding="handcrafted.v1@0f3a2b1c" if kind == "probe" else None,
        head="knn" if kind == "probe" else None,
        strategy="full" if kind == "finetune" else None,
        params={},
        fingerprint="",
        plan_id=study.plan.id,
        seed=seed,
        classes=study.tiles.classes,
        y_prob=y_prob,
        scores=tuple(FoldScore(*row) for row in scores),
        cost=Cost(wall_s=3.0),
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ExperimentConfig:
    """An experiment whose results lie on disk: a probe, a sweep of two, and seeds of its first."""
    folder = tmp_path_factory.mktemp("replicas")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    config = load_config(folder / "tiny.yaml")
    study = make_study(config, load_tiles(config, QUIET), [])
    root = config.output.results / "runs"
    made: list[tuple[str, ArmKind, dict[str, Any]]] = [("handcrafted.v1+knn", "probe", {})]
    made += [(name, "finetune", {"varied": {"epochs": n}}) for name, n in SWEPT]
    more = {"replica_of": SWEPT[0][0], "varied": {"epochs": 5}}
    made += [(name, "finetune", more) for name in REPLICAS]
    entries = []
    for seed, (name, kind, keys) in enumerate(made):
        run = draw_run(study, name, kind, seed=seed)
        entry = {"arm": name, "kind": kind, "run_id": run.run_id, **keys}
        if name == REPLICAS[1]:
            save_failure(root, name, kind, run.run_id, "out of memory")
            entry["folder"] = next(p.name for p in root.iterdir() if run.run_id[:8] in p.name)
        elif name == REPLICAS[2]:
            entry["folder"] = "not-run-yet__00000000"
        else:
            entry["folder"] = save_run(run, root).name
        entries.append(entry)
    index = {"plan_id": study.plan.id, "bad_tiles": [], "arms": entries, "embeddings": []}
    (config.output.results / "arms.json").write_text(json.dumps(index), encoding="utf-8")
    return config


def test_replicas_stand_apart_from_the_arms(config: ExperimentConfig) -> None:
    findings = gather(config)
    assert [run.arm for run in findings.results.runs] == [
        "handcrafted.v1+knn",
        *(name for name, _ in SWEPT),
    ]
    assert list(findings.replicas) == [SWEPT[0][0]]
    assert [run.arm for run in findings.replicas[SWEPT[0][0]]] == REPLICAS[:1]
    assert [failure.arm for failure in findings.results.failures] == [REPLICAS[1]]
    assert findings.pending == (REPLICAS[2],)


def test_replicas_enter_no_contrast_and_are_in_the_report(config: ExperimentConfig) -> None:
    findings = gather(config)
    comparison = compare_findings(config, findings)
    assert [c.arm_a for c in comparison.contrasts] == [name for name, _ in SWEPT]
    assert REPLICAS[2] in comparison.caveats[0]
    summary = summarize_findings(config, findings, comparison)
    assert [arm["id"] for arm in summary["seeds"]["arms"]] == [SWEPT[0][0]]
    assert len(summary["seeds"]["arms"][0]["seeds"]) == 2
    (design,) = summary["ablations"]["designs"]
    assert [row["values"] for row in design["rows"]] == [{"epochs": "5"}, {"epochs": "10"}]
    assert design["n_declared"] == 2


def test_report_is_stale_when_a_replica_changes(config: ExperimentConfig) -> None:
    before = gather(config).inputs_sha256
    (entry,) = (
        each
        for each in json.loads((config.output.results / "arms.json").read_text())["arms"]
        if each["arm"] == REPLICAS[0]
    )
    file: Path = config.output.results / "runs" / entry["folder"] / "run.json"
    text = file.read_text()
    try:
        file.write_text(text + "\n")
        assert gather(config).inputs_sha256 != before
    finally:
        file.write_text(text)
    assert gather(config).inputs_sha256 == before
