"""Tests that the literature uses, beside the corrected one, each with why not to rely on it.

Folds share training data and tiles share patients. These tests take either as independent, so
they are computed for comparison with print only: no outcome, verdict or caveat rests on them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from featurebench.comparison.contrasts import fold_scores
from featurebench.comparison.model import ArmsTest, OfferedTest, PairTest
from featurebench.errors import ConfigError
from featurebench.stats import cochran_q, mcnemar, paired_t, repeated_measures_anova

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from featurebench.comparison.design import Design
    from featurebench.comparison.model import Contrast
    from featurebench.results import RunResult

    ByArm = Mapping[str, npt.NDArray[np.float64]]

_NAN = float("nan")
_OVERLAP = (
    "It counts folds as independent, which they are not: their training sets overlap, so its type "
    "I error lies above alpha, and far above it once folds are repeated (Nadeau and Bengio 2003; "
    "Dietterich 1998)"
)
_SHARED_PATIENTS = (
    "It counts tiles as independent, which tiles of one patient are not, and it holds for these "
    "fitted models, not for training again (Dietterich 1998)"
)
OFFERED: Mapping[str, OfferedTest] = {
    test.name: test
    for test in (
        OfferedTest(
            "paired_t",
            "Paired t over folds",
            "folds",
            f"{_OVERLAP}. In simulated studies of two arms that were equally good it gave p < 0.05 "
            "in 49 to 61 % with 10 repeats of 5 folds, and in 5 to 9 % with one repeat.",
        ),
        OfferedTest(
            "anova",
            "Repeated-measures ANOVA over folds",
            "folds",
            f"{_OVERLAP}. With two arms its F is the square of the paired t; the correction by "
            "Greenhouse and Geisser is for unequal variances and does not mend the overlap.",
        ),
        OfferedTest(
            "mcnemar",
            "McNemar on tiles",
            "tiles",
            f"{_SHARED_PATIENTS}. In simulated studies of two arms that were equally good its "
            "mid-p was below 0.05 in 11 to 49 % with several tiles a patient, and in 7 % with one.",
        ),
        OfferedTest(
            "cochran_q",
            "Cochran's Q on tiles",
            "tiles",
            f"{_SHARED_PATIENTS}. With two arms it is McNemar's test by chi-square.",
        ),
    )
}
"""The tests that may be asked for, by name, each without a result."""


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
    tests: Sequence[str],
) -> tuple[OfferedTest, ...]:
    """Compute the tests asked for, each once, in the order in which they were asked for.

    Tests over folds use every fold of the repeats that the arms have in common. Tests on tiles use
    the calls of the first repeat, in which each tile is tested once, whatever the metric.
    """
    asked = [OFFERED[name] for name in dict.fromkeys(tests)]
    by_unit: dict[str, ByArm] = {}
    if any(test.unit == "folds" for test in asked):
        by_unit["folds"] = {
            run.arm: fold_scores(design, run, metric, run.n_repeats) for run in runs
        }
    if any(test.unit == "tiles" for test in asked):
        by_unit["tiles"] = {run.arm: _called_right(design, run) for run in runs}
    arms = tuple(run.arm for run in runs if run.kind != "baseline")
    return tuple(_run(design, test, by_unit[test.unit], contrasts, arms) for test in asked)


def _run(
    design: Design,
    test: OfferedTest,
    values: ByArm,
    contrasts: Sequence[Contrast],
    arms: tuple[str, ...],
) -> OfferedTest:
    over_pairs = test.name in ("paired_t", "mcnemar")
    if over_pairs and not contrasts:
        return replace(test, not_run="there is only the reference")
    if not over_pairs and len(arms) < 2:
        return replace(test, not_run="there are fewer than two arms besides baselines")
    if test.unit == "folds" and len(design.test_fold) * design.n_folds == 1:
        return replace(test, not_run="the plan has one test set, and it needs several folds")
    if over_pairs:
        compared = _paired_t if test.name == "paired_t" else _mcnemar
        pairs = tuple(compared(contrast, values) for contrast in contrasts)
        return replace(test, pairs=pairs)
    n = min(len(values[arm]) for arm in arms)
    table = np.stack([values[arm][:n] for arm in arms], axis=1)
    return replace(test, over_arms=(_anova if test.name == "anova" else _cochran)(arms, table))


def _called_right(design: Design, run: RunResult) -> npt.NDArray[np.float64]:
    rows = design.rows(0)
    called = run.y_prob[0, rows].argmax(axis=1)
    return np.asarray(called == design.y_true[rows], dtype=np.float64)


def _paired_t(contrast: Contrast, values: ByArm) -> PairTest:
    n = contrast.n_repeats * contrast.n_folds
    found = paired_t(values[contrast.arm_a][:n] - values[contrast.arm_b][:n])
    return PairTest(
        arm_a=contrast.arm_a,
        arm_b=contrast.arm_b,
        difference=found.estimate,
        statistic=found.statistic,
        df=found.df,
        p_value=found.p_value,
        p_exact=_NAN,
        only_a=None,
        only_b=None,
        n=found.n,
        n_undefined=found.n_undefined,
        p_corrected=contrast.p_value,
        p_adjusted=contrast.p_adjusted,
    )


def _mcnemar(contrast: Contrast, values: ByArm) -> PairTest:
    a, b = values[contrast.arm_a], values[contrast.arm_b]
    only_a, only_b = int(np.sum(a > b)), int(np.sum(b > a))
    found = mcnemar(only_a, only_b)
    return PairTest(
        arm_a=contrast.arm_a,
        arm_b=contrast.arm_b,
        difference=(only_a - only_b) / len(a),
        statistic=_NAN,
        df=_NAN,
        p_value=found.mid_p,
        p_exact=found.exact_p,
        only_a=only_a,
        only_b=only_b,
        n=len(a),
        n_undefined=0,
        p_corrected=contrast.p_value,
        p_adjusted=contrast.p_adjusted,
    )


def _anova(arms: tuple[str, ...], scores: npt.NDArray[np.float64]) -> ArmsTest:
    found = repeated_measures_anova(scores)
    defined = scores[~np.isnan(scores).any(axis=1)]
    means = defined.mean(axis=0) if len(defined) else np.full(len(arms), _NAN)
    return ArmsTest(
        arms=arms,
        lowest=float(means.min()),
        highest=float(means.max()),
        statistic=found.statistic,
        df=found.df,
        df_error=found.df_error,
        p_value=found.p_value,
        epsilon=found.epsilon,
        p_epsilon=found.p_corrected,
        sphericity_p=found.sphericity_p,
        n=found.n,
        n_undefined=found.n_undefined,
    )


def _cochran(arms: tuple[str, ...], right: npt.NDArray[np.float64]) -> ArmsTest:
    found = cochran_q(right)
    shares = right.mean(axis=0)
    return ArmsTest(
        arms=arms,
        lowest=float(shares.min()),
        highest=float(shares.max()),
        statistic=found.statistic,
        df=found.df,
        df_error=_NAN,
        p_value=found.p_value,
        epsilon=_NAN,
        p_epsilon=_NAN,
        sphericity_p=_NAN,
        n=found.n,
        n_undefined=0,
    )
