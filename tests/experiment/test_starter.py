"""`featurebench init`: what it finds, what it writes, and that the file can be run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from featurebench.config import load_config
from featurebench.errors import ConfigError, ManifestError
from featurebench.experiment import Console, write_starter
from featurebench.experiment.study import load_tiles, make_study
from featurebench.metrics import METRICS, SUGGESTED_MARGINS
from featurebench.tiles import write_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort") / "tiles of mine"
    write_cohort(folder, patients=8, tiles_per_patient=2, size=32)
    return folder


def test_table_is_found_and_read(cohort: Path, tmp_path: Path) -> None:
    file, summary = write_starter(cohort, tmp_path / "experiment.yaml")
    assert "16 tiles, 8 patients" in summary
    config = load_config(file)
    assert config.name == "tiles-of-mine"
    tiles = load_tiles(config, Console())
    assert len(tiles) == 16
    assert config.splits.group == "patient_id"
    assert config.splits.folds == 4


def test_margin_is_a_suggestion_to_be_judged(cohort: Path, tmp_path: Path) -> None:
    file, _ = write_starter(cohort, tmp_path / "experiment.yaml")
    text, compare = file.read_text(), load_config(file).compare
    assert compare.margin == SUGGESTED_MARGINS[compare.metric]
    assert (compare.floor, compare.margin_rationale) == (None, None)
    assert "JUDGE it clinically" in text
    assert "0.01 for roc_auc, brier, ece" in text
    assert max(map(len, text.splitlines())) <= 110
    assert set(SUGGESTED_MARGINS) == set(METRICS)


def test_foreign_column_names_are_mapped(cohort: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(cohort, tmp_path / "foreign"))
    table = folder / "tiles.csv"
    header, rest = table.read_text().split("\n", 1)
    header = header.replace("patient_id", "case").replace("label", "class")
    table.write_text(f"{header}\n{rest}")
    file, _ = write_starter(folder, tmp_path / "experiment.yaml")
    config = load_config(file)
    assert config.data.columns["patient_id"] == "case"
    assert load_tiles(config, Console()).column("patient_id") is not None


def test_folder_with_patients_in_its_names(cohort: Path, tmp_path: Path) -> None:
    folder = tmp_path / "classes"
    for k, label in enumerate(("a", "b")):
        (folder / label).mkdir(parents=True)
        sources = sorted(cohort.rglob("*.png"))
        for i in range(12):
            shutil.copy(sources[i], folder / label / f"P{i % 6 + 6 * k:02d}_{i}.png")
    file, summary = write_starter(folder, tmp_path / "experiment.yaml")
    assert "24 tiles, 12 patients" in summary
    assert "CHECK it" in file.read_text()
    assert load_config(file).data.patient_regex


def test_folder_without_patients_says_what_is_missing(cohort: Path, tmp_path: Path) -> None:
    folder = tmp_path / "classes"
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for i, source in enumerate(sorted(cohort.rglob("*.png"))[:6]):
            shutil.copy(source, folder / label / f"{'xyzuvw'[i]}.png")
    file, summary = write_starter(folder, tmp_path / "experiment.yaml")
    assert "no patients known" in summary
    text = file.read_text()
    assert "patient_regex with one named group" in text
    assert load_config(file).splits.group is None


def test_what_cannot_be_used_is_refused(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        write_starter(tmp_path / "absent")
    existing = tmp_path / "experiment.yaml"
    existing.write_text("mine")
    with pytest.raises(ConfigError, match="exists"):
        write_starter(cohort, existing)
    assert existing.read_text() == "mine"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError):
        write_starter(tmp_path / "empty", tmp_path / "other.yaml")
    assert not (tmp_path / "other.yaml").exists()


def test_fine_tunes_are_given_what_the_probe_is_given(cohort: Path, tmp_path: Path) -> None:
    file, _ = write_starter(cohort, tmp_path / "experiment.yaml")
    config = load_config(file)
    (entry,) = config.finetune
    assert entry.recipe.image_size is None  # the network's own, as the probe's
    assert entry.model in {backbone.model for backbone in config.backbones}
    assert entry.recipe.epochs > 5 * entry.recipe.patience
    assert entry.repeats == 3
    assert config.splits.repeats == 10


def test_few_patients_have_as_many_repeats_as_there_are_ways(tmp_path: Path) -> None:
    write_cohort(tmp_path / "few", patients=6, tiles_per_patient=2, size=32)
    file, _ = write_starter(tmp_path / "few", tmp_path / "experiment.yaml")
    config = load_config(file)
    assert 1 < config.splits.repeats < 10
    make_study(config, load_tiles(config, Console()), ())


def test_a_cheaper_fine_tune_is_offered_with_what_it_does_not_support(
    cohort: Path, tmp_path: Path
) -> None:
    file, _ = write_starter(cohort, tmp_path / "experiment.yaml")
    text = file.read_text()
    assert 'It will not support "enough"' in text
    offered = text.index("  # - {model", text.index('"enough"'))
    start, cheap = text[:offered], text[offered:].replace("  # - {", "  - {").replace("  #  ", "  ")
    file.write_text(start + cheap)
    fair, cheaper = load_config(file).finetune
    assert cheaper.recipe.image_size == 128
    assert cheaper.recipe.epochs < fair.recipe.epochs


def test_the_file_promises_no_error_rate(cohort: Path, tmp_path: Path) -> None:
    text = write_starter(cohort, tmp_path / "experiment.yaml")[0].read_text()
    assert " %" not in text
    assert "--dry-run" in text


@pytest.mark.shared
def test_real_tiles_are_understood(shared: Path, tmp_path: Path) -> None:
    file, summary = write_starter(shared / "data/glas_tiles", tmp_path / "experiment.yaml")
    assert "950 tiles, 16 patients; benign 426, malignant 524" in summary
    config = load_config(file)
    assert config.data.columns == {"patient_id": "patient", "slide_id": "image"}
    assert len(load_tiles(config, Console())) == 950
