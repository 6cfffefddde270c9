"""Mean ROC and precision-recall curves and their bands against scikit-learn and brute force."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt
import pytest
from report_cases import ReportCase, draw_case
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from featurebench.comparison.arms import sample_scores
from featurebench.comparison.design import Design
from featurebench.reporting import bands, curves
from featurebench.reporting.bands import FPR_GRID, RECALL_GRID, mean_curves
from featurebench.reporting.reliability import reliability

if TYPE_CHECKING:
    from featurebench.results import ResultsTable, RunResult

Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    return draw_case(Path(tmp_path_factory.mktemp("bands")))


@pytest.fixture(scope="module")
def design(case: ReportCase) -> Design:
    return Design.of(case.results, n_boot=25, seed=1)


def vertical_roc(y: npt.NDArray[np.bool_], score: Floats) -> Floats:
    """Sensitivity on the grid: the highest at a false positive rate, straight lines between."""
    fpr, tpr, _ = roc_curve(y, score, drop_intermediate=False)
    found = []
    for wanted in FPR_GRID:
        i = max(k for k in range(len(fpr)) if fpr[k] <= wanted + 1e-12)
        share = 0.0 if i + 1 == len(fpr) else (wanted - fpr[i]) / (fpr[i + 1] - fpr[i])
        found.append(tpr[i] if share == 0 else tpr[i] + share * (tpr[i + 1] - tpr[i]))
    return np.asarray(found)


def vertical_precision(y: npt.NDArray[np.bool_], score: Floats) -> Floats:
    """Precision of the highest threshold that reaches a recall."""
    precision, recall, _ = precision_recall_curve(y, score)
    precision, recall = precision[:-1][::-1], recall[:-1][::-1]
    wanted = np.maximum(RECALL_GRID, 1e-12)
    return np.asarray([precision[np.argmax(recall >= r - 1e-9)] for r in wanted])


def brute(results: ResultsTable, run: RunResult, of: int, weights: Any) -> tuple[Floats, Floats]:
    """Average over folds and repeats of the curves with tiles repeated as the weights say."""
    roc, pr = [], []
    assert results.patients is not None
    for repeat in range(run.n_repeats):
        found = []
        for fold in range(5):
            rows = np.flatnonzero(results.test_fold[repeat] == fold)
            rows = np.repeat(rows, weights[results.patients[rows]])
            y, score = results.y_true[rows] == of, run.y_prob[repeat, rows, of]
            if 0 < y.sum() < len(y):
                found.append((vertical_roc(y, score), vertical_precision(y, score)))
        roc.append(np.mean([each[0] for each in found], axis=0))
        pr.append(np.mean([each[1] for each in found], axis=0))
    return np.mean(roc, axis=0), np.mean(pr, axis=0)


def test_lines_are_the_vertical_averages(case: ReportCase, design: Design) -> None:
    run = case.results.runs[0]
    found = mean_curves(design, run, 1)
    assert found is not None
    roc, pr = brute(case.results, run, 1, np.ones(40, dtype=int))
    np.testing.assert_allclose(found["roc"]["y"], roc, atol=6e-5)
    np.testing.assert_allclose(found["pr"]["y"], pr, atol=6e-5)


def test_bands_are_quantiles_over_repeated_patients(case: ReportCase, design: Design) -> None:
    run = case.results.runs[1]
    found = mean_curves(design, run, 1, alpha=0.1)
    assert found is not None
    boot = design.resamples.weights[1 + design.resamples.n_jackknife :]
    drawn = [brute(case.results, run, 1, weights) for weights in boot]
    for kind, number in (("roc", 0), ("pr", 1)):
        expected = np.quantile([each[number] for each in drawn], [0.05, 0.95], axis=0)
        np.testing.assert_allclose(found[kind]["low"], expected[0], atol=6e-5)
        np.testing.assert_allclose(found[kind]["high"], expected[1], atol=6e-5)


def test_areas_are_the_scores_within_folds(case: ReportCase, design: Design) -> None:
    run = case.results.runs[-1]
    found = mean_curves(design, run, 1, band=False)
    assert found is not None
    parts = [
        (case.results.y_true[rows] == 1, run.y_prob[repeat, rows, 1])
        for repeat in range(run.n_repeats)
        for rows in design.fold_rows(repeat)
    ]
    auc = np.mean([roc_auc_score(y, score) for y, score in parts])
    assert np.trapezoid(found["roc"]["y"], found["roc"]["x"]) == pytest.approx(auc, abs=0.01)
    precision = np.mean([average_precision_score(y, score) for y, score in parts])
    assert np.mean(found["pr"]["y"][1:]) == pytest.approx(precision, abs=0.01)


@pytest.mark.parametrize("weights", ["tiles", "patients"])
def test_areas_are_the_scores_as_tiles_are_weighed(case: ReportCase, weights: Any) -> None:
    design = Design.of(case.results, n_boot=25, seed=1, weights=weights)
    run = case.results.runs[-1]
    found = mean_curves(design, run, 1)
    assert found is not None
    score = np.nanmean(sample_scores(design, run, "roc_auc")[:, 0])
    area = np.trapezoid(found["roc"]["y"], found["roc"]["x"])
    # The two ways of weighing differ by 0.001 here.
    assert area == pytest.approx(score, abs=5e-4)
    low, high = (np.trapezoid(found["roc"][end], found["roc"]["x"]) for end in ("low", "high"))
    assert low < area < high


def test_coarse_levels_change_a_band_hardly(
    case: ReportCase, design: Design, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = case.results.runs[0]
    exact = mean_curves(design, run, 1)
    monkeypatch.setattr(bands, "_LEVELS", 40)
    coarse = mean_curves(design, run, 1)
    assert exact is not None
    assert coarse is not None
    assert coarse["roc"]["y"] == exact["roc"]["y"]
    assert coarse["roc"]["low"] != exact["roc"]["low"]
    # Straight lines over coarse steps cut corners of the steps, below them.
    np.testing.assert_allclose(coarse["roc"]["low"][4:], exact["roc"]["low"][4:], atol=0.05)


def test_folds_of_one_class_are_left_out(case: ReportCase) -> None:
    results = case.results
    y = results.y_true.copy()
    y[results.test_fold[0] == 2] = 0
    one_sided = replace(results, y_true=y)
    design = Design.of(one_sided, n_boot=10, seed=0)
    found = mean_curves(design, results.runs[0], 1, band=False)
    assert found is not None
    roc, _ = brute(one_sided, results.runs[0], 1, np.ones(40, dtype=int))
    np.testing.assert_allclose(found["roc"]["y"], roc, atol=6e-5)
    nobody = replace(results, y_true=np.zeros_like(y))
    assert mean_curves(Design.of(nobody, n_boot=5, seed=0), results.runs[0], 1) is None


def test_no_band_is_drawn_of_very_many_units(
    case: ReportCase, design: Design, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bands, "MAX_UNITS", 39)
    found = mean_curves(design, case.results.runs[0], 1)
    assert found is not None
    assert found["roc"]["low"] is None
    assert found["pr"]["high"] is None


class TestReliability:
    def test_bins_hold_all_repeats(self, case: ReportCase, design: Design) -> None:
        run = case.results.runs[0]
        found = reliability(design, run)
        scores = np.concatenate([p[:, 1] for p in run.y_prob]).astype(np.float64)
        truth = np.tile(case.results.y_true == 1, run.n_repeats)
        bins = np.minimum((scores * 10).astype(int), 9)
        used = np.unique(bins)
        expected = [truth[bins == b].mean() for b in used]
        np.testing.assert_allclose(found["observed"], expected, atol=6e-5)
        np.testing.assert_allclose(
            found["predicted"], [scores[bins == b].mean() for b in used], atol=6e-5
        )
        assert sum(found["n"]) == pytest.approx(len(case.results.y_true), abs=0.5)

    def test_intervals_repeat_patients(self, case: ReportCase, design: Design) -> None:
        run = case.results.runs[0]
        found = reliability(design, run, alpha=0.2)
        scores = np.concatenate([p[:, 1] for p in run.y_prob]).astype(np.float64)
        truth = np.tile(case.results.y_true == 1, run.n_repeats)
        clusters = np.tile(design.clusters, run.n_repeats)
        inside = np.minimum((scores * 10).astype(int), 9) == 5
        boot = design.resamples.weights[1 + design.resamples.n_jackknife :]
        shares = [np.average(truth[inside], weights=w[clusters[inside]]) for w in boot]
        low, high = np.quantile(shares, [0.1, 0.9])
        assert found["low"][5] == pytest.approx(low, abs=6e-5)
        assert found["high"][5] == pytest.approx(high, abs=6e-5)

    def test_several_classes_take_the_call(self, tmp_path: Path) -> None:
        case = draw_case(tmp_path, classes=("a", "b", "c"), repeats=1)
        design = Design.of(case.results, n_boot=10, seed=0)
        found = reliability(design, case.results.runs[0])
        prob = case.results.runs[0].y_prob[0]
        right = np.average(found["observed"], weights=found["n"])
        assert right == pytest.approx(np.mean(prob.argmax(axis=1) == case.results.y_true), abs=1e-3)
        assert min(found["predicted"]) >= 1 / 3


class TestCharts:
    wide = curves.Series("a", 0, (0, 1), (0.2, 0.8), low=(0.1, 0.7), high=(0.3, 0.9))
    plain = curves.Series("b", 1, (0, 1), (0.1, 0.9))

    @staticmethod
    def paths(chart: str, name: str) -> list[ET.Element]:
        root = ET.fromstring(chart)
        return [e for e in root.iter() if name in e.get("class", "").split()]

    def test_bands_lie_below_the_lines_and_plain_lines_are_thin(self) -> None:
        chart = curves.roc([self.wide, self.plain], label="ROC")
        names = [e.get("class", "") for e in ET.fromstring(chart)]
        assert names.index("interval-band s0") < names.index("line s0 d0")
        assert "line s1 d1 minor" in names
        (band,) = self.paths(chart, "interval-band")
        assert band.attrib["d"].count("L") == 3
        assert not self.paths(curves.roc([self.plain], label="ROC"), "minor")

    def test_chance_of_precision_is_the_prevalence(self) -> None:
        chart = curves.precision_recall([self.plain], label="PR", prevalence=0.25)
        (chance,) = self.paths(chart, "chance")
        x, y = curves.unit_scales()
        assert chance.attrib["d"] == f"M{x(0):g} {y(0.25):g}L{x(1):g} {y(0.25):g}"

    def test_calibration_draws_intervals_where_there_are_some(self) -> None:
        series = curves.Series("a", 0, (0.2, 0.8), (0.1, 0.9), (5, 5), (None, 0.8), (None, 1.0))
        chart = curves.calibration([series], label="c", x_axis="x", y_axis="y")
        (whisker,) = self.paths(chart, "spread")
        _, y = curves.unit_scales()
        assert float(whisker.attrib["y1"]) == pytest.approx(y(0.8), abs=0.01)
