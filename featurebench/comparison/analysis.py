"""compare(): all runs of one plan become scores, contrasts, a verdict and its caveats."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from featurebench.comparison.arms import arm_estimate, summarize_arms
from featurebench.comparison.barred import bars
from featurebench.comparison.caveats import find_caveats
from featurebench.comparison.checks import check_comparable, check_settings, choose_reference
from featurebench.comparison.contrasts import Declared, contrast_arms
from featurebench.comparison.design import Design
from featurebench.comparison.model import Comparison
from featurebench.comparison.naming import in_words
from featurebench.comparison.offered import check_tests, offer_tests
from featurebench.comparison.others import other_sentences
from featurebench.comparison.selection import select, with_regret
from featurebench.comparison.subgroups import subgroup_scores
from featurebench.comparison.verdict import write_verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from featurebench.comparison.design import Weights
    from featurebench.comparison.model import ArmSummary, Contrast, Selection
    from featurebench.results import ResultsTable, RunResult


def compare(
    results: ResultsTable,
    *,
    metric: str = "balanced_accuracy",
    reference: str | None = None,
    margin: float | None = None,
    alpha: float = 0.05,
    n_boot: int = 10_000,
    weights: Weights = "auto",
    seed: int = 0,
    tests: Sequence[str] = (),
    subgroups: Mapping[str, npt.NDArray[np.str_]] | None = None,
    floor: float | None = None,
    min_recall: float | None = None,
    max_ece: float | None = None,
) -> Comparison:
    """Compare all arms with one reference on one metric, all declared before the run.

    The primary contrast is the best fine-tune against the best frozen probe, each chosen fold by
    fold on inner folds of its training side, never by a test score. Every score and difference is
    the mean over repeats of each repeat's value; predictions are never averaged over repeats. A
    claim needs two tests, over folds and over patients, that agree, and one over sites where six
    or more are known; p-values of all contrasts but the primary one are adjusted by Holm.

    Parameters
    ----------
    results
        Runs on one plan.
    metric
        A name of `featurebench.metrics.METRICS`.
    reference
        Arm that all others are held against; by default the best frozen probe.
    margin
        Difference, in units of the metric, that is too small to matter. Without one only better and
        worse are claimed: neither equivalence nor non-inferiority, nor on which side of a margin a
        difference lies.
    alpha
        Intervals have level 1 - alpha, and p-values are held against alpha.
    n_boot, seed
        Number of bootstrap resamples, and their seed.
    weights
        What counts the same in every score: ``tiles``, or ``patients`` with any number of them;
        ``auto`` for patients where tiles are spread very unequally, see
        `featurebench.comparison.design.UNEQUAL`.
    tests
        Names of `featurebench.comparison.OFFERED`: tests that the literature uses, to stand beside
        those of the claim with the reason not to rely on them. They change nothing else.
    subgroups
        Columns of the manifest by name, one value for each tile, for scores by subgroup; those by
        class are always there.
    floor
        Score, in units of the metric, that the probe's interval must lie above for the probe to be
        called enough; below, where lower is better. Without one no probe is called enough.
    min_recall, max_ece
        What the recall of every class must lie above with its interval, and what the calibration
        error must not exceed, for the same; by default as `featurebench.comparison.enough` says.

    Returns
    -------
    Comparison

    Raises
    ------
    ResultsError
        If there are no runs, runs do not belong together, or the metric or reference is unknown.
    ConfigError
        If margin, alpha, n_boot or floor is out of range, or a test is unknown.
    """
    margin = 0.0 if margin is None else margin
    check_settings(metric, margin, alpha, n_boot, floor)
    check_tests(tests)
    check_comparable(results)
    table, selections = add_selected(results, metric)
    chosen = choose_reference(table, reference, selections)
    design = Design.of(results, n_boot=n_boot, seed=seed, weights=weights)
    barred = bars(results, design)
    declared = Declared(metric, margin, alpha, _primary_arm(selections, chosen))
    # First: it does all arms at once, and contrasts use what it computed.
    arms = _summaries(design, table, selections, alpha)
    contrasts = contrast_arms(design, table.runs, chosen, declared, barred=bool(barred))
    if not margin:
        contrasts = tuple(_without_margin(contrast) for contrast in contrasts)
    comparison = Comparison(
        metric=metric,
        margin=margin,
        alpha=alpha,
        reference=chosen.arm,
        arms=arms,
        contrasts=contrasts,
        verdict="",
        caveats=(),
        barred=barred,
        selections=_with_regrets(selections, table, results, metric),
        subgroups=subgroup_scores(design, table.runs, metric, subgroups or {}, alpha=alpha),
        offered=offer_tests(design, table.runs, contrasts, metric=metric, alpha=alpha, tests=tests),
        weights=design.weights,
        n_effective=math.nan if design.unit == "tiles" else design.effective_members,
        floor=floor,
        min_recall=min_recall,
        max_ece=max_ece,
    )
    return _in_sentences(comparison, results, design, table)


def _summaries(
    design: Design, table: ResultsTable, selections: Sequence[Selection], alpha: float
) -> tuple[ArmSummary, ...]:
    """Summarize every arm; of one that was put together, with how often each was chosen."""
    counts = {each.arm: each.chosen for each in selections if len(each.chosen) > 1}
    return tuple(
        replace(summary, chosen=counts.get(summary.arm, {}))
        for summary in summarize_arms(design, table.runs, alpha=alpha)
    )


def _in_sentences(
    comparison: Comparison, results: ResultsTable, design: Design, table: ResultsTable
) -> Comparison:
    """Add the verdict, its caveats and the sentences on all other arms."""
    worded = in_words(comparison)
    told = in_words(_on_common_repeats(design, table.runs, comparison))
    return replace(
        comparison,
        verdict=write_verdict(design, told),
        caveats=find_caveats(results, design, worded),
        others=other_sentences(worded),
    )


def add_selected(results: ResultsTable, metric: str) -> tuple[ResultsTable, tuple[Selection, ...]]:
    """Choose the best probe and the best fine-tune; put those made of several arms first."""
    made: list[RunResult] = []
    selections: list[Selection] = []
    for kind in ("probe", "finetune"):
        if any(run.kind == kind for run in results.runs):
            run, selection = select(results.runs, kind, metric=metric, test_fold=results.test_fold)
            selections.append(selection)
            if all(run.arm != other.arm for other in results.runs):
                made.append(run)
    return replace(results, runs=(*made, *results.runs)), tuple(selections)


def _without_margin(contrast: Contrast) -> Contrast:
    """Take back whatever needs a margin: against one of 0, tests say nothing about a size."""
    is_kept = contrast.outcome in {"better", "worse", "not claimed"}
    outcome = contrast.outcome if is_kept else "not resolved"
    return replace(contrast, outcome=outcome, relevance="open")


def _on_common_repeats(
    design: Design, runs: Sequence[RunResult], comparison: Comparison
) -> Comparison:
    """Score the arms on the repeats of the primary contrast alone, so that figures add up.

    Only what the verdict tells is scored anew: the declared metric, and ROC AUC.
    """
    primary = comparison.primary
    if primary is None:
        return comparison
    n, by_name = primary.n_repeats, {run.arm: run for run in runs}

    def rescored(arm: ArmSummary) -> ArmSummary:
        if arm.n_repeats <= n:
            return arm
        metrics = {
            name: arm_estimate(design, by_name[arm.arm], name, alpha=comparison.alpha, n_repeats=n)
            for name in (comparison.metric, "roc_auc")
        }
        return replace(arm, metrics={**arm.metrics, **metrics})

    return replace(comparison, arms=tuple(map(rescored, comparison.arms)))


def _with_regrets(
    selections: Sequence[Selection], table: ResultsTable, results: ResultsTable, metric: str
) -> tuple[Selection, ...]:
    """Add to each choice what it cost; ``table`` has the arms that choices made, too."""
    runs = {run.arm: run for run in table.runs}
    return tuple(with_regret(each, runs[each.arm], results, metric) for each in selections)


def _primary_arm(selections: Sequence[Selection], reference: RunResult) -> str | None:
    """Name the arm of the primary contrast: the one chosen among the other kind of arms."""
    across = {"probe": "finetune", "finetune": "probe"}.get(reference.kind)
    return next((each.arm for each in selections if each.kind == across), None)
