"""The verdict: a paragraph that follows from the numbers by fixed rules.

The rules: an arm is called better or worse only with its difference, interval and adjusted
p-value; what was not shown is called not resolved, with what the data leave open; a reference
that is not shown to be above chance is never called enough.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from featurebench.comparison import wording
from featurebench.metrics import GREATER_IS_BETTER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featurebench.comparison.design import Design
    from featurebench.comparison.model import ArmSummary, Comparison, Contrast

# So many fine-tuned networks have a sentence each, and so many arms are named in one.
_OWN_SENTENCES, _NAMES = 4, 8
NOUNS = {"probe": "frozen probe", "finetune": "fine-tuned network", "baseline": "baseline"}


def write_verdict(design: Design, comparison: Comparison) -> str:
    """Write the paragraph: answer, setting, the reference's score, then each other arm.

    Arms of another kind than the reference (fine-tuned networks, where it is a probe) have a
    sentence each if they are few; many of them, and arms of its own kind, share sentences by
    outcome. Arms are called as the comparison calls them.
    """
    reference = comparison.arm(comparison.reference)
    kinds = {arm.arm: arm.kind for arm in comparison.arms}
    tested = [c for c in comparison.contrasts if kinds[c.arm_a] != "baseline"]
    across = [c for c in tested if kinds[c.arm_a] != reference.kind]
    alike = [c for c in tested if kinds[c.arm_a] == reference.kind]
    sentences = [
        headline(comparison, across),
        _setting(design, {arm.n_repeats for arm in comparison.arms}),
        _reference_score(comparison, reference, design.unit),
        *_across_sentences(across, comparison),
        *_shared_sentences(alike, comparison.alpha, "other probes"),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def headline(comparison: Comparison, across: Sequence[Contrast]) -> str:
    """Answer the question in one sentence, as far as the contrasts answer it."""
    reference = comparison.arm(comparison.reference)
    if not comparison.contrasts:
        return "Only one arm was run, so nothing is compared."
    if reference.kind != "probe":
        return f"All arms are compared with {reference.arm}, a {NOUNS[reference.kind]}."
    if not across:
        return "No network was fine-tuned, so this compares frozen probes only."
    return _answer(comparison, across, above_chance(comparison, reference))


def _answer(comparison: Comparison, tuned: Sequence[Contrast], learnt: bool | None) -> str:
    n_better = sum(c.outcome == "better" for c in tuned)
    most = [_largest_gain(c) for c in tuned]
    probe = f"the frozen probe ({comparison.reference})"
    if n_better:
        which = "" if n_better == len(tuned) else f" in {n_better} of {len(tuned)} arms"
        answer = f"On this cohort fine-tuning is better than {probe}{which}."
    elif learnt is False:
        answer = (
            f"Nothing was shown to be learnt by {probe}, so this cohort does not resolve whether "
            "it is enough."
        )
    elif all(c.outcome == "worse" for c in tuned):
        answer = f"On this cohort fine-tuning is worse than {probe}."
    elif all(gain <= comparison.margin for gain in most):
        answer = _enough(comparison, max(most))
    else:
        answer = f"This cohort does not resolve whether fine-tuning is better than {probe}."
    return answer


def above_chance(comparison: Comparison, arm: ArmSummary) -> bool | None:
    """Whether an arm's interval lies on the better side of the baseline's score.

    Returns None where there is no baseline other than the arm, or no score to hold against it.
    """
    baseline = find_baseline(comparison)
    score, name = arm.metrics[comparison.metric], comparison.metric
    if baseline is None or baseline.arm == arm.arm or math.isnan(baseline.metrics[name].value):
        return None
    if math.isnan(score.ci_low):
        return None
    chance = baseline.metrics[name].value
    return score.ci_low > chance if GREATER_IS_BETTER[name] else score.ci_high < chance


def find_baseline(comparison: Comparison) -> ArmSummary | None:
    """Return the first baseline arm, which predicts without looking at the tiles."""
    return next((arm for arm in comparison.arms if arm.kind == "baseline"), None)


def contrast_sentence(contrast: Contrast, margin: float, alpha: float) -> str:
    """Say what one contrast shows, what it leaves open and what it costs."""
    effect = wording.effect(contrast, alpha)
    if contrast.outcome == "not resolved":
        text = (
            f"Whether {contrast.arm_a} is better than {contrast.arm_b} is not resolved: the "
            f"difference is {effect}{_left_open(contrast)}."
        )
    else:
        arm = wording.opening(contrast.arm_a)
        text = f"{arm} is {contrast.outcome} than {contrast.arm_b}: {effect}."
    if contrast.within_margin:
        size = wording.unsigned(contrast.metric, margin)
        text += f" That interval lies inside the margin of {size} either way."
    if math.isnan(contrast.cost_ratio):
        return text
    ratio = wording.times(contrast.cost_ratio)
    return f"{text} It takes {ratio} the wall-clock time, extraction included."


def _enough(comparison: Comparison, most: float) -> str:
    margin = wording.unsigned(comparison.metric, comparison.margin)
    gain = (
        f"at most {wording.unsigned(comparison.metric, most)} is gained by fine-tuning"
        if most > 0
        else "no gain from fine-tuning is left open"
    )
    return (
        f"On this cohort the frozen probe ({comparison.reference}) is enough to within the margin "
        f"of {margin}: by the bootstrap interval and that of the test, {gain}."
    )


def _largest_gain(contrast: Contrast) -> float:
    """Upper end of the gain in the interval or in that of the test, whichever is larger."""
    by_test = wording.as_gains(contrast.metric, contrast.test_ci_low, contrast.test_ci_high)[1]
    by_interval = wording.as_gains(contrast.metric, contrast.ci_low, contrast.ci_high)[1]
    return float("nan") if math.isnan(by_test) else max(by_interval, by_test)


def _setting(design: Design, run: set[int]) -> str:
    n_repeats = len(design.test_fold)
    tiles = f"{len(design.rows(0))} tiles"
    tested = tiles if design.unit == "tiles" else f"{tiles} of {design.n_units} patients"
    if design.n_folds == 1:
        plan = "in one test set" if n_repeats == 1 else f"in {n_repeats} test sets"
        return f"Every arm was tested on {tested} {plan}."
    grouped = ", grouped by patient" if design.grouped else ""
    some = wording.listed([str(n) for n in sorted(run)], "or")
    repeats = "" if run == {1} else f" with {some} repeats"
    return f"Every arm was tested on {tested} in the same {design.n_folds} folds{repeats}{grouped}."


def _reference_score(comparison: Comparison, reference: ArmSummary, unit: str) -> str:
    metric = comparison.metric
    value = wording.score(metric, reference.metrics[metric], comparison.alpha, unit)
    text = f"The reference, {reference.arm}, has a {wording.label(metric)} of {value}"
    baseline, learnt = find_baseline(comparison), above_chance(comparison, reference)
    if baseline is None or learnt is None:
        return f"{text}."
    chance = wording.plain(metric, baseline.metrics[metric].value) + wording.unit_of_score(metric)
    side = "better than" if learnt else "not shown to be better than"
    return f"{text}, {side} the {chance} of {baseline.arm}."


def _left_open(contrast: Contrast) -> str:
    low, high = wording.as_gains(contrast.metric, contrast.ci_low, contrast.ci_high)
    if math.isnan(low):
        return ""
    least, most = (wording.gain_or_loss(contrast.metric, gain) for gain in (low, high))
    open_range = f"; the data are compatible with {least} up to {most}"
    one_sided = low > 0 or high < 0
    if one_sided and not math.isnan(contrast.p_adjusted):
        return f"{open_range}, but the test over folds does not bear that out"
    return open_range


def _across_sentences(contrasts: Sequence[Contrast], comparison: Comparison) -> list[str]:
    if len(contrasts) > _OWN_SENTENCES:
        return _shared_sentences(contrasts, comparison.alpha, "fine-tuned networks")
    return [contrast_sentence(c, comparison.margin, comparison.alpha) for c in contrasts]


def _shared_sentences(contrasts: Sequence[Contrast], alpha: float, kind: str) -> list[str]:
    sentences = [
        f"{wording.opening(c.arm_a)} is {c.outcome} than the reference: {wording.effect(c, alpha)}."
        for c in contrasts
        if c.outcome != "not resolved"
    ]
    unresolved = [c.arm_a for c in contrasts if c.outcome == "not resolved"]
    if len(unresolved) > _NAMES:
        count = f"{len(unresolved)} of the {len(contrasts)} {kind}"
        sentences.append(f"The data do not resolve {count} against the reference.")
    elif unresolved:
        names = wording.listed(unresolved, "or")
        sentences.append(f"The data do not resolve {names} against the reference.")
    return sentences
