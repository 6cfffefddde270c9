"""Where fine-tuning overtakes the probe, in the learning curves of the report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from report_cases import ReportCase, draw_case

from featurebench.reporting import summarize
from featurebench.reporting.render import render_html
from featurebench.reporting.turning import turn_in_verdict
from featurebench.results import Cost, CurvePoint, LearningCurve

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (2, 4, 8, 16)


def curve_of(arm: str, value: Callable[[int, int], float], full_patients: float) -> LearningCurve:
    """Two draws and two folds; ``value`` gives the score of a size and a draw."""
    points = [
        CurvePoint(
            "patients",
            size,
            draw,
            0,
            fold,
            9 * size,
            size,
            "",
            {"balanced_accuracy": value(i, draw)},
        )
        for i, size in enumerate(SIZES)
        for draw in range(2)
        for fold in range(2)
    ]
    return LearningCurve(
        arm=arm,
        embedding=None,
        head=None,
        params={},
        fingerprint="",
        plan_id="p",
        seed=0,
        classes=("benign", "malignant"),
        settings={"draws": 2},
        metrics=("balanced_accuracy",),
        points=tuple(points),
        left_out=(),
        full_tiles=200.0,
        full_patients=full_patients,
        cost=Cost(1.0),
    )


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    return draw_case(tmp_path_factory.mktemp("turning"))


def section(
    case: ReportCase, tuned: Callable[[int, int], float], full_patients: float = 16.0
) -> dict[str, Any]:
    arms = case.summary()["arms"]
    probe = next(arm["id"] for arm in arms if arm["kind"] == "probe")
    fine_tune = next(arm["id"] for arm in arms if arm["kind"] == "finetune")
    curves = [
        curve_of(probe, lambda _i, _draw: 0.7, full_patients),
        curve_of(fine_tune, tuned, full_patients),
    ]
    summary = summarize(**vars(case), curves=curves)
    learning: dict[str, Any] = summary["few_labels"]
    assert learning["sentences"][-1] in render_html(summary)
    return learning


def test_overtaking_is_told_with_its_spread(case: ReportCase) -> None:
    learning = section(case, lambda i, draw: 0.65 + 0.05 * (i - draw / 2))
    turn = learning["panels"][0]["crossing"]
    # the draws cross at sizes 4 and 4 * sqrt(2); their mean between
    assert turn["course"] == "overtakes"
    assert turn["size"] == pytest.approx(4 * 2**0.25)
    assert 4 < turn["low"] < turn["high"] < 4 * 2**0.5
    assert "fine-tuning overtakes at about 5 patients" in learning["sentences"][-1]
    assert "ahead in 100% of the draws" in learning["sentences"][-1]


def test_all_patients_are_the_last_size(case: ReportCase) -> None:
    turn = section(case, lambda _i, _draw: 0.5, full_patients=20.0)["panels"][0]["crossing"]
    assert turn["sizes"] == [*SIZES, 20.0]


@pytest.mark.parametrize(
    ("value", "words"), [(0.9, "ahead at all sizes tried, 2 to 16"), (0.6, "not ahead with 16")]
)
def test_curves_that_do_not_cross(case: ReportCase, value: float, words: str) -> None:
    assert words in section(case, lambda _i, _draw: value)["sentences"][-1]


def test_undefined_scores_leave_their_draw_out(case: ReportCase) -> None:
    def tuned(i: int, draw: int) -> float:
        return float("nan") if draw and not i else 0.65 + 0.05 * i

    turn = section(case, tuned)["panels"][0]["crossing"]
    assert turn["low"] is None
    assert turn["size"] == pytest.approx(4.0)


def test_probes_alone_have_no_turning_point(case: ReportCase) -> None:
    arms = [arm["id"] for arm in case.summary()["arms"] if arm["kind"] == "probe"][:2]
    curves = [curve_of(arm, lambda _i, _draw: 0.7, 16.0) for arm in arms]
    curves[1] = replace(curves[1], full_tiles=200.0)
    learning = summarize(**vars(case), curves=curves)["few_labels"]
    assert learning["panels"][0]["crossing"] is None


@pytest.mark.parametrize(
    ("tuned", "expected"),
    [
        (
            lambda i, draw: 0.65 + 0.05 * (i - draw / 2),
            "lies above that of the probe from about 5 patients on (80 % of the draws: 4 to 5); ",
        ),
        (
            lambda _i, _draw: 0.9,
            "lies above that of the probe at all sizes tried, 2 to 16 patients; ",
        ),
        (lambda _i, _draw: 0.6, "does not end above that of the probe (2 to 16 patients); "),
    ],
)
def test_the_verdict_has_a_sentence_on_the_curves(
    case: ReportCase, tuned: Callable[[int, int], float], expected: str
) -> None:
    sentence = turn_in_verdict(section(case, tuned), "balanced_accuracy")
    assert sentence == (
        f"The mean learning curve of fine-tuning {expected}this is described, not tested."
    )


def test_the_verdict_of_the_summary_ends_with_that_sentence(case: ReportCase) -> None:
    summary = case.summary()
    assert summary["verdict"] == case.comparison.verdict
    ids = [next(a["id"] for a in summary["arms"] if a["kind"] == k) for k in ("probe", "finetune")]
    curves = [curve_of(arm, lambda _i, _draw: 0.7, 16.0) for arm in ids]
    verdict = summarize(**vars(case), curves=curves)["verdict"]
    assert verdict.startswith(f"{case.comparison.verdict} The mean learning curve of fine-tuning ")


def test_curves_of_another_metric_or_one_kind_say_nothing_of_the_verdict(case: ReportCase) -> None:
    learning = section(case, lambda _i, _draw: 0.9)
    assert turn_in_verdict(learning, "roc_auc") == ""
    assert turn_in_verdict(None, "balanced_accuracy") == ""
    without = [panel | {"crossing": None} for panel in learning["panels"]]
    assert turn_in_verdict(learning | {"panels": without}, "balanced_accuracy") == ""
