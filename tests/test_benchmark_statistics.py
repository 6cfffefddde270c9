"""The benchmark of the statistics runs, and its two ways give the same values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.arms import Shape, draw_arms
from benchmarks.statistics import bootstrap, comparing, describe, main, read_options

if TYPE_CHECKING:
    from pathlib import Path

TINY = [
    *("--tiles", "400", "--patients", "25", "--arms", "2", "--replicates", "60"),
    *("--peer-replicates", "2", "--compared-tiles", "300", "--compared-patients", "30"),
    *("--compared-arms", "3", "--compared-classes", "3", "--repeats", "2", "--resamples", "40"),
    *("--folds", "3", "--threads", "1", "--rounds", "2"),
]


def test_both_ways_give_the_same_replicates() -> None:
    found = bootstrap(read_options(TINY))
    assert found["largest_difference"] < 1e-12
    assert [len(seconds) for seconds in found["seconds_by_threads"].values()] == [2]
    each = np.median(found["peer_s_per_replicate"])
    assert found["peer_s"] == pytest.approx(each * (1 + 25 + 60) * 2)
    ours = np.median(found["seconds_by_threads"]["1"])
    assert found["ratios_by_threads"]["1"] == pytest.approx(found["peer_s"] / ours)
    assert any("scaled to all" in line for line in describe(found))


def test_a_report_of_all_arms_is_written() -> None:
    found = comparing(read_options(TINY), 3)
    parts = (found["comparing_s"], found["summarizing_s"], found["writing_s"])
    assert found["whole_s"] == pytest.approx(sum(parts))
    assert found["report_bytes"] > 10_000
    assert found["peak_rss_bytes"] >= found["peak_rss_of_drawing_bytes"] > 0
    low, high = found["balanced_accuracies"]
    assert 1 / 3 < low < high < 1


def test_drawn_arms_see_the_classes_more_and_more_clearly() -> None:
    drawn = draw_arms(Shape(2000, 20, 3, 4, 1), 5, 0)
    right = [(run.y_prob[0].argmax(axis=1) == drawn.y_true).mean() for run in drawn.results.runs]
    assert right == sorted(right)
    assert 0.4 < right[0] < right[-1] < 0.9
    for patient, rows in enumerate(drawn.rows_of_patient):
        assert np.array_equal(rows, np.flatnonzero(drawn.patients == patient))
        assert len(np.unique(drawn.plan.test_fold[0, rows])) == 1


def test_a_section_is_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "statistics.json"
    main([*TINY, "--only", "bootstrap", "--json", str(target)])
    report = json.loads(target.read_text())
    assert set(report["sections"]) == {"bootstrap"}
    assert any(
        pool["user_api"] == "blas" for pool in report["sections"]["bootstrap"]["threadpools"]
    )
    assert report["settings"]["tiles"] == 400
    assert "scikit-learn" in report["machine"]["libraries"]
    assert report["sections"]["bootstrap"]["title"] in capsys.readouterr().out
