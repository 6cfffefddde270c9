"""What arms were given to learn with: read from runs, told in words, and where it bars a claim."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from comparison_cases import Cohort, arm, draw_results
from verdict_cases import (
    DESIGN,
    PROBE,
    TUNED,
    make_comparison,
    make_contrast,
    with_arm,
)

from featurebench.comparison import compare
from featurebench.comparison.caveats import SLOW_FOLD
from featurebench.comparison.model import Outcome, Selection
from featurebench.comparison.naming import in_words
from featurebench.comparison.training import Training, describe, handicaps, is_cut
from featurebench.comparison.verdict import enough_allowed, write_verdict

if TYPE_CHECKING:
    from featurebench.comparison import Comparison

FAIR = Training("net", 224, 30, n_watched=15, n_cut=2, slowest=1.2)
SMALL = replace(FAIR, image_size=64, epochs=3, n_cut=0)
CUT = replace(FAIR, n_cut=12)
FROZEN = Training("net", 224)


def _given(
    tuned: Training, frozen: Training = FROZEN, *, outcome: Outcome = "not superior", **more: Any
) -> Comparison:
    contrast = make_contrast((-0.016, -0.004, 0.006), outcome=outcome, **more)
    comparison = make_comparison(contrast)
    probe, fine_tune, dummy = comparison.arms
    arms = (replace(probe, training=frozen), replace(fine_tune, training=tuned), dummy)
    return replace(comparison, arms=arms)


def _fold(epochs: int, best: int, **more: Any) -> dict[str, Any]:
    told = {"epochs": epochs, "best_epoch": best, "n_validation": 20, "n_train": 80, "seconds": 8.0}
    return {**told, **more}


def _run(folds: list[dict[str, Any]], **params: Any) -> Any:
    tuned = arm(
        "net+full",
        "finetune",
        extra={
            "params": {"model": "net.a1", "image_size": 64, "epochs": 3, **params},
            "details": {"folds": folds},
        },
    )
    return draw_results([tuned]).runs[0]


class TestReading:
    def test_a_fine_tune_tells_size_epochs_and_whether_it_was_cut(self) -> None:
        run = _run([_fold(3, 3), _fold(3, 3), _fold(3, 2, seconds=16.0)])
        assert Training.of(run) == Training("net", 64, 3, n_watched=3, n_cut=2, slowest=2.0)

    def test_folds_without_validation_tiles_tell_nothing_of_a_best_epoch(self) -> None:
        found = Training.of(_run([_fold(3, 3, n_validation=0)] * 3))
        assert (found.n_watched, found.n_cut) == (0, 0)
        assert not is_cut([found])

    def test_seconds_are_held_together_by_tile_and_epoch(self) -> None:
        steady = [_fold(2, 1, n_train=40, seconds=8.0), _fold(4, 1, n_train=80, seconds=32.0)]
        assert Training.of(_run(steady)).slowest == pytest.approx(1.0)

    def test_a_probe_tells_the_size_that_it_reads(self) -> None:
        probe = arm("net+logistic", extra={"provenance": {"image_size": 224}})
        assert Training.of(draw_results([probe]).runs[0]) == Training("net", 224)

    def test_what_was_not_recorded_is_unknown(self) -> None:
        found = Training.of(draw_results([arm("net+full", "finetune")]).runs[0])
        assert (found.network, found.image_size, found.epochs) == ("", None, None)
        assert math.isnan(found.slowest)


class TestWords:
    def test_sizes_and_epochs_have_their_ranges(self) -> None:
        assert describe([SMALL]) == {"image_size": "64 px", "epochs": "3 epochs"}
        both = describe([SMALL, replace(FAIR, epochs=3)])
        assert both == {"image_size": "64 to 224 px", "epochs": "3 epochs"}
        assert describe([Training(epochs=1)]) == {"epochs": "1 epoch"}
        assert describe([Training()]) == {}

    @pytest.mark.parametrize(
        ("training", "name"),
        [
            (SMALL, "fine-tuned net (64 px, 3 epochs)"),
            (CUT, "fine-tuned net (224 px, 30 epochs, still improving)"),
            (Training("net", 64, 1, 15, 15), "fine-tuned net (64 px, 1 epoch)"),
            (Training(), "fine-tuned net"),
        ],
    )
    def test_a_fine_tunes_name_says_what_it_was_given(self, training: Training, name: str) -> None:
        assert in_words(_given(training)).arms[1].arm == name

    def test_what_is_varied_is_not_told_twice(self) -> None:
        comparison = with_arm(
            make_comparison(), f"{TUNED},epochs=3", "finetune", strategy="full", training=SMALL
        )
        assert in_words(comparison).arms[-1].arm == "fine-tuned net (epochs 3, 64 px)"


class TestEnough:
    def test_arms_that_were_given_alike_allow_it(self) -> None:
        comparison = in_words(_given(FAIR))
        assert enough_allowed(comparison, comparison.contrasts[0]) == (True, "")
        assert "the frozen probe is enough to within the margin" in _text(comparison)

    @pytest.mark.parametrize(
        ("tuned", "frozen", "why"),
        [
            (SMALL, FROZEN, "it was trained on tiles of 64 px and the probe reads 224 px"),
            (CUT, FROZEN, "the last epoch that it was allowed was the best one in 12 of 15 folds"),
            (FAIR, replace(FROZEN, network="vit"), "net was fine-tuned and the probe reads vit"),
        ],
    )
    @pytest.mark.parametrize("outcome", ["not superior", "equivalent"])
    def test_other_arms_leave_a_sentence_on_this_fine_tune(
        self, tuned: Training, frozen: Training, why: str, outcome: Outcome
    ) -> None:
        comparison = in_words(_given(tuned, frozen, outcome=outcome))
        text = _text(comparison)
        assert "is enough" not in text
        told = ", ".join(describe([tuned]).values())
        assert f"this fine-tune ({told}) was not better than the frozen probe" in text
        assert f"that does not show the probe to be enough, since {why}." in text
        assert enough_allowed(comparison, comparison.contrasts[0]) == (False, why)

    def test_either_side_is_told_from_its_own(self) -> None:
        comparison = _given(SMALL)
        (contrast,) = comparison.contrasts
        turned = replace(contrast, arm_a=PROBE, arm_b=TUNED)
        assert handicaps(comparison, turned) == handicaps(comparison, contrast) != []

    @pytest.mark.parametrize("outcome", ["better", "worse", "not resolved", "non-inferior"])
    def test_a_fine_tune_that_was_not_given_alike_never_stands_for_fine_tuning(
        self, outcome: Outcome
    ) -> None:
        first = _text(in_words(_given(SMALL, outcome=outcome))).partition(". ")[0]
        assert "this fine-tune (64 px, 3 epochs)" in first
        assert "fine-tuning" not in first

    def test_sizes_that_were_not_recorded_bar_nothing(self) -> None:
        comparison = _given(replace(FAIR, image_size=None))
        assert handicaps(comparison, comparison.contrasts[0]) == []

    def test_an_arm_made_of_several_is_judged_by_all_of_them(self) -> None:
        comparison = _given(FAIR, arm_a="best fine-tune")
        comparison = with_arm(comparison, "net.tag+lora", "finetune", training=SMALL)
        chosen = {TUNED: 9, "net.tag+lora": 6}
        comparison = with_arm(comparison, "best fine-tune", "finetune", chosen=chosen)
        choices = (comparison.selections[0], Selection("finetune", "best fine-tune", chosen))
        comparison = replace(comparison, selections=choices)
        text = _text(in_words(comparison))
        assert "this fine-tune (64 to 224 px, 3 to 30 epochs) was not better than" in text


class TestCaveats:
    def test_what_was_not_alike_is_told(self) -> None:
        folds = [_fold(3, 3, repeat=r, fold=f) for r in range(3) for f in range(4)]
        caveats = " | ".join(_compared(folds).caveats)
        assert (
            "The fine-tune of the primary contrast was not given what the probe was given, or not "
            "enough: it was trained on tiles of 64 px and the probe reads 224 px, and the last "
            "epoch that it was allowed was the best one in 12 of 12 folds. So this does not "
            "show what fine-tuning could do." in caveats
        )
        assert "Arms read tiles of 64 and 224 px" in caveats

    def test_other_fine_tunes_that_were_cut_are_named(self) -> None:
        cut = arm(
            "net+lora",
            "finetune",
            extra={"strategy": "lora"} | _recorded([_fold(3, 3)] * 12, image_size=224),
        )
        caveats = " | ".join(_compared([_fold(9, 3)] * 12, cut, image_size=224).caveats)
        assert (
            "In most folds of fine-tuned net (lora, 224 px, 3 epochs, still improving)" in caveats
        )
        assert "not given" not in caveats

    @pytest.mark.parametrize(("factor", "told"), [(SLOW_FOLD - 0.1, False), (26.8, True)])
    def test_folds_that_took_much_longer_are_told(self, factor: float, told: bool) -> None:
        folds = [_fold(9, 3) for _ in range(11)] + [_fold(9, 3, seconds=8 * factor)]
        caveats = " | ".join(_compared(folds, image_size=224).caveats)
        assert ("A tile took up to 27 times as long in one fold" in caveats) == told

    def test_fair_arms_have_none_of_them(self) -> None:
        caveats = " | ".join(_compared([_fold(9, 3)] * 12, image_size=224).caveats)
        for each in ("not given", "Arms read tiles", "last epoch", "as long in one fold"):
            assert each not in caveats


def _recorded(folds: list[dict[str, Any]], **params: Any) -> dict[str, Any]:
    settings = {"model": "net.tag", "image_size": 64, "epochs": 3, **params}
    return {"params": settings, "details": {"folds": folds}}


def _compared(folds: list[dict[str, Any]], *others: Any, **params: Any) -> Comparison:
    probe = arm("net.tag@00000000+logistic", extra={"provenance": {"image_size": 224}})
    tuned = arm("net.tag+full", "finetune", extra=_recorded(folds, **params))
    arms = [probe, tuned, *others, arm("dummy", "baseline")]
    return compare(draw_results(arms, Cohort(n_folds=4)), n_boot=20)


def _text(comparison: Comparison) -> str:
    """Write the verdict."""
    return write_verdict(DESIGN, comparison)
