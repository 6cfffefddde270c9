"""What a comparison holds: scores with intervals, differences with tests, and the words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from featurebench.results import ArmKind, Cost

Outcome = Literal["better", "worse", "not resolved"]


@dataclass(frozen=True)
class Estimate:
    """A score with its interval; NaN where it is undefined or not estimable."""

    value: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class ArmSummary:
    """One arm's scores and cost.

    Parameters
    ----------
    arm, kind, embedding, head, strategy
        As in `RunResult`.
    metrics
        Tile-level metrics: mean over repeats of each repeat's value, with the interval that
        resamples patients.
    patient_metrics
        The same metrics on one mean probability per patient; empty where patients are unknown or
        lie on both sides of a fold.
    undefined_folds
        For each tile-level metric, in how many folds of all repeats it is undefined.
    confusion
        Int64 counts of the first repeat, shape (n_classes, n_classes), rows true, columns called.
    cost, extraction_cost
        Of all repeats of this arm; of the embedding that it reads.
    n_repeats
        Repeats that the arm was run on.
    """

    arm: str
    kind: ArmKind
    embedding: str | None
    head: str | None
    strategy: str | None
    metrics: Mapping[str, Estimate]
    patient_metrics: Mapping[str, Estimate]
    undefined_folds: Mapping[str, int]
    confusion: npt.NDArray[np.int64]
    cost: Cost
    extraction_cost: Cost
    n_repeats: int


@dataclass(frozen=True)
class Contrast:
    """One arm against the reference on their common repeats: ``arm_a`` minus ``arm_b``.

    Parameters
    ----------
    arm_a, arm_b, metric
        The arm, the reference, and what is compared, in the metric's own units and direction: for
        a metric where lower is better, a negative difference favours ``arm_a``.
    difference, ci_low, ci_high, interval
        Mean over common repeats of the per-repeat difference, its bootstrap interval, and how the
        interval was made.
    test, statistic, df, p_value, p_adjusted
        Test on the differences of the folds; ``p_adjusted`` by Holm over all contrasts. NaN where
        not estimable.
    test_difference, test_ci_low, test_ci_high
        Mean difference over folds and the interval that belongs to the test.
    n_repeats, n_folds, undefined_folds
        Common repeats, folds of each, and folds left out because the metric is undefined there.
    outcome
        ``better`` or ``worse`` (``arm_a`` than ``arm_b``) only if the adjusted p-value is below
        alpha and the bootstrap interval excludes 0 on the same side; else ``not resolved``.
    within_margin
        Whether the bootstrap interval lies inside -margin to +margin.
    cost_ratio
        Wall-clock time of ``arm_a`` over that of ``arm_b`` for the common repeats, extraction
        included; NaN where a time was not recorded.
    undefined_resamples
        Bootstrap resamples left out because the metric is undefined there.
    """

    arm_a: str
    arm_b: str
    metric: str
    difference: float
    ci_low: float
    ci_high: float
    interval: str
    test: str
    statistic: float
    df: float
    p_value: float
    p_adjusted: float
    test_difference: float
    test_ci_low: float
    test_ci_high: float
    n_repeats: int
    n_folds: int
    undefined_folds: int
    outcome: Outcome
    within_margin: bool
    cost_ratio: float
    undefined_resamples: int = 0


@dataclass(frozen=True)
class PairTest:
    """One arm against the reference, folds or tiles taken as independent.

    Parameters
    ----------
    arm_a, arm_b
        Of the contrast that it stands beside.
    difference
        ``arm_a`` minus ``arm_b``: mean over folds of the declared metric (paired t), or share of
        tiles called right (McNemar).
    statistic, df
        Of the paired t-test; NaN for McNemar's, which has none.
    p_value
        Two-sided; for McNemar's test the mid-p. NaN where not estimable.
    p_exact
        McNemar's exact conditional p-value; NaN for the paired t-test.
    only_a, only_b
        Tiles that one arm alone calls right; None for the paired t-test.
    n, n_undefined
        Folds or tiles used, and folds left out because the metric is undefined there.
    p_corrected, p_adjusted
        The corrected test's p-value of the same contrast, and that after Holm.
    """

    arm_a: str
    arm_b: str
    difference: float
    statistic: float
    df: float
    p_value: float
    p_exact: float
    only_a: int | None
    only_b: int | None
    n: int
    n_undefined: int
    p_corrected: float
    p_adjusted: float


@dataclass(frozen=True)
class ArmsTest:
    """All arms but the baselines at once, folds or tiles taken as independent.

    Parameters
    ----------
    arms
        The arms, in the order of the runs.
    lowest, highest
        Smallest and largest arm: mean over folds of the declared metric (ANOVA), or share of tiles
        called right (Cochran).
    statistic, df, df_error, p_value
        F with two degrees of freedom, or Q with one and NaN.
    epsilon, p_epsilon, sphericity_p
        Greenhouse-Geisser epsilon, the p-value that it corrects for unequal variances, and
        Mauchly's p-value for sphericity; NaN for Cochran's test.
    n, n_undefined
        Folds or tiles used, and folds left out because the metric is undefined in one arm.
    """

    arms: tuple[str, ...]
    lowest: float
    highest: float
    statistic: float
    df: float
    df_error: float
    p_value: float
    epsilon: float
    p_epsilon: float
    sphericity_p: float
    n: int
    n_undefined: int


@dataclass(frozen=True)
class OfferedTest:
    """A test that was asked for by name.

    Parameters
    ----------
    name, label
        As in the experiment file, and for a reader.
    unit
        What it takes as independent: ``folds`` or ``tiles``.
    warning
        Why it must not be relied on.
    not_run
        Why it could not be computed at all; empty where it was.
    pairs
        One result for each contrast (``paired_t``, ``mcnemar``).
    over_arms
        The one result over all arms (``anova``, ``cochran_q``).
    """

    name: str
    label: str
    unit: str
    warning: str
    not_run: str = ""
    pairs: tuple[PairTest, ...] = ()
    over_arms: ArmsTest | None = None


@dataclass(frozen=True)
class Comparison:
    """All arms on one plan, each contrasted with the reference, and the verdict in words.

    Parameters
    ----------
    metric, margin, alpha, reference
        What was declared before the run.
    arms
        One summary for each arm, in the order of the runs.
    contrasts
        Every other arm against the reference, in the same order.
    verdict
        A paragraph in plain language, made from the numbers by fixed rules.
    caveats
        What limits the verdict, one sentence each.
    offered
        Tests that the literature uses, where they were asked for; nothing else rests on them.
    """

    metric: str
    margin: float
    alpha: float
    reference: str
    arms: tuple[ArmSummary, ...]
    contrasts: tuple[Contrast, ...]
    verdict: str
    caveats: tuple[str, ...]
    offered: tuple[OfferedTest, ...] = ()

    def arm(self, name: str) -> ArmSummary:
        """Return the summary of the arm of that name; KeyError where there is none."""
        found = {summary.arm: summary for summary in self.arms}
        return found[name]
