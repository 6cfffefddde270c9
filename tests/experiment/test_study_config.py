"""The study of transfer learning: it loads as it stands, and runs reduced, split in both ways."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from featurebench import experiment
from featurebench.cli import main
from featurebench.config import load_experiments
from featurebench.experiment.arms import fine_tune_name

if TYPE_CHECKING:
    from featurebench.config import ExperimentConfig

CONFIG = Path(__file__).parents[2] / "configs" / "study.yaml"
NETWORKS = (
    "vgg16.tv_in1k",
    "resnet50.tv_in1k",
    "inception_v3.tv_in1k",
    "legacy_xception.tf_in1k",
    "densenet121.tv_in1k",
)
STRATEGIES = ("scratch", "head", "last:1", "last:2", "full")


def overrides(folder: Path, *further: str) -> list[str]:
    """Make it so small that it runs in seconds; what is not named stays as the study has it."""
    cohort = "{patients: 12, tiles_per_patient: 2, size: 32, class_effect: 3.0, seed: 1}"
    return [
        f"data={{synthetic: {cohort}}}",
        f"store={folder / 'study.store'}",
        f"output={{results: {folder / 'results'}, reports: {folder / 'reports'}}}",
        "splits.kfold.folds=3",
        "splits.holdout.holdout=[0.5, 0.25, 0.25]",
        "backbones=[{model: handcrafted, model_args: {groups: [colour]}}]",
        "heads={knn: {k: 3}, dummy: {}}",
        "finetune.0.model=[test_resnet]",
        "finetune.0.weights=random",
        "finetune.0.strategy=[head, full]",
        "finetune.0.epochs=1",
        "finetune.0.image_size=32",
        "finetune.0.batch_size=8",
        "compare.resamples=200",
        "compute={threads: 1, device: cpu}",
        *further,
    ]


def run(folder: Path, *further: str) -> dict[str, dict[str, Any]]:
    """Run all ways to split; gives their reports."""
    reports = {}
    for key, config in load_experiments(CONFIG, overrides(folder, *further)).items():
        page = experiment.run(config)
        assert page == folder / "reports" / key / "report.html"
        assert "<html" in page.read_text(encoding="utf-8")
        assert (page.parent / "report.md").is_file()
        reports[key] = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    return reports


def ran(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Leave out arms that were put together from others, by a choice on inner folds."""
    return [arm for arm in report["arms"] if not arm["chosen"]]


