"""Sentences on the contrasts that the verdict leaves out, grouped by what was shown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from featurebench.comparison import wording

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featurebench.comparison.model import Comparison, Contrast, Outcome

# So many arms are named in one sentence; of more, their number is given.
_NAMES = 8
_LEADS: dict[Outcome, str] = {
    "better": "Better",
    "worse": "Worse",
    "equivalent": "Equivalent to within the margin of {margin}",
    "non-inferior": "Non-inferior within the margin of {margin}",
    "not superior": "Not better by more than the margin of {margin}",
}


def other_sentences(comparison: Comparison) -> tuple[str, ...]:
    """Say what was shown of every arm but the primary one and the baselines.

    Arms are called as the comparison calls them. First comes what they are held against and how;
    then a sentence for each outcome. () where there is no such arm.
    """
    kinds = {arm.arm: arm.kind for arm in comparison.arms}
    rest = [c for c in comparison.contrasts if not c.primary and kinds[c.arm_a] != "baseline"]
    if not rest:
        return ()
    found = [_lead(comparison, rest)]
    for outcome, lead in _LEADS.items():
        named = [_with_numbers(c, comparison) for c in rest if c.outcome == outcome]
        if named:
            margin = wording.size(comparison.metric, comparison.margin)
            found.append(f"{lead.format(margin=margin)}: {'; '.join(named)}.")
    untested = {c.arm_a: wording.untested(c) for c in rest if c.outcome == "not resolved"}
    for phrase, names in (
        ("Not resolved", [arm for arm, why in untested.items() if not why]),
        *(
            (f"Not resolved ({why})", [arm for arm in untested if untested[arm] == why])
            for why in sorted(set(untested.values()) - {""})
        ),
        ("Not claimed", [c.arm_a for c in rest if c.outcome == "not claimed"]),
    ):
        if len(names) > _NAMES:
            found.append(f"{phrase}: {len(names)} of the {len(rest)} arms.")
        elif names:
            found.append(f"{phrase}: {wording.listed(names)}.")
    return tuple(found)


def _lead(comparison: Comparison, rest: Sequence[Contrast]) -> str:
    n_arms = "One further arm is" if len(rest) == 1 else f"{len(rest)} further arms are"
    text = f"{n_arms} held against {comparison.reference} in {wording.label(comparison.metric)}"
    tests = "the largest p-value of the tests that a claim asks for"
    n_tested = sum(not c.primary and math.isfinite(c.p_value) for c in comparison.contrasts)
    if n_tested > 1:
        tests += f", adjusted for {n_tested} contrasts by Holm's method"
    return f"{text}, by {tests}."


def _with_numbers(contrast: Contrast, comparison: Comparison) -> str:
    numbers = wording.short_evidence(contrast, comparison.alpha)
    if (
        contrast.outcome in {"better", "worse"}
        and comparison.margin
        and (contrast.relevance != "open")
    ):
        numbers += f", {contrast.relevance}"
    return f"{contrast.arm_a} ({numbers})"
