"""Few-label curves in an experiment: the same whoever draws them, kept, and shown in the report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from featurebench.config import load_config
from featurebench.errors import ConfigError
from featurebench.experiment import Console, embed_tiles, probe_arms, report
from featurebench.experiment.freshness import read_summary
from featurebench.results import load_curve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from featurebench.config import ExperimentConfig
    from featurebench.results import LearningCurve

TINY = """
data: {synthetic: {patients: 12, tiles_per_patient: 4, size: 32, class_effect: 2.0, seed: 2}}
backbones:
  - {model: handcrafted, model_args: {groups: [colour]}}
splits: {folds: 3, repeats: 1, group: patient_id}
heads: {logistic: {Cs: [0.001, 0.1]}, centroid: {}, dummy: {}}
few_labels: {patients: [2, 4], shots: [2], draws: 2}
compute: {threads: 2}
"""


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    embed_tiles(load_config(folder / "tiny.yaml"))
    return folder


@pytest.fixture
def tiny(embedded: Path, tmp_path: Path) -> Callable[..., ExperimentConfig]:
    def load(*overrides: str) -> ExperimentConfig:
        own = [f"output.results={tmp_path / 'results'}", f"output.reports={tmp_path / 'reports'}"]
        return load_config(embedded / "tiny.yaml", [*own, *overrides])

    return load


def curves(config: ExperimentConfig) -> dict[str, LearningCurve]:
    root = config.output.results / "curves"
    return {folder.name: load_curve(folder) for folder in sorted(root.iterdir())}


def points(curve: LearningCurve) -> list[Any]:
    return [replace(point) for point in curve.points]


def test_processes_draw_the_curves_of_one(
    tiny: Callable[..., ExperimentConfig], tmp_path: Path
) -> None:
    here, there = tiny(), tiny(f"output.results={tmp_path / 'shared'}")
    probe_arms(here)
    probe_arms(there, jobs=2)
    expected, found = curves(here), curves(there)
    assert len(expected) == 2
    assert list(found) == list(expected)
    for name, curve in expected.items():
        assert points(found[name]) == points(curve)


def test_curves_are_kept_and_reported(tiny: Callable[..., ExperimentConfig]) -> None:
    config = tiny()
    probe_arms(config)
    lines: list[tuple[str, str]] = []
    probe_arms(config, Console(say=lambda step, text: lines.append((step, text))))
    cached = [text for step, text in lines if step == "few labels"]
    assert [text.rpartition(": ")[2] for text in cached] == ["cached", "cached"]
    page = report(config).read_text(encoding="utf-8")
    assert "Few labels" in page
    summary = read_summary(config)
    assert summary is not None
    assert [len(panel["arms"]) for panel in summary["few_labels"]["panels"]] == [2, 2]


def test_only_the_heads_that_are_named(tiny: Callable[..., ExperimentConfig]) -> None:
    config = tiny("few_labels.heads=[centroid]")
    probe_arms(config)
    assert [curve.head for curve in curves(config).values()] == ["centroid"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("few_labels.heads=[centriod]", "did you mean 'centroid'"),
        ("few_labels={draws: 3}", "no sizes: give patients"),
        ("few_labels.patient=[3]", "did you mean 'patients'"),
        ("few_labels.shots=[0]", "few_labels.shots.0"),
    ],
)
def test_what_cannot_be_drawn_is_refused_first(
    tiny: Callable[..., ExperimentConfig], override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        probe_arms(tiny(override))
