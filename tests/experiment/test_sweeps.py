"""Sweeps, seeds and searches of fine-tunes: the arms that they declare, and their runs on disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from featurebench.config import load_config
from featurebench.errors import ConfigError
from featurebench.experiment import fine_tune_arms, outlook, report
from featurebench.experiment.arms import Arm, declare_fine_tunes
from featurebench.experiment.console import QUIET
from featurebench.experiment.study import load_tiles, make_study
from featurebench.results import load_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from featurebench.config import ExperimentConfig

TINY = """
data: {synthetic: {patients: 8, tiles_per_patient: 2, size: 32, class_effect: 3.0, seed: 2}}
splits: {folds: 2, repeats: 2, group: patient_id}
finetune:
  - {model: test_resnet, weights: random, image_size: 32, batch_size: 8, epochs: 1, repeats: 1}
compare: {resamples: 100}
compute: {threads: 1, device: cpu}
"""
NET = "test_resnet.random"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the experiment file and its cohort, which is drawn once."""
    folder = tmp_path_factory.mktemp("sweeps")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    load_tiles(load_config(folder / "tiny.yaml"), QUIET)
    return folder


@pytest.fixture
def tiny(drawn: Path, tmp_path: Path) -> Callable[..., ExperimentConfig]:
    """Load the experiment with results of its own; keywords are keys of the fine-tune."""

    def load(*overrides: str, **entry: object) -> ExperimentConfig:
        own = [f"output.results={tmp_path / 'results'}", f"output.reports={tmp_path / 'reports'}"]
        keys = [f"finetune.0.{key}={json.dumps(value)}" for key, value in entry.items()]
        return load_config(drawn / "tiny.yaml", [*own, *keys, *overrides])

    return load


def declared(config: ExperimentConfig) -> list[Arm]:
    return declare_fine_tunes(config, make_study(config, load_tiles(config, QUIET), []))


def runs(config: ExperimentConfig) -> dict[str, Any]:
    folders = sorted((config.output.results / "runs").iterdir())
    return {run.arm: run for run in map(load_run, folders)}


def test_each_combination_is_an_arm(tiny: Callable[..., ExperimentConfig]) -> None:
    arms = declared(tiny(strategy=["head", "full"], learning_rate=[1e-3, 1e-4]))
    assert [arm.name for arm in arms] == [
        f"{NET}+head,learning_rate=0.001",
        f"{NET}+head,learning_rate=0.0001",
        f"{NET}+full,learning_rate=0.001",
        f"{NET}+full,learning_rate=0.0001",
    ]
    assert len({arm.run_id for arm in arms}) == 4
    assert {arm.replica_of for arm in arms} == {None}
    assert {arm.seed for arm in arms} == {0}
    assert [arm.params["learning_rate"] for arm in arms] == [1e-3, 1e-4] * 2
    assert [arm.params["strategy"] for arm in arms] == ["head"] * 2 + ["full"] * 2


def test_seeds_are_replicas_of_the_first(tiny: Callable[..., ExperimentConfig]) -> None:
    arms = declared(tiny("splits.seed=4", seeds=3, epochs=[1, 2]))
    names = [f"{NET}+full,epochs={n}" for n in (1, 2)]
    assert [arm.name for arm in arms] == [
        told for name in names for told in (name, f"{name}, seed 2", f"{name}, seed 3")
    ]
    assert [arm.replica_of for arm in arms] == [
        replica for name in names for replica in (None, name, name)
    ]
    assert len({arm.run_id for arm in arms}) == 6
    seeds = [arm.seed for arm in arms]
    assert seeds[:3] == seeds[3:]
    assert seeds[0] == 4
    assert len(set(seeds)) == 3
    single = declared(tiny("splits.seed=4", epochs=[1, 2]))
    assert [arm.run_id for arm in single] == [arms[0].run_id, arms[3].run_id]
    # Neighbouring seeds of an experiment share none.
    assert not set(seeds) & {arm.seed for arm in declared(tiny("splits.seed=5", seeds=3))}


def test_search_is_part_of_an_arm_only_where_it_is_searched(
    tiny: Callable[..., ExperimentConfig],
) -> None:
    budget = "search={trials: 2, method: random}"
    (plain,) = declared(tiny())
    (searched,) = declared(tiny(budget))
    (off,) = declared(tiny(budget, search=False))
    (preset,) = declared(tiny(budget, preset="paper"))
    (partly,) = declared(tiny(budget, learning_rate=1e-3))
    own = {"space": {"label_smoothing": [0, 0.1]}}
    (given,) = declared(tiny(budget, learning_rate=1e-3, search=own))
    assert "search" not in plain.params
    assert (off.params, off.run_id) == (plain.params, plain.run_id)
    assert "search" not in preset.params
    assert set(searched.params["search"]["space"]) == {"learning_rate", "weight_decay"}
    assert (searched.params["search"]["method"], searched.params["search"]["trials"]) == (
        "random",
        2,
    )
    assert set(partly.params["search"]["space"]) == {"weight_decay"}
    assert given.params["search"]["space"] == own["space"]
    ids = {arm.run_id for arm in (plain, searched, preset, partly, given)}
    assert len(ids) == 5
    (other,) = declared(tiny("search={trials: 3, method: random}"))
    assert other.run_id not in ids


