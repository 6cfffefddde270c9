"""What a comparison holds: scores with intervals, differences with tests, and the words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from featurebench.comparison.training import Training

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from featurebench.comparison.offered_model import OfferedTest
    from featurebench.results import ArmKind, Cost

Outcome = Literal[
    "better", "worse", "equivalent", "non-inferior", "not superior", "not resolved", "not claimed"
]
Relevance = Literal["beyond the margin", "within the margin", "open"]
Rule = Literal["both tests", "folds, patients and sites", "patients alone"]
EvidenceUnit = Literal["folds", "patients", "sites", "groups", "tiles"]


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
    chosen
        Where this is the best probe or the best fine-tune as chosen on inner folds: in how many
        folds each arm was chosen. Empty for an arm that was run itself.
    training
        What the arm was given to learn with, as far as its run recorded that.
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
    chosen: Mapping[str, int] = field(default_factory=dict)
    training: Training = field(default_factory=Training)


@dataclass(frozen=True)
class Evidence:
    """What one test says of one difference, ``arm_a`` minus ``arm_b``; NaN where not estimable.

    Parameters
    ----------
    test
        Its name in words, with what it takes as independent.
    unit
        ``folds``, ``patients``, ``sites`` or other ``groups``, or ``tiles``.
    difference, se, statistic, df, p_value
        Estimate, its standard error, the statistic with its degrees of freedom, and the two-sided
        p-value; a bootstrap has an estimate and a standard error only.
    ci_low, ci_high
        Interval at level 1 - alpha.
    narrow_low, narrow_high
        Interval at level 1 - 2 alpha: inside the margin, it shows equivalence at level alpha (two
        one-sided tests).
    p_equivalent
        The larger p-value of the two one-sided tests against -margin and +margin.
    n
        Folds, patients or other units used.
    """

    test: str
    unit: EvidenceUnit
    difference: float
    se: float
    statistic: float
    df: float
    p_value: float
    ci_low: float
    ci_high: float
    narrow_low: float
    narrow_high: float
    p_equivalent: float
    n: int


@dataclass(frozen=True)
class Contrast:
    """One arm against the reference on their common repeats: ``arm_a`` minus ``arm_b``.

    Two tests look at it: the corrected resampled t over folds, which allows for training sets that
    overlap, and one over patients, which allows for tiles of one patient that resemble each other.
    A claim needs both; where six sites or more are known it needs one over sites as well.

    Parameters
    ----------
    arm_a, arm_b, metric
        The arm, the reference, and what is compared, in the metric's own units and direction: for
        a metric where lower is better, a negative difference favours ``arm_a``.
    primary
        Whether this is the one contrast declared before the run, whose p-value is not adjusted.
    difference, ci_low, ci_high, interval
        Mean over common repeats of the per-repeat difference with the interval that holds those of
        all tests asked for, so that it excludes zero only where all of them do; and their names.
    by_folds, by_patients, by_sites
        The tests; ``by_patients`` is over the units that folds keep together, such as sites, where
        these are not patients. ``by_sites`` is None where sites are those, or are unknown.
    permutation_p
        Sign-flip permutation over patients; NaN for metrics that are no mean over tiles.
    p_worse, p_practical, p_better
        Posterior probabilities, from the differences of the folds, that ``arm_a`` is worse by more
        than the margin, that the two differ by less, and that it is better by more.
    rule
        What a claim rests on; ``patients alone`` with one test set, from which nothing is claimed.
    p_value, p_adjusted
        The larger p-value of the tests that the rule asks for; ``p_adjusted`` by Holm over all
        contrasts but the primary one, whose own it is there.
    outcome
        Of ``arm_a``: ``better`` or ``worse``; ``equivalent``; ``non-inferior`` (not worse than the
        reference by more than the margin); ``not superior`` (not better by more than the margin,
        so that the reference is non-inferior); ``not resolved``; ``not claimed`` where the
        comparison as a whole allows no claim.
    relevance
        Where both intervals lie: beyond the margin on one side, within it, or neither; ``open``
        without a margin.
    detectable
        Smallest true difference that all tests would find in 80 % of such cohorts; NaN where not
        estimable.
    n_needed_low, n_needed_high
        Patients with which a difference of the size of the margin would be found in 80 % of
        cohorts, or non-inferiority within it: an 80 % range. None where not estimable.
    p_patient_better
        Share of patients for whom ``arm_a`` does better than the reference, ties counted half.
    n_repeats, n_folds, undefined_folds
        Common repeats, folds of each, and folds left out because the metric is undefined there.
    cost_ratio
        Wall-clock time of ``arm_a`` over that of ``arm_b`` for the common repeats, extraction
        included; NaN where a time was not recorded.
    undefined_resamples
        Bootstrap resamples left out because the metric is undefined there.
    """

    arm_a: str
    arm_b: str
    metric: str
    primary: bool
    difference: float
    ci_low: float
    ci_high: float
    interval: str
    by_folds: Evidence
    by_patients: Evidence
    permutation_p: float
    p_worse: float
    p_practical: float
    p_better: float
    rule: Rule
    p_value: float
    p_adjusted: float
    outcome: Outcome
    relevance: Relevance
    detectable: float
    n_needed_low: int | None
    n_needed_high: int | None
    p_patient_better: float
    n_repeats: int
    n_folds: int
    undefined_folds: int
    cost_ratio: float
    undefined_resamples: int = 0
    by_sites: Evidence | None = None


@dataclass(frozen=True)
class Selection:
    """Which arm of a kind each fold would have chosen, by inner folds of its training side.

    Parameters
    ----------
    kind
        ``probe`` or ``finetune``.
    arm
        Name of the arm that the choice makes: the one that was chosen in every fold, or one made
        of the chosen arms' predictions, which is then among the comparison's arms.
    chosen
        In how many folds each arm was chosen.
    not_chosen
        Why no choice could be made on inner folds; empty where it was.
    hindsight
        The candidate with the best score on the tiles tested, in the repeats that all candidates
        have; empty where nothing was chosen or there was one candidate.
    regret
        By how much that candidate's score is better than that of what was chosen, in the unit of
        the metric; below 0 where the choice, made fold by fold, is better than any one candidate.
        NaN where there is no ``hindsight``. It is described and never used: to choose by it would
        be to choose by test scores.
    """

    kind: ArmKind
    arm: str
    chosen: Mapping[str, int] = field(default_factory=dict)
    not_chosen: str = ""
    hindsight: str = ""
    regret: float = float("nan")


@dataclass(frozen=True)
class Subgroup:
    """One arm's score on the tiles that share a value of a manifest column.

    Parameters
    ----------
    column, value
        Such as ``site`` and ``A``; ``class`` for the true class.
    arm, metric, estimate
        The score, with the interval that resamples patients.
    n_tiles, n_patients
        Tested tiles and patients; 0 patients where they are unknown.
    warning
        Why the score is rough; empty where it is not.
    """

    column: str
    value: str
    arm: str
    metric: str
    estimate: Estimate
    n_tiles: int
    n_patients: int
    warning: str = ""


@dataclass(frozen=True)
class Comparison:
    """All arms on one plan, each contrasted with the reference, and the verdict in words.

    Parameters
    ----------
    metric, margin, alpha, reference
        What was declared before the run. The margin is 0, or the reference the best frozen probe as
        chosen on inner folds, where none was declared.
    arms
        One summary for each arm, in the order of the runs, after those made by a selection.
    contrasts
        Every other arm against the reference, the primary one first.
    verdict
        A paragraph in plain language, made from the numbers by fixed rules.
    caveats
        What limits the verdict, one sentence each.
    barred
        Why nothing may be claimed from these runs, one sentence each; also in the verdict.
    selections
        How the best probe and the best fine-tune were chosen.
    subgroups
        Scores of every arm on the declared metric, by class and by column of the manifest.
    offered
        Tests that the literature uses, where they were asked for; nothing else rests on them.
    others
        Sentences on the contrasts that the verdict leaves out, grouped by what was shown.
    weights, n_effective
        What counts the same in every score, ``tiles`` or ``patients``; and how many patients of
        equal size the patients are worth by their tiles (Kish), NaN where they are unknown.
    floor, min_recall, max_ece
        What a probe that is called enough must reach, as declared: see `compare`. None where it
        was not declared.
    """

    metric: str
    margin: float
    alpha: float
    reference: str
    arms: tuple[ArmSummary, ...]
    contrasts: tuple[Contrast, ...]
    verdict: str
    caveats: tuple[str, ...]
    barred: tuple[str, ...] = ()
    selections: tuple[Selection, ...] = ()
    subgroups: tuple[Subgroup, ...] = ()
    offered: tuple[OfferedTest, ...] = ()
    others: tuple[str, ...] = ()
    weights: Literal["tiles", "patients"] = "tiles"
    n_effective: float = float("nan")
    floor: float | None = None
    min_recall: float | None = None
    max_ece: float | None = None

    @property
    def primary(self) -> Contrast | None:
        """The contrast declared before the run; None where there is only one kind of arm."""
        return next((contrast for contrast in self.contrasts if contrast.primary), None)

    def arm(self, name: str) -> ArmSummary:
        """Return the summary of the arm of that name; KeyError where there is none."""
        found = {summary.arm: summary for summary in self.arms}
        return found[name]
