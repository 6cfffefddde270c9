"""Tests that the literature uses, beside the corrected one, each with why not to rely on it.

Folds share training data and tiles share patients. Most of these tests take either as independent,
and the others hold for the fitted models alone, so they are computed for comparison with print
only: no outcome, verdict or caveat rests on them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from featurebench.comparison import wording
from featurebench.comparison.offered_arms import EACH_ARM, OVER_ARMS
from featurebench.comparison.offered_model import OfferedTest
from featurebench.comparison.offered_pairs import PAIRS, Material
from featurebench.comparison.rates import ON_TILES, in_per_cent
from featurebench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featurebench.comparison.design import Design
    from featurebench.comparison.model import Contrast
    from featurebench.results import RunResult

_OVERLAP = (
    "It counts folds as independent, which they are not: their training sets overlap, so its type "
    "I error lies above alpha, and far above it once folds are repeated (Nadeau and Bengio 2003; "
    "Dietterich 1998)"
)
_HALVES = (
    "It counts repeats as independent, which they are not: both halves of each come from the same "
    "patients, whose luck it does not see (Dietterich 1998; Nadeau and Bengio 2003)"
)
_SHARED_PATIENTS = (
    "It counts tiles as independent, which tiles of one patient are not, and it holds for these "
    "fitted models, not for training again (Dietterich 1998)"
)
_FITTED_MODELS = (
    "It counts patients as independent, as it should, but it looks at one repeat and holds for "
    "these fitted models, not for training again (Dietterich 1998)"
)
_POOLED = (
    "It ranks the probabilities of all folds together, although each fold has its own model "
    "(Airola et al. 2011)"
)
_CALLS, _RANKS = ("balanced_accuracy",), ("roc_auc",)
_EQUALLY_GOOD = "In simulated studies of two arms that were equally good"
OFFERED: Mapping[str, OfferedTest] = {
    test.name: test
    for test in (
        OfferedTest(
            "paired_t",
            "Paired t over folds",
            "folds",
            f"{_OVERLAP}. {_EQUALLY_GOOD} it gave p < 0.05 "
            f"{in_per_cent('naive paired t, 10 x 5 folds')} with 10 repeats of 5 folds, and "
            f"{in_per_cent('naive paired t, 1 x 5 folds')} with one repeat.",
        ),
        OfferedTest(
            "anova",
            "Repeated-measures ANOVA over folds",
            "folds",
            f"{_OVERLAP}. With two arms its F is the square of the paired t; the correction by "
            "Greenhouse and Geisser is for unequal variances and does not mend the overlap.",
        ),
        OfferedTest(
            "wilcoxon",
            "Wilcoxon over folds",
            "folds",
            f"{_OVERLAP}. {_EQUALLY_GOOD} it gave p < 0.05 "
            f"{in_per_cent('Wilcoxon, 10 x 5 folds')} with 10 repeats of 5 "
            "folds; with one repeat of 5 its p-value cannot fall below 0.0625.",
        ),
        OfferedTest(
            "five_by_two_t",
            "5x2cv t",
            "folds",
            f"{_HALVES}, and its numerator is the first of ten differences. {_EQUALLY_GOOD} it "
            f"gave p < 0.05 {in_per_cent('5x2cv t')}, most often with few patients.",
        ),
        OfferedTest(
            "five_by_two_f",
            "5x2cv F",
            "folds",
            f"{_HALVES}. {_EQUALLY_GOOD} it gave p < 0.05 {in_per_cent('5x2cv F')}, most often "
            "with few patients.",
        ),
        OfferedTest(
            "mcnemar",
            "McNemar on tiles",
            "tiles",
            f"{_SHARED_PATIENTS}. {_EQUALLY_GOOD} its mid-p was below 0.05 "
            f"{in_per_cent(ON_TILES, metrics=_CALLS)}, least often with one tile a patient.",
        ),
        OfferedTest(
            "cochran_q",
            "Cochran's Q on tiles",
            "tiles",
            f"{_SHARED_PATIENTS}. With two arms it is McNemar's test by chi-square.",
        ),
        OfferedTest(
            "clustered_mcnemar",
            "Clustered McNemar",
            "patients",
            f"{_FITTED_MODELS}. {_EQUALLY_GOOD} the form by Obuchowski gave p < 0.05 "
            f"{in_per_cent('clustered McNemar (Obuchowski), 1 repeat', metrics=_CALLS)}.",
        ),
        OfferedTest(
            "delong",
            "DeLong on tiles",
            "tiles",
            f"{_SHARED_PATIENTS}. {_POOLED}. {_EQUALLY_GOOD} it gave p < 0.05 "
            f"{in_per_cent(ON_TILES, metrics=_RANKS)}, least often with one tile a patient.",
        ),
        OfferedTest(
            "obuchowski",
            "Clustered ROC AUC (Obuchowski)",
            "patients",
            f"{_FITTED_MODELS}. {_POOLED}, and its degrees of freedom do not tell how few patients "
            "the rarer class has.",
        ),
        OfferedTest(
            "stuart_maxwell",
            "Stuart-Maxwell on tiles",
            "tiles",
            f"{_SHARED_PATIENTS}. It asks whether two arms call each class equally often, not "
            "which of them is right.",
        ),
        OfferedTest(
            "kappa",
            "Cohen's kappa with asymptotic error",
            "tiles",
            f"{_SHARED_PATIENTS}. Kappa also depends on how frequent the classes are. Its interval "
            "over patients is under Scores.",
        ),
        OfferedTest(
            "hand_till",
            "ROC AUC of Hand and Till",
            "folds",
            "A mean over folds, which are not independent: their training sets overlap, so the "
            "spread over folds gives no interval (Nadeau and Bengio 2003; Dietterich 1998). With "
            "two classes it is the ROC AUC.",
        ),
    )
}
"""The tests that may be asked for, by name, each without a result."""

_FIVE_BY_TWO = ("five_by_two_t", "five_by_two_f")
_TWO_CLASSES = ("delong", "obuchowski")


def check_tests(names: Sequence[str]) -> None:
    """Refuse a test that is not offered.

    Raises
    ------
    ConfigError
        Naming the tests that are.
    """
    unknown = [name for name in names if name not in OFFERED]
    if unknown:
        raise ConfigError(f"test {unknown[0]!r} is not offered: choose from {', '.join(OFFERED)}")


def offer_tests(
    design: Design,
    runs: Sequence[RunResult],
    contrasts: Sequence[Contrast],
    *,
    metric: str,
    alpha: float,
    tests: Sequence[str],
) -> tuple[OfferedTest, ...]:
    """Compute the tests asked for, each once, in the order in which they were asked for.

    Tests over folds use every fold of the repeats that the arms have in common; 5x2cv tests use
    the first five repeats. Tests on tiles and patients use the first repeat, in which each tile is
    tested once, whatever the metric: calls (McNemar, Cochran, Stuart-Maxwell, kappa), or the
    probability of the second class, pooled over folds (DeLong, Obuchowski).
    """
    material = Material(design, tuple(runs), metric, alpha)
    return tuple(_run(material, OFFERED[name], contrasts) for name in dict.fromkeys(tests))


def _run(material: Material, test: OfferedTest, contrasts: Sequence[Contrast]) -> OfferedTest:
    if test.name in EACH_ARM:
        measure = EACH_ARM[test.name]
        return replace(test, each_arm=tuple(measure(material, run) for run in material.runs))
    not_run = _why_not(material, test, contrasts)
    if not_run:
        return replace(test, not_run=not_run)
    if test.name in OVER_ARMS:
        return replace(test, over_arms=OVER_ARMS[test.name](material))
    compared = PAIRS[test.name]
    return replace(test, pairs=tuple(compared(material, contrast) for contrast in contrasts))


def _why_not(material: Material, test: OfferedTest, contrasts: Sequence[Contrast]) -> str:
    """Say why a test cannot be computed from these runs; empty where it can."""
    design, name = material.design, test.name
    n_folds, n_repeats = design.n_folds, len(design.test_fold)
    folds, repeats = wording.counted(n_folds, "fold"), wording.counted(n_repeats, "repeat")
    plan = f"the plan has {folds} and {repeats}"
    common = max((contrast.n_repeats for contrast in contrasts), default=0)
    reasons = {
        "there are fewer than two arms besides baselines": (
            name in OVER_ARMS and len(material.arms) < 2
        ),
        "there is only the reference": name in PAIRS and not contrasts,
        f"{plan}, and it needs 2 folds and 5 repeats": (
            name in _FIVE_BY_TWO and (n_folds != 2 or n_repeats < 5)
        ),
        "no arm has 5 repeats in common with the reference": name in _FIVE_BY_TWO and common < 5,
        "the plan has one test set, and it needs several folds": (
            test.unit == "folds" and n_repeats * n_folds == 1
        ),
        "patients are unknown": test.unit == "patients" and design.unit != "patients",
        f"there are {material.n_classes} classes, and it needs two": (
            name in _TWO_CLASSES and material.n_classes != 2
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")
