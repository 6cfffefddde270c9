"""The experiment file: defaults, paths, and a message for every mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from featurebench.config import ExperimentConfig, dump_config, load_config, load_experiments
from featurebench.errors import ConfigError

MINIMAL = """
data: {manifest: tiles.csv}
backbones: [{model: resnet18, weights: weights/file.pth}]
heads: {logistic: , knn: {k: 5}}
"""


def write(folder: Path, text: str, name: str = "study.yaml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_defaults_follow_the_files_name_and_folder(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    assert config.name == "study"
    assert config.base == tmp_path
    assert config.data.manifest == tmp_path / "tiles.csv"
    assert config.store == tmp_path / "stores/study.store"
    assert config.output.results == tmp_path / "results/study"
    assert config.backbones[0].weights == str(tmp_path / "weights/file.pth")
    assert {name: head.params for name, head in config.heads.items()} == {
        "logistic": {},
        "knn": {"k": 5},
    }
    assert config.splits.folds == 5


def test_weight_sources_are_not_paths(tmp_path: Path) -> None:
    text = MINIMAL.replace("weights/file.pth", "package")
    assert load_config(write(tmp_path, text)).backbones[0].weights == "package"


def test_resolved_file_reads_back_as_the_same_experiment(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    elsewhere = tmp_path / "results" / "study"
    elsewhere.mkdir(parents=True)
    resolved = dump_config(config, elsewhere)
    assert resolved["data"]["manifest"] == "../../tiles.csv"
    again = load_config(write(elsewhere, yaml.safe_dump(resolved)))
    assert again.model_dump() == config.model_dump()


def test_overrides_reach_into_sections_and_lists(tmp_path: Path) -> None:
    file = write(tmp_path, MINIMAL)
    config = load_config(
        file,
        ["splits.folds=3", "backbones.0.model=vgg16", "heads.knn.k=7", "compare.margin=2e-2"],
    )
    assert config.splits.folds == 3
    assert config.backbones[0].model == "vgg16"
    assert config.heads["knn"].params == {"k": 7}
    assert config.compare.margin == pytest.approx(0.02)


def test_an_operating_point_is_declared_by_its_threshold(tmp_path: Path) -> None:
    declared = "compare: {operating_point: {threshold: 0.35}, prevalence: 0.05}"
    config = load_config(write(tmp_path, MINIMAL + declared))
    assert config.compare.operating_point is not None
    assert config.compare.operating_point.threshold == 0.35
    assert config.compare.prevalence == 0.05
    plain = load_config(write(tmp_path, MINIMAL)).compare
    assert (plain.operating_point, plain.prevalence) == (None, None)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("splits.folds", "write it as key.path=value"),
        ("backbones.3.model=x", "'3' is not a number below 1"),
        ("backbones.0.model.name=x", "'model' holds a value, not further keys"),
        ("splits.fold=3", "unknown key 'splits.fold': did you mean 'folds'?"),
        ("splits.folds=[", "the value is not valid YAML"),
    ],
)
def test_wrong_override_is_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, MINIMAL), [override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("backbons: []\n" + MINIMAL, "unknown key 'backbons': did you mean 'backbones'?"),
        (MINIMAL + "splits: {folds: 1}", "splits.folds: input should be greater than or equal"),
        (MINIMAL + "splits: {fold: 5}", "unknown key 'splits.fold': did you mean 'folds'?"),
        (MINIMAL + "compare: {margin: 0}", "compare.margin"),
        (
            MINIMAL + "compare: {operating_point: {threshold: 1}}",
            "compare.operating_point.threshold",
        ),
        (
            MINIMAL + "compare: {operating_point: {cut: 0.5}}",
            "unknown key 'compare.operating_point.cut'",
        ),
        (MINIMAL + "compare: {prevalence: 0}", "compare.prevalence"),
        (MINIMAL + "compare: {margin_rationale: x}", "margin_rationale goes with a margin only"),
        (MINIMAL + "compare: {min_recall: 2}", "compare.min_recall"),
        (MINIMAL + "name: a/b", "name: string should match"),
        (MINIMAL + "name: a\nname: b", "key 'name' stands twice"),
        ("a: &x 1\nb: *x", "aliases (*name) are not allowed"),
        ("data: [", "is not valid YAML"),
        ("- 1", "holds no keys"),
        ("heads: {knn: }", "missing key 'data'"),
        ("data: {manifest: t.csv}", "nothing to compare"),
        ("data: {}\nheads: {knn: }\nbackbones: [{model: x}]", "exactly one of manifest, folder"),
        (
            "data: {folder: x, manifest: y}\nheads: {knn: }\nbackbones: [{model: x}]",
            "got manifest and folder",
        ),
        (MINIMAL.replace("tiles.csv", "t.csv, patient_regex: x"), "patient_regex goes with folder"),
        (MINIMAL.replace("manifest: tiles.csv", "folder: t, root: r"), "root goes with manifest"),
        (
            MINIMAL.replace("tiles.csv", "t.csv, class_names: [a, b]"),
            "class_names go with medmnist",
        ),
        (
            MINIMAL.replace("manifest: tiles.csv", "medmnist: a.npz, columns: {label: a}"),
            "columns go with manifest only",
        ),
        (MINIMAL + "splits: {given: split, repeats: 2}", "repeats is 2, remove it"),
        (MINIMAL + "splits: {given: split, holdout: [0.7, 0.1, 0.2]}", "two ways to one split"),
        (
            MINIMAL + "finetune: [{model: x, learning_rat: 1}]",
            "finetune.0: unknown key 'learning_rat': did you mean 'learning_rate'?",
        ),
        (
            MINIMAL + "finetune: [{model: x, strategy: lorra}]",
            "finetune.0: strategy 'lorra' does not exist: did you mean 'lora'?",
        ),
    ],
)
def test_mistake_in_the_file_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "study.yaml" in str(caught.value)


def test_all_mistakes_come_in_one_message(tmp_path: Path) -> None:
    text = MINIMAL + "splits: {folds: 1, sede: 3}\ncompare: {alpha: 2}"
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    for part in ("splits.folds", "'splits.sede': did you mean 'seed'?", "compare.alpha"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (
            "knn: {views: {trian: true}}",
            "unknown key 'heads.knn.views.trian': did you mean 'train'",
        ),
        ("knn: {views: {train: false, average: false}}", "heads.knn.views: train and average are"),
        ("mine: {head: knn, views: {}}", "heads.mine: views need some to be stored"),
        ("knn: {search: {}}", "heads.knn: search needs the budget that all searched heads share"),
        (
            "knn: {search: {spaec: {}}}",
            "unknown key 'heads.knn.search.spaec': did you mean 'space'",
        ),
        ("knn: {search: {space: {}}}", "heads.knn.search.space: dictionary should have at least 1"),
        ("knn: {search: 3}", "heads.knn.search: input should be"),
        ("k+n: {head: knn}", "heads: 'k+n' is no name of an entry"),
        ("knn: 3", "heads.knn: input should be"),
    ],
)
def test_mistake_in_a_head_is_named(tmp_path: Path, heads: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, MINIMAL.replace("logistic: , knn: {k: 5}", heads)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("{trails: 3}", "unknown key 'search.trails': did you mean 'trials'?"),
        ("{method: gird}", "search.method: input should be 'tpe', 'random' or 'grid'"),
        ("{trials: 0}", "search.trials"),
        ("{seconds: 0}", "search.seconds"),
    ],
)
def test_mistake_in_the_search_is_named(tmp_path: Path, search: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, f"{MINIMAL}search: {search}\n"))
    assert message in str(caught.value)


def test_heads_are_written_out_as_they_were_given(tmp_path: Path) -> None:
    heads: dict[str, dict[str, Any]] = {
        "logistic": {},
        "mine": {
            "head": "lightgbm",
            "early_stopping_rounds": None,
            "search": {"space": {"a": [1]}},
        },
        "knn": {"views": {"train": True, "average": False}, "search": False},
    }
    document = {
        "data": {"folder": "x"},
        "backbones": [{"model": "x", "views": {"dihedral": 4, "stain": 2}}],
        "heads": heads,
        "search": {"trials": 5},
    }
    config = load_config(write(tmp_path, yaml.safe_dump(document)))
    assert config.heads["mine"].head == "lightgbm"
    assert config.heads["mine"].params == {"early_stopping_rounds": None}
    assert config.heads["knn"].search is False
    resolved = dump_config(config, tmp_path)
    resolved["heads"]["mine"]["search"] = heads["mine"]["search"]
    assert resolved["heads"] == heads
    assert resolved["search"] == {"method": "tpe", "trials": 5, "seconds": None}
    assert load_config(write(tmp_path, yaml.safe_dump(resolved))) == config


def test_a_bare_key_of_a_head_means_its_defaults(tmp_path: Path) -> None:
    text = MINIMAL.replace("knn: {k: 5}", "knn: {search: , views: }")
    text = text.replace("weights: weights/file.pth", "views: 2")
    head = load_config(write(tmp_path, f"{text}search: {{}}\n")).heads["knn"]
    assert (head.views and head.views.train, head.views and head.views.average) == (True, True)
    assert head.search
    assert head.search.space is None


def test_absent_and_oversized_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="featurebench init"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="larger than 1 MB"):
        load_config(write(tmp_path, "#" * 1_000_001))


def test_exponents_are_numbers(tmp_path: Path) -> None:
    text = MINIMAL + "finetune: [{model: x, learning_rate: 1e-4}]"
    assert load_config(write(tmp_path, text)).finetune[0].recipe.learning_rate == pytest.approx(
        1e-4
    )


def test_sections_are_frozen(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    with pytest.raises(ValueError, match="frozen"):
        config.splits.folds = 3


def test_fine_tune_defaults_are_those_of_the_recipe() -> None:
    from featurebench.config import FineTuneConfig
    from featurebench.finetuning import Recipe

    recipe = Recipe(model="x").to_dict()
    for name, value in FineTuneConfig(model="x").model_dump(exclude={"name", "repeats"}).items():
        assert recipe[name] == value, name


def test_every_committed_experiment_is_valid() -> None:
    folder = Path(__file__).parents[1] / "configs"
    files = sorted(folder.glob("*.yaml"))
    assert files
    for file in files:
        experiments = load_experiments(file)
        assert all(isinstance(each, ExperimentConfig) for each in experiments.values())
        code = [line for line in file.read_text().splitlines() if line.strip()[:1] not in {"", "#"}]
        assert len(code) <= 30, file.name
