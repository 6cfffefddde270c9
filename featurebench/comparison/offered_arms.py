"""The literature's tests over all arms at once, and its measures of each arm by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featurebench.comparison.offered_model import ArmMeasure, ArmsTest
from featurebench.stats import cochran_q, cohen_kappa, hand_till, repeated_measures_anova

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from featurebench.comparison.offered_pairs import Material
    from featurebench.results import RunResult

_NAN = float("nan")


def _anova(material: Material) -> ArmsTest:
    n = min(len(material.scores[arm]) for arm in material.arms)
    scores = np.stack([material.scores[arm][:n] for arm in material.arms], axis=1)
    found = repeated_measures_anova(scores)
    defined = scores[~np.isnan(scores).any(axis=1)]
    means = defined.mean(axis=0) if len(defined) else np.full(len(material.arms), _NAN)
    return ArmsTest(
        arms=material.arms,
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


def _cochran(material: Material) -> ArmsTest:
    right = np.stack([material.right(arm) for arm in material.arms], axis=1)
    found = cochran_q(right)
    shares = right.mean(axis=0)
    return ArmsTest(
        arms=material.arms,
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


def _kappa(material: Material, run: RunResult) -> ArmMeasure:
    table = material.confusion(material.truth, material.called[run.arm])
    found = cohen_kappa(table, alpha=material.alpha)
    return ArmMeasure(
        run.arm,
        value=found.kappa,
        se=found.se,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        n=found.n,
    )


def _hand_till(material: Material, run: RunResult) -> ArmMeasure:
    design = material.design
    values = np.array(
        [
            hand_till(design.y_true[rows], run.y_prob[repeat, rows])
            for repeat in range(run.n_repeats)
            for rows in design.fold_rows(repeat)
        ]
    )
    known = values[~np.isnan(values)]
    return ArmMeasure(
        run.arm,
        value=float(known.mean()) if known.size else _NAN,
        se=_NAN,
        ci_low=_NAN,
        ci_high=_NAN,
        n=int(known.size),
        n_undefined=int(values.size - known.size),
    )


OVER_ARMS: Mapping[str, Callable[[Material], ArmsTest]] = {"anova": _anova, "cochran_q": _cochran}
"""The tests of all arms, by name."""

EACH_ARM: Mapping[str, Callable[[Material, RunResult], ArmMeasure]] = {
    "kappa": _kappa,
    "hand_till": _hand_till,
}
"""The measures of each arm, by name."""
