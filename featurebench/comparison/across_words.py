"""What several data sets say together, in words: a paragraph and its limits by fixed rules.

The rules: better and worse are said by the outcome of the mean only; what each data set shows on
its own is counted beside it; a spread between data sets is named with where a further one would
lie; where there is no mean or no ranks, that and why is said.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from featurebench.comparison import wording
from featurebench.metrics import GREATER_IS_BETTER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from featurebench.comparison.across_model import Across, Ranks
    from featurebench.comparison.model import Outcome
    from featurebench.stats import RandomEffects

KINDS = {"probe": "frozen probe", "finetune": "fine-tuned network", "baseline": "baseline"}
"""What stands for arms that differ between data sets."""

# In this order data sets are counted by what they show on their own.
_SHOWS: Mapping[Outcome, str] = {
    "better": "better",
    "worse": "worse",
    "equivalent": "practically equal",
    "non-inferior": "not worse by more than the margin",
    "not superior": "not better by more than the margin",
    "not resolved": "not resolved",
    "not claimed": "without a claim",
}
# Longer lists of data sets are counted only.
_NAMED = 4
# With fewer, the interval of the mean is wide whatever the data sets say.
_FEW = 5


def write_across(across: Across, names: Mapping[str, str]) -> str:
    """Write the paragraph: the mean, each data set on its own, their spread, odds, and ranks.

    Parameters
    ----------
    across
        Without its words.
    names
        What arms are called in running text.
    """
    sentences = [
        _headline(across, names),
        _each(across, names),
        _spread(across),
        _by_signed_ranks(across, names),
        _ranking(across, names),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def find_notes(across: Across, min_ranked: int) -> tuple[str, ...]:
    """Say what limits the paragraph and what was left out, one sentence each."""
    notes = [
        f"{e.data_set} is not in the mean: {e.left_out}." for e in across.effects if e.left_out
    ]
    if not across.margin:
        notes.append(
            "No margin was declared (compare.margin), so only better and worse can be said of the "
            "mean."
        )
    if across.mean is not None:
        notes.append(
            "Every data set enters the mean with the less precise of the tests that its claim asks "
            "for, and data sets are taken as independent and as drawn from others like them."
        )
        if across.mean.k < _FEW:
            notes.append(
                f"With {across.mean.k} data sets the interval of the mean rests on "
                f"{_count(across.mean.k - 1, 'degree')} of freedom and is wide for that reason."
            )
    if across.signed_ranks is not None:
        notes.append(
            "The Bayesian signed-rank test takes the difference of every data set as measured, "
            "without its standard error, with a prior that counts half a data set of no "
            "difference; no outcome rests on it."
        )
    notes += _rank_notes(across, min_ranked)
    return tuple(notes)


def fewest_p(n: int) -> float:
    """Give the smallest two-sided p-value of Wilcoxon's signed-rank test on n data sets."""
    return 2.0 ** (1 - n)


def _headline(across: Across, names: Mapping[str, str]) -> str:
    mean, k = across.mean, len(across.data_sets)
    if mean is None:
        used = sum(not effect.left_out for effect in across.effects)
        return (
            f"There is no mean over the {k} data sets: the primary contrast of "
            f"{used or 'none'} can be used, and it takes two."
        )
    first, second = _called(across, names)
    over = f"over {mean.k} data sets" if mean.k == k else f"over {mean.k} of {k} data sets"
    margin = wording.size(across.metric, across.margin)
    answers = {
        "better": f"{first} is better than {second} on average",
        "worse": f"{first} is worse than {second} on average",
        "equivalent": f"{first} and {second} are practically equal on average, within {margin}",
        "non-inferior": f"{first} is not worse than {second} on average by more than {margin}",
        "not superior": f"{first} is not better than {second} on average by more than {margin}",
    }
    unresolved = f"it is not resolved whether {first} or {second} is better on average"
    answer = answers.get(across.outcome, unresolved)
    return f"{wording.capital(over)} {answer}: {_effect(across, mean)}."


def _effect(across: Across, mean: RandomEffects) -> str:
    value, low, high = wording.difference(across.metric, (mean.mean, mean.ci_low, mean.ci_high))
    lower = "" if GREATER_IS_BETTER[across.metric] else ", lower is better"
    return (
        f"{value}{wording.points(across.metric)} {wording.label(across.metric)} "
        f"({wording.level(across.alpha)} CI {low} to {high}; random effects, "
        f"{wording.p_value(mean.p_value, across.alpha)}{lower})"
    )


def _called(across: Across, names: Mapping[str, str]) -> tuple[str, str]:
    """Name both sides of the contrasts in the mean: by arm where it is the same everywhere."""
    used = [effect for effect in across.effects if not effect.left_out]
    sides = ([(e.arm_a, e.kind_a) for e in used], [(e.arm_b, e.kind_b) for e in used])
    first, second = (
        names[side[0][0]] if len({arm for arm, _ in side}) == 1 else f"the {KINDS[str(side[0][1])]}"
        for side in sides
    )
    return first, second


