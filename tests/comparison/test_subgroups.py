"""Scores by subgroup against scikit-learn and a bootstrap that repeats tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from comparison_cases import Cohort, arm, draw_results
from sklearn.metrics import balanced_accuracy_score, recall_score, roc_auc_score

from featurebench.comparison import compare
from featurebench.comparison.design import Design
from featurebench.comparison.subgroups import MAX_GROUPS, subgroup_columns, subgroup_scores
from featurebench.errors import ConfigError
from featurebench.stats import bounded_interval, patient_df
from featurebench.tiles import TileManifest

if TYPE_CHECKING:
    from pathlib import Path

    from featurebench.comparison.model import Subgroup
    from featurebench.results import ResultsTable

ARMS = [arm("probe"), arm("tuned", "finetune", 1.4)]


def draw(**changes: Any) -> tuple[ResultsTable, Design]:
    results = draw_results(ARMS, Cohort(**changes))
    return results, Design.of(results, n_boot=150, seed=3)


def one(found: tuple[Subgroup, ...], column: str, value: str, arm: str = "probe") -> Subgroup:
    (match,) = [g for g in found if (g.column, g.value, g.arm) == (column, value, arm)]
    return match


def sites_of(results: ResultsTable) -> np.ndarray[Any, Any]:
    assert results.patients is not None
    return np.array([f"s{patient // 2 % 2}" for patient in results.patients], dtype=object)


def test_within_a_class_the_score_is_its_recall() -> None:
    results, design = draw(n_classes=3)
    found = subgroup_scores(design, results.runs, "roc_auc", {})
    for run in results.runs:
        for code, name in enumerate(results.classes):
            expected = [
                recall_score(results.y_true, p.argmax(axis=1), labels=[code], average="macro")
                for p in run.y_prob
            ]
            group = one(found, "class", name, run.arm)
            assert group.metric == "recall"
            assert group.estimate.value == pytest.approx(np.mean(expected))


def test_a_site_is_scored_on_its_tiles_alone() -> None:
    results, design = draw()
    sites = sites_of(results)
    found = subgroup_scores(design, results.runs, "balanced_accuracy", {"site": sites})
    inside = sites == "s1"
    expected = [
        balanced_accuracy_score(results.y_true[inside], p[inside].argmax(axis=1))
        for p in results.runs[0].y_prob
    ]
    group = one(found, "site", "s1")
    assert group.estimate.value == pytest.approx(np.mean(expected))
    assert (group.n_tiles, group.n_patients) == (int(inside.sum()), 12)
    assert group.estimate.ci_low < group.estimate.value < group.estimate.ci_high
    assert group.warning == ""


def test_ranked_metrics_stay_within_folds() -> None:
    results, design = draw(n_patients=48)
    sites = sites_of(results)
    found = subgroup_scores(design, results.runs, "roc_auc", {"site": sites})
    inside, prob = sites == "s0", results.runs[1].y_prob
    by_repeat = []
    for repeat, folds in enumerate(results.test_fold):
        rows = [np.flatnonzero(inside & (folds == fold)) for fold in range(4)]
        scores = [
            roc_auc_score(results.y_true[r], prob[repeat, r, 1])
            for r in rows
            if len(set(results.y_true[r])) == 2
        ]
        by_repeat.append(np.mean(scores))
    value = one(found, "site", "s0", "tuned").estimate.value
    assert value == pytest.approx(np.mean(by_repeat))


def test_interval_is_that_of_leaving_out_the_groups_own_patients() -> None:
    results, design = draw(n_patients=16)
    sites = sites_of(results)
    inside = np.flatnonzero(sites == "s1")
    group = one(subgroup_scores(design, results.runs, "accuracy", {"site": sites}), "site", "s1")
    assert results.patients is not None

    def score(rows: npt.NDArray[np.intp]) -> float:
        calls = results.runs[0].y_prob[:, rows].argmax(axis=2)
        return float(np.mean(calls == results.y_true[rows]))

    members = np.unique(results.patients[inside])
    without = np.array([score(inside[results.patients[inside] != patient]) for patient in members])
    n, value = len(members), score(inside)
    squared = (n - 1) / n * np.sum((without - np.mean(without)) ** 2)
    sizes = np.bincount(results.patients[inside])[members]
    squared += (value - 0.5) ** 2 / (n + 1) ** 2
    shares = (sizes / sizes.sum())[:, None]
    low, high = bounded_interval(value, np.sqrt(squared), df=patient_df(shares), limits=(0, 1))
    assert group.estimate.value == pytest.approx(value)
    assert (group.estimate.ci_low, group.estimate.ci_high) == pytest.approx((low, high))


def test_small_and_one_sided_groups_carry_a_warning() -> None:
    results, design = draw()
    columns = {
        "scanner": np.where(results.patients == 0, "old", "new"),
        "grade": np.where(results.y_true == 1, "high", "low"),
    }
    found = subgroup_scores(design, results.runs, "roc_auc", columns)
    few = one(found, "scanner", "old")
    assert few.warning == "undefined: one class only; fewer than 10 patients"
    assert np.isnan(few.estimate.value)
    assert one(found, "grade", "high").warning == "undefined: one class only"
    assert one(found, "class", "a").warning == ""
    found = subgroup_scores(design, results.runs, "balanced_accuracy", columns)
    assert one(found, "grade", "high").warning == "tiles of one class only"


def test_without_patients_tiles_are_the_units() -> None:
    results, design = draw(known_patients=False)
    group = one(subgroup_scores(design, results.runs, "accuracy", {}), "class", "a")
    assert (group.n_tiles, group.n_patients, group.warning) == (72, 0, "")


def test_tiles_that_are_never_tested_count_nowhere() -> None:
    results, design = draw(holdout=True)
    found = subgroup_scores(design, results.runs, "accuracy", {"site": sites_of(results)})
    n_tested = int((results.test_fold[0] >= 0).sum())
    assert sum(g.n_tiles for g in found if (g.column, g.arm) == ("site", "probe")) == n_tested


def test_the_smallest_of_many_groups_are_scored_together() -> None:
    results, design = draw(n_patients=80, n_tiles=2)
    assert results.patients is not None
    names = np.array([f"v{min(p, 40):02d}" for p in results.patients], dtype=object)
    found = subgroup_scores(design, results.runs[:1], "accuracy", {"centre": names})
    values = [g.value for g in found if g.column == "centre"]
    assert len(values) == MAX_GROUPS
    assert values[-1] == "12 others"
    assert sum(g.n_tiles for g in found if g.column == "centre") == len(names)
    assert one(found, "centre", "v40").n_patients == 40


def test_missing_values_are_a_group_of_their_own_and_class_is_ours() -> None:
    results, design = draw()
    values = np.where(results.patients == 1, "", "A").astype(object)
    found = subgroup_scores(design, results.runs, "accuracy", {"site": values, "class": values})
    assert {g.value for g in found if g.column == "site"} == {"A", "not recorded"}
    assert {g.value for g in found if g.column == "class"} == set(results.classes)


def test_a_column_of_another_length_is_refused() -> None:
    results, design = draw()
    with pytest.raises(ValueError, match=r"column 'site' has shape \(3,\): give one value"):
        subgroup_scores(design, results.runs, "accuracy", {"site": ["a", "b", "c"]})


def test_compare_gives_every_arm_in_every_group() -> None:
    results, _ = draw()
    found = compare(results, n_boot=100, subgroups={"site": sites_of(results)}).subgroups
    names = {run.arm for run in results.runs}
    for value in ("s0", "s1"):
        assert {g.arm for g in found if g.value == value} >= names


@pytest.fixture
def manifest(tmp_path: Path) -> TileManifest:
    n = 40
    table = pd.DataFrame(
        {
            "tile_id": [f"t{i}" for i in range(n)],
            "path": [f"t{i}.png" for i in range(n)],
            "label": ["a", "b"] * (n // 2),
            "patient_id": [f"p{i // 2}" for i in range(n)],
            "site": ["x", "y"] * (n // 2),
            "stainer": ["one"] * n,
            "block": [str(i) for i in range(n)],
        }
    )
    return TileManifest(table, tmp_path, ("a", "b"))


def test_site_and_scanner_are_taken_where_they_are(manifest: TileManifest) -> None:
    found = subgroup_columns(manifest)
    assert list(found) == ["site"]
    assert found["site"][:2].tolist() == ["x", "y"]
    assert subgroup_columns(manifest, []) == {}
    assert list(subgroup_columns(manifest, ["stainer"])) == ["stainer"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("stayner", "no column 'stayner': did you mean 'stainer'?"),
        ("age", "no column 'age': use one of site, stainer, block"),
        ("patient_id", "'patient_id' is no column of groups"),
        ("block", "column 'block' has 40 values: give one with 30 or fewer"),
    ],
)
def test_unusable_columns_are_refused(manifest: TileManifest, name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=r"compare\.subgroups") as refusal:
        subgroup_columns(manifest, [name])
    assert told in str(refusal.value)
