"""What a test holds that was asked for by name; nothing rests on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class PairTest:
    """One arm against the reference by a test that was asked for by name.

    Parameters
    ----------
    arm_a, arm_b
        Of the contrast that it stands beside.
    difference
        ``arm_a`` minus ``arm_b``: mean over folds of the declared metric (paired t, Wilcoxon,
        5x2cv), share of tiles called right (McNemar), ROC AUC (DeLong, Obuchowski), or the largest
        difference in the share of tiles that are called a class (Stuart-Maxwell).
    statistic, df
        Of the test; NaN for McNemar's, which has none.
    p_value
        Two-sided; for McNemar's test the mid-p. NaN where not estimable.
    p_exact
        McNemar's exact conditional p-value; NaN for other tests.
    only_a, only_b
        Tiles that one arm alone calls right; None where the test does not count them.
    n, n_undefined
        Folds, tiles or patients used, and folds left out because the metric is undefined there.
    p_corrected, p_adjusted
        P-value of the corrected t over folds of the same contrast, and the contrast's
        ``p_adjusted``.
    further
        Other numbers of the test, such as ``p_durkalski``.
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
    further: Mapping[str, float] = field(default_factory=dict)


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
class ArmMeasure:
    """A measure of one arm by itself that was asked for by name; NaN where not estimable.

    Parameters
    ----------
    arm, value
        Cohen's kappa on the tiles of the first repeat, or the mean over folds of the AUC of Hand
        and Till.
    se, ci_low, ci_high
        Asymptotic standard error and 95 % interval, tiles taken as independent; NaN for a mean
        over folds, which has none.
    n, n_undefined
        Tiles or folds used, and folds left out because the measure is undefined there.
    """

    arm: str
    value: float
    se: float
    ci_low: float
    ci_high: float
    n: int
    n_undefined: int = 0


@dataclass(frozen=True)
class OfferedTest:
    """A test that was asked for by name.

    Parameters
    ----------
    name, label
        As in the experiment file, and for a reader.
    unit
        What it takes as independent: ``folds``, ``tiles`` or ``patients``.
    warning
        Why it must not be relied on.
    not_run
        Why it could not be computed at all; empty where it was.
    pairs
        One result for each contrast, of a test of two arms.
    over_arms
        The one result over all arms (``anova``, ``cochran_q``).
    each_arm
        One result for each arm (``kappa``, ``hand_till``).
    """

    name: str
    label: str
    unit: str
    warning: str
    not_run: str = ""
    pairs: tuple[PairTest, ...] = ()
    over_arms: ArmsTest | None = None
    each_arm: tuple[ArmMeasure, ...] = ()
