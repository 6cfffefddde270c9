"""What an experiment makes of the columns of its table: unused ids, torn slides, tiles.parquet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

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
    folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame], recorder: Any, **cohort: Any
) -> dict[str, Any]:
    """Draw a cohort, change its table, run, and give report.json."""
    drawn = {"patients": 12, "tiles_per_patient": 3, "size": 32, "seed": 4} | cohort
    write_cohort(folder / "cohort", **drawn)
    table = pd.read_csv(folder / "cohort" / "tiles.csv", dtype=str)
    change(table).to_csv(folder / "cohort" / "table.csv", index=False)
    (folder / "table.yaml").write_text(TEXT, encoding="utf-8")
    config = load_config(folder / "table.yaml")
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