def _each(across: Across, names: Mapping[str, str]) -> str:
    """Count data sets by what each shows on its own, and name those that show something."""
    if across.mean is None:
        return ""
    shown = [effect for effect in across.effects if not effect.left_out]
    parts = []
    for outcome, words in _SHOWS.items():
        which = [effect.data_set for effect in shown if effect.outcome == outcome]
        if not which:
            continue
        told = "" if outcome == "not resolved" or len(which) > _NAMED else wording.listed(which)
        parts.append(f"{words} in {len(which)}" + (f" ({told})" if told else ""))
    if all(effect.outcome == "not resolved" for effect in shown):
        return f"None of the {len(shown)} resolves it on its own."
    return f"Data set by data set {_called(across, names)[0]} is {wording.listed(parts)}."


def _spread(across: Across) -> str:
    mean = across.mean
    if mean is None:
        return ""
    if mean.tau == 0:
        return "Effects differ between data sets by no more than their standard errors explain."
    size = wording.unsigned(across.metric, mean.tau)
    text = (
        f"Effects differ between data sets with a standard deviation of {size} (I² "
        f"{100 * mean.i2:.0f} %, Q test {wording.p_value(mean.q_p, across.alpha)})"
    )
    if math.isnan(mean.prediction_low):
        return f"{text}."
    ends = (mean.prediction_low, mean.prediction_high)
    low, high = wording.difference(across.metric, ends)
    return (
        f"{text}; on one more data set the true difference would lie between {low} and {high}"
        + (f"{wording.points(across.metric)}.")
    )


def _by_signed_ranks(across: Across, names: Mapping[str, str]) -> str:
    """Say how probable it is that the first arm is better, practically equal or worse."""
    found = across.signed_ranks
    if found is None:
        return ""
    margin = wording.size(across.metric, across.margin)
    by = f" by more than {margin}" if across.margin else ""
    parts = [
        f"mostly better{by} with probability {_odds(found.right)}",
        *([f"mostly within {margin} with {_odds(found.rope)}"] if across.margin else []),
        f"mostly worse{by} with {_odds(found.left)}",
    ]
    first, _ = _called(across, names)
    return (
        f"By the Bayesian signed-rank test over {found.n} data sets {first} is, on data sets like "
        f"these, {wording.listed(parts)}."
    )


def _odds(p: float) -> str:
    return wording.probability(p).removeprefix("= ")


def _ranking(across: Across, names: Mapping[str, str]) -> str:
    ranks = across.ranks
    if ranks is None:
        return ""
    result = ranks.friedman
    differ = result.f_p < across.alpha
    found = "differ" if differ else "are not shown to differ"
    test = wording.p_value(result.f_p, across.alpha)
    text = (
        f"By rank over all {result.n} data sets the {len(ranks.arms)} arms that all of them have "
        f"{found} (Iman-Davenport {test})"
    )
    if not differ:
        return f"{text}."
    best = ranks.arms[int(result.average_ranks.argmin())]
    beaten = _told_from(ranks, best, across.alpha)
    rank = float(result.average_ranks.min())
    others = len(ranks.arms) - 1
    which = {0: "none", others: "all"}.get(beaten, str(beaten))
    told = f"and is told from {which} of the {others} others by Wilcoxon's test with Holm"
    return f"{text}: {names[best]} has the best average rank, {rank:.1f}, {told}."


def _told_from(ranks: Ranks, arm: str, alpha: float) -> int:
    return int((ranks.pairs.p_adjusted[ranks.arms.index(arm)] < alpha).sum())


def _rank_notes(across: Across, min_ranked: int) -> list[str]:
    n = len(across.data_sets)
    if across.ranks is None:
        if n < min_ranked:
            return [
                f"Arms are compared by rank from {min_ranked} data sets on: "
                f"{_too_few(n, across.alpha)}."
            ]
        return ["Arms are not compared by rank: fewer than two have a score on every data set."]
    notes = []
    absent = [
        arm.arm
        for arm in across.arms
        if not arm.chosen and arm.kind != "baseline" and arm.arm not in across.ranks.arms
    ]
    if absent:
        notes.append(
            f"{_count(len(absent), 'arm')} without a score on every data set "
            f"{'is' if len(absent) == 1 else 'are'} not ranked."
        )
    k = len(across.ranks.arms)
    least = fewest_p(n) * k * (k - 1) / 2
    if least >= across.alpha:
        notes.append(
            f"With {n} data sets no pair of {k} arms can be told apart: after Holm the smallest "
            f"p-value that Wilcoxon's test can give is {min(1.0, least):.2g}."
        )
    return notes


def _too_few(n: int, alpha: float) -> str:
    least = fewest_p(n)
    text = f"with {n} data sets Wilcoxon's test cannot give a p-value below {least:.3g}"
    if least >= alpha:
        return f"{text}, and so finds nothing at {alpha:g}"
    room = math.ceil(alpha / least) - 1
    return f"{text}, which leaves no room to adjust for more than {_count(room, 'pair')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
