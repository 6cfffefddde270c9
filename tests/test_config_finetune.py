"""Fine-tunes of the experiment file: recipes, sweeps of them, presets, and their mistakes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from featurebench.config import ExperimentConfig, dump_config, load_config
from featurebench.errors import ConfigError
from featurebench.experiment.arms import fine_tune_name, search_of
from featurebench.finetuning import PRESETS

if TYPE_CHECKING:
    from pathlib import Path

DATA = "data: {folder: tiles}\n"


def write(folder: Path, *entries: str, extra: str = "", name: str = "study.yaml") -> Path:
    lines = "".join(f"  - {entry}\n" for entry in entries)
    file = folder / name
    file.write_text(f"{DATA}{extra}finetune:\n{lines}", encoding="utf-8")
    return file


def load(folder: Path, *entries: str, extra: str = "") -> ExperimentConfig:
    return load_config(write(folder, *entries, extra=extra))


def reload(config: ExperimentConfig, folder: Path) -> ExperimentConfig:
    """Write the resolved file into another folder and read it there."""
    folder.mkdir(exist_ok=True)
    text = yaml.safe_dump(dump_config(config, folder), sort_keys=False)
    (folder / "resolved.yaml").write_text(text, encoding="utf-8")
    return load_config(folder / "resolved.yaml")


def test_lists_are_all_combinations_in_order(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "{model: first, epochs: 3}",
        "{model: [a, b], strategy: [head, 'last:1'], learning_rate: [1e-4, 1e-3], epochs: 7}",
        "{model: last}",
    )
    models = [(e.model, e.recipe.strategy, e.recipe.learning_rate) for e in config.finetune]
    assert models == [
        ("first", "full", 1e-3),
        ("a", "head", 1e-4),
        ("a", "head", 1e-3),
        ("a", "last:1", 1e-4),
        ("a", "last:1", 1e-3),
        ("b", "head", 1e-4),
        ("b", "head", 1e-3),
        ("b", "last:1", 1e-4),
        ("b", "last:1", 1e-3),
        ("last", "full", 1e-3),
    ]
    assert [entry.recipe.epochs for entry in config.finetune] == [3, *[7] * 8, 10]
    assert config.finetune[0].varied == {}
    assert config.finetune[4].varied == {
        "model": "a",
        "strategy": "last:1",
        "learning_rate": 1e-3,
    }


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ("{model: a}", ["a+full"]),
        ("{model: a, weights: package}", ["a.package+full"]),
        ("{model: a, weights: random, strategy: 'last:2'}", ["a.random+last:2"]),
        ("{model: a, weights: w/x.pth}", ["a.file+full"]),
        ("{model: [a, b], strategy: [head, full]}", ["a+head", "a+full", "b+head", "b+full"]),
        ("{model: a, epochs: [5, 10]}", ["a+full,epochs=5", "a+full,epochs=10"]),
        ("{model: a, epochs: [5]}", ["a+full,epochs=5"]),
        ("{model: a, name: mine}", ["mine"]),
        (
            "{model: [a, b], name: mine, ema: [0.9]}",
            ["mine,model=a,ema=0.9", "mine,model=b,ema=0.9"],
        ),
    ],
)
def test_names_tell_what_is_varied(tmp_path: Path, entry: str, names: list[str]) -> None:
    assert [fine_tune_name(each) for each in load(tmp_path, entry).finetune] == names


def test_overrides_sweep_too(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "{model: a}"), ["finetune.0.batch_size=[8, 16]"])
    assert [entry.recipe.batch_size for entry in config.finetune] == [8, 16]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{epochs: 3}", "missing key 'finetune.1.model'"),
        ("{model: x, epochs: five}", "finetune.1: epochs: input should be a valid integer"),
        ("{model: x, epochs: []}", "finetune.1: epochs: input should be a valid integer"),
        ("{model: x, sead: 0}", "finetune.1: unknown key 'sead'"),
        ("{model: x, seeds: 0}", "finetune.1.seeds: input should be greater than 0"),
        ("{model: x, seeds: [1, 2]}", "finetune.1.seeds: input should be a valid integer"),
        ("{model: x, repeats: 0}", "finetune.1.repeats: input should be greater than 0"),
        ("{model: x, preset: papr}", "finetune.1: preset 'papr' does not exist: did you mean"),
        ("{model: x, learning_rate: [1e-3, -1]}", "finetune.1: learning_rate -1.0 cannot be used"),
        (
            "{model: x, optimizer: [adam, sdg]}",
            "optimizer 'sdg' does not exist: did you mean 'sgd'",
        ),
        ("{model: x, augmentation: {rotatoin: 3}}", "unknown key 'rotatoin': did you mean"),
        ("{model: x, class_weight: {a: 0}}", "must be 'balanced' or a positive weight"),
        ("{model: x, search: {spaec: 1}}", "'finetune.1.search.spaec': did you mean 'space'?"),
        ("{model: x, search: {space: {}}}", "finetune.1.search.space: dictionary should have"),
        ("{model: x, search: {}}", "finetune, x: search needs the budget that all searched arms"),
        ("{model: x, few_labels: true}", "finetune, x: few_labels needs the sizes"),
        ("3", "finetune.1: input should be a valid dictionary"),
    ],
)
def test_mistake_is_told_once_with_its_place_in_the_file(
    tmp_path: Path, entry: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "{model: [a, b], epochs: [1, 2, 3]}", entry)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mistake_of_a_sweep_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "{model: [a, b], strategy: [head, full], presett: paper}")
    assert str(caught.value).count("finetune.0: unknown key 'presett'") == 1
    assert "did you mean 'preset'?" in str(caught.value)
    assert ";" not in str(caught.value)


def test_preset_is_written_out_and_given_keys_win(tmp_path: Path) -> None:
    config = load(tmp_path, "{model: a, preset: paper, epochs: 7}")
    (resolved,) = dump_config(config, tmp_path)["finetune"]
    assert "preset" not in resolved
    paper: dict[str, Any] = dict(PRESETS["paper"])
    assert paper["learning_rate"] == pytest.approx(1e-4)
    for key, value in (paper | {"epochs": 7}).items():
        assert resolved[key] == value, key


def test_resolved_file_has_the_same_entries(tmp_path: Path) -> None:
    entries = (
        "{model: [a, b], weights: [w/x.pth, package], preset: paper, epochs: [1, 2], seeds: 2}",
        "{model: c, name: mine, repeats: 1, few_labels: true, search: false}",
        "{model: d, augmentation: [{}, {rotation: 10}], model_args: {pad_type: same}}",
        "{model: e, search: {space: {learning_rate: [1e-4, 1e-3]}}}",
        "{model: f, search: }",
    )
    extra = "few_labels: {shots: [2]}\nsearch: {trials: 3}\n"
    config = load(tmp_path, *entries, extra=extra)
    assert config.finetune[0].weights == str(tmp_path / "w/x.pth")
    again = reload(config, tmp_path / "results")
    assert len(again.finetune) == len(config.finetune) == 13
    for before, after in zip(config.finetune, again.finetune, strict=True):
        assert after.recipe == before.recipe
        assert after.varied == before.varied
        assert fine_tune_name(after) == fine_tune_name(before)
        assert search_of(again, after) == search_of(config, before)
        for key in ("name", "repeats", "seeds", "few_labels"):
            assert getattr(after, key) == getattr(before, key)
    elsewhere = tmp_path / "results"
    assert dump_config(again, elsewhere) == dump_config(config, elsewhere)


def test_weight_files_are_written_relative_to_the_resolved_file(tmp_path: Path) -> None:
    config = load(tmp_path, "{model: a, weights: w/x.pth}", "{model: a, weights: hub}")
    resolved = dump_config(config, tmp_path / "results")["finetune"]
    assert [entry["weights"] for entry in resolved] == ["../w/x.pth", "hub"]


@pytest.mark.parametrize(
    ("entry", "searched"),
    [
        ("{model: a}", {"learning_rate", "weight_decay"}),
        ("{model: a, search: true}", {"learning_rate", "weight_decay"}),
        ("{model: a, learning_rate: 1e-4}", {"weight_decay"}),
        ("{model: a, learning_rate: [1e-4], weight_decay: 0}", set()),
        ("{model: a, preset: paper}", set()),
        ("{model: a, preset: paper, search: {space: {dropout: [0.2, 0.5]}}}", {"dropout"}),
        ("{model: a, learning_rate: 1, search: {space: {learning_rate: [1]}}}", {"learning_rate"}),
        ("{model: a, search: false}", set()),
    ],
)
def test_what_is_set_is_not_searched(tmp_path: Path, entry: str, searched: set[str]) -> None:
    config = load(tmp_path, entry, extra="search: {trials: 3}\n")
    again = reload(config, tmp_path / "results")
    for each in (config, again):
        search = search_of(each, each.finetune[0])
        assert (set() if search is None else set(search.space)) == searched
    unbudgeted = entry.replace("search: true", "search: false")
    if "space" not in entry:
        config = load(tmp_path, unbudgeted)
        assert search_of(config, config.finetune[0]) is None
        assert "space" not in str(dump_config(config, tmp_path)["finetune"])


def test_reading_an_experiment_loads_no_network_library(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "{model: [a, b], strategy: [lp-ft, lora], augmentation: {stain: 0.1}}",
        "{model: c, preset: paper, search: {space: {epochs: [1, 2]}}}",
        extra="search: {trials: 3}\n",
    )
    code = (
        "import sys, pathlib; from featurebench.config import load_config; "
        f"load_config(pathlib.Path({str(file)!r})); "
        "print(sorted({'torch', 'timm', 'sklearn', 'lightning_fabric'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
