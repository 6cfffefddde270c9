"""Columns that scores are split by: refused before any work, and scored in the comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from featurebench.comparison.subgroups import subgroup_columns
from featurebench.config import load_config
from featurebench.errors import ConfigError
from featurebench.experiment.console import QUIET
from featurebench.experiment.study import load_tiles, make_study

if TYPE_CHECKING:
    from pathlib import Path

    from featurebench.config import ExperimentConfig

TEXT = """
name: small
data: {synthetic: {patients: 8, tiles_per_patient: 2, sites: 2, size: 32}}
store: small.store
backbones: [{model: handcrafted}]
heads: {knn: {k: 1}}
splits: {folds: 2, repeats: 1, group: patient_id}
output: {results: results, reports: reports}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def with_subgroups(file: Path, columns: str) -> ExperimentConfig:
    return load_config(file, [f"compare.subgroups={columns}"])


def test_default_is_left_to_what_the_tiles_have(file: Path) -> None:
    config = load_config(file)
    assert config.compare.subgroups is None
    study = make_study(config, load_tiles(config, QUIET), [])
    assert list(subgroup_columns(study.tiles, config.compare.subgroups)) == ["site"]


def test_an_unknown_column_is_refused_before_the_folds_are_drawn(file: Path) -> None:
    config = with_subgroups(file, "[sight]")
    tiles = load_tiles(config, QUIET)
    with pytest.raises(ConfigError, match=r"no column 'sight': did you mean 'site'\?"):
        make_study(config, tiles, [])


def test_declared_columns_change_no_fold(file: Path) -> None:
    plain = load_config(file)
    tiles = load_tiles(plain, QUIET)
    declared = with_subgroups(file, "[site]")
    assert make_study(declared, tiles, []).plan.id == make_study(plain, tiles, []).plan.id
    assert declared.compare.subgroups == ["site"]
