"""The PathMNIST experiment: it loads as it stands, and runs on a file of the same format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from featurebench import experiment
from featurebench.config import load_config

CONFIG = Path(__file__).parents[2] / "configs" / "medmnist_pathmnist.yaml"
N_CLASSES = 9
COUNTS = {"train": 36, "val": 18, "test": 27}
SMALL = ("test_resnet", "test_efficientnet", "test_byobnet")


def write_file(path: Path) -> Path:
    """Random tiles whose class is their mean, so that something can be learnt."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, n in COUNTS.items():
        labels = np.arange(n) % N_CLASSES
        noise = rng.integers(0, 40, (n, 32, 32, 3))
        arrays[f"{split}_images"] = (labels[:, None, None, None] * 24 + noise).astype(np.uint8)
        arrays[f"{split}_labels"] = labels[:, None].astype(np.uint8)
    np.savez_compressed(path, **arrays)
    return path


def test_the_experiment_is_the_benchmarks() -> None:
    config = load_config(CONFIG)
    assert config.data.medmnist is not None
    assert config.data.medmnist.name == "pathmnist_224.npz"
    assert len(config.data.class_names or ()) == N_CLASSES
    assert config.splits.given == "split"
    networks = ["vgg16.tv_in1k", "resnet18.a1_in1k", "densenet121.ra_in1k"]
    for entries in (config.backbones, config.finetune):
        assert [entry.model for entry in entries] == networks
        assert {entry.weights for entry in entries} == {"hub"}
    for recipe in (entry.recipe for entry in config.finetune):
        assert (recipe.strategy, recipe.epochs, recipe.patience) == ("full", 100, 5)
        assert (recipe.batch_size, recipe.image_size) == (64, 224)
        assert (recipe.learning_rate, recipe.weight_decay) == (1e-4, 0.01)
        assert (recipe.warmup_fraction, recipe.augmented.color_jitter) == (0, 0)
        assert not recipe.augmented.flips
    assert config.heads["knn"].params == {"k": 11, "metric": "euclidean"}


def test_it_runs_reduced_from_file_to_report(tmp_path: Path) -> None:
    overrides = [
        f"data.medmnist={write_file(tmp_path / 'tiny.npz')}",
        f"store={tmp_path / 'tiny.store'}",
        f"output={{results: {tmp_path / 'results'}, reports: {tmp_path / 'reports'}}}",
        "compare.resamples=200",
        "compute={threads: 1, device: cpu}",
    ]
    for i, model in enumerate(SMALL):
        overrides += [
            f"backbones.{i}.model={model}",
            f"backbones.{i}.weights=random",
            f"backbones.{i}.preprocessing.input_size=32",
        ]
    small = {"model": f"[{', '.join(SMALL)}]", "weights": "random", "epochs": 1, "seeds": 2}
    small |= {"image_size": 32, "batch_size": 12}
    overrides += [f"finetune.0.{key}={value}" for key, value in small.items()]
    experiment.run(load_config(CONFIG, overrides))
    assert len(list((tmp_path / "results" / "runs").iterdir())) == 6 + 2 * 3
    report = json.loads((tmp_path / "reports" / "report.json").read_text())
    assert report["data"]["n_tiles"] == sum(COUNTS.values())
    assert "smooth muscle" in report["data"]["classes"]
    assert report["plan"]["group"] is None
    assert report["plan"]["scheme"] == "holdout"
    assert [arm["kind"] for arm in report["arms"]] == ["probe"] * 6 + ["finetune"] * 3
    for arm in report["arms"]:
        assert {"accuracy", "roc_auc"} <= set(arm["metrics"])
    y_prob = np.load(next((tmp_path / "results").rglob("predictions.npz")))["y_prob"]
    assert np.isfinite(y_prob).all(axis=2).sum() == COUNTS["test"]
    assert "not grouped by patient" in (tmp_path / "reports" / "report.md").read_text()
