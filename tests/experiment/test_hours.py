"""The hours of fine-tuning that a dry run tells: from a pace per recipe, with nothing written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from featurebench.cli import main
from featurebench.config import load_config
from featurebench.errors import WeightsError
from featurebench.experiment import outlook
from featurebench.experiment.hours import duration
from featurebench.finetuning import pace
from featurebench.finetuning.pace import Pace
from featurebench.tiles import write_cohort

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from featurebench.config import ExperimentConfig

# Twelve tiles in two folds of six, of whose training sides nothing is held back.
TINY = """
data: {synthetic: {patients: 6, tiles_per_patient: 2, size: 32, seed: 2}}
splits: {folds: 2, repeats: 2, group: patient_id}
finetune:
  - {model: test_resnet, weights: random, image_size: 32, batch_size: 4, epochs: 10,
     validation_fraction: 0}
compute: {threads: 1, device: cpu}
"""
# Ten passes over 6 tiles at 10 s, and one of 6 test tiles at 1 s.
A_FOLD = 10 * 6 * 10 + 6


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., ExperimentConfig]:
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    return lambda *overrides: load_config(tmp_path / "tiny.yaml", overrides)


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let every recipe take 10 s a tile in training and 1 s in prediction; tells what was timed."""
    timed: list[dict[str, Any]] = []

    def measure(recipe: Any, **how: Any) -> Pace:
        timed.append({"strategy": recipe.strategy, **how})
        return Pace(10.0, 1.0)

    monkeypatch.setattr(pace, "measure_pace", measure)
    return timed


def hours(config: ExperimentConfig, new_recorder: type[Any]) -> list[str]:
    recorder = new_recorder()
    outlook(config, recorder.console())
    lines: list[str] = recorder.of("hours")
    return lines


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (9000, "2.5 h")],
)
def test_time_is_written_to_its_scale(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_each_fine_tune_and_their_sum(
    tiny: Callable[..., ExperimentConfig], paced: list[dict[str, Any]], new_recorder: type[Any]
) -> None:
    lines = hours(tiny("finetune.0.strategy=[head, full]"), new_recorder)
    assert lines == [
        f"test_resnet.random+head: at most {duration(4 * A_FOLD)}",
        f"test_resnet.random+full: at most {duration(4 * A_FOLD)}",
        f"fine-tuning on cpu, in all at most {duration(8 * A_FOLD)}",
    ]
    assert paced == [
        {"strategy": strategy, "n_classes": 2, "device": "cpu", "threads": 1}
        for strategy in ("head", "full")
    ]


def test_repeats_and_seeds_count(
    tiny: Callable[..., ExperimentConfig], paced: list[dict[str, Any]], new_recorder: type[Any]
) -> None:
    lines = hours(tiny("finetune.0.repeats=1", "finetune.0.seeds=3"), new_recorder)
    assert [line.rpartition(": ")[2] for line in lines[:3]] == [
        f"at most {duration(2 * A_FOLD)}"
    ] * 3
    assert lines[3].endswith(f"in all at most {duration(6 * A_FOLD)}")
    assert len(paced) == 1


def test_what_costs_no_time_is_timed_once(
    tiny: Callable[..., ExperimentConfig], paced: list[dict[str, Any]], new_recorder: type[Any]
) -> None:
    swept = ["learning_rate=[1e-4, 1e-3]", "weight_decay=[0, 1e-4]", "patience=[1, 2]"]
    lines = hours(tiny(*(f"finetune.0.{each}" for each in swept)), new_recorder)
    assert len(lines) == 9
    assert len(paced) == 1
    paced.clear()
    swept = ["batch_size=[2, 4]", "head=[linear, dense]"]
    hours(tiny(*(f"finetune.0.{each}" for each in swept)), new_recorder)
    assert len(paced) == 4


@pytest.mark.parametrize(
    ("search", "seconds"),
    [
        # Trials, and the chosen recipe once more.
        ("{trials: 5}", 4 * A_FOLD * 6),
        ("{method: grid, trials: null}", 4 * A_FOLD * 4),
        ("{method: grid, trials: 2}", 4 * A_FOLD * 3),
        # In each of 4 folds, and the trial that runs when the time is over.
        ("{trials: null, seconds: 500}", 4 * A_FOLD * 2 + 4 * 500),
        ("{trials: 5, seconds: 500}", 4 * A_FOLD * 2 + 4 * 500),
        ("{trials: 1, seconds: 5000}", 4 * A_FOLD * 2),
    ],
)
def test_search_is_counted(
    tiny: Callable[..., ExperimentConfig],
    paced: list[dict[str, Any]],
    new_recorder: type[Any],
    search: str,
    seconds: float,
) -> None:
    two = "finetune.0.search={space: {learning_rate: [1e-3, 1e-4]}}"
    lines = hours(tiny(f"search={search}", two), new_recorder)
    assert lines[-1].endswith(f"in all at most {duration(seconds)}")
    assert len(paced) == 1


def test_init_tells_them_of_the_file_that_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paced: list[dict[str, Any]]
) -> None:
    write_cohort(tmp_path / "mine", patients=6, tiles_per_patient=2, size=32)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["init", "mine"])
    assert done.exit_code == 0
    assert len(paced) == 1
    assert "hours" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["experiment.yaml", "mine"]


def test_a_file_whose_networks_cannot_be_had_is_written_without_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise WeightsError("no weights")

    write_cohort(tmp_path / "mine", patients=6, tiles_per_patient=2, size=32)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("featurebench.experiment.hours.declare_fine_tunes", fail)
    done = CliRunner().invoke(main, ["init", "mine"])
    assert done.exit_code == 0
    assert "the hours of fine-tuning are not estimated here: no weights" in done.stdout
    assert (tmp_path / "experiment.yaml").is_file()


def test_dry_run_measures_and_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY, encoding="utf-8")
    done = CliRunner().invoke(main, ["run", str(file), "--dry-run"])
    assert done.exit_code == 0
    assert "test_resnet.random+full: would run" in done.stderr
    assert "test_resnet.random+full: at most " in done.stderr
    assert "fine-tuning on cpu, in all at most " in done.stderr
    assert not (tmp_path / "results").exists()
    assert not (tmp_path / "reports").exists()


def test_dry_run_is_of_the_device_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY, encoding="utf-8")
    done = CliRunner().invoke(main, ["finetune", str(file), "--dry-run", "--device", "abacus"])
    assert done.exit_code == 2
    assert "abacus" in done.stderr


def test_nothing_is_timed_where_all_is_cached(
    tiny: Callable[..., ExperimentConfig], paced: list[dict[str, Any]], new_recorder: type[Any]
) -> None:
    from featurebench.experiment import fine_tune_arms

    config = tiny("finetune.0.epochs=1", "finetune.0.repeats=1")
    fine_tune_arms(config)
    assert hours(config, new_recorder) == []
    assert paced == []
