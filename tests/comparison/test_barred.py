"""Why nothing may be claimed: each reason by itself, and that no outcome survives one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from comparison_cases import Cohort, arm, draw_results

from featurebench.comparison import compare
from featurebench.comparison.barred import FEWEST_UNITS, bars
from featurebench.comparison.design import Design
from featurebench.results import Failure

if TYPE_CHECKING:
    from featurebench.results import ResultsTable

ARMS = [arm("p", signal=0.3), arm("f", "finetune", 5.0), arm("dummy", "baseline")]


def _bars(results: ResultsTable) -> tuple[str, ...]:
    return bars(results, Design.of(results, n_boot=2, seed=0))


def _cohort(**size: Any) -> ResultsTable:
    return draw_results(ARMS, Cohort(**size))


@pytest.mark.parametrize(
    "size",
    [{}, {"n_patients": 6, "n_folds": 3}, {"n_repeats": 1}],
)
def test_an_ordinary_study_is_not_barred(size: dict[str, Any]) -> None:
    assert _bars(_cohort(**size)) == ()


def test_one_test_set_is_a_reason() -> None:
    (reason,) = _bars(_cohort(n_patients=60, n_folds=3, n_repeats=1, holdout=True))
    assert reason.startswith("With one test set every arm was trained once")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ({"grouped": False}, "tiles on both sides of a fold"),
        ({"n_patients": 5, "n_folds": 2}, "Only 5 patients were tested"),
        ({"known_patients": False}, "It is not known which tiles are of one patient"),
        ({"n_patients": 8, "n_folds": 2, "n_classes": 5}, "Class d was tested on 1 patient only"),
    ],
)
def test_each_reason_is_told(size: dict[str, Any], expected: str) -> None:
    (found, *_) = [reason for reason in _bars(_cohort(**size)) if expected in reason]
    assert found.endswith(".")


@pytest.mark.parametrize("known_patients", [True, False])
def test_a_slide_on_both_sides_of_a_fold_is_a_reason(known_patients: bool) -> None:
    results = _cohort(known_patients=known_patients)
    slides = np.arange(len(results.y_true)) // 6
    assert not any("slides" in reason for reason in _bars(replace(results, slides=slides)))
    fold = results.test_fold[0]
    # one slide holds tiles of two patients that are tested in different folds
    slides[int(np.flatnonzero(fold != fold[0])[0])] = slides[0]
    assert _bars(replace(results, slides=slides))[-1:] == (
        "Some slides have tiles on both sides of a fold, so scores are too high, most of all those "
        "of flexible arms.",
    )
    slides[slides == slides[0]] = -1
    assert not any("slides" in reason for reason in _bars(replace(results, slides=slides)))


def test_a_slide_in_training_and_validation_only_is_no_reason() -> None:
    results = _cohort(n_patients=60, n_folds=3, n_repeats=1, holdout=True)
    slides = np.arange(len(results.y_true)) // 6
    rows = [int(np.flatnonzero(results.test_fold[0] == side)[0]) for side in (-1, -2)]
    slides[rows[0]] = slides[rows[1]]
    assert not any("slides" in reason for reason in _bars(replace(results, slides=slides)))


def test_torn_patients_and_slides_are_one_reason() -> None:
    results = _cohort(grouped=False)
    (reason,) = _bars(replace(results, slides=results.patients))
    assert reason.startswith("Some patients have tiles on both sides of a fold")


def test_nothing_is_claimed_where_a_slide_is_torn() -> None:
    results = _cohort()
    comparison = compare(replace(results, slides=np.zeros(len(results.y_true), int)), n_boot=20)
    assert {contrast.outcome for contrast in comparison.contrasts} == {"not claimed"}
    assert "some slides have tiles on both sides of a fold" in comparison.verdict


def test_the_fewest_patients_are_those_that_a_sign_flip_can_tell_apart() -> None:
    assert 2 / 2**FEWEST_UNITS < 0.05 < 2 / 2 ** (FEWEST_UNITS - 1)


def test_a_class_that_is_never_tested_is_a_reason() -> None:
    results = _cohort()
    bigger = replace(results, classes=(*results.classes, "rare"))
    assert _bars(bigger) == (
        "Class rare was tested on 0 patients only, so how far its recall varies between patients "
        "cannot be seen.",
    )


def test_only_the_tested_patients_of_a_class_count() -> None:
    results = _cohort(n_patients=12, n_folds=3, n_repeats=1, holdout=True)
    tested = results.test_fold[0] >= 0
    # one patient of class b is tested, the others are trained on
    keep = np.unique(np.asarray(results.patients)[tested & (results.y_true == 1)])[0]
    moved = tested & (results.y_true == 1) & (np.asarray(results.patients) != keep)
    fold = np.where(moved, -1, results.test_fold).astype(np.int16)
    assert any("Class b was tested on 1 patient" in reason for reason in _bars_of(results, fold))


def _bars_of(results: ResultsTable, test_fold: Any) -> tuple[str, ...]:
    return _bars(replace(results, test_fold=test_fold))


@pytest.mark.parametrize(("kind", "n"), [("finetune", 0), ("probe", 0), ("baseline", 0)])
def test_a_failed_arm_among_others_of_its_kind_is_no_reason(kind: Any, n: int) -> None:
    assert len(_bars(replace(_cohort(), failures=(Failure("x", kind, "e"),)))) == n


def test_a_kind_that_failed_altogether_is_a_reason() -> None:
    failures = (Failure("net+full", "finetune", "MemoryError"), Failure("dummy", "baseline", "e"))
    results = draw_results(ARMS[:1], failures=failures)
    assert _bars(results) == ("Every fine-tuned network failed, so there is none to compare.",)
    probes = (Failure("net+knn", "probe", "e"),)
    assert _bars(draw_results(ARMS[1:2], failures=probes)) == (
        "Every frozen probe failed, so there is none to compare.",
    )


@pytest.mark.parametrize("size", [{"grouped": False}, {"n_patients": 4, "n_folds": 2}])
def test_nothing_is_claimed_however_large_the_difference(size: dict[str, Any]) -> None:
    comparison = compare(_cohort(**size), n_boot=20)
    assert comparison.barred
    assert {contrast.outcome for contrast in comparison.contrasts} == {"not claimed"}
    assert comparison.verdict.startswith("Nothing is claimed from this comparison: ")
    for claim in ("is better", "is worse", "equivalent", "non-inferior", "enough", " gains", "p ="):
        assert claim not in comparison.verdict


def test_all_reasons_stand_in_the_verdict() -> None:
    results = _cohort(n_patients=5, n_folds=2, grouped=False)
    comparison = compare(results, n_boot=20)
    assert len(comparison.barred) == 2
    first = comparison.verdict.partition(". ")[0]
    assert first == (
        "Nothing is claimed from this comparison: some patients have tiles on both sides of a "
        "fold, so scores are too high, most of all those of flexible arms; only 5 patients were "
        "tested, and with fewer than 6 not even differences of one sign in all of them are rare "
        "by chance"
    )
