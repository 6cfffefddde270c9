"""The audit of whole experiments: faults planted in tiles and tables are named."""

from __future__ import annotations

import csv
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from featurebench import experiment
from featurebench.config import load_config
from featurebench.errors import ConfigError
from featurebench.experiment.auditing import make_audit, read_audit, read_map
from featurebench.experiment.console import QUIET
from featurebench.experiment.index import read_index
from featurebench.experiment.study import load_tiles, make_study
from featurebench.reporting.audit import audit_sentences
from featurebench.tiles import write_cohort

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from featurebench.config import ExperimentConfig

PLANTED = """
name: planted
data: {manifest: cohort/table.csv}
backbones:
  - {model: tf_efficientnet_lite0, weights: package, preprocessing: {input_size: 64}}
splits: {folds: 3, repeats: 1, group: patient_id, seed: 0}
heads: {knn: {k: 5}}
compare: {resamples: 200}
compute: {threads: 1}
"""
Rows = list[dict[str, str]]


def _planted(
    folder: Path, *, change: Callable[[Path, Rows], Rows], more: str = "", **cohort: Any
) -> tuple[ExperimentConfig, dict[str, Any]]:
    """Draw a cohort, change its tiles and its table, run, and give the audit."""
    write_cohort(folder / "cohort", **cohort)
    with (folder / "cohort" / "tiles.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows = change(folder / "cohort", rows)
    with (folder / "cohort" / "table.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "planted.yaml").write_text(PLANTED + more, encoding="utf-8")
    config = load_config(folder / "planted.yaml")
    experiment.run(config)
    audit = json.loads((config.output.results / "audit.json").read_text(encoding="utf-8"))
    return config, audit


def _copy_a_tile(folder: Path, rows: Rows) -> Rows:
    """Put a patient's tile, mirrored and as a JPEG, in the place of another patient's."""
    source, target = rows[3], rows[-2]
    assert source["patient_id"] != target["patient_id"]
    image = Image.open(folder / source["path"]).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    target["path"] = target["path"].replace(".png", ".jpg")
    image.save(folder / target["path"], quality=92)
    return rows


def test_tile_copied_to_another_patient_is_found(tmp_path: Path) -> None:
    config, audit = _planted(
        tmp_path,
        change=_copy_a_tile,
        patients=18,
        tiles_per_patient=4,
        size=64,
        seed=2,
    )
    found = audit["duplicates"]
    assert found["n_confirmed"] == 1
    worst = found["worst"][0]
    assert (worst["a"], worst["b"]) == (3, 70)
    assert worst["likeness"] > 0.97
    sentence = "1 pair of near-identical tiles lies on both sides of folds."
    assert sentence in audit_sentences(audit)
    summary = json.loads((config.output.reports / "report.json").read_text(encoding="utf-8"))
    assert sentence in summary["audit"]["findings"]
    pair = summary["audit"]["duplicates"]["pairs"][0]
    assert pair["same_picture"]
    assert pair["folds"][0] != pair["folds"][1]
    assert all(tile["image"].startswith("data:image/jpeg") for tile in pair["tiles"])
    page = (config.output.reports / "report.html").read_text(encoding="utf-8")
    assert sentence in page
    assert "P0001" not in page


def _class_follows_site(_: Path, rows: Rows) -> Rows:
    wanted = {("benign", "site_1"), ("malignant", "site_2")}
    return [row for row in rows if (row["label"], row["site"]) in wanted]


def test_cohort_whose_class_is_the_site_is_not_cleared(tmp_path: Path) -> None:
    config, audit = _planted(
        tmp_path,
        change=_class_follows_site,
        patients=36,
        tiles_per_patient=4,
        sites=2,
        site_effect=2.0,
        class_effect=0.0,
        size=64,
        seed=5,
    )
    (found,) = audit["shortcuts"]
    assert found["finding"] == "cannot be told apart"
    assert found["association"]["v"] == pytest.approx(1.0)
    assert found["robustness"] is None
    (sentence,) = audit_sentences(audit)
    assert sentence.startswith(
        "Site and class cannot be told apart on this cohort: every site has tiles of one class "
        "only, and an embedding tells the site with "
    )
    summary = json.loads((config.output.reports / "report.json").read_text(encoding="utf-8"))
    assert sentence in summary["audit"]["absent"]
    assert sentence in summary["caveats"]
    assert not any("site" in cleared for cleared in summary["audit"]["cleared"])


def test_cohort_without_faults_is_not_accused(finished: Path) -> None:
    audit = json.loads((finished / "results/small/audit.json").read_text(encoding="utf-8"))
    assert audit_sentences(audit) == ()
    assert audit["duplicates"]["n_pairs"] == audit["duplicates"]["n_copies_within"] == 0
    (found,) = audit["shortcuts"]
    assert found["finding"] in {"none", "site is told", "not tested"}
    assert [(row["column"], row["n_torn"]) for row in audit["separations"] if row["leaks"]] == [
        ("patient_id", 0),
        ("patient_id", 0),
        ("slide_id", 0),
        ("slide_id", 0),
    ]
    summary = json.loads((finished / "reports/small/report.json").read_text(encoding="utf-8"))
    cleared = summary["audit"]["cleared"]
    assert "No patient and no slide stands on both sides of a fold." in cleared
    states = {row["arm"]: row["state"] for row in summary["audit"]["frozen"]}
    assert states["tf_efficientnet_lite0.package+knn"] == "frozen"
    assert states["tf_efficientnet_lite0.package+full"] == "trained"
    assert "dummy" not in states


def _parts(folder: Path, *overrides: str) -> tuple[ExperimentConfig, Any, Any]:
    config = load_config(folder / "small.yaml", overrides)
    index = read_index(config.output.results)
    return config, make_study(config, load_tiles(config, QUIET), index.bad_tiles), index


def test_audit_is_made_once(copied: Path, new_recorder: type) -> None:
    config, study, index = _parts(copied)
    file = copied / "results/small/audit.json"
    before = file.read_bytes()
    recorder = new_recorder()
    make_audit(config, study, index, recorder.console())
    assert recorder.of("audit") == ["cached"]
    assert file.read_bytes() == before
    file.unlink()
    made = make_audit(config, study, index)
    assert json.loads(file.read_bytes()) == json.loads(before) == made


def test_other_settings_or_labels_are_another_audit(copied: Path) -> None:
    config, study, index = _parts(copied)
    assert read_audit(config, study, index) is not None
    other, _, _ = _parts(copied, "audit.duplicates=0.9")
    assert read_audit(other, study, index) is None
    table = study.tiles.table.assign(site=study.tiles.table["site"].str.upper())
    from dataclasses import replace

    renamed = replace(study, tiles=replace(study.tiles, table=table))
    assert read_audit(config, renamed, index) is None


def test_report_is_made_with_the_audit_that_is_there_when_the_store_is_gone(
    copied: Path, new_recorder: type
) -> None:
    shutil.rmtree(copied / "stores/small.store")
    recorder = new_recorder()
    config = load_config(copied / "small.yaml")
    experiment.report(config, recorder.console())
    assert recorder.of("report") == ["cached"]
    (copied / "results/small/audit.json").unlink()
    experiment.report(config, recorder.console())
    summary = json.loads((copied / "reports/small/report.json").read_text(encoding="utf-8"))
    assert summary["audit"]["duplicates"] is None
    assert summary["audit"]["separations"]
    (absent,) = summary["audit"]["absent"]
    assert absent == "Duplicates and shortcuts were not looked for: the store could not be read."
    assert not (copied / "results/small/audit.json").exists()


def test_audit_can_be_left_out(copied: Path) -> None:
    config, study, index = _parts(copied, "audit=false")
    assert make_audit(config, study, index) is None
    assert read_audit(config, study, index) is None
    experiment.report(config)
    summary = json.loads((copied / "reports/small/report.json").read_text(encoding="utf-8"))
    assert summary["audit"] is None


def test_search_and_map_can_be_left_out(copied: Path) -> None:
    config, study, index = _parts(copied, "audit.duplicates=false", "audit.map=false")
    made = make_audit(config, study, index)
    assert made is not None
    assert made["duplicates"] is None
    assert read_map(config, made) is None
    assert made["shortcuts"]
    (absent,) = made["absent"]
    assert absent == "Near-identical tiles were not looked for: audit.duplicates is false."


def test_columns_that_cannot_be_looked_at_are_told(copied: Path) -> None:
    config, study, index = _parts(copied, "audit.columns=[scanner]", "audit.map=false")
    made = make_audit(config, study, index)
    assert made is not None
    assert made["shortcuts"] == []
    assert made["absent"] == [
        "Shortcuts by scanner were not tested: the tiles have no column scanner."
    ]


def test_map_is_read_with_its_audit_alone(copied: Path) -> None:
    config, study, index = _parts(copied)
    audit = read_audit(config, study, index)
    found = read_map(config, audit)
    assert found is not None
    assert found["xy"].shape == (48, 2)
    assert found["method"] == "pca"
    (copied / "results/small/embedding_map.npz").write_bytes(b"torn")
    assert read_map(config, audit) is None


def test_tiles_that_cannot_be_read_are_not_looked_at(copied: Path) -> None:
    config, study, index = _parts(copied, "audit.duplicates=0.2")
    for path in (copied / "stores/small.tiles").rglob("*.png"):
        path.write_bytes(b"")
    made = make_audit(config, study, index)
    assert made is not None
    assert made["duplicates"]["n_pairs"] > 0
    assert (made["duplicates"]["n_checked"], made["duplicates"]["n_confirmed"]) == (0, 0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("audit.duplicates=1.5", "audit.duplicates"),
        ("audit.column=site", "did you mean 'columns'"),
        ("audit.map=tsne", "audit.map"),
    ],
)
def test_settings_that_cannot_be(finished: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(finished / "small.yaml", [override])


def test_audit_true_is_the_defaults(finished: Path) -> None:
    plain = load_config(finished / "small.yaml")
    assert load_config(finished / "small.yaml", ["audit=true"]).audit == plain.audit
    assert load_config(finished / "small.yaml", ["audit=null"]).audit == plain.audit
