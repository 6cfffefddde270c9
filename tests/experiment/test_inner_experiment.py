"""An experiment keeps what its arms are chosen by, where there is something to choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from featurebench import experiment
from featurebench.comparison.selection import inner_scores, select
from featurebench.config import load_config
from featurebench.errors import ResultsError
from featurebench.evaluation import cross_validate
from featurebench.experiment import Console, probe_arms
from featurebench.experiment.study import load_tiles, make_study
from featurebench.heads import make_head
from featurebench.metrics import METRICS
from featurebench.results import load_run
from featurebench.store import FeatureStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from featurebench.config import ExperimentConfig
    from featurebench.results import RunResult

TINY = """
data: {synthetic: {patients: 12, tiles_per_patient: 4, size: 32, class_effect: 2.0, seed: 2}}
backbones: [{model: handcrafted, model_args: {groups: [colour]}}]
splits: {folds: 3, repeats: 2, group: patient_id}
heads:
  logistic: {Cs: [0.001, 0.1]}
  random_forest: {n_estimators: 5}
  dummy: {}
finetune:
  - {model: test_resnet, weights: random, epochs: 1, image_size: 32, batch_size: 8, repeats: 1}
compute: {threads: 1}
"""
ARMS = ["handcrafted.v1+logistic", "handcrafted.v1+random_forest"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny experiment after its straight line, but for the report."""
    folder = tmp_path_factory.mktemp("inner")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featurebench.experiment.steps.report", lambda *_: None)
        experiment.run(load_config(folder / "tiny.yaml"))
    return folder


@pytest.fixture
def again(tiny: Path, tmp_path: Path) -> Callable[..., ExperimentConfig]:
    """Load the experiment with its embeddings and with results of its own."""

    def load(*overrides: str) -> ExperimentConfig:
        own = f"output.results={tmp_path / 'results'}"
        return load_config(tiny / "tiny.yaml", [own, *overrides])

    return load


def runs_of(config: ExperimentConfig) -> dict[str, RunResult]:
    folders = sorted((config.output.results / "runs").iterdir())
    runs = [load_run(folder) for folder in folders if (folder / "run.json").is_file()]
    return {run.arm: run for run in runs}


def places(run: RunResult) -> list[tuple[int, int]]:
    return [(entry["repeat"], entry["fold"]) for entry in run.details["inner"]]


def test_every_arm_that_can_be_chosen_has_them(tiny: Path) -> None:
    runs = runs_of(load_config(tiny / "tiny.yaml"))
    assert sorted(runs) == sorted([*ARMS, "dummy", "test_resnet.random+full"])
    for name in ARMS:
        assert places(runs[name]) == [(r, f) for r in range(2) for f in range(3)]
    tuned = runs["test_resnet.random+full"]
    assert places(tuned) == [(0, f) for f in range(3)]
    for run in (*(runs[name] for name in ARMS), tuned):
        for entry in run.details["inner"]:
            assert entry["n"] > 0
            assert list(entry["scores"]) == list(METRICS)
        assert np.isfinite(inner_scores(run, "balanced_accuracy")).all()
    assert "inner" not in runs["dummy"].details
    n_tiles = {name: [e["n"] for e in runs[name].details["inner"]] for name in ARMS}
    assert n_tiles[ARMS[0]] == n_tiles[ARMS[1]]


def test_they_are_what_cross_validation_gives(tiny: Path) -> None:
    config = load_config(tiny / "tiny.yaml")
    study = make_study(config, load_tiles(config, Console()), [])
    store = FeatureStore.open(config.store)
    expected = cross_validate(
        make_head("logistic", Cs=[0.001, 0.1]),
        store.load(store.embeddings()[0]),
        study.tiles.labels,
        study.plan,
        classes=study.tiles.classes,
        groups=study.groups,
        validate=True,
    )
    run = runs_of(config)[ARMS[0]]
    for name in METRICS:
        np.testing.assert_allclose(
            inner_scores(run, name), inner_scores(expected, name), atol=1e-5, err_msg=name
        )


def test_the_best_can_be_chosen_from_disk(tiny: Path) -> None:
    config = load_config(tiny / "tiny.yaml")
    runs = runs_of(config)
    study = make_study(config, load_tiles(config, Console()), [])
    given: dict[str, Any] = {"metric": "balanced_accuracy", "test_fold": study.plan.test_fold}
    _, probe = select([runs[name] for name in ARMS], "probe", **given)
    assert probe.not_chosen == ""
    assert sum(probe.chosen.values()) == 6
    tuned, selection = select(list(runs.values()), "finetune", **given)
    assert (selection.arm, tuned.n_repeats) == ("test_resnet.random+full", 1)


def test_a_single_probe_is_not_scored_and_predicts_the_same(
    tiny: Path, again: Callable[..., ExperimentConfig]
) -> None:
    config = again("heads={logistic: {Cs: [0.001, 0.1]}, dummy: {}}")
    probe_arms(config)
    alone, among = runs_of(config)[ARMS[0]], runs_of(load_config(tiny / "tiny.yaml"))[ARMS[0]]
    assert "inner" not in alone.details
    assert alone.run_id == among.run_id
    np.testing.assert_array_equal(alone.y_prob, among.y_prob)
    assert alone.scores == among.scores


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_head_at_a_time_and_workers_give_the_same(
    tiny: Path, again: Callable[..., ExperimentConfig], jobs: int
) -> None:
    config, expected = again(), runs_of(load_config(tiny / "tiny.yaml"))
    for head in ("random_forest", "logistic"):
        probe_arms(config, head=head, jobs=jobs)
    found = runs_of(config)
    assert sorted(found) == sorted(ARMS)
    for name, run in found.items():
        np.testing.assert_array_equal(run.y_prob, expected[name].y_prob)
        assert run.details == expected[name].details


def test_a_head_that_cannot_be_scored_inside_still_predicts(
    again: Callable[..., ExperimentConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        message = "too few rows inside"
        raise ResultsError(message)

    monkeypatch.setattr("featurebench.experiment.tasks.score_inside", refuse)
    config = again()
    probe_arms(config, head="logistic")
    run = runs_of(config)[ARMS[0]]
    assert np.isfinite(run.y_prob).all()
    assert np.isnan(inner_scores(run, "accuracy")).all()
    assert {entry["reason"] for entry in run.details["inner"]} == {"too few rows inside"}