def offered(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {test["name"]: test for test in report["offered"]["tests"]}


def assert_both_ways(reports: dict[str, dict[str, Any]], names: list[str]) -> None:
    """Both reports have the same arms, the table of what is varied, and the tests asked for."""
    assert list(reports) == ["kfold", "holdout"]
    for report in reports.values():
        tuned = [arm["id"] for arm in ran(report) if arm["kind"] == "finetune"]
        assert tuned == names
        assert report["failures"] == []
        (design,) = report["ablations"]["designs"]
        assert len(design["rows"]) == design["n_declared"] == len(names)
        assert list(offered(report)) == ["paired_t", "anova"]
        assert all(test["warning"] for test in offered(report).values())

    kfold, holdout = (offered(report) for report in reports.values())
    assert reports["kfold"]["plan"]["scheme"] == "kfold"
    assert {test["not_run"] for test in kfold.values()} == {""}
    assert len(kfold["paired_t"]["pairs"]) == len(reports["kfold"]["comparisons"])
    # Every arm but the baseline, which is the same in all folds.
    n_arms = len([arm for arm in ran(reports["kfold"]) if arm["kind"] != "baseline"])
    assert len(kfold["anova"]["over_arms"]["arms"]) == n_arms
    assert kfold["anova"]["over_arms"]["n"] == reports["kfold"]["plan"]["n_folds"]
    assert len(reports["kfold"]["offered"]["over_arms"]) == 1

    assert reports["holdout"]["plan"]["scheme"] == "holdout"
    reason = "the plan has one test set, and it needs several folds"
    assert {test["not_run"] for test in holdout.values()} == {reason}


@pytest.fixture(scope="module")
def experiments() -> dict[str, ExperimentConfig]:
    return load_experiments(CONFIG)


def test_the_experiment_is_the_studys(experiments: dict[str, ExperimentConfig]) -> None:
    assert list(experiments) == ["kfold", "holdout"]
    kfold, holdout = experiments.values()
    assert (kfold.splits.folds, kfold.splits.repeats, kfold.splits.holdout) == (5, 1, None)
    assert holdout.splits.holdout == (0.70, 0.15, 0.15)
    assert kfold.splits.group == holdout.splits.group == "patient_id"
    assert kfold.store == holdout.store
    assert kfold.output.results != holdout.output.results
    for config in (kfold, holdout):
        assert config.compare.tests == ["paired_t", "anova"]
        assert [backbone.model for backbone in config.backbones] == [*NETWORKS, "handcrafted"]
        names = [fine_tune_name(entry) for entry in config.finetune]
        assert names == [f"{model}+{how}" for model, how in itertools.product(NETWORKS, STRATEGIES)]
        for recipe in (entry.recipe for entry in config.finetune):
            assert (recipe.optimizer, recipe.learning_rate, recipe.epochs) == ("adam", 1e-4, 50)
            assert (recipe.batch_size, recipe.image_size, recipe.head) == (32, 224, "dense")
            assert recipe.weight_decay > 0
            assert recipe.dropout > 0
            assert recipe.weights == "hub"


def test_it_runs_reduced_in_both_ways(tmp_path: Path) -> None:
    reports = run(tmp_path)
    assert_both_ways(reports, ["test_resnet.random+head", "test_resnet.random+full"])
    for key, report in reports.items():
        text = (tmp_path / "reports" / key / "report.md").read_text(encoding="utf-8")
        assert "Paired t over folds" in text
        assert "Repeated-measures ANOVA over folds" in text
        reason = "the plan has one test set, and it needs several folds"
        lines = [line for line in text.splitlines() if reason in line]
        assert len(lines) == (2 if key == "holdout" else 0)
        tuned = [arm for arm in ran(report) if arm["kind"] == "finetune"]
        for arm in tuned:
            assert (arm["params"]["optimizer"], arm["params"]["head"]) == ("adam", "dense")
            assert arm["epochs"]
    # One embedding serves both.
    assert len(list((tmp_path / "study.store").glob("commits/*"))) == 1


@pytest.mark.slow
def test_command_line_runs_it_reduced_with_all_that_it_has(
    tmp_path: Path, experiments: dict[str, ExperimentConfig]
) -> None:
    """Two families of networks, all strategies and all heads, by the command that it tells of."""
    strategies = ", ".join(f'"{strategy}"' for strategy in STRATEGIES)
    backbones = "[{model: test_resnet, weights: random, preprocessing: {input_size: 32}}]"
    heads: dict[str, dict[str, Any]] = {head: {} for head in experiments["kfold"].heads}
    settings = overrides(
        tmp_path,
        "finetune.0.model=[test_resnet, test_vit]",
        f"finetune.0.strategy=[{strategies}]",
        f"backbones={backbones}",
        f"heads={json.dumps(heads)}",
        "data.synthetic.patients=20",
    )
    arguments = [part for each in settings for part in ("--set", each)]
    done = CliRunner().invoke(main, ["run", str(CONFIG), *arguments])
    assert done.exit_code == 0, done.output
    assert done.stdout.count("report: ") == 2
    reports = {
        key: json.loads((tmp_path / "reports" / key / "report.json").read_text(encoding="utf-8"))
        for key in ("kfold", "holdout")
    }
    names = [
        f"{model}.random+{strategy}"
        for model, strategy in itertools.product(("test_resnet", "test_vit"), STRATEGIES)
    ]
    assert_both_ways(reports, names)
    for report in reports.values():
        probes = {arm["head"] for arm in ran(report) if arm["kind"] == "probe"}
        assert probes == set(heads) - {"dummy"}
