"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

# A run that fails by a drawn example fails again; --hypothesis-profile=default looks for others.
settings.register_profile("same-every-time", derandomize=True)
settings.load_profile("same-every-time")

# Before torch and numpy are imported: threads that wait for each other by spinning make small
# problems several times slower as soon as two processes share the cores.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

if TYPE_CHECKING:
    from collections.abc import Callable

    from featurebench.config import ExperimentConfig
    from featurebench.experiment import Console

SMALL = """
name: small
data:
  synthetic: {patients: 12, tiles_per_patient: 4, size: 48, class_effect: 3.0, seed: 1}
backbones:
  - {model: tf_efficientnet_lite0, weights: package, preprocessing: {input_size: 64}}
splits: {folds: 3, repeats: 2, group: patient_id, seed: 0}
heads: {logistic: {Cs: [0.001, 0.1]}, knn: {k: 5}, dummy: {}}
finetune:
  - {model: tf_efficientnet_lite0, weights: package, strategy: full, epochs: 1, image_size: 32,
     batch_size: 8, repeats: 1}
compare: {resamples: 200}
compute: {threads: 2}
"""


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the real tiles and weights; a test that asks for it skips where it is absent."""
    default = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("FEATUREBENCH_SHARED", default))
    if not (folder / "data" / "glas_tiles" / "tiles.csv").is_file():
        pytest.skip(f"no shared data in {folder.name}/: set FEATUREBENCH_SHARED to its folder")
    return folder


class Recorder:
    """A console that remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def console(self) -> Console:
        from featurebench.experiment import Console

        return Console(say=lambda step, text: self.lines.append((step, text)))

    def of(self, step: str) -> list[str]:
        return [text for name, text in self.lines if name == step]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an undisturbed run of the small experiment; not to be changed."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "small.yaml").write_text(SMALL, encoding="utf-8")
    from featurebench import experiment
    from featurebench.config import load_config

    experiment.run(load_config(folder / "small.yaml"))
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """Fresh copy of the finished experiment, to be changed at will."""
    return Path(shutil.copytree(finished, tmp_path / "small"))


@pytest.fixture
def run_again() -> Callable[..., tuple[ExperimentConfig, Recorder]]:
    """Run an experiment of a folder, and tell what it said."""

    from featurebench import experiment
    from featurebench.config import load_config

    def run(folder: Path, *overrides: str) -> tuple[ExperimentConfig, Recorder]:
        recorder = Recorder()
        config = load_config(folder / "small.yaml", overrides)
        experiment.run(config, recorder.console())
        return config, recorder

    return run


@pytest.fixture
def new_recorder() -> type[Recorder]:
    """Make consoles that remember what was said."""
    return Recorder


def pytest_collection_finish() -> None:
    """Keep the garbage collector off what was imported: statsmodels collects at every call."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let go of it again, so that nothing counts as leaked at the end."""
    gc.unfreeze()
