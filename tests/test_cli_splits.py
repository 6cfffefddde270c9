"""A file that splits its tiles in several ways: an experiment each, on one store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from featurebench.cli import main
from featurebench.config import load_config, load_experiments
from featurebench.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

TWO = """
data: {synthetic: {patients: 12, tiles_per_patient: 3, size: 32, seed: 3}}
backbones: [{model: handcrafted, model_args: {groups: [colour]}}]
splits:
  kfold: {folds: 3, repeats: 1, group: patient_id}
  holdout: {holdout: [0.5, 0.25, 0.25], group: patient_id, seed: 1}
heads: {centroid: {}, dummy: {}}
compare: {resamples: 100}
compute: {threads: 1}
"""


def write(folder: Path, text: str = TWO) -> Path:
    file = folder / "two.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_each_way_has_a_name_and_folders_of_its_own(tmp_path: Path) -> None:
    experiments = load_experiments(write(tmp_path))
    assert list(experiments) == ["kfold", "holdout"]
    kfold, holdout = experiments.values()
    assert [kfold.name, holdout.name] == ["two-kfold", "two-holdout"]
    assert kfold.output.results == tmp_path / "results/two/kfold"
    assert holdout.output.reports == tmp_path / "reports/two/holdout"
    assert kfold.store == holdout.store == tmp_path / "stores/two.store"
    assert (kfold.splits.folds, kfold.splits.holdout, kfold.splits.seed) == (3, None, 0)
    assert (holdout.splits.holdout, holdout.splits.seed) == ((0.5, 0.25, 0.25), 1)
    assert kfold.heads == holdout.heads
    assert kfold.base == holdout.base == tmp_path


def test_own_output_and_overrides_hold_for_each_way(tmp_path: Path) -> None:
    text = TWO + "name: mine\noutput: {results: out}\n"
    experiments = load_experiments(
        write(tmp_path, text), ["splits.kfold.folds=4", "store=s.store", "heads={dummy: }"]
    )
    assert [each.name for each in experiments.values()] == ["mine-kfold", "mine-holdout"]
    assert experiments["kfold"].output.results == tmp_path / "out/kfold"
    assert experiments["holdout"].output.reports == tmp_path / "reports/mine/holdout"
    assert experiments["kfold"].splits.folds == 4
    assert {each.store for each in experiments.values()} == {tmp_path / "s.store"}
    assert {tuple(each.heads) for each in experiments.values()} == {("dummy",)}


@pytest.mark.parametrize("splits", ["{folds: 3}", "{holdout: [0.5, 0.2, 0.3]}", "{}", None])
def test_one_section_is_one_experiment(tmp_path: Path, splits: str | None) -> None:
    before, _, rest = TWO.partition("splits:")
    _, _, after = rest.partition("heads:")
    text = before + ("" if splits is None else f"splits: {splits}\n") + "heads:" + after
    file = write(tmp_path, text)
    experiments = load_experiments(file)
    assert list(experiments) == ["two"]
    assert experiments["two"].output.results == tmp_path / "results/two"
    assert experiments["two"] == load_config(file)


def test_one_experiment_is_asked_for_and_several_are_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"two.yaml has 2 splits: kfold, holdout; choose one"):
        load_config(write(tmp_path))
    only = load_config(write(tmp_path), ["splits={kfold: {folds: 4}}"])
    assert (only.name, only.splits.folds) == ("two-kfold", 4)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("splits.kfold.fold=3", "unknown key 'splits.fold': did you mean 'folds'?"),
        ("splits.folds=3", "unknown key 'splits.kfold'"),
        ("splits.a/b={folds: 3}", "name: string should match"),
        ("output=3", "output: input should be a valid dictionary"),
    ],
)
def test_mistake_among_named_splits_is_told(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiments(write(tmp_path), [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_verbs_take_all_ways_or_the_one_named(tmp_path: Path) -> None:
    file = write(tmp_path)
    status, out, err = invoke("run", file, "--splits", "holdout")
    assert status == 0
    assert out.count("report: ") == 1
    assert "3 folds" not in err
    assert not (tmp_path / "results/two/kfold").exists()

    status, out, err = invoke("run", file)
    assert status == 0
    assert [line.split("two/")[1] for line in out.splitlines() if "report: " in line] == [
        "kfold/report.html",
        "holdout/report.html",
    ]
    assert "36/36" in invoke("store", "info", tmp_path / "stores/two.store")[1]
    plans = {
        key: json.loads((tmp_path / f"results/two/{key}/arms.json").read_text())["plan_id"]
        for key in ("kfold", "holdout")
    }
    assert plans["kfold"] != plans["holdout"]

    assert invoke("report", file, "--check")[1].count("the report is up to date") == 2
    status, out, _ = invoke("compare", file, "--json", "--splits", "kfold")
    assert json.loads(out)["experiment"] == "two-kfold"
    status, _, err = invoke("compare", file, "--json")
    assert status == 2
    assert "--json prints one experiment: choose by --splits one of kfold, holdout" in err


def test_unknown_splits_are_answered_with_those_there_are(tmp_path: Path) -> None:
    status, _, err = invoke("run", write(tmp_path), "--splits", "fold", "--dry-run")
    assert status == 2
    assert "--splits 'fold' is not in two.yaml; it has kfold, holdout" in err
    status, _, err = invoke("run", write(tmp_path), "--dry-run")
    assert status == 0
    assert err.count("arms to run") == 2
    assert not (tmp_path / "results").exists()
