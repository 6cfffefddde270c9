"""The words follow from the numbers: exact paragraphs, and which caveat stands when."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from comparison_cases import Cohort, arm, draw_results
from verdict_cases import (
    DESIGN,
    NAN,
    PROBE,
    TILES,
    TUNED,
    make_comparison,
    make_contrast,
    make_evidence,
    with_arm,
)

from featurebench.comparison import Comparison, Contrast, Estimate, compare, wording
from featurebench.comparison.model import Evidence, Selection
from featurebench.comparison.naming import in_words, name_arms
from featurebench.comparison.others import other_sentences
from featurebench.comparison.training import Training
from featurebench.comparison.verdict import above_chance, add_turning, write_verdict
from featurebench.results import Cost, Failure

if TYPE_CHECKING:
    from featurebench.results import ArmKind, ResultsTable

ARMS = [
    arm("net+logistic"),
    arm("net+knn"),
    arm("net+full", "finetune", wall_s=410.0),
    arm("dummy", "baseline"),
]
SMALL = Training("net", 64, 3)
KNN, RIDGE = "net.tag@00000000+knn", "net.tag@00000000+ridge"


def _write(comparison: Comparison, design: Any = DESIGN) -> str:
    return write_verdict(design, in_words(comparison))


def test_a_gain_beyond_the_margin() -> None:
    contrast = make_contrast(
        (0.014, 0.031, 0.049),
        (0.0004, 0.004),
        outcome="better",
        relevance="beyond the margin",
        p_better=0.93,
        p_practical=0.06,
    )
    assert _write(make_comparison(contrast)) == (
        "On this cohort of 40 patients fine-tuning is better than the frozen probe, by more than "
        "the margin of 1 pp. Fine-tuned net gains +3.1 pp balanced accuracy over logistic "
        "regression on net (95 % CI +1.4 to +4.9 over patients, p < 0.001; +1.3 to +5.0 over 15 "
        "folds, p = 0.004; over folds alone P(gain > 1 pp) = 0.93, P(within 1 pp) = 0.06). The "
        "probe scores 83.1 % (95 % CI 75.0 to 89.2), above the 50.0 % of the dummy. Fine-tuning "
        "takes 4 times the wall-clock time (85 s against 21 s)."
    )


def test_a_gain_within_the_margin() -> None:
    contrast = make_contrast((0.002, 0.004, 0.008), outcome="better", relevance="within the margin")
    assert _write(make_comparison(contrast)).startswith(
        "On this cohort of 40 patients fine-tuning is better than the frozen probe, but by less "
        "than the margin of 1 pp. Fine-tuned net gains +0.4 pp balanced accuracy over"
    )


def test_a_loss_of_open_size() -> None:
    contrast = make_contrast((-0.05, -0.031, -0.004), (0.02, 0.03), outcome="worse", p_worse=0.9)
    assert _write(make_comparison(contrast)).startswith(
        "On this cohort of 40 patients fine-tuning is worse than the frozen probe; whether by more "
        "than the margin of 1 pp is open. Fine-tuned net changes balanced accuracy by -3.1 pp "
        "against logistic regression on net (95 % CI -5.0 to -0.4 over patients, p = 0.020; -5.1 "
        "to -0.3 over 15 folds, p = 0.030; over folds alone P(loss > 1 pp) = 0.90, P(within 1 "
        "pp) = 0.40)."
    )


def test_equivalent_arms_have_the_test_of_it() -> None:
    by_patients = make_evidence("patients", -0.006, 0.001, 0.006, p_equivalent=0.003)
    by_folds = make_evidence("folds", -0.007, 0.001, 0.007, p_equivalent=0.011)
    contrast = make_contrast(
        (-0.006, 0.001, 0.006), outcome="equivalent", by_patients=by_patients, by_folds=by_folds
    )
    text = _write(make_comparison(contrast))
    assert text.startswith(
        "On this cohort of 40 patients the frozen probe is enough to within the margin of 1 pp: "
        "fine-tuning is equivalent to it, and it lies above the declared floor of 70.0 %. "
        "Fine-tuned net gains +0.1 pp"
    )
    assert "; two one-sided tests against 1 pp either way p = 0.011)." in text
    assert "80 % power" not in text
    alone = replace(contrast, rule="patients alone")
    assert "either way p = 0.003)." in _write(make_comparison(alone))


def test_a_probe_that_is_non_inferior_is_enough() -> None:
    contrast = make_contrast((-0.016, -0.004, 0.006), outcome="not superior")
    text = _write(make_comparison(contrast))
    assert text.startswith(
        "On this cohort of 40 patients the frozen probe is enough to within the margin of 1 pp: it "
        "is non-inferior to fine-tuning, and it lies above the declared floor of 70.0 %. "
        "Fine-tuned net changes balanced accuracy by -0.4 pp"
    )
    assert "80 % power" not in text


def test_a_fine_tune_that_is_non_inferior_is_told_with_what_would_settle_the_rest() -> None:
    contrast = make_contrast((-0.006, 0.004, 0.016), outcome="non-inferior")
    text = _write(make_comparison(contrast))
    assert text.startswith(
        "On this cohort of 40 patients fine-tuning is non-inferior to the frozen probe within the "
        "margin of 1 pp, and not shown to be better."
    )
    assert "of 5.1 pp; showing one of 1 pp, or ruling it out, would take 600 to 4,000" in text


def test_what_is_not_resolved() -> None:
    assert _write(make_comparison()) == (
        "On this cohort of 40 patients fine-tuning is not shown to be better than the frozen "
        "probe, nor worse. Fine-tuned net gains +0.4 pp balanced accuracy over logistic regression "
        "on net (95 % CI -2.9 to +3.8 over patients, p = 0.80; -3.0 to +3.9 over 15 folds, p = "
        "0.71; over folds alone P(gain > 1 pp) = 0.31, P(within 1 pp) = 0.40). The "
        "probe scores 83.1 % (95 % CI 75.0 to 89.2), above the 50.0 % of the dummy. With 80 % "
        "power this cohort could have shown a difference of 5.1 pp; showing one of 1 pp, or ruling "
        "it out, would take 600 to 4,000 patients. Fine-tuning takes 4 times the wall-clock time "
        "(85 s against 21 s)."
    )


def test_one_test_set_gives_an_interval_for_the_fitted_models_and_no_claim() -> None:
    nothing = make_evidence("folds", NAN, NAN, NAN, p_value=NAN)
    contrast = make_contrast(
        rule="patients alone", n_repeats=1, n_folds=1, by_folds=nothing, outcome="not claimed"
    )
    text = _write(make_comparison(contrast, barred=("With one test set nothing is seen.",)))
    assert text.startswith("Nothing is claimed from this comparison: with one test set")
    assert (
        "(95 % CI -2.9 to +3.8 over patients, for these fitted models on other patients, not for "
        "training again)" in text
    )
    both = make_comparison(contrast, barred=("With one test set nothing is seen.", "Also this."))
    assert "no interval or p-value holds for that" in _write(both)


def test_sites_stand_beside_patients_and_folds_where_they_are_asked() -> None:
    sites = make_evidence("sites", -0.031, 0.004, 0.042, p_value=0.77, n=8)
    contrast = make_contrast(rule="folds, patients and sites", by_sites=sites)
    assert "; -3.1 to +4.2 over 8 sites, p = 0.77;" in _write(make_comparison(contrast))
    assert "sites" not in _write(make_comparison(make_contrast(by_sites=sites)))


def test_what_is_undefined_is_called_so() -> None:
    contrast = make_contrast((NAN, NAN, NAN), (NAN, NAN), detectable=NAN, cost_ratio=NAN)
    assert _write(make_comparison(contrast)) == (
        "Nothing is shown on this cohort of 40 patients: the difference in balanced accuracy is "
        "undefined. The probe scores 83.1 % (95 % CI 75.0 to 89.2), above the 50.0 % of the dummy."
    )


def test_a_probe_that_learnt_nothing_is_not_enough() -> None:
    contrast = make_contrast((-0.016, -0.004, 0.006), outcome="not superior")
    text = _write(make_comparison(contrast, probe=(0.52, 0.44, 0.6)))
    assert text.startswith(
        "Nothing was shown to be learnt by the frozen probe on this cohort of 40 patients, so it "
        "is not shown to be enough. Fine-tuned net changes"
    )
    assert "scores 52.0 % (95 % CI 44.0 to 60.0), not shown to be above the 50.0 % of" in text


def test_where_nothing_may_be_claimed_the_bare_difference_is_given() -> None:
    bars = ("Class x was tested on 1 patient only.", "Only 5 patients were tested.")
    contrast = make_contrast(outcome="not claimed")
    assert _write(make_comparison(contrast, barred=bars)) == (
        "Nothing is claimed from this comparison: class x was tested on 1 patient only; only 5 "
        "patients were tested. As measured, fine-tuned net changes balanced accuracy by +0.4 pp "
        "against logistic regression on net; no interval or p-value holds for that. Fine-tuning "
        "takes 4 times the wall-clock time (85 s against 21 s)."
    )


def test_lower_is_better() -> None:
    contrast = make_contrast((-0.03, -0.01, 0.02), metric="log_loss")
    text = _write(make_comparison(contrast))
    assert (
        "Fine-tuned net changes log loss, where lower is better, by -0.010 against logistic "
        "regression on net (95 % CI -0.030 to +0.020 over patients, p = 0.80; -0.031 to +0.021 "
        "over 15 folds, p = 0.71; over folds alone P(gain > 0.01) = 0.31, P(within 0.01) = "
        "0.40). The probe scores 0.831 (95 % CI 0.750 to 0.892); its ROC AUC is 0.831 (95 % CI "
        "0.750 to 0.892), above the 0.500 of the dummy." in text
    )


def test_tiles_of_unknown_patients_are_called_tiles() -> None:
    contrast = make_contrast(
        by_patients=make_evidence("tiles", -0.029, 0.004, 0.038, n=240),
        n_needed_low=None,
        n_needed_high=None,
    )
    text = _write(make_comparison(contrast), TILES)
    assert text.startswith("On these 240 tiles fine-tuning is not shown to be better than")
    assert "(95 % CI -2.9 to +3.8 over tiles, p = 0.71;" in text
    assert "could have shown a difference of 5.1 pp. Fine-tuning" in text


def _with_probes(comparison: Comparison, chosen: dict[str, int], arm_id: str) -> Comparison:
    more = with_arm(with_arm(comparison, KNN, "probe", head="knn"), RIDGE, "probe", head="ridge")
    choice = Selection("probe", arm_id, chosen)
    return replace(more, selections=(choice, *comparison.selections[1:]))


def test_a_probe_chosen_in_every_fold_is_called_the_best() -> None:
    text = _write(_with_probes(make_comparison(), {PROBE: 15}, PROBE))
    assert "is not shown to be better than the best frozen probe, nor worse." in text
    assert "over logistic regression on net (95 %" in text
    assert "The probe, chosen on inner folds in every fold, scores 83.1 %" in text


def test_a_probe_made_of_several_tells_which() -> None:
    made = replace(make_contrast(), arm_b="best probe")
    chosen = {PROBE: 12, KNN: 2, RIDGE: 1}
    comparison = with_arm(make_comparison(made), "best probe", "probe", chosen=chosen)
    text = _write(_with_probes(comparison, chosen, "best probe"))
    assert "better than the best frozen probe, nor worse. Fine-tuned net gains +0.4 pp" in text
    assert "balanced accuracy over the best frozen probe (95 % CI" in text
    assert (
        "The probe, chosen on inner folds (logistic regression on net in 12 and k-nearest "
        "neighbours on net in 2 of 15 folds), scores" in text
    )


def test_a_fine_tune_made_of_several_tells_which() -> None:
    chosen = {TUNED: 9, "net.tag+lora": 6}
    comparison = make_comparison(replace(make_contrast(), arm_a="best fine-tune"))
    comparison = with_arm(comparison, "net.tag+lora", "finetune", strategy="lora")
    comparison = with_arm(comparison, "best fine-tune", "finetune", chosen=chosen)
    choices = (comparison.selections[0], Selection("finetune", "best fine-tune", chosen))
    text = _write(replace(comparison, selections=choices))
    assert text.startswith("On this cohort of 40 patients fine-tuning is not shown")
    assert "The best fine-tuned network (fine-tuned net in 9 and fine-tuned net (lora) in 6" in text


def test_an_arm_that_was_not_chosen_is_not_called_the_best_of_its_kind() -> None:
    comparison = with_arm(make_comparison(), "net.tag+lora", "finetune", strategy="lora")
    open_choice = Selection("finetune", TUNED, {}, "none were kept.")
    text = _write(replace(comparison, selections=(comparison.selections[0], open_choice)))
    assert text.startswith("On this cohort of 40 patients fine-tuned net is not shown to be better")


def test_without_one_kind_there_is_no_contrast_to_tell() -> None:
    text = compare(draw_results(ARMS[:2]), n_boot=50).verdict
    assert text.startswith("No network was fine-tuned, so this compares frozen probes only.")
    assert "in balanced accuracy" in text
    text = compare(draw_results([ARMS[2], ARMS[3]]), n_boot=50).verdict
    assert text.startswith("No frozen probe was run, so this compares fine-tuned networks only.")
    text = compare(draw_results(ARMS), reference="dummy", n_boot=50).verdict
    assert text.startswith("All arms are held against dummy, a baseline.")
    assert compare(draw_results(ARMS[:1]), n_boot=50).verdict.startswith("Only one arm was run")


def test_energy_is_told_where_it_was_counted() -> None:
    comparison = make_comparison()
    probe, tuned, dummy = comparison.arms
    tuned = replace(tuned, cost=Cost(wall_s=84.8, energy_j=57_600.0))
    text = _write(replace(comparison, arms=(probe, tuned, dummy)))
    assert text.endswith("(85 s against 21 s) and 16 Wh of GPU energy.")
    probe = replace(
        probe,
        cost=Cost(wall_s=21.2, energy_j=300.0),
        extraction_cost=Cost(wall_s=1.0, energy_j=112.0),
    )
    text = _write(replace(comparison, arms=(probe, tuned, dummy)))
    assert text.endswith("(85 s against 22 s) and 16 Wh against 412 J of GPU energy.")
    # of an embedding whose energy was not counted, the sum is not known
    probe = replace(probe, extraction_cost=Cost(wall_s=1.0))
    text = _write(replace(comparison, arms=(probe, tuned, dummy)))
    assert text.endswith("and 16 Wh of GPU energy.")


def test_cost_is_that_of_the_common_repeats() -> None:
    contrast = make_contrast(n_repeats=1, rule="patients alone", cost_ratio=1.0)
    text = _write(make_comparison(contrast))
    assert "as much wall-clock time (28 s against 7.1 s; for the repeat compared)." in text
    assert "scores 83.1 % (95 % CI 75.0 to 89.2) in the repeat compared, above" in text


def test_scores_of_the_verdict_are_those_of_the_repeats_of_its_difference() -> None:
    arms = [*ARMS[:2], arm("net+full", "finetune", n_repeats=1, signal=1.4), ARMS[3]]
    results = draw_results(arms)
    comparison = compare(results, reference="net+logistic", n_boot=20)
    alone = replace(results.runs[0], y_prob=results.runs[0].y_prob[:1])
    first = compare(
        replace(results, runs=(alone, *results.runs[1:])), reference="net+logistic", n_boot=20
    )
    told = wording.plain(comparison.metric, first.arm("net+logistic").metrics[first.metric].value)
    whole = comparison.arm("net+logistic").metrics[comparison.metric].value
    assert f"The probe scores {told} % (" in comparison.verdict
    assert " in the repeat compared" in comparison.verdict
    # the table keeps all repeats
    assert wording.plain(comparison.metric, whole) != told
    tuned = comparison.arm("net+full").metrics[comparison.metric].value
    assert tuned - first.arm("net+logistic").metrics[first.metric].value == pytest.approx(
        comparison.contrasts[0].difference
    )


def test_processor_time_stands_beside_the_wall_clocks() -> None:
    probe, tuned, dummy = make_comparison().arms
    probe = replace(probe, cost=Cost(wall_s=21.2, cpu_s=40.4))
    tuned = replace(tuned, cost=Cost(wall_s=84.8, cpu_s=9000.0))
    text = write_verdict(DESIGN, make_comparison(arms=(probe, tuned, dummy)))
    assert text.endswith("(85 s against 21 s; 2.5 h against 40 s of processor time).")


def test_cost_says_where_input_sizes_differ() -> None:
    probe, tuned, dummy = make_comparison().arms
    arms = [replace(probe, training=Training("net", 224)), replace(tuned, training=SMALL), dummy]
    text = write_verdict(DESIGN, make_comparison(arms=tuple(arms)))
    assert text.endswith("wall-clock time (85 s against 21 s), at 64 px against 224 px.")


@pytest.mark.parametrize("metric", ["balanced_accuracy", "roc_auc", "log_loss", "f1"])
def test_arms_that_differ_nowhere_say_why_nothing_is_tested(metric: str) -> None:
    arms = [arm("net+logistic", signal=99), arm("net+full", "finetune", signal=99), ARMS[3]]
    text = compare(draw_results(arms), metric=metric, n_boot=50).verdict
    if "not shown to be better" in text:
        assert (
            "nor worse: no test can be computed, since both arms score alike in every fold." in text
        )


def test_a_contrast_that_cannot_be_tested_says_why() -> None:
    nothing = make_evidence("folds", NAN, -0.2, NAN, p_value=NAN)
    same = make_contrast((NAN, -0.2, NAN), (NAN, NAN), by_folds=nothing, p_value=NAN)
    assert wording.untested(same) == (
        "no test can be computed, since the difference is the same in every fold"
    )
    assert "nor worse: no test can be computed, since" in _write(make_comparison(same))
    over_patients = make_contrast((NAN, -0.2, NAN), (NAN, 0.2), p_value=NAN)
    assert wording.untested(over_patients) == (
        "no test over patients can be computed, since the differences do not vary over patients or "
        "a class has too few of them"
    )
    few = replace(nothing, n=1)
    by_folds = make_contrast(by_folds=few, p_value=NAN)
    assert wording.untested(by_folds).endswith("since fewer than two of them have a score")
    assert wording.untested(make_contrast()) == ""


def test_a_choice_costs_what_all_candidates_cost() -> None:
    probe, tuned, dummy = make_comparison().arms
    probe_of_all = replace(probe, chosen={PROBE: 15})
    tuned_of_all = replace(tuned, chosen={TUNED: 15})
    for arms, expected in (
        ((probe_of_all, tuned, dummy), "(85 s against 21 s for all candidates)."),
        ((probe, tuned_of_all, dummy), "(85 s for all candidates against 21 s)."),
        ((probe_of_all, tuned_of_all, dummy), "(85 s against 21 s, each for all candidates)."),
    ):
        # write_verdict itself, since two arms of one name would keep their identities
        assert write_verdict(DESIGN, make_comparison(arms=arms)).endswith(expected)


def test_where_fine_tuning_overtakes_is_added() -> None:
    assert add_turning("A verdict.", "") == "A verdict."
    assert add_turning("A verdict.", "It turns.") == "A verdict. It turns."


def test_few_patients_more_would_be_needed_than_there_are() -> None:
    fine = make_contrast(detectable=0.008, n_needed_low=20, n_needed_high=60)
    assert "could have shown a difference of 0.8 pp. Fine" in _write(make_comparison(fine))
    many = make_contrast(n_needed_low=2_000_000, n_needed_high=9_000_000)
    assert "would take more than 100,000 patients" in _write(make_comparison(many))


class TestOtherArms:
    def test_share_sentences_by_outcome(self) -> None:
        comparison = with_arm(
            with_arm(make_comparison(), KNN, "probe", head="knn"), RIDGE, "probe", head="ridge"
        )
        rest = (
            make_contrast(
                (0.02, 0.05, 0.08),
                arm_a=KNN,
                primary=False,
                outcome="better",
                relevance="beyond the margin",
                p_adjusted=0.0123,
            ),
            make_contrast(arm_a=RIDGE, primary=False),
        )
        comparison = replace(comparison, contrasts=(*comparison.contrasts, *rest))
        assert other_sentences(in_words(comparison)) == (
            "2 further arms are held against logistic regression on net in balanced accuracy, by "
            "the largest p-value of the tests that a claim asks for, adjusted for 2 contrasts by "
            "Holm's method.",
            "Better: k-nearest neighbours on net (+5.0 pp, 95 % CI +2.0 to +8.0, p = 0.012, beyond "
            "the margin).",
            "Not resolved: ridge classifier on net.",
        )

    def test_what_could_not_be_tested_stands_apart_with_the_reason(self) -> None:
        nothing = make_evidence("folds", NAN, 0.0, NAN, p_value=NAN)
        untested = make_contrast(
            (NAN, 0.0, NAN), (NAN, NAN), arm_a=KNN, primary=False, by_folds=nothing, p_value=NAN
        )
        comparison = with_arm(
            with_arm(make_comparison(), KNN, "probe", head="knn"), RIDGE, "probe", head="ridge"
        )
        rest = (untested, make_contrast(arm_a=RIDGE, primary=False))
        comparison = replace(comparison, contrasts=(*comparison.contrasts, *rest))
        assert other_sentences(in_words(comparison))[1:] == (
            "Not resolved: ridge classifier on net.",
            "Not resolved (no test can be computed, since both arms score alike in every fold): "
            "k-nearest neighbours on net.",
        )

    def test_are_counted_where_there_are_many(self) -> None:
        tuned = [arm(f"net+full{i}", "finetune") for i in range(10)]
        comparison = compare(draw_results([arm("net+logistic"), *tuned]), n_boot=20)
        assert comparison.others[-1].startswith("Not resolved: 9 of the 9 arms.")

    def test_are_none_where_there_are_two_arms(self) -> None:
        assert compare(draw_results([*ARMS[1:3]]), n_boot=20).others == ()


class TestChance:
    def test_a_perfect_score_without_interval_is_not_chance(self) -> None:
        perfect = make_comparison(probe=(1.0, NAN, NAN))
        assert above_chance(perfect, perfect.arms[0]) is None
        flat = make_comparison(probe=(0.5, NAN, NAN))
        assert above_chance(flat, flat.arms[0]) is False

    def test_is_unknown_without_a_baseline(self) -> None:
        comparison = make_comparison()
        alone = replace(comparison, arms=comparison.arms[:2])
        assert above_chance(alone, alone.arms[0]) is None
        assert "The probe scores 83.1 % (95 % CI 75.0 to 89.2). With" in _write(alone)

    def test_losses_are_judged_by_rank(self) -> None:
        comparison = make_comparison(make_contrast(metric="log_loss"))
        probe = comparison.arms[0]
        sure = {**probe.metrics, "log_loss": Estimate(2.0, 1.5, 2.5)}
        assert above_chance(comparison, replace(probe, metrics=sure)) is True

    @pytest.mark.parametrize("size", [{"n_patients": 8, "n_folds": 2}, {"n_patients": 24}, {}])
    def test_where_classes_do_not_differ_nobody_wins(self, size: dict[str, Any]) -> None:
        none = [replace(each, signal=0.0) for each in ARMS]
        for seed in range(4):
            text = compare(draw_results(none, Cohort(seed=seed, **size)), n_boot=20).verdict
            first = text.partition(". ")[0]
            for claim in ("is better than", "is worse than", "is enough", "non-inferior"):
                assert claim not in first, text


def _caveats(cohort: Cohort, *, metric: str = "balanced_accuracy", **changes: Any) -> str:
    results: ResultsTable = replace(draw_results(ARMS, cohort), **changes)
    return " | ".join(compare(results, metric=metric, n_boot=20).caveats)


def test_a_large_clean_study_of_two_arms_has_no_caveat() -> None:
    assert compare(draw_results([ARMS[0], ARMS[3]]), margin=0.01, n_boot=20).caveats == ()


@pytest.mark.parametrize(
    ("cohort", "expected"),
    [
        (Cohort(n_patients=16), "Only 16 patients were tested"),
        (Cohort(n_repeats=1), "Every contrast rests on a single repeat"),
        (Cohort(mixed_patients=3), "3 of 24 patients have tiles of more than one class and are"),
        (Cohort(mixed_patients=1), "1 of 24 patients has tiles of more than one class and is left"),
        (Cohort(n_folds=2), "With two folds every arm is trained on half of the cohort only."),
        (
            Cohort(),
            "The primary contrast is tested at alpha and the 2 others, adjusted for their number",
        ),
    ],
)
def test_each_limit_has_its_caveat(cohort: Cohort, expected: str) -> None:
    assert expected in _caveats(cohort)


def test_the_level_of_all_contrasts_together_is_told() -> None:
    caveats = _caveats(Cohort())
    assert (
        "The primary contrast is tested at alpha and the 2 others, adjusted for their number by "
        "Holm's method, at alpha again: the family of all has twice alpha at most" in caveats
    )
    one = " | ".join(compare(draw_results(ARMS[1:]), n_boot=20).caveats)
    assert "The primary contrast is tested at alpha and the one other at alpha again" in one
    probes = " | ".join(compare(draw_results([*ARMS[:2], ARMS[3]]), n_boot=20).caveats)
    assert "2 arms are tested against the reference and their p-values are adjusted" in probes


def test_ungrouped_folds_give_no_patient_scores() -> None:
    comparison = compare(draw_results(ARMS[:2], Cohort(grouped=False)), n_boot=20)
    assert all(not summary.patient_metrics for summary in comparison.arms)


def test_fewer_repeats_failures_and_devices_are_named() -> None:
    arms = [*ARMS[:2], arm("net+full", "finetune", n_repeats=1, device="cuda")]
    failure = Failure("net+xgboost", "probe", "ValueError: something long")
    caveats = " | ".join(compare(draw_results(arms, failures=(failure,)), n_boot=20).caveats)
    assert "The contrast with fine-tuned net rests on a single repeat" in caveats
    assert "Arm net+xgboost failed and is not compared" in caveats
    assert "different devices (cpu, cuda)" in caveats


def test_repeats_that_only_one_arm_has_are_left_out() -> None:
    arms = [*ARMS[:2], arm("net+full", "finetune", n_repeats=2)]
    caveats = " | ".join(compare(draw_results(arms), n_boot=20).caveats)
    assert "The contrast with fine-tuned net uses the first 2 of 3 repeats" in caveats


def test_many_single_repeats_are_counted() -> None:
    tuned = [arm(f"net+full{i}", "finetune", n_repeats=1) for i in range(5)]
    caveats = compare(draw_results([*ARMS, *tuned]), n_boot=20).caveats
    assert any(each.startswith("5 of 8 contrasts rest on a single repeat") for each in caveats)


def test_without_a_baseline_nothing_shows_that_anything_was_learnt() -> None:
    (found,) = [c for c in compare(draw_results(ARMS[:1]), n_boot=20).caveats if "baseline" in c]
    assert found.endswith("so nothing here shows that any arm has learnt.")


def test_arms_that_were_not_chosen_on_inner_folds_are_named() -> None:
    caveats = " | ".join(compare(draw_results(ARMS), n_boot=20).caveats)
    assert (
        "The frozen probe was not chosen on inner folds but is the first declared, logistic "
        "regression on net: net+logistic has no scores on inner folds" in caveats
    )
    declared = " | ".join(compare(draw_results(ARMS), reference="net+knn", n_boot=20).caveats)
    assert "inner folds" not in declared


def _judged(name: str, score: float, kind: Any = "probe") -> Any:
    """Draw an arm that keeps this score on the inner folds of every fold."""
    inner = [
        {"repeat": repeat, "fold": fold, "n": 20, "scores": {"balanced_accuracy": score}}
        for repeat in range(3)
        for fold in range(4)
    ]
    return arm(name, kind, extra={"details": {"inner": inner}})


def test_a_declared_reference_is_told_beside_what_would_have_been_chosen() -> None:
    arms = [_judged("net+logistic", 0.8), _judged("net+knn", 0.7), *ARMS[2:]]
    chosen = compare(draw_results(arms), n_boot=20)
    assert "the best frozen probe" in chosen.verdict
    assert "inner folds" not in " | ".join(chosen.caveats)
    declared = compare(draw_results(arms), reference="net+knn", n_boot=20)
    assert "the best frozen probe" not in declared.verdict
    assert (
        "The frozen probe that is compared was declared; inner folds would have chosen logistic "
        "regression on net." in declared.caveats
    )


def test_undefined_resamples_are_counted() -> None:
    # One patient of class b: without it there is nothing to rank.
    results = draw_results(ARMS[:2], Cohort(n_patients=6, n_folds=2))
    one_sided = replace(results, y_true=np.asarray(results.patients == 3, dtype=np.int64))
    comparison = compare(one_sided, metric="average_precision", n_boot=500)
    n_undefined = comparison.contrasts[0].undefined_resamples
    # (5 / 6) ** 6 of the resamples leave that patient out.
    assert n_undefined == pytest.approx(500 * (5 / 6) ** 6, rel=0.2)
    assert comparison.contrasts[0].by_patients.test == "percentile bootstrap over patients"
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
    assert wording.score("roc_auc", Estimate(0.9, np.nan, np.nan), 0.05) == (
        "0.900 (interval not estimable)"
    )


def test_contrasts_hold_plain_numbers() -> None:
    contrast: Contrast = compare(draw_results(ARMS), margin=0.01, n_boot=20).contrasts[0]
    kinds = {type(value) for value in vars(contrast).values() if value is not None}
    assert kinds == {str, float, int, bool, Evidence}
    for each in (contrast.by_folds, contrast.by_patients):
        assert {type(value) for value in vars(each).values()} == {str, float, int}


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
        replace(make_comparison().arms[0], arm=name, kind=kind, head=head, strategy=strategy)
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
