"""compare(): all runs of one plan become scores, contrasts, a verdict and its caveats."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from featurebench.comparison.arms import summarize_arm
from featurebench.comparison.caveats import find_caveats
from featurebench.comparison.checks import check_comparable, check_settings, choose_reference
from featurebench.comparison.contrasts import contrast_arms
from featurebench.comparison.design import Design
from featurebench.comparison.model import Comparison
from featurebench.comparison.naming import in_words
from featurebench.comparison.offered import check_tests, offer_tests
from featurebench.comparison.verdict import write_verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featurebench.results import ResultsTable


def compare(
    results: ResultsTable,
    *,
    metric: str = "balanced_accuracy",
    reference: str | None = None,
    margin: float = 0.01,
    alpha: float = 0.05,
    n_boot: int = 2000,
    seed: int = 0,
    tests: Sequence[str] = (),
) -> Comparison:
    """Compare all arms with one reference on one metric, all declared before the run.

    Every score and difference is the mean over repeats of each repeat's value; predictions are
    never averaged over repeats. Intervals resample patients (tiles where no patient is known),
    with the same resamples for every arm. The test is the corrected resampled t-test over folds,
    adjusted by Holm over the contrasts.

    Parameters
    ----------
    results
        Runs on one plan.
    metric
        A name of `featurebench.metrics.METRICS`.
    reference
        Arm that all others are held against; by default the first probe in the order of the runs.
    margin
        Difference, in units of the metric, that is too small to matter.
    alpha
        Intervals have level 1 - alpha, and adjusted p-values are held against alpha.
    n_boot, seed
        Number of bootstrap resamples, and their seed.
    tests
        Names of `featurebench.comparison.OFFERED`: tests that the literature uses, to stand beside
        the corrected one with the reason not to rely on them. They change nothing else.

    Returns
    -------
    Comparison

    Raises
    ------
    ResultsError
        If there are no runs, runs do not belong together, or the metric or reference is unknown.
    ConfigError
        If margin, alpha or n_boot is out of range, or a test is unknown.
    """
    check_settings(metric, margin, alpha, n_boot)
    check_tests(tests)
    check_comparable(results)
    chosen = choose_reference(results, reference)
    design = Design.of(results, n_boot=n_boot, seed=seed)
    arms = tuple(summarize_arm(design, run, alpha=alpha) for run in results.runs)
    contrasts = contrast_arms(
        design, results.runs, chosen, metric=metric, margin=margin, alpha=alpha
    )
    comparison = Comparison(metric, margin, alpha, chosen.arm, arms, contrasts, "", ())
    worded = in_words(comparison)
    return replace(
        comparison,
        verdict=write_verdict(design, worded),
        caveats=find_caveats(results, design, worded),
        offered=offer_tests(design, results.runs, contrasts, metric=metric, tests=tests),
    )