def test_two_entries_of_one_name_are_refused(tiny: Callable[..., ExperimentConfig]) -> None:
    twice = tiny("finetune=[{model: test_resnet, weights: random}, {model: test_resnet, "
                 "weights: random, epochs: 2}]")  # fmt: skip
    with pytest.raises(ConfigError, match=r"two entries are called 'test_resnet.random\+full'"):
        declared(twice)
    named = tiny("finetune=[{model: test_resnet, weights: random}, {model: test_resnet, "
                 "weights: random, epochs: 2, name: longer}]")  # fmt: skip
    assert [arm.name for arm in declared(named)] == [f"{NET}+full", "longer"]


def test_space_that_cannot_be_searched_is_refused_before_work(
    tiny: Callable[..., ExperimentConfig], new_recorder: type[Any]
) -> None:
    recorder = new_recorder()
    wrong = tiny("search={trials: 2}", search={"space": {"learning_rat": [1]}})
    with pytest.raises(ConfigError, match="finetune, test_resnet: unknown key 'learning_rat'"):
        outlook(wrong, recorder.console())
    grid = tiny("search={method: grid}")
    with pytest.raises(ConfigError, match="'learning_rate' is a range; a grid needs its values"):
        outlook(grid, recorder.console())
    assert recorder.lines == []


def test_sweep_with_seeds_runs_and_is_reported(
    tiny: Callable[..., ExperimentConfig], new_recorder: type[Any]
) -> None:
    config = tiny(strategy=["head", "full"], seeds=2)
    fine_tune_arms(config)
    found = runs(config)
    assert sorted(found) == sorted(
        f"{NET}+{strategy}{seed}" for strategy in ("head", "full") for seed in ("", ", seed 2")
    )
    full, again = found[f"{NET}+full"], found[f"{NET}+full, seed 2"]
    assert full.y_prob.shape == again.y_prob.shape == (1, 16, 2)
    assert not np.array_equal(full.y_prob, again.y_prob)
    assert full.params == again.params
    assert [fold["seed"] for fold in again.details["folds"]] == [again.seed] * 2

    recorder = new_recorder()
    fine_tune_arms(config, recorder.console())
    assert [text.endswith(": cached") for text in recorder.of("arm")] == [True] * 4
    report(config)
    summary = json.loads((config.output.reports / "report.json").read_text())
    assert [arm["id"] for arm in summary["arms"]] == [f"{NET}+head", f"{NET}+full"]
    (design,) = summary["ablations"]["designs"]
    assert [row["values"]["strategy"] for row in design["rows"]] == ["head", "full"]
    assert [len(arm["seeds"]) for arm in summary["seeds"]["arms"]] == [2, 2]


def test_verb_takes_the_entries_that_are_named(tiny: Callable[..., ExperimentConfig]) -> None:
    config = tiny(strategy=["head", "full"])
    fine_tune_arms(config, strategy="head")
    assert list(runs(config)) == [f"{NET}+head"]
    with pytest.raises(ConfigError, match="'last:1' is not in the experiment file; it has head"):
        fine_tune_arms(config, strategy="last:1")
    with pytest.raises(ConfigError, match="'vgg16' is not in the experiment file"):
        fine_tune_arms(config, model="vgg16")


def test_searched_arm_runs_within_its_budget(tiny: Callable[..., ExperimentConfig]) -> None:
    config = tiny("search={trials: 2, method: random}", weight_decay=0.0)
    (arm,) = declared(config)
    fine_tune_arms(config)
    (run,) = runs(config).values()
    assert (run.params, run.run_id) == (arm.params, arm.run_id)
    assert run.cost.trials == 4
    for fold in run.details["folds"]:
        assert set(fold["search"]["params"]) == {"learning_rate"}
        assert fold["search"]["trials"] == 2


def test_arm_that_fails_is_told_and_the_next_one_runs(
    tiny: Callable[..., ExperimentConfig], new_recorder: type[Any]
) -> None:
    recorder = new_recorder()
    config = tiny(learning_rate=[1e38, 1e-3])
    fine_tune_arms(config, recorder.console())
    (failed,) = recorder.of("failed")
    assert failed.startswith(f"{NET}+full,learning_rate=1e+38: ")
    assert "lower learning_rate" in failed
    assert [text.split(": ")[0] for text in recorder.of("arm")] == [
        f"{NET}+full,learning_rate=0.001"
    ]


@pytest.mark.slow
def test_two_devices_give_the_bits_of_one(tiny: Callable[..., ExperimentConfig]) -> None:
    one = tiny(seeds=2)
    fine_tune_arms(one)
    expected = runs(one)
    two = tiny(
        f"output.results={one.output.results / 'two'}", "compute.devices=[cpu, cpu]", seeds=2
    )
    fine_tune_arms(two)
    found = runs(two)
    assert list(found) == list(expected)
    for name, run in expected.items():
        np.testing.assert_array_equal(found[name].y_prob, run.y_prob)
        assert found[name].run_id == run.run_id
        assert found[name].params == run.params
