"""The verdict: one paragraph that follows from the numbers by fixed rules.

The rules: better and worse are said by outcome only, with difference, intervals and both p-values;
a difference is called larger or smaller than the margin only where all intervals say so; what was
not shown is called not shown, with what would have been; a probe that is not shown to be above the
baseline and the declared floor is never called enough, nor one that was held against a fine-tune
which was not given alike, and of two arms that learnt nothing neither wins; scores and costs are
those of the repeats of the difference; where nothing may be claimed, that and why come first.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from featurebench.comparison import wording
from featurebench.comparison.claims import tests_of
from featurebench.comparison.enough import floor_met, not_enough
from featurebench.comparison.training import describe, handicaps, sizes_of, trainings
from featurebench.metrics import GREATER_IS_BETTER, chance_level

if TYPE_CHECKING:
    from collections.abc import Mapping

    from featurebench.comparison.design import Design
    from featurebench.comparison.model import ArmSummary, Comparison, Contrast, Selection
    from featurebench.results import Cost

NOUNS = {"probe": "frozen probe", "finetune": "fine-tuned network", "baseline": "baseline"}
_ALL = "for all candidates"
# What a guess scores in these does not depend on how frequent the classes are.
_GUESSED = {"balanced_accuracy", "recall", "roc_auc", "kappa", "mcc"}
# With these, what a larger cohort could show is of no interest.
_SETTLED = {"better", "worse", "equivalent", "not superior", "not claimed"}


def write_verdict(design: Design, comparison: Comparison) -> str:
    """Write the paragraph on the primary contrast: answer, numbers, what is open, cost.

    Arms are called as the comparison calls them. Other contrasts have sentences of their own, see
    `featurebench.comparison.others.other_sentences`.
    """
    primary = comparison.primary
    sentences = [headline(design, comparison)]
    if primary is None and not comparison.barred:
        sentences.append(_score(comparison, comparison.arm(comparison.reference)))
    elif primary is not None:
        sentences += [
            *_numbers(comparison, primary),
            _cost(comparison, primary),
        ]
    return " ".join(sentence for sentence in sentences if sentence)


def add_turning(verdict: str, sentence: str) -> str:
    """Add where fine-tuning overtakes, which the learning curves tell and not the comparison."""
    return f"{verdict} {sentence}" if sentence else verdict


def headline(design: Design, comparison: Comparison) -> str:
    """Answer the question in one sentence, as far as the primary contrast answers it."""
    if comparison.barred:
        reasons = "; ".join(reason[0].lower() + reason[1:-1] for reason in comparison.barred)
        return f"Nothing is claimed from this comparison: {reasons}."
    reference = comparison.arm(comparison.reference)
    if not comparison.contrasts:
        return "Only one arm was run, so nothing is compared."
    if comparison.primary is not None:
        return _answer(comparison, comparison.primary, _where(design))
    if reference.kind == "probe":
        return "No network was fine-tuned, so this compares frozen probes only."
    if reference.kind == "finetune":
        return "No frozen probe was run, so this compares fine-tuned networks only."
    return f"All arms are held against {reference.arm}, a {NOUNS[reference.kind]}."


def above_chance(comparison: Comparison, arm: ArmSummary) -> bool | None:
    """Whether an arm's interval lies on the better side of the baseline's score and of a guess.

    It is held against them in what is compared where that tells classes apart, and else in ROC
    AUC: probabilities that are too sure have a worse loss than none although they rank well.

    Returns None where there is no baseline other than the arm, or no score to hold against it, or
    the score is better but has no interval, as where every tile is called right.
    """
    baseline, name = find_baseline(comparison), _chance_metric(comparison.metric)
    if baseline is None or baseline.arm == arm.arm:
        return None
    score, (chance, _) = arm.metrics[name], _chance(baseline, name)
    if math.isnan(score.value) or math.isnan(chance):
        return None
    if math.isnan(score.ci_low):
        return None if score.value > chance else False
    return score.ci_low > chance


def _chance(baseline: ArmSummary, metric: str) -> tuple[float, str]:
    """Give the larger of a baseline's score and what a guess scores, and whose it is.

    On small cohorts a baseline that predicts the shares of the training side falls below chance in
    cross-validation, since a class that is frequent there is rare in the test fold.
    """
    value = baseline.metrics[metric].value
    whom = "the dummy" if baseline.arm == "dummy" else baseline.arm
    guess = chance_level(metric, len(baseline.confusion))
    return (guess, "a guess") if metric in _GUESSED and value < guess else (value, whom)


def find_baseline(comparison: Comparison) -> ArmSummary | None:
    """Return the first baseline arm, which predicts without looking at the tiles."""
    return next((arm for arm in comparison.arms if arm.kind == "baseline"), None)


def selection_of(comparison: Comparison, arm: ArmSummary) -> Selection | None:
    """Return the choice on inner folds that this arm came out of; None where there was none."""
    several = sum(each.kind == arm.kind and not each.chosen for each in comparison.arms) > 1
    found = (each for each in comparison.selections if each.arm == arm.arm and each.chosen)
    return next(found, None) if several else None


def enough_allowed(comparison: Comparison, contrast: Contrast) -> tuple[bool, str]:
    """Decide whether a probe that is shown to keep up may be called enough.

    Returns
    -------
    tuple
        Whether it may, and why not: clauses to follow on "since"; empty where it may.
    """
    reasons = handicaps(comparison, contrast)
    return not reasons, ", and ".join(reasons)


def _answer(comparison: Comparison, contrast: Contrast, where: str) -> str:
    """Say what the primary contrast shows; one of its arms is a probe, the other is fine-tuned."""
    probe, margin = _probe_of(comparison, contrast), _margin(comparison)
    who, than = (_noun(comparison, contrast, name) for name in (contrast.arm_a, contrast.arm_b))
    frozen, tuned = (who, than) if contrast.arm_a == probe.arm else (than, who)
    if math.isnan(contrast.difference):
        name = wording.label(comparison.metric)
        return f"Nothing is shown {where}: the difference in {name} is undefined."
    learnt = [above_chance(comparison, comparison.arm(n)) for n in (contrast.arm_a, contrast.arm_b)]
    if learnt == [False, False]:
        answer = f"nothing was shown to be learnt {where}, neither by {tuned} nor by {frozen}"
    elif contrast.outcome in {"better", "worse"}:
        by = _relevance(contrast, margin) if comparison.margin else ""
        answer = f"{where} {who} is {contrast.outcome} than {than}{by}"
    elif above_chance(comparison, probe) is False:
        answer = (
            f"nothing was shown to be learnt by {frozen} {where}, so it is not shown to be enough"
        )
    elif contrast.outcome in {"equivalent", "not superior" if than == frozen else "non-inferior"}:
        answer = f"{where} {_keeps_up(comparison, contrast, frozen, tuned)}"
    elif contrast.outcome in {"non-inferior", "not superior"}:
        answer = (
            f"{where} {tuned} is non-inferior to {frozen} within the margin of {margin}, and not "
            "shown to be better"
        )
    else:
        why = wording.untested(contrast)
        answer = f"{where} {who} is not shown to be better than {than}, nor worse"
        answer += f": {why}" if why else ""
    return f"{wording.capital(answer)}."


def _keeps_up(comparison: Comparison, contrast: Contrast, frozen: str, tuned: str) -> str:
    """Say that a probe is equivalent or non-inferior, and enough where that may be said."""
    within = f"within the margin of {_margin(comparison)}"
    allowed, why = enough_allowed(comparison, contrast)
    is_equivalent = contrast.outcome == "equivalent"
    if not allowed:
        how = "to which it is equivalent" if is_equivalent else "which is non-inferior to it"
        return (
            f"{tuned} was not better than {frozen}, {how} {within}; that does not show the probe "
            f"to be enough, since {why}"
        )
    short = not_enough(comparison, _probe_of(comparison, contrast).arm)
    if short:
        how = "equivalent" if is_equivalent else "non-inferior"
        return f"{frozen} is {how} to {tuned} {within}{short}"
    how = f"{tuned} is equivalent to it" if is_equivalent else f"it is non-inferior to {tuned}"
    return f"{frozen} is enough to {within}: {how}, and it lies {floor_met(comparison)}"


def _relevance(contrast: Contrast, margin: str) -> str:
    return {
        "beyond the margin": f", by more than the margin of {margin}",
        "within the margin": f", but by less than the margin of {margin}",
        "open": f"; whether by more than the margin of {margin} is open",
    }[contrast.relevance]


def _numbers(comparison: Comparison, contrast: Contrast) -> list[str]:
    if comparison.barred:
        return [_as_measured(comparison, contrast)]
    return [
        _measured(comparison, contrast),
        _score(comparison, _probe_of(comparison, contrast), contrast.n_repeats),
        _could_show(comparison, contrast),
    ]


def _as_measured(comparison: Comparison, contrast: Contrast) -> str:
    """Give the bare difference: where nothing may be claimed, no interval or p-value holds.

    With one test set as the only reason, the interval over patients holds for the fitted models.
    """
    if math.isnan(contrast.difference):
        return ""
    change = f"{contrast.arm_a} {wording.change(contrast)} {contrast.arm_b}"
    one_set = contrast.rule == "patients alone" and len(comparison.barred) == 1
    if one_set and not math.isnan(contrast.ci_low):
        interval = wording.interval(contrast, comparison.alpha)
        return (
            f"As measured, {change} ({interval} over {contrast.by_patients.unit}, for these fitted "
            "models on other patients, not for training again)."
        )
    return f"As measured, {change}; no interval or p-value holds for that."


def _measured(comparison: Comparison, contrast: Contrast) -> str:
    arm_a = comparison.arm(contrast.arm_a)
    subject, choice = wording.opening(contrast.arm_a), selection_of(comparison, arm_a)
    if arm_a.chosen and choice is not None:
        subject += f" ({_counts(choice.chosen)})"
    if math.isnan(contrast.difference):
        return ""
    numbers = [
        wording.evidence(contrast, comparison.alpha),
        wording.odds(contrast, comparison.margin),
        _equivalence(comparison, contrast),
    ]
    shown = "; ".join(each for each in numbers if each)
    return f"{subject} {wording.change(contrast)} {contrast.arm_b} ({shown})."


def _equivalence(comparison: Comparison, contrast: Contrast) -> str:
    if contrast.outcome != "equivalent":
        return ""
    p = wording.p_value(max(test.p_equivalent for test in tests_of(contrast)), comparison.alpha)
    return f"two one-sided tests against {_margin(comparison)} either way {p}"


def _score(comparison: Comparison, arm: ArmSummary, n_repeats: int | None = None) -> str:
    """Give the score of the probe, how it came to be the one, and that of the baseline.

    ``n_repeats`` are those that the scores are of; None for all that the arm has.
    """
    metric, score = comparison.metric, arm.metrics[comparison.metric]
    name, value = "The probe", wording.score(metric, score, comparison.alpha)
    if comparison.primary is None:
        name, value = wording.opening(arm.arm), f"{value} in {wording.label(metric)}"
    text = f"{name}{_origin(comparison, arm)} scores {value}"
    if n_repeats is not None and n_repeats < arm.n_repeats:
        text += f" in {_repeats(n_repeats)}"
    baseline, learnt = find_baseline(comparison), above_chance(comparison, arm)
    if baseline is None or learnt is None:
        return f"{text}."
    name = _chance_metric(metric)
    if name != metric:
        auc = wording.score(name, arm.metrics[name], comparison.alpha)
        text += f"; its {wording.label(name)} is {auc}"
    level, whom = _chance(baseline, name)
    chance = wording.plain(name, level) + wording.unit_of_score(name)
    return f"{text}, {'' if learnt else 'not shown to be '}above the {chance} of {whom}."


def _chance_metric(metric: str) -> str:
    return metric if GREATER_IS_BETTER[metric] else "roc_auc"


def _origin(comparison: Comparison, arm: ArmSummary) -> str:
    choice = selection_of(comparison, arm)
    if choice is not None and len(choice.chosen) == 1:
        return ", chosen on inner folds in every fold,"
    if choice is not None:
        return f", chosen on inner folds ({_counts(choice.chosen)}),"
    return ""


def _counts(chosen: Mapping[str, int]) -> str:
    """Name the two arms that were chosen most often, with how often."""
    n_folds = sum(chosen.values())
    most = sorted(chosen, key=lambda name: -chosen[name])[:2]
    named = [f"{name} in {chosen[name]}" for name in most]
    return f"{' and '.join(named)} of {n_folds} folds"


def _could_show(comparison: Comparison, contrast: Contrast) -> str:
    """Say which true difference would have been found, and how many patients the margin takes."""
    if contrast.outcome in _SETTLED or math.isnan(contrast.detectable):
        return ""
    found = wording.unsigned(contrast.metric, contrast.detectable)
    text = f"With 80 % power this cohort could have shown a difference of {found}"
    low, high = contrast.n_needed_low, contrast.n_needed_high
    if low is None or high is None or not 0 < comparison.margin < contrast.detectable:
        return f"{text}."
    return (
        f"{text}; showing one of {_margin(comparison)}, or ruling it out, would take "
        f"{wording.between(low, high)} patients."
    )


def _cost(comparison: Comparison, contrast: Contrast) -> str:
    """Hold the times of the common repeats together, and the energy where it was counted."""
    if math.isnan(contrast.cost_ratio):
        return ""
    arms = [comparison.arm(name) for name in (contrast.arm_a, contrast.arm_b)]
    costs = [_of_repeats(arm, contrast.n_repeats) for arm in arms]
    times = [wording.duration(cost.wall_s) for cost in costs]
    who = "Fine-tuning" if arms[0].kind == "finetune" else "The probe"
    ratio = wording.times(contrast.cost_ratio)
    much = "as much" if ratio == "1 times" else f"{ratio} the"
    # a choice costs what all that could have been chosen cost
    first, second = (f" {_ALL}" if arm.chosen else "" for arm in arms)
    if first and second:
        first, second = "", f", each {_ALL}"
    shown = f"{times[0]}{first} against {times[1]}{second}"
    if all(cost.cpu_s > 0 for cost in costs):
        busy = [wording.duration(cost.cpu_s) for cost in costs]
        shown += f"; {busy[0]} against {busy[1]} of processor time"
    if any(contrast.n_repeats < arm.n_repeats for arm in arms):
        shown += f"; for {_repeats(contrast.n_repeats)}"
    text = f"{who} takes {much} wall-clock time ({shown})"
    joules = [cost.energy_j for cost in costs]
    if joules[0] is not None:
        against = "" if joules[1] is None else f" against {wording.energy(joules[1])}"
        text += f" and {wording.energy(joules[0])}{against} of GPU energy"
    sizes = sizes_of(comparison, contrast)
    return f"{text}, at {sizes[0]} against {sizes[1]}." if sizes else f"{text}."


def _of_repeats(arm: ArmSummary, n_repeats: int) -> Cost:
    """Cost of an arm's embedding, and of so many of its repeats as their share of all."""
    return arm.extraction_cost + arm.cost.part_of(arm.n_repeats / n_repeats)


