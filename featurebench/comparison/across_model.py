"""What several comparisons say together: an effect and scores per data set, a mean, and ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featurebench.comparison.model import Estimate, Evidence, Outcome
    from featurebench.results import ArmKind
    from featurebench.stats import (
        FriedmanResult,
        PairwiseRanks,
        RandomEffects,
        SignedRankPosterior,
    )


@dataclass(frozen=True)
class DataSetEffect:
    """The primary contrast of one data set, ``arm_a`` minus ``arm_b``.

    Parameters
    ----------
    data_set
        Its name.
    arm_a, arm_b, kind_a, kind_b
        The two arms and what they are; empty and None where there is no primary contrast.
    evidence
        Of the tests that a claim asks for, the one with the larger standard error; None where
        there is no primary contrast.
    outcome
        What the data set alone allows to claim of ``arm_a``.
    weight
        What it counts in the mean, all summing to 1; NaN where it is left out.
    left_out
        Why it is not in the mean; empty where it is.
    """

    data_set: str
    arm_a: str
    arm_b: str
    kind_a: ArmKind | None
    kind_b: ArmKind | None
    evidence: Evidence | None
    outcome: Outcome
    weight: float
    left_out: str = ""


@dataclass(frozen=True)
class ArmAcross:
    """One arm's scores on the declared metric, over data sets.

    Parameters
    ----------
    arm, kind
        Its identity, the same in every data set, and what it is.
    chosen
        Whether this is not an arm by name, but what was chosen on inner folds in every data set:
        ``best probe`` or ``best fine-tune``.
    scores
        One for each data set, in their order; None where the arm was not run.
    average_rank
        Over all data sets, 1 is the best; NaN where ranks are not compared or lack this arm.
    """

    arm: str
    kind: ArmKind
    chosen: bool
    scores: tuple[Estimate | None, ...]
    average_rank: float


@dataclass(frozen=True)
class Ranks:
    """Arms that every data set has, compared by their ranks.

    Parameters
    ----------
    arms
        In the order of ``friedman.average_ranks`` and of the rows of ``pairs``.
    friedman, pairs
        All arms at once, and pair by pair.
    critical_difference
        Of two average ranks, by Nemenyi's test at level alpha.
    cliques
        Groups of arms that Wilcoxon's test with Holm does not tell apart at level alpha.
    """

    arms: tuple[str, ...]
    friedman: FriedmanResult
    pairs: PairwiseRanks
    critical_difference: float
    cliques: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Across:
    """Comparisons on several data sets, with the same metric, margin and alpha.

    Parameters
    ----------
    metric, margin, alpha
        As every one of them declares.
    data_sets
        Their names, in the order given.
    effects
        The primary contrast of each.
    mean
        Random-effects mean of the effects; None where fewer than two can be combined.
    outcome
        What the mean allows to claim of the first arm of the primary contrasts.
    arms
        Those chosen on inner folds first, then by name in the order in which they occur.
    ranks
        None where they say nothing; a note then says why.
    verdict
        A paragraph in plain language, made from the numbers by fixed rules.
    notes
        What limits it and what was left out, one sentence each.
    signed_ranks
        Bayesian signed-rank test on the effects that are in the mean, turned so that ``right`` is
        the first arm being better by more than the margin; None with fewer than three.
    """

    metric: str
    margin: float
    alpha: float
    data_sets: tuple[str, ...]
    effects: tuple[DataSetEffect, ...]
    mean: RandomEffects | None
    outcome: Outcome
    arms: tuple[ArmAcross, ...]
    ranks: Ranks | None
    verdict: str
    notes: tuple[str, ...]
    signed_ranks: SignedRankPosterior | None = None
