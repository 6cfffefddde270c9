"""When a probe that is as good as fine-tuning may be called enough, and what is said where not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from comparison_cases import Cohort, arm, draw_results
from verdict_cases import DESIGN, NAN, PROBE, TUNED, make_comparison, make_contrast

from featurebench.comparison import Comparison, Estimate, Subgroup, compare
from featurebench.comparison.enough import MAX_ECE, floor_met, floor_reasons
from featurebench.comparison.naming import in_words
from featurebench.comparison.verdict import write_verdict


def _class(value: str, recall: tuple[float, float, float], arm_id: str = PROBE) -> Subgroup:
    return Subgroup("class", value, arm_id, "recall", Estimate(*recall), 50, 20)


def _as_good(*classes: Subgroup, metric: str = "balanced_accuracy", **more: Any) -> Comparison:
    """Build a comparison whose probe is non-inferior to the fine-tuned network."""
    contrast = make_contrast((-0.016, -0.004, 0.006), outcome="not superior", metric=metric)
    return make_comparison(contrast, subgroups=classes, **more)


def _with_ece(comparison: Comparison, value: float) -> Comparison:
    probe, *others = comparison.arms
    metrics = {**probe.metrics, "ece": Estimate(value, value - 0.01, value + 0.05)}
    return replace(comparison, arms=(replace(probe, metrics=metrics), *others))


def _first_sentence(comparison: Comparison) -> str:
    return write_verdict(DESIGN, in_words(comparison)).partition(". Fine-tuned")[0]


def test_a_probe_above_floor_and_guards_is_enough() -> None:
    fine = _as_good(_class("a", (0.9, 0.8, 0.95)), _class("b", (0.7, 0.51, 0.85)))
    assert floor_reasons(fine, PROBE) == ()
    assert _first_sentence(fine).endswith(
        "the frozen probe is enough to within the margin of 1 pp: it is non-inferior to "
        "fine-tuning, and it lies above the declared floor of 70.0 %"
    )


def test_without_a_floor_the_sentence_says_that_it_was_not_declared() -> None:
    open_ = _as_good(floor=None)
    assert floor_reasons(open_, PROBE) == (
        "whether that is good enough was not declared (give compare.floor)",
    )
    assert _first_sentence(open_) == (
        "On this cohort of 40 patients the frozen probe is non-inferior to fine-tuning within the "
        "margin of 1 pp; whether that is good enough was not declared (give compare.floor)"
    )
    equal = make_comparison(make_contrast(outcome="equivalent"), floor=None)
    assert "the frozen probe is equivalent to fine-tuning within the margin of 1 pp; whether" in (
        _first_sentence(equal)
    )


def test_a_probe_whose_interval_reaches_below_the_floor_is_not_enough() -> None:
    poor = _as_good(probe=(0.53, 0.51, 0.61))
    assert floor_reasons(poor, PROBE) == (
        "its balanced accuracy, 53.0 % (95 % CI 51.0 to 61.0), does not lie above the declared "
        "floor of 70.0 %",
    )
    assert (
        "is non-inferior to fine-tuning within the margin of 1 pp; it is not shown to be enough: "
        "its balanced accuracy, 53.0 %" in _first_sentence(poor)
    )


@pytest.mark.parametrize(
    ("low", "reasons"), [(0.7001, 0), (0.7, 1), (0.6999, 1)], ids=["above", "at", "below"]
)
def test_the_end_of_the_interval_decides(low: float, reasons: int) -> None:
    assert len(floor_reasons(_as_good(probe=(0.831, low, 0.892)), PROBE)) == reasons


def test_for_a_loss_the_floor_is_a_ceiling() -> None:
    good = _as_good(metric="log_loss", probe=(0.3, 0.2, 0.4), floor=0.45)
    assert floor_reasons(good, PROBE) == ()
    assert floor_met(good) == "below the declared ceiling of 0.450"
    (reason,) = floor_reasons(replace(good, floor=0.35), PROBE)
    assert reason == (
        "its log loss, 0.300 (95 % CI 0.200 to 0.400), does not lie below the declared ceiling of "
        "0.350"
    )


def test_a_score_without_an_interval_is_enough_only_where_it_is_perfect() -> None:
    assert floor_reasons(_as_good(probe=(1.0, NAN, NAN)), PROBE) == ()
    assert len(floor_reasons(_as_good(probe=(0.95, NAN, NAN)), PROBE)) == 1
    assert len(floor_reasons(_as_good(probe=(NAN, NAN, NAN)), PROBE)) == 1
    perfect = _as_good(_class("a", (1.0, NAN, NAN)), _class("b", (0.9, 0.8, 1.0)))
    assert floor_reasons(perfect, PROBE) == ()


def test_the_class_that_is_found_least_is_named_where_chance_would_find_it() -> None:
    three = (_class("a", (0.9, 0.8, 1.0)), _class("b", (0.5, 0.3, 0.7)), _class("c", (0.4, 0.2, 1)))
    assert floor_reasons(_as_good(*three), PROBE) == (
        "its recall of class c, 40.0 % (95 % CI 20.0 to 100.0), does not lie above the 33.3 % of "
        "chance",
    )
    of_another_arm = _as_good(_class("a", (0.1, 0.0, 0.2), TUNED))
    assert floor_reasons(of_another_arm, PROBE) == ()


def test_a_recall_that_was_declared_stands_for_chance() -> None:
    two = (_class("a", (0.9, 0.8, 1.0)), _class("b", (0.7, 0.55, 0.8)))
    (reason,) = floor_reasons(_as_good(*two, min_recall=0.6), PROBE)
    assert reason.startswith("its recall of class b, 70.0 %")
    assert reason.endswith("does not lie above the declared 60.0 %")


def test_probabilities_that_do_not_mean_what_they_say_are_named() -> None:
    assert floor_reasons(_with_ece(_as_good(), MAX_ECE), PROBE) == ()
    assert floor_reasons(_with_ece(_as_good(), 0.14), PROBE) == (
        "its expected calibration error, 0.140, is above 0.100",
    )
    assert floor_reasons(_with_ece(_as_good(max_ece=0.2), 0.14), PROBE) == ()


def test_all_reasons_are_given_at_once() -> None:
    bad = _with_ece(_as_good(_class("a", (0.2, 0.1, 0.3)), _class("b", (1, 0.9, 1))), 0.3)
    bad = replace(bad, floor=0.8)
    text = _first_sentence(bad)
    assert "is enough" not in text
    assert text.count(";") == 3
    for part in ("its balanced accuracy,", "its recall of class a,", "its expected calibration"):
        assert part in text


def test_a_comparison_holds_its_probe_against_what_was_declared() -> None:
    arms = [arm("net+logistic"), arm("net+full", "finetune"), arm("dummy", "baseline")]
    results = draw_results(arms, Cohort(n_patients=40))
    found = compare(results, margin=0.9, n_boot=100, floor=0.6, min_recall=0.55, max_ece=0.5)
    assert (found.floor, found.min_recall, found.max_ece) == (0.6, 0.55, 0.5)
    assert found.contrasts[0].outcome in {"equivalent", "better", "worse"}
    assert {each.arm for each in in_words(found).subgroups} == {a.arm for a in in_words(found).arms}
    assert floor_reasons(found, "net+logistic") == floor_reasons(
        in_words(found), in_words(found).reference
    )
