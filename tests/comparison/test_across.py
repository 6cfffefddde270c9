"""Several data sets: which numbers enter the mean, which arms are ranked, and what is said."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from across_cases import DUMMY, KNN, PROBE, TUNED, comparison, evidence, many, summary

from featurebench.comparison.across import compare_across
from featurebench.comparison.model import Selection
from featurebench.errors import ResultsError
from featurebench.stats import (
    friedman,
    random_effects,
    signed_rank_posterior,
    wilcoxon_holm,
)

if TYPE_CHECKING:
    from featurebench.comparison.model import Comparison


def three(*differences: float, se: float = 0.005, **changes: Any) -> dict[str, Comparison]:
    """Name data sets a, b, c ... with these differences, each as precise over folds as said."""
    return {
        name: comparison(difference, (se, se / 2), **changes)
        for name, difference in zip("abcdefgh", differences, strict=False)
    }


def test_mean_takes_the_larger_standard_error_of_each_data_set() -> None:
    named = {
        "a": comparison(0.02, (0.02, 0.01)),
        "b": comparison(0.05, (0.01, 0.03)),
        "c": comparison(0.01, (0.02, 0.02)),
    }
    found = compare_across(named)
    expected = random_effects([0.02, 0.05, 0.01], [0.02, 0.03, 0.02])
    assert found.mean is not None
    assert found.mean.mean == expected.mean
    assert (found.mean.ci_low, found.mean.ci_high) == (expected.ci_low, expected.ci_high)
    assert [effect.evidence.unit for effect in found.effects if effect.evidence] == [
        "folds",
        "patients",
        "folds",
    ]
    assert [effect.weight for effect in found.effects] == expected.weights.tolist()
    assert found.data_sets == ("a", "b", "c")


def test_one_repeat_enters_with_its_patients() -> None:
    alone: dict[str, Any] = {"of_contrast": {"rule": "patients alone"}}
    named = {"a": comparison(0.02, (0.09, 0.01), **alone), "b": comparison(0.03, (0.02, 0.01))}
    found = compare_across(named)
    used = [effect.evidence for effect in found.effects if effect.evidence]
    assert [(each.unit, each.se) for each in used] == [("patients", 0.01), ("folds", 0.02)]


def test_data_sets_without_a_usable_contrast_are_left_out_and_named() -> None:
    named = {
        **three(0.02, 0.03),
        "probes": comparison(contrasts=()),
        "barred": comparison(barred=("Folds are not grouped by patient.",)),
        "flat": comparison(0.0, of_contrast={"by_folds": evidence("folds", 0.0, 0.0)}),
        "turned": comparison(of_contrast={"arm_a": PROBE, "arm_b": TUNED}),
    }
    found = compare_across(named)
    expected = random_effects([0.02, 0.03], [0.005, 0.005])
    assert found.mean is not None
    assert found.mean.k == 2
    assert found.mean.mean == expected.mean
    assert "Over 2 of 6 data sets" in found.verdict
    notes = " ".join(found.notes)
    assert "probes is not in the mean: it has no primary contrast" in notes
    assert "barred is not in the mean: nothing is claimed from it (Folds are not grouped" in notes
    assert "flat is not in the mean: its primary contrast is not estimable over folds" in notes
    assert "holds a frozen probe against a fine-tuned network" in notes
    assert all(math.isnan(effect.weight) == bool(effect.left_out) for effect in found.effects)


@pytest.mark.parametrize(("usable", "told"), [(0, "none"), (1, "1")])
def test_no_mean_of_fewer_than_two(usable: int, told: str) -> None:
    empty = {name: comparison(contrasts=()) for name in ("x", "y")}
    found = compare_across({**empty, **three(*[0.02] * usable)})
    assert found.mean is None
    assert found.outcome == "not resolved"
    k = usable + 2
    assert found.verdict == (
        f"There is no mean over the {k} data sets: the primary contrast of {told} can be used, "
        "and it takes two."
    )


@pytest.mark.parametrize(
    ("differences", "se", "outcome", "told"),
    [
        ((0.050, 0.055, 0.052, 0.049), 0.005, "better", "is better than"),
        ((-0.05, -0.055, -0.052, -0.049), 0.005, "worse", "is worse than"),
        ((0.001, -0.001, 0.0, 0.001), 0.002, "equivalent", "practically equal on average, within"),
        ((0.008, 0.007, 0.009, 0.008), 0.009, "non-inferior", "is not worse than"),
        ((-0.008, -0.007, -0.009, -0.008), 0.009, "not superior", "is not better than"),
        ((0.04, -0.05, 0.09, -0.02), 0.005, "not resolved", "it is not resolved whether"),
    ],
)
def test_outcome_of_the_mean_and_its_sentence(
    differences: tuple[float, ...], se: float, outcome: str, told: str
) -> None:
    found = compare_across(three(*differences, se=se))
    assert found.outcome == outcome
    assert told in found.verdict.partition(":")[0]
    mean = found.mean
    assert mean is not None
    claims = {
        "better": mean.ci_low > 0,
        "worse": mean.ci_high < 0,
        "equivalent": mean.ci_low > -0.01 and mean.ci_high < 0.01,
        "non-inferior": mean.ci_low > -0.01,
        "not superior": mean.ci_high < 0.01,
        "not resolved": True,
    }
    assert claims[outcome]


def test_where_lower_is_better_a_fall_is_a_gain() -> None:
    named = three(-0.05, -0.055, -0.052, metric="log_loss")
    found = compare_across(named)
    assert found.outcome == "better"
    assert "-0.05" in found.verdict
    assert "lower is better" in found.verdict


def test_verdict_in_full() -> None:
    named = three(0.05, 0.055, 0.052)
    named["a"] = replace(
        named["a"], contrasts=(replace(named["a"].contrasts[0], outcome="better"),)
    )
    assert compare_across(named).verdict == (
        "Over 3 data sets fine-tuned resnet18 is better than logistic regression on resnet18 on "
        "average: +5.2 pp balanced accuracy (95 % CI +4.0 to +6.5; random effects, p = 0.003). "
        "Data set by data set fine-tuned resnet18 is better in 1 (a) and not resolved in 2. "
        "Effects differ between data sets by no more than their standard errors explain. "
        "By the Bayesian signed-rank test over 3 data sets fine-tuned resnet18 is, on data sets "
        "like these, mostly better by more than 1 pp with probability > 0.99, mostly within 1 pp "
        "with < 0.01 and mostly worse by more than 1 pp with < 0.01."
    )


def test_signed_ranks_are_those_of_the_effects_in_the_mean() -> None:
    named = three(0.005, 0.03, -0.02, 0.015)
    named["out"] = comparison(barred=("Folds are not grouped by patient.",))
    found = compare_across(named).signed_ranks
    assert found == signed_rank_posterior([0.005, 0.03, -0.02, 0.015], rope=0.01)
    assert found.n == 4
    losses = compare_across(three(0.005, 0.03, -0.02, metric="log_loss"))
    assert losses.signed_ranks == signed_rank_posterior([-0.005, -0.03, 0.02], rope=0.01)


def test_signed_ranks_take_three_data_sets_and_say_what_they_leave_out() -> None:
    two, more = compare_across(three(0.01, 0.09)), compare_across(three(0.01, 0.09, 0.02))
    assert two.signed_ranks is None
    assert "signed-rank" not in two.verdict + " ".join(two.notes)
    assert "signed-rank test over 3 data sets" in more.verdict
    assert any("without its standard error" in note for note in more.notes)


def test_without_a_margin_signed_ranks_have_two_sides() -> None:
    named = {name: replace(each, margin=0.0) for name, each in three(0.01, 0.09, 0.02).items()}
    verdict = compare_across(named).verdict
    assert "mostly better with probability > 0.99 and mostly worse with < 0.01." in verdict


def test_spread_between_data_sets_is_told_with_where_one_more_would_lie() -> None:
    found = compare_across(three(0.01, 0.09, 0.05, 0.02))
    mean = found.mean
    assert mean is not None
    assert mean.tau > 0
    assert f"standard deviation of {100 * mean.tau:.1f} pp" in found.verdict
    assert f"{100 * mean.prediction_low:+.1f} and {100 * mean.prediction_high:+.1f} pp" in (
        found.verdict
    )
    two = compare_across(three(0.01, 0.09))
    assert "one more data set" not in two.verdict
    assert any("1 degree of freedom" in note for note in two.notes)


def test_arms_that_differ_between_data_sets_are_called_by_what_they_are() -> None:
    named = three(0.05, 0.05)
    other = "resnet50.a1_in1k+full"
    arms = (*named["b"].arms, summary(other, 0.9, kind="finetune"))
    changed = replace(named["b"].contrasts[0], arm_a=other)
    named["b"] = replace(named["b"], arms=arms, contrasts=(changed,))
    verdict = compare_across(named).verdict
    assert "the fine-tuned network" in verdict
    assert "logistic regression on resnet18" in verdict


def test_arms_are_matched_by_name_and_gaps_stay_gaps() -> None:
    named = {
        "a": comparison(scores={PROBE: 0.8, TUNED: 0.9}),
        "b": comparison(scores={PROBE: 0.7, TUNED: 0.75, KNN: 0.6}),
    }
    found = compare_across(named)
    by_name = {arm.arm: arm for arm in found.arms}
    values = {
        name: [score.value if score else None for score in arm.scores]
        for name, arm in by_name.items()
    }
    assert values[PROBE] == [0.8, 0.7]
    assert values[TUNED] == [0.9, 0.75]
    assert values[KNN] == [None, 0.6]
    assert values["best probe"] == [0.8, 0.7]
    assert by_name["best probe"].chosen
    assert "best fine-tune" not in values


def test_choice_made_of_several_arms_stands_in_the_row_of_choices_alone() -> None:
    named = {"a": comparison(), "b": comparison()}
    made = summary("best probe", 0.82, chosen={PROBE: 4, KNN: 6})
    named["a"] = replace(
        named["a"],
        arms=(made, *named["a"].arms),
        selections=(Selection("probe", "best probe", {PROBE: 4, KNN: 6}),),
    )
    rows = [arm for arm in compare_across(named).arms if arm.arm == "best probe"]
    assert len(rows) == 1
    assert [score.value if score else None for score in rows[0].scores] == [0.82, 0.8]


def test_eight_data_sets_are_ranked_without_baselines() -> None:
    named = many(8)
    found = compare_across(named)
    ranks = found.ranks
    assert ranks is not None
    assert ranks.arms == (PROBE, KNN, TUNED, "resnet18.a1_in1k@0f3a2b1c+extra0")
    table = [
        [each.arm(arm).metrics["balanced_accuracy"].value for arm in ranks.arms]
        for each in named.values()
    ]
    assert ranks.friedman.f == friedman(table).f
    np.testing.assert_array_equal(ranks.pairs.p_adjusted, wilcoxon_holm(table).p_adjusted)
    by_name = {arm.arm: arm.average_rank for arm in found.arms}
    assert by_name[TUNED] == ranks.friedman.average_ranks.min()
    assert math.isnan(by_name[DUMMY])
    assert math.isnan(by_name["best probe"])
    assert ranks.cliques == ((PROBE, "resnet18.a1_in1k@0f3a2b1c+extra0"),)
    assert "fine-tuned resnet18 has the best average rank" in found.verdict
    assert "is told from all of the 3 others" in found.verdict


def test_rank_one_goes_to_the_lowest_loss() -> None:
    named = {
        f"d{i}": comparison(scores={PROBE: 0.4 + i / 100, TUNED: 0.3 + i / 100}, metric="log_loss")
        for i in range(8)
    }
    ranks = compare_across(named).ranks
    assert ranks is not None
    assert dict(zip(ranks.arms, ranks.friedman.average_ranks, strict=True)) == {PROBE: 2, TUNED: 1}


@pytest.mark.parametrize(
    ("n", "told"),
    [
        (3, "cannot give a p-value below 0.25, and so finds nothing at 0.05"),
        (5, "cannot give a p-value below 0.0625, and so finds nothing at 0.05"),
        (6, "below 0.0312, which leaves no room to adjust for more than 1 pair"),
        (7, "below 0.0156, which leaves no room to adjust for more than 3 pairs"),
    ],
)
def test_below_eight_data_sets_ranks_are_left_out_with_the_reason(n: int, told: str) -> None:
    found = compare_across(many(n))
    assert found.ranks is None
    assert "By rank" not in found.verdict
    assert next(note for note in found.notes if "by rank" in note).startswith(
        "Arms are compared by rank from 8 data sets on"
    )
    assert told in " ".join(found.notes)


def test_arms_that_some_data_set_lacks_are_not_ranked() -> None:
    named = many(9)
    first = next(iter(named))
    named[first] = replace(
        named[first], arms=tuple(a for a in named[first].arms if not a.arm.endswith("extra0"))
    )
    found = compare_across(named)
    assert found.ranks is not None
    assert found.ranks.arms == (PROBE, KNN, TUNED)
    assert any("1 arm without a score on every data set is not ranked" in n for n in found.notes)


def test_too_many_arms_for_any_pair_to_be_told_apart_is_said() -> None:
    found = compare_across(many(8, n_arms=6))
    assert found.ranks is not None
    assert (found.ranks.pairs.p_adjusted[~np.eye(6, dtype=bool)] > 0.05).all()
    assert any("no pair of 6 arms can be told apart" in note for note in found.notes)
    assert not any("no pair" in note for note in compare_across(many(8)).notes)


def test_one_arm_in_common_is_not_ranked() -> None:
    named = {
        f"d{i}": comparison(scores={PROBE: 0.8, TUNED: 0.8} if i else {PROBE: 0.8, KNN: 0.7},
                            contrasts=() if not i else comparison().contrasts)
        for i in range(8)
    }  # fmt: skip
    found = compare_across(named)
    assert found.ranks is None
    assert any("fewer than two have a score on every data set" in note for note in found.notes)


def test_ranks_without_a_difference_name_no_winner() -> None:
    rng = np.random.default_rng(5)
    named = {
        f"d{i}": comparison(scores={arm: 0.8 + 0.01 * rng.normal() for arm in (PROBE, KNN, TUNED)})
        for i in range(8)
    }
    found = compare_across(named)
    assert found.ranks is not None
    assert found.ranks.friedman.f_p > 0.05
    assert "are not shown to differ (Iman-Davenport p = " in found.verdict
    assert "best average rank" not in found.verdict


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"metric": "accuracy"}, "a declares compare.metric balanced_accuracy and b accuracy"),
        ({"margin": 0.02}, r"compare.margin 0.01 and b 0.02: one mean needs the same in all"),
        ({"margin": 0.0}, "compare.margin 0.01 and b none: one mean"),
        ({"alpha": 0.1}, "compare.alpha 0.05 and b 0.1"),
    ],
)
def test_refuses_different_questions(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ResultsError, match=told):
        compare_across({"a": comparison(), "b": comparison(**changes)})


@pytest.mark.parametrize("named", [{}, {"a": comparison()}])
def test_refuses_fewer_than_two(named: dict[str, Comparison]) -> None:
    with pytest.raises(ResultsError, match="give two or more"):
        compare_across(named)