def _repeats(n_repeats: int) -> str:
    return "the repeat compared" if n_repeats == 1 else f"the {n_repeats} repeats compared"


def _probe_of(comparison: Comparison, contrast: Contrast) -> ArmSummary:
    arms = [comparison.arm(name) for name in (contrast.arm_b, contrast.arm_a)]
    return next((arm for arm in arms if arm.kind == "probe"), arms[0])


def _noun(comparison: Comparison, contrast: Contrast, name: str) -> str:
    """Call an arm by what it stands for: the best of its kind only where it was chosen as that.

    A fine-tune that was not given alike stands for itself alone, not for fine-tuning.
    """
    arm = comparison.arm(name)
    was_chosen = selection_of(comparison, arm) is not None
    if arm.kind == "probe":
        return "the best frozen probe" if was_chosen else "the frozen probe"
    if handicaps(comparison, contrast):
        told = ", ".join(describe(trainings(comparison, arm)).values())
        return f"this fine-tune ({told})" if told else "this fine-tune"
    alone = sum(each.kind == arm.kind for each in comparison.arms) == 1
    return "fine-tuning" if was_chosen or alone else arm.arm


def _margin(comparison: Comparison) -> str:
    return wording.size(comparison.metric, comparison.margin)


def _where(design: Design) -> str:
    if design.unit == "tiles":
        return f"on these {design.n_units} tiles"
    if design.unit == "patients":
        return f"on this cohort of {design.n_units} patients"
    return f"on this cohort of {design.n_members} patients in {design.n_units} {design.unit}"
