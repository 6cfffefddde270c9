"""The literature's tests of one arm against the reference, on the folds or the first repeat."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featurebench.comparison.evidence import fold_scores
from featurebench.comparison.offered_model import PairTest
from featurebench.stats import (
    auc_influence,
    bowker,
    clustered_mcnemar,
    delong,
    five_by_two_f,
    five_by_two_t,
    influence_test,
    mcnemar,
    paired_t,
    stuart_maxwell,
    wilcoxon_signed_rank,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from featurebench.comparison.design import Design
    from featurebench.comparison.model import Contrast
    from featurebench.results import RunResult
    from featurebench.stats import FiveByTwoResult

    Floats = npt.NDArray[np.float64]
    Compared = Callable[["Material", Contrast], PairTest]

_NAN = float("nan")


@dataclass(frozen=True)
class Material:
    """What the tests are made from; each part is computed once, when it is first asked for."""

    design: Design
    runs: tuple[RunResult, ...]
    metric: str
    alpha: float

    @property
    def n_classes(self) -> int:
        """Classes that every arm gives a probability."""
        return int(self.runs[0].y_prob.shape[2])

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms that were run themselves, without baselines: those of tests over all arms."""
        return tuple(
            run.arm
            for run in self.runs
            if run.kind != "baseline" and "candidates" not in run.params
        )

    @cached_property
    def scores(self) -> Mapping[str, Floats]:
        """Score of each arm on the declared metric in every fold of all its repeats."""
        return {
            run.arm: fold_scores(self.design, run, self.metric, run.n_repeats) for run in self.runs
        }

    @cached_property
    def tested(self) -> npt.NDArray[np.intp]:
        """Rows of the tiles of the first repeat."""
        return self.design.rows(0)

    @cached_property
    def truth(self) -> npt.NDArray[np.int64]:
        """Classes of those tiles."""
        return self.design.y_true[self.tested]

    @cached_property
    def patients(self) -> npt.NDArray[np.int64]:
        """Codes of their patients."""
        return self.design.clusters[self.tested]

    @cached_property
    def called(self) -> Mapping[str, npt.NDArray[np.int64]]:
        """Class that each arm gives the highest probability on those tiles."""
        return {run.arm: run.y_prob[0, self.tested].argmax(axis=1) for run in self.runs}

    @cached_property
    def second(self) -> Mapping[str, Floats]:
        """Probability that each arm gives the second class on those tiles."""
        return {run.arm: run.y_prob[0, self.tested, 1].astype(np.float64) for run in self.runs}

    def right(self, arm: str) -> npt.NDArray[np.bool_]:
        """Whether an arm calls those tiles right."""
        right: npt.NDArray[np.bool_] = self.called[arm] == self.truth
        return right

    def confusion(
        self, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Count two sets of calls of those tiles against each other."""
        counts = np.zeros((self.n_classes, self.n_classes), dtype=np.int64)
        np.add.at(counts, (rows, columns), 1)
        return counts

    def differences(self, contrast: Contrast) -> Floats:
        """Differences between the arms of a contrast over the folds of their common repeats."""
        n = contrast.n_repeats * contrast.n_folds
        found: Floats = self.scores[contrast.arm_a][:n] - self.scores[contrast.arm_b][:n]
        return found


def _pair(
    contrast: Contrast,
    *,
    difference: float,
    p_value: float,
    n: int,
    statistic: float = _NAN,
    df: float = _NAN,
    p_exact: float = _NAN,
    only_a: int | None = None,
    only_b: int | None = None,
    n_undefined: int = 0,
    further: Mapping[str, float] | None = None,
) -> PairTest:
    return PairTest(
        arm_a=contrast.arm_a,
        arm_b=contrast.arm_b,
        difference=difference,
        statistic=statistic,
        df=df,
        p_value=p_value,
        p_exact=p_exact,
        only_a=only_a,
        only_b=only_b,
        n=n,
        n_undefined=n_undefined,
        p_corrected=contrast.by_folds.p_value,
        p_adjusted=contrast.p_adjusted,
        further=further or {},
    )


def _paired_t(material: Material, contrast: Contrast) -> PairTest:
    found = paired_t(material.differences(contrast))
    return _pair(
        contrast,
        difference=found.estimate,
        p_value=found.p_value,
        n=found.n,
        statistic=found.statistic,
        df=found.df,
        n_undefined=found.n_undefined,
    )


def _wilcoxon(material: Material, contrast: Contrast) -> PairTest:
    d = material.differences(contrast)
    known = d[~np.isnan(d)]
    if not known.size:
        return _pair(contrast, difference=_NAN, p_value=_NAN, n=0, n_undefined=d.size)
    found = wilcoxon_signed_rank(known)
    return _pair(
        contrast,
        difference=float(known.mean()),
        p_value=found.p_value,
        n=found.n,
        statistic=found.statistic,
        n_undefined=int(d.size - known.size),
        further={"r_plus": found.r_plus, "r_minus": found.r_minus},
    )


def _five_by_two(
    material: Material, contrast: Contrast, test: Callable[[Floats], FiveByTwoResult]
) -> PairTest:
    d = material.differences(contrast)[:10]
    undefined = int(np.isnan(d).sum())
    if d.size < 10:
        return _pair(contrast, difference=_NAN, p_value=_NAN, n=d.size, n_undefined=undefined)
    found = test(d.reshape(5, 2))
    return _pair(
        contrast,
        difference=found.estimate,
        p_value=found.p_value,
        n=10 - undefined,
        statistic=found.statistic,
        df=found.df,
        n_undefined=undefined,
        further={"df_error": found.df_error},
    )


def _five_by_two_t(material: Material, contrast: Contrast) -> PairTest:
    return _five_by_two(material, contrast, five_by_two_t)


def _five_by_two_f(material: Material, contrast: Contrast) -> PairTest:
    return _five_by_two(material, contrast, five_by_two_f)


def _mcnemar(material: Material, contrast: Contrast) -> PairTest:
    a, b = material.right(contrast.arm_a), material.right(contrast.arm_b)
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    found = mcnemar(only_a, only_b)
    return _pair(
        contrast,
        difference=(only_a - only_b) / len(a),
        p_value=found.mid_p,
        n=len(a),
        p_exact=found.exact_p,
        only_a=only_a,
        only_b=only_b,
    )


def _clustered_mcnemar(material: Material, contrast: Contrast) -> PairTest:
    a, b = material.right(contrast.arm_a), material.right(contrast.arm_b)
    by_patient = [
        np.bincount(material.patients[tiles], minlength=material.design.n_units)
        for tiles in (a & ~b, b & ~a, np.ones_like(a))
    ]
    only_a, only_b = int(by_patient[0].sum()), int(by_patient[1].sum())
    found = clustered_mcnemar(*by_patient)
    return _pair(
        contrast,
        difference=(only_a - only_b) / len(a),
        p_value=found.p_obuchowski,
        n=found.n,
        statistic=found.obuchowski,
        df=1.0,
        only_a=only_a,
        only_b=only_b,
        further={
            "durkalski": found.durkalski,
            "p_durkalski": found.p_durkalski,
            "yang": found.yang,
            "p_yang": found.p_yang,
        },
    )


def _delong(material: Material, contrast: Contrast) -> PairTest:
    scores = [material.second[contrast.arm_a], material.second[contrast.arm_b]]
    found = delong(material.truth == 1, scores)
    return _pair(
        contrast,
        difference=found.difference,
        p_value=found.p_value,
        n=found.n,
        statistic=found.z,
        further={"auc_a": found.auc1, "auc_b": found.auc2, "se": found.se},
    )


def _obuchowski(material: Material, contrast: Contrast) -> PairTest:
    positive, patients, n = material.truth == 1, material.patients, material.design.n_units
    a, b = (
        auc_influence(positive, material.second[arm], patients, n)
        for arm in (contrast.arm_a, contrast.arm_b)
    )
    found = influence_test(
        a.positive - b.positive,
        a.negative - b.negative,
        has_positive=np.bincount(patients[positive], minlength=n) > 0,
        has_negative=np.bincount(patients[~positive], minlength=n) > 0,
        estimate=a.auc - b.auc,
    )
    return _pair(
        contrast,
        difference=found.estimate,
        p_value=found.p_value,
        n=found.n,
        statistic=found.statistic,
        df=found.df,
        further={"auc_a": a.auc, "auc_b": b.auc, "se": found.se},
    )


def _stuart_maxwell(material: Material, contrast: Contrast) -> PairTest:
    table = material.confusion(material.called[contrast.arm_a], material.called[contrast.arm_b])
    found, cells = stuart_maxwell(table), bowker(table)
    shifts = (table.sum(axis=1) - table.sum(axis=0)) / table.sum()
    largest = int(np.abs(shifts).argmax())
    return _pair(
        contrast,
        difference=float(shifts[largest]),
        p_value=found.p_value,
        n=found.n,
        statistic=found.statistic,
        df=found.df,
        further={
            "class": largest,
            "bowker": cells.statistic,
            "df_bowker": cells.df,
            "p_bowker": cells.p_value,
        },
    )


PAIRS: Mapping[str, Compared] = {
    "paired_t": _paired_t,
    "wilcoxon": _wilcoxon,
    "five_by_two_t": _five_by_two_t,
    "five_by_two_f": _five_by_two_f,
    "mcnemar": _mcnemar,
    "clustered_mcnemar": _clustered_mcnemar,
    "delong": _delong,
    "obuchowski": _obuchowski,
    "stuart_maxwell": _stuart_maxwell,
}
"""The tests of two arms, by name."""
