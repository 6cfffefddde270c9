"""compare_across(): comparisons on several data sets become a mean effect, ranks and a verdict."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from featurebench.comparison.across_model import Across, ArmAcross, DataSetEffect, Ranks
from featurebench.comparison.across_words import KINDS, find_notes, write_across
from featurebench.comparison.claims import Claims, decide, tests_of
from featurebench.comparison.naming import name_arms
from featurebench.errors import ResultsError
from featurebench.metrics import GREATER_IS_BETTER
from featurebench.stats import (
    cliques,
    friedman,
    nemenyi_critical_difference,
    noninferiority,
    random_effects,
    signed_rank_posterior,
    wilcoxon_holm,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featurebench.comparison.model import (
        ArmSummary,
        Comparison,
        Contrast,
        Estimate,
        Evidence,
        Outcome,
    )
    from featurebench.results import ArmKind
    from featurebench.stats import RandomEffects, SignedRankPosterior

MIN_RANKED = 8
"""Data sets from which ranks are compared: below, these tests find next to nothing."""

MIN_SIGNED_RANKS = 3
"""Data sets from which the Bayesian signed-rank test is given: with two, its prior rules."""

_CHOSEN: Mapping[ArmKind, str] = {"probe": "best probe", "finetune": "best fine-tune"}
_NAN = float("nan")


def compare_across(named: Mapping[str, Comparison]) -> Across:
    """Put comparisons on different data sets together.

    The primary contrast of each data set enters a random-effects mean with the larger of the
    standard errors of the tests that its claim asks for; from three data sets on, the Bayesian
    signed-rank test stands beside it. Arms are matched by name. From eight data sets on, the arms
    that all of them have are also compared by their ranks.

    Parameters
    ----------
    named
        Comparisons by the name of their data set. That no patient is in two of them is for the
        caller to see to: a mean takes data sets as independent.

    Returns
    -------
    Across

    Raises
    ------
    ResultsError
        If there are fewer than two, or they do not declare the same metric, margin and alpha.

    References
    ----------
    As `featurebench.stats.random_effects` and `featurebench.stats.friedman`.
    """
    metric, margin, alpha = _declared(named)
    effects = _alike(tuple(_effect(name, each) for name, each in named.items()))
    mean = _mean(effects, alpha)
    effects = _weighed(effects, mean)
    arms = (*_chosen_arms(named), *_named_arms(named))
    ranks = _ranks(arms, alpha, greater_is_better=GREATER_IS_BETTER[metric])
    across = Across(
        metric=metric,
        margin=margin,
        alpha=alpha,
        data_sets=tuple(named),
        effects=effects,
        mean=mean,
        outcome=_outcome(mean, metric, margin, alpha),
        arms=_ranked(arms, ranks),
        ranks=ranks,
        verdict="",
        notes=(),
        signed_ranks=_signed_ranks(effects, metric, margin),
    )
    names = name_arms(_summaries(named))
    return replace(
        across, verdict=write_across(across, names), notes=find_notes(across, MIN_RANKED)
    )


def can_be_ranked(arm: ArmAcross) -> bool:
    """Whether an arm has a score on every data set, and is neither a baseline nor a choice."""
    return (
        not arm.chosen
        and arm.kind != "baseline"
        and all(score is not None and math.isfinite(score.value) for score in arm.scores)
    )


def _declared(named: Mapping[str, Comparison]) -> tuple[str, float, float]:
    if len(named) < 2:
        raise ResultsError(f"{len(named)} data sets: give two or more to compare over them")
    first_name, first = next(iter(named.items()))
    for name, each in named.items():
        for key in ("metric", "margin", "alpha"):
            if getattr(each, key) != getattr(first, key):
                raise ResultsError(
                    f"{first_name} declares compare.{key} {getattr(first, key) or 'none'} and "
                    f"{name} {getattr(each, key) or 'none'}: one mean needs the same in all"
                )
    return first.metric, first.margin, first.alpha


def _effect(name: str, comparison: Comparison) -> DataSetEffect:
    primary = comparison.primary
    if primary is None:
        why = "it has no primary contrast, which takes a frozen probe and a fine-tuned network"
        return DataSetEffect(name, "", "", None, None, None, "not resolved", _NAN, why)
    evidence, why = _least_precise(primary)
    if comparison.barred:
        why = "nothing is claimed from it (" + comparison.barred[0].rstrip(".") + ")"
    return DataSetEffect(
        data_set=name,
        arm_a=primary.arm_a,
        arm_b=primary.arm_b,
        kind_a=comparison.arm(primary.arm_a).kind,
        kind_b=comparison.arm(primary.arm_b).kind,
        evidence=evidence,
        outcome=primary.outcome,
        weight=_NAN,
        left_out=why,
    )


def _least_precise(contrast: Contrast) -> tuple[Evidence, str]:
    """Choose the test with the larger standard error; say why none can be used, if so."""
    tests = tests_of(contrast)
    for test in tests:
        if not (math.isfinite(test.difference) and math.isfinite(test.se) and test.se > 0):
            return test, f"its primary contrast is not estimable over {test.unit}"
    return max(tests, key=lambda test: test.se), ""


def _alike(effects: tuple[DataSetEffect, ...]) -> tuple[DataSetEffect, ...]:
    """Leave out contrasts of other kinds of arms than those of the first data set that has one."""
    kinds = next(((e.kind_a, e.kind_b) for e in effects if not e.left_out), None)
    return tuple(
        effect
        if effect.left_out or (effect.kind_a, effect.kind_b) == kinds
        else replace(
            effect,
            left_out=f"its primary contrast holds a {KINDS[str(effect.kind_a)]} against a "
            f"{KINDS[str(effect.kind_b)]}, unlike that of the first",
        )
        for effect in effects
    )


def _mean(effects: Sequence[DataSetEffect], alpha: float) -> RandomEffects | None:
    used = [effect.evidence for effect in effects if effect.evidence and not effect.left_out]
    if len(used) < 2:
        return None
    return random_effects([e.difference for e in used], [e.se for e in used], alpha=alpha)


def _signed_ranks(
    effects: Sequence[DataSetEffect], metric: str, margin: float
) -> SignedRankPosterior | None:
    """Give the posterior of the signed ranks of all effects in the mean, as gains."""
    used = [effect.evidence for effect in effects if effect.evidence and not effect.left_out]
    if len(used) < MIN_SIGNED_RANKS:
        return None
    side = 1 if GREATER_IS_BETTER[metric] else -1
    return signed_rank_posterior([side * e.difference for e in used], rope=margin)


def _weighed(
    effects: tuple[DataSetEffect, ...], mean: RandomEffects | None
) -> tuple[DataSetEffect, ...]:
    if mean is None:
        return effects
    weights = iter(mean.weights.tolist())
    return tuple(e if e.left_out else replace(e, weight=next(weights)) for e in effects)


def _outcome(mean: RandomEffects | None, metric: str, margin: float, alpha: float) -> Outcome:
    """Decide on the mean as a single contrast is decided on, by its one test."""
    if mean is None:
        return "not resolved"
    greater = GREATER_IS_BETTER[metric]
    gain = mean.mean if greater else -mean.mean
    not_worse, not_better = (
        noninferiority(side * gain, mean.se, mean.k - 1, margin) for side in (1, -1)
    )
    claims = Claims(mean.p_value, max(not_worse, not_better), not_worse, not_better)
    found = decide(claims, mean.mean, alpha=alpha, greater_is_better=greater)
    return found if margin or found in {"better", "worse"} else "not resolved"


def _chosen_arms(named: Mapping[str, Comparison]) -> list[ArmAcross]:
    """Score what was chosen on inner folds, where some data set had several arms to choose from."""
    found = []
    for kind, title in _CHOSEN.items():
        choices = [
            next((each.arm for each in c.selections if each.kind == kind), None)
            for c in named.values()
        ]
        several = any(sum(a.kind == kind for a in c.arms) > 1 for c in named.values())
        if several and any(choices):
            scores = tuple(
                None if arm is None else c.arm(arm).metrics[c.metric]
                for c, arm in zip(named.values(), choices, strict=True)
            )
            found.append(ArmAcross(title, kind, chosen=True, scores=scores, average_rank=_NAN))
    return found


def _named_arms(named: Mapping[str, Comparison]) -> list[ArmAcross]:
    return [
        ArmAcross(
            summary.arm,
            summary.kind,
            chosen=False,
            scores=tuple(_score(each, summary.arm) for each in named.values()),
            average_rank=_NAN,
        )
        for summary in _summaries(named)
        if not summary.chosen
    ]


def _summaries(named: Mapping[str, Comparison]) -> list[ArmSummary]:
    """List every arm once, as the first data set that has it describes it."""
    found: dict[str, ArmSummary] = {}
    for comparison in named.values():
        for summary in comparison.arms:
            found.setdefault(summary.arm, summary)
    return list(found.values())


def _score(comparison: Comparison, arm: str) -> Estimate | None:
    found = (each.metrics[comparison.metric] for each in comparison.arms if each.arm == arm)
    return next(found, None)


def _ranks(arms: Sequence[ArmAcross], alpha: float, *, greater_is_better: bool) -> Ranks | None:
    kept = [arm for arm in arms if can_be_ranked(arm)]
    n_data_sets = len(arms[0].scores) if arms else 0
    if n_data_sets < MIN_RANKED or len(kept) < 2:
        return None
    scores = np.array([[score.value for score in arm.scores if score] for arm in kept]).T
    names, pairs = [arm.arm for arm in kept], wilcoxon_holm(scores)
    groups = cliques(pairs.p_adjusted < alpha)
    return Ranks(
        arms=tuple(names),
        friedman=friedman(scores, greater_is_better=greater_is_better),
        pairs=pairs,
        critical_difference=nemenyi_critical_difference(len(names), n_data_sets, alpha),
        cliques=tuple(tuple(names[i] for i in group) for group in groups),
    )


def _ranked(arms: Sequence[ArmAcross], ranks: Ranks | None) -> tuple[ArmAcross, ...]:
    if ranks is None:
        return tuple(arms)
    by_arm = dict(zip(ranks.arms, ranks.friedman.average_ranks.tolist(), strict=True))
    return tuple(replace(arm, average_rank=by_arm.get(arm.arm, _NAN)) for arm in arms)
