"""Pure functions of arrays: tests, patient-level intervals, many comparisons."""

from featurebench.stats.agreement import (
    KappaResult,
    SymmetryResult,
    bowker,
    cohen_kappa,
    stuart_maxwell,
)
from featurebench.stats.auc import (
    AucInfluence,
    ClusteredAuc,
    DelongResult,
    auc_influence,
    clustered_auc,
    delong,
    hand_till,
)
from featurebench.stats.bca import Interval
from featurebench.stats.bootstrap import Resamples, cluster_bootstrap
from featurebench.stats.classic import (
    AnovaResult,
    CochranResult,
    McNemarResult,
    cochran_q,
    mcnemar,
    paired_t,
    repeated_measures_anova,
)
from featurebench.stats.clustered import ClusteredMcNemar, clustered_mcnemar
from featurebench.stats.components import (
    Components,
    PatientComponents,
    crossed_components,
    patient_split_components,
)
from featurebench.stats.equivalence import narrow_interval, noninferiority, tost
from featurebench.stats.five_by_two import FiveByTwoResult, five_by_two_f, five_by_two_t
from featurebench.stats.jackknife import bounded_interval, jackknife_se, jackknife_test
from featurebench.stats.meta import RandomEffects, random_effects
from featurebench.stats.multiplicity import benjamini_hochberg, holm
from featurebench.stats.patients import influence_test, patient_df, patient_test, sign_flip
from featurebench.stats.posterior import (
    MEANINGFUL,
    MIN_PAIRS,
    Outperformance,
    Posterior,
    correlated_t_posterior,
    outperformance,
)
from featurebench.stats.power import (
    detectable_difference,
    equivalence_patients,
    paired_t_size,
    patients_needed,
)
from featurebench.stats.ranks import (
    FriedmanResult,
    friedman,
    iman_davenport,
    nemenyi_critical_difference,
)
from featurebench.stats.resampled import TestResult, adjusted, corrected_resampled_t
from featurebench.stats.signed_ranks import (
    PairwiseRanks,
    SignedRank,
    SignedRankPosterior,
    cliques,
    signed_rank_posterior,
    wilcoxon_holm,
    wilcoxon_signed_rank,
)
from featurebench.stats.similarity import linear_cka

__all__ = [
    "MEANINGFUL",
    "MIN_PAIRS",
    "AnovaResult",
    "AucInfluence",
    "ClusteredAuc",
    "ClusteredMcNemar",
    "CochranResult",
    "Components",
    "DelongResult",
    "FiveByTwoResult",
    "FriedmanResult",
    "Interval",
    "KappaResult",
    "McNemarResult",
    "Outperformance",
    "PairwiseRanks",
    "PatientComponents",
    "Posterior",
    "RandomEffects",
    "Resamples",
    "SignedRank",
    "SignedRankPosterior",
    "SymmetryResult",
    "TestResult",
    "adjusted",
    "auc_influence",
    "benjamini_hochberg",
    "bounded_interval",
    "bowker",
    "cliques",
    "cluster_bootstrap",
    "clustered_auc",
    "clustered_mcnemar",
    "cochran_q",
    "cohen_kappa",
    "corrected_resampled_t",
    "correlated_t_posterior",
    "crossed_components",
    "delong",
    "detectable_difference",
    "equivalence_patients",
    "five_by_two_f",
    "five_by_two_t",
    "friedman",
    "hand_till",
    "holm",
    "iman_davenport",
    "influence_test",
    "jackknife_se",
    "jackknife_test",
    "linear_cka",
    "mcnemar",
    "narrow_interval",
    "nemenyi_critical_difference",
    "noninferiority",
    "outperformance",
    "paired_t",
    "paired_t_size",
    "patient_df",
    "patient_split_components",
    "patient_test",
    "patients_needed",
    "random_effects",
    "repeated_measures_anova",
    "sign_flip",
    "signed_rank_posterior",
    "stuart_maxwell",
    "tost",
    "wilcoxon_holm",
    "wilcoxon_signed_rank",
]
