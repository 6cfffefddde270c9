"""What an experiment makes of the columns of its table: unused ids, torn slides, tiles.parquet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from featurebench import experiment
from featurebench.config import load_config
from featurebench.tiles import write_cohort

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXT = """
name: table
data: {manifest: cohort/table.csv}
backbones: [{model: handcrafted}]
splits: {folds: 3, repeats: 2, seed: 0}
heads: {knn: {k: 3}, dummy: {}}
compare: {resamples: 200}
compute: {threads: 1}
"""


def _run(
    folder: Path,
    change: Callable[[pd.DataFrame], pd.DataFrame],
    recorder: Any,
    *overrides: str,
) -> dict[str, Any]:
    """Draw a cohort, change its table, run, and give report.json."""
    write_cohort(folder / "cohort", patients=12, tiles_per_patient=3, size=32, seed=4)
    table = pd.read_csv(folder / "cohort" / "tiles.csv", dtype=str)
    change(table).to_csv(folder / "cohort" / "table.csv", index=False)
    (folder / "table.yaml").write_text(TEXT, encoding="utf-8")
    config = load_config(folder / "table.yaml", overrides)
    experiment.run(config, recorder.console())
    text = (config.output.reports / "report.json").read_text(encoding="utf-8")
    summary: dict[str, Any] = json.loads(text)
    return summary


def test_unmapped_patients_are_told_on_the_console_and_in_the_report(
    tmp_path: Path, new_recorder: type
) -> None:
    recorder = new_recorder()
    summary = _run(tmp_path, lambda table: table.rename(columns={"patient_id": "case"}), recorder)
    sentence = (
        "Column case looks like patient_id and is not mapped to it, so no patient_id is known: map "
        "it as columns: {patient_id: case}."
    )
    assert recorder.of("warning").count(sentence) == 1
    assert sentence in summary["caveats"]


def test_torn_slide_bars_the_comparison_that_the_audit_finds_it_in(
    tmp_path: Path, new_recorder: type
) -> None:
    def share(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(slide_id=np.where(table.index % 3 == 0, "shared", table["slide_id"]))

    summary = _run(tmp_path, share, new_recorder())
    assert summary["barred"] == [
        "Some slides have tiles on both sides of a fold, so scores are too high, most of all those "
        "of flexible arms."
    ]
    assert any(
        "slides" in found and "both sides" in found for found in summary["audit"]["findings"]
    )


def test_results_hold_what_scores_are_computed_against(tmp_path: Path, new_recorder: type) -> None:
    def with_scanner(table: pd.DataFrame) -> pd.DataFrame:
        (tmp_path / "cohort" / str(table["path"].iloc[4])).write_text("no image")
        return table.assign(scanner=np.arange(len(table)) % 2)

    summary = _run(tmp_path, with_scanner, new_recorder(), "data.max_bad_tiles=0.5")
    results = tmp_path / "results/table"
    tiles = pd.read_parquet(results / "tiles.parquet")
    folds = pd.read_csv(results / "splits.csv")
    assert len(tiles) == 35 == summary["data"]["n_tiles"]
    assert tiles["tile_id"].tolist() == folds["tile_id"].tolist()
    assert {"label", "patient_id", "slide_id", "site", "scanner"} <= set(tiles)
    for file in results.glob("runs/*/run.json"):
        run = json.loads(file.read_text(encoding="utf-8"))
        y = tiles["label"].map(run["classes"].index).to_numpy()
        y_prob = np.load(file.parent / "predictions.npz")["y_prob"]
        expected = np.mean([balanced_accuracy_score(y, p.argmax(axis=1)) for p in y_prob])
        (arm,) = [arm for arm in summary["arms"] if arm["id"] == run["arm"]]
        assert arm["metrics"]["balanced_accuracy"]["value"] == pytest.approx(expected)
    assert not list(results.glob(".*.partial"))


def test_labels_that_were_mended_reach_the_results_with_the_report(
    tmp_path: Path, new_recorder: type
) -> None:
    _run(tmp_path, lambda table: table, new_recorder())
    table = pd.read_csv(tmp_path / "cohort/table.csv", dtype=str)
    table.loc[0, "site"] = "mended"
    table.to_csv(tmp_path / "cohort/table.csv", index=False)
    experiment.report(load_config(tmp_path / "table.yaml"))
    tiles = pd.read_parquet(tmp_path / "results/table/tiles.parquet")
    assert (tiles["site"] == "mended").sum() == 1
