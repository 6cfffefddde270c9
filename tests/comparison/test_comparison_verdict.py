"""The words follow from the numbers: which sentence, when, and what is never said."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from comparison_cases import Cohort, arm, draw_results
from hypothesis import given, settings
from hypothesis import strategies as st

from featurebench.comparison import Comparison, Contrast, Estimate, compare, wording
from featurebench.comparison.contrasts import decide
from featurebench.comparison.design import Design
from featurebench.comparison.naming import in_words, name_arms
from featurebench.comparison.verdict import contrast_sentence, write_verdict
from featurebench.results import Failure

if TYPE_CHECKING:
    from featurebench.results import ArmKind, ResultsTable

ARMS = [
    arm("net+logistic"),
    arm("net+knn"),
    arm("net+full", "finetune", wall_s=410.0),
    arm("dummy", "baseline"),
]
RESULTS = draw_results(ARMS)
DESIGN = Design.of(RESULTS, n_boot=50, seed=0)
COMPARISON = compare(RESULTS, n_boot=50)
PROBE, TUNED = "net+logistic", "net+full"


def _write(comparison: Comparison) -> str:
    return write_verdict(DESIGN, in_words(comparison))


def _edit(arm_a: str, comparison: Comparison = COMPARISON, **numbers: Any) -> Comparison:
    """Put other numbers into one contrast and let the rules decide its outcome again."""
    contrasts = []
    for contrast in comparison.contrasts:
        edited = replace(contrast, **numbers) if contrast.arm_a == arm_a else contrast
        outcome = decide(edited, edited.p_adjusted, comparison.alpha)
        m = comparison.margin
        inside = -m <= edited.ci_low and edited.ci_high <= m
        contrasts.append(replace(edited, outcome=outcome, within_margin=inside))
    return replace(comparison, contrasts=tuple(contrasts))


def _tuned(low: float, mid: float, high: float, p: float, **more: Any) -> str:
    numbers = {
        "difference": mid,
        "ci_low": low,
        "ci_high": high,
        "p_adjusted": p,
        "test_difference": mid,
        "test_ci_low": low,
        "test_ci_high": high,
    }
    return _write(_edit(TUNED, **{**numbers, **more}))


def test_a_gain_is_told_with_interval_p_value_and_cost() -> None:
    text = _tuned(0.014, 0.031, 0.049, 0.004)
    assert text.startswith("On this cohort fine-tuning is better than the frozen probe (logistic")
    assert (
        "Fine-tuned net is better than logistic regression on net: +3.1 pp balanced accuracy "
        "(95 % CI +1.4 to +4.9, patients resampled; Holm p = 0.004)." in text
    )
    assert "It takes 41 times the wall-clock time" in text
    assert "tested on 144 tiles of 24 patients in the same 4 folds with 3 repeats" in text


def test_a_loss_is_told_as_such() -> None:
    text = _tuned(-0.049, -0.031, -0.014, 0.0004)
    assert text.startswith("On this cohort fine-tuning is worse than the frozen probe (logistic")
    assert "Fine-tuned net is worse than logistic regression on net: -3.1 pp" in text
    assert "Holm p < 0.001" in text


def test_what_is_not_resolved_says_what_the_data_leave_open() -> None:
    text = _tuned(-0.023, 0.012, 0.045, 0.4)
    assert text.startswith("This cohort does not resolve whether fine-tuning is better than the")
    assert "compatible with a loss of 2.3 pp up to a gain of 4.5 pp." in text


def test_an_interval_that_the_test_does_not_bear_out_is_not_resolved() -> None:
    text = _tuned(0.002, 0.02, 0.045, 0.2)
    assert text.startswith("This cohort does not resolve")
    assert "a gain of 0.2 pp up to a gain of 4.5 pp, but the test over folds does not" in text


def test_enough_within_the_margin_needs_interval_and_test() -> None:
    text = _tuned(-0.008, 0.001, 0.006, 0.7)
    assert text.startswith(
        "On this cohort the frozen probe (logistic regression on net) is enough to within the "
        "margin of 1.0 pp: by the bootstrap interval and that of the test, at most 0.6 pp is "
        "gained by fine-tuning."
    )
    assert "That interval lies inside the margin of 1.0 pp either way." in text
    for wide in (0.02, float("nan")):
        assert _tuned(-0.008, 0.001, 0.006, 0.7, test_ci_high=wide).startswith("This cohort does")
    nothing = _tuned(-0.03, -0.02, -0.001, 0.2)
    assert "no gain from fine-tuning is left open" in nothing


def test_a_probe_that_learnt_nothing_is_never_enough() -> None:
    reference = COMPARISON.arm(PROBE)
    chance = {**reference.metrics, "balanced_accuracy": Estimate(0.52, 0.44, 0.6)}
    arms = tuple(replace(a, metrics=chance) if a.arm == PROBE else a for a in COMPARISON.arms)
    close: dict[str, Any] = {"difference": 0.001, "ci_low": -0.004, "ci_high": 0.004}
    text = _write(_edit(TUNED, replace(COMPARISON, arms=arms), **close))
    assert text.startswith("Nothing was shown to be learnt by the frozen probe (logistic")
    assert "52.0 % (95 % CI 44.0 to 60.0, patients resampled), not shown to be better than" in text
    assert "enough to within" not in text


def test_the_reference_is_held_against_the_dummy() -> None:
    assert "better than the 50.0 % of dummy." in COMPARISON.verdict
    lower = compare(RESULTS, metric="log_loss", n_boot=50)
    assert re.search(r"log loss of 0\.\d{3} \(95 % CI .*better than the 0\.693 of", lower.verdict)


def test_lower_is_better_turns_gains_around() -> None:
    contrast = compare(RESULTS, metric="brier", n_boot=50).contrasts[1]
    numbers = replace(contrast, difference=-0.01, ci_low=-0.03, ci_high=0.02, p_adjusted=0.5)
    text = contrast_sentence(replace(numbers, outcome="not resolved"), 0.01, 0.05)
    assert "-0.010 Brier score (95 % CI -0.030 to +0.020, patients resampled" in text
    assert "lower is better" in text
    assert "compatible with a loss of 0.020 up to a gain of 0.030" in text


def test_other_probes_share_sentences() -> None:
    text = _write(_edit("net+knn", p_adjusted=0.5))
    assert "The data do not resolve k-nearest neighbours on net against the reference." in text
    better: dict[str, Any] = {"difference": 0.05, "ci_low": 0.02, "ci_high": 0.08}
    text = _write(_edit("net+knn", p_adjusted=0.01, test_difference=0.05, **better))
    assert "K-nearest neighbours on net is better than the reference: +5.0 pp balanced" in text


@pytest.mark.parametrize("n_tuned", [4, 5, 9])
def test_many_fine_tuned_networks_share_sentences(n_tuned: int) -> None:
    tuned = [arm(f"net+full{i}", "finetune") for i in range(n_tuned)]
    comparison = compare(draw_results([arm("net+logistic"), *tuned]), n_boot=50)
    unresolved = [c for c in comparison.contrasts if c.outcome == "not resolved"]
    assert len(unresolved) == n_tuned
    text = comparison.verdict
    assert text.count("is not resolved: the difference is") == (4 if n_tuned == 4 else 0)
    assert text.count("The data do not resolve") == (0 if n_tuned == 4 else 1)
    if n_tuned == 9:
        assert "The data do not resolve 9 of the 9 fine-tuned networks against the" in text


def test_without_a_fine_tuned_network_only_probes_are_compared() -> None:
    text = compare(draw_results(ARMS[:2]), n_boot=50).verdict
    assert text.startswith("No network was fine-tuned, so this compares frozen probes only.")


def test_one_arm_and_other_references() -> None:
    assert compare(draw_results(ARMS[:1]), n_boot=50).verdict.startswith("Only one arm was run")
    text = compare(RESULTS, reference=TUNED, n_boot=50).verdict
    assert text.startswith("All arms are compared with fine-tuned net, a fine-tuned network.")
    assert re.search(
        r"regression on net is (better|worse)|Whether logistic regression on net is", text
    )


def test_a_hold_out_claims_nothing_and_says_why() -> None:
    arms = [arm("p", signal=0.2), arm("f", "finetune", 4.0)]
    cohort = Cohort(n_patients=60, n_folds=3, n_repeats=1, holdout=True)
    comparison = compare(draw_results(arms, cohort), n_boot=200)
    contrast = comparison.contrasts[0]
    assert np.isnan(contrast.p_value)
    assert contrast.ci_low > 0
    assert contrast.outcome == "not resolved"
    assert "test over folds not estimable" in comparison.verdict
    assert "in one test set" in comparison.verdict
    assert any("one test set, so the test over folds is not" in c for c in comparison.caveats)


def test_an_undefined_score_is_called_undefined() -> None:
    nan = float("nan")
    text = _tuned(nan, nan, nan, nan)
    assert "undefined in balanced accuracy" in text
    assert "nan" not in text


NUMBERS = st.floats(-0.3, 0.3) | st.just(0.0) | st.just(float("nan"))


@settings(max_examples=60, deadline=None)
@given(
    ends=st.tuples(NUMBERS, NUMBERS, NUMBERS),
    by_test=st.tuples(NUMBERS, NUMBERS, NUMBERS),
    p=st.floats(0, 1) | st.just(float("nan")),
    metric=st.sampled_from(["balanced_accuracy", "roc_auc", "log_loss"]),
)
def test_no_numbers_make_the_verdict_say_what_it_must_not(
    ends: tuple[float, float, float], by_test: tuple[float, float, float], p: float, metric: str
) -> None:
    low, middle, high = sorted(ends) if not np.isnan(ends).any() else (np.nan,) * 3
    test_low, test_middle, test_high = (
        sorted(by_test) if not np.isnan(by_test).any() else (np.nan,) * 3
    )
    comparison = replace(
        COMPARISON,
        metric=metric,
        contrasts=tuple(replace(c, metric=metric) for c in COMPARISON.contrasts),
    )
    comparison = _edit(
        TUNED,
        comparison,
        difference=middle,
        ci_low=low,
        ci_high=high,
        p_adjusted=p,
        test_difference=test_middle,
        test_ci_low=test_low,
        test_ci_high=test_high,
    )
    text = _write(comparison)
    _check_words(text)
    contrast = next(c for c in comparison.contrasts if c.arm_a == TUNED)
    assert (". Fine-tuned net is better" in text) == (contrast.outcome == "better")
    assert (". Fine-tuned net is worse" in text) == (contrast.outcome == "worse")
    assert ("Whether fine-tuned net" in text) == (contrast.outcome == "not resolved")
    if "fine-tuning is better" in text.split(".")[0] and "resolve" not in text.split(".")[0]:
        assert contrast.outcome == "better"


def _check_words(text: str) -> None:
    lowered = text.lower()
    for never in ("no difference", "significant", "equal", "equivalent", "proves", "nan", "none"):
        assert never not in lowered, text
    for claim in re.findall(r"(?<=\. )\S+ is (?:better|worse) than [^:]*: ([^)]*)\)", text):
        assert re.search(r"[+-]\d.* \(95 % CI [+-]\d.* to [+-]\d.*; Holm p", claim), claim


def test_the_words_of_real_comparisons_hold_the_rules() -> None:
    for seed in range(6):
        arms = [replace(a, signal=float(seed)) if a.name == TUNED else a for a in ARMS]
        _check_words(compare(draw_results(arms, Cohort(seed=seed)), n_boot=30).verdict)


def _caveats(cohort: Cohort, *, metric: str = "balanced_accuracy", **changes: Any) -> str:
    results: ResultsTable = replace(draw_results(ARMS, cohort), **changes)
    return " | ".join(compare(results, metric=metric, n_boot=20).caveats)


def test_a_large_clean_study_of_two_arms_has_no_caveat() -> None:
    assert compare(draw_results(ARMS[:2]), n_boot=20).caveats == ()


@pytest.mark.parametrize(
    ("cohort", "expected"),
    [
        (Cohort(n_patients=16), "Only 16 patients were tested"),
        (Cohort(known_patients=False), "No patients are known, so every tile counts"),
        (Cohort(grouped=False), "on both sides of a fold: scores are too high"),
        (Cohort(n_repeats=1), "Every contrast rests on a single repeat"),
        (Cohort(mixed_patients=3), "3 of 24 patients have tiles of more than one class"),
        (Cohort(), "3 arms are tested against the reference"),
    ],
)
def test_each_limit_has_its_caveat(cohort: Cohort, expected: str) -> None:
    assert expected in _caveats(cohort)


def test_ungrouped_folds_give_no_patient_scores() -> None:
    comparison = compare(draw_results(ARMS[:2], Cohort(grouped=False)), n_boot=20)
    assert all(not summary.patient_metrics for summary in comparison.arms)


def test_fewer_repeats_failures_and_devices_are_named() -> None:
    arms = [*ARMS[:2], arm("net+full", "finetune", n_repeats=1, device="cuda")]
    failure = Failure("net+xgboost", "probe", "ValueError: something long")
    caveats = " | ".join(compare(draw_results(arms, failures=(failure,)), n_boot=20).caveats)
    assert "The contrast with fine-tuned net uses the first 1 of 3 repeats" in caveats
    assert "Fine-tuned net rests on a single repeat" in caveats
    assert "Arm net+xgboost failed and is not compared" in caveats
    assert "different devices (cpu, cuda)" in caveats


def test_undefined_resamples_are_counted() -> None:
    # One patient of class b: without it there is nothing to rank.
    results = draw_results(ARMS[:2], Cohort(n_patients=6, n_folds=2))
    one_sided = replace(results, y_true=np.asarray(results.patients == 3, dtype=np.int64))
    comparison = compare(one_sided, metric="roc_auc", n_boot=500)
    n_undefined = comparison.contrasts[0].undefined_resamples
    # (5 / 6) ** 6 of the resamples leave that patient out.
    assert n_undefined == pytest.approx(500 * (5 / 6) ** 6, rel=0.2)
    assert comparison.contrasts[0].interval == "percentile bootstrap over patients"
    assert f"In up to {n_undefined} bootstrap resamples" in " | ".join(comparison.caveats)


def test_undefined_folds_and_unknown_intervals_are_named() -> None:
    results = draw_results(ARMS[:1], Cohort(n_patients=8, n_folds=2, n_repeats=2))
    by_patient = np.array([0, 1, 0, 1, 2, 2, 2, 2], dtype=np.int16)
    runs = (results.runs[0], replace(results.runs[0], arm="twin"))
    folds = np.tile(by_patient[results.patients], (2, 1))
    twins = replace(results, runs=runs, test_fold=folds)
    caveats = " | ".join(compare(twins, metric="roc_auc", n_boot=20).caveats)
    assert "In up to 4 folds ROC AUC is undefined" in caveats
    assert "interval of the difference is not estimable for twin" in caveats
    assert "test over folds is not estimable for twin" in caveats


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        ("accuracy", [0.031, 0.014, -0.049], ["+3.1", "+1.4", "-4.9"]),
        ("accuracy", [0.031, 0.0002, 0.049], ["+3.10", "+0.02", "+4.90"]),
        ("accuracy", [0.0, 1e-17, -1e-17], ["0.0", "0.0", "0.0"]),
        ("roc_auc", [0.0123, -0.4], ["+0.012", "-0.400"]),
        ("log_loss", [0.0001], ["+0.0001"]),
    ],
)
def test_differences_are_not_rounded_to_zero(
    metric: str, values: list[float], expected: list[str]
) -> None:
    assert wording.difference(metric, values) == expected


def test_small_words() -> None:
    assert [wording.times(x) for x in (41.3, 1.25, 0.042, 1234.0)] == [
        "41 times",
        "1.2 times",
        "0.042 times",
        "1,234 times",
    ]
    assert [wording.level(a) for a in (0.05, 0.1, 0.001)] == ["95 %", "90 %", "99.9 %"]
    assert wording.listed(["a"]) == "a"
    assert wording.listed(["a", "b", "c"], "or") == "a, b or c"
    assert wording.score("roc_auc", Estimate(0.9, np.nan, np.nan), 0.05, "patients") == (
        "0.900 (interval not estimable)"
    )


def test_contrasts_hold_plain_numbers() -> None:
    contrast: Contrast = COMPARISON.contrasts[0]
    assert {type(value) for value in vars(contrast).values()} == {str, float, int, bool}


def test_arms_are_named_in_words_as_long_as_that_tells_them_apart() -> None:
    declared: list[tuple[str, ArmKind, str | None, str | None]] = [
        ("resnet50.a1_in1k+logistic", "probe", "logistic", None),
        ("resnet50.a1_in1k+knn", "probe", "knn", None),
        ("vit@00000001+svm", "probe", "svm", None),
        ("vit@00000002+svm", "probe", "svm", None),
        ("resnet50.a1_in1k+full", "finetune", None, "full"),
        ("resnet50.a1_in1k+lora", "finetune", None, "lora"),
        ("resnet50.a1_in1k+full,learning_rate=0.001", "finetune", None, "full"),
        ("resnet50.a1_in1k+last:2,learning_rate=0.001,epochs=5", "finetune", None, "last:2"),
        ("mine", "finetune", None, "full"),
        ("dummy", "baseline", "dummy", None),
    ]
    arms = [
        replace(COMPARISON.arms[0], arm=name, kind=kind, head=head, strategy=strategy)
        for name, kind, head, strategy in declared
    ]
    assert list(name_arms(arms).values()) == [
        "logistic regression on resnet50",
        "k-nearest neighbours on resnet50",
        "vit@00000001+svm",
        "vit@00000002+svm",
        "fine-tuned resnet50",
        "fine-tuned resnet50 (lora)",
        "fine-tuned resnet50 (learning_rate 0.001)",
        "fine-tuned resnet50 (last:2, learning_rate 0.001, epochs 5)",
        "mine",
        "dummy",
    ]
