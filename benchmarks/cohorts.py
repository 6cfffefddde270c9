"""Simulated studies of two arms whose true difference is known, for the error rates of tests.

Each patient has tiles with 16 Gaussian features from each of two encoders. A patient's own effect
(sd 0.6) makes its tiles alike, and what both encoders see of a patient, and of a tile's noise
(sd 1, correlation 0.3), makes the encoders alike; the classes differ by a shift of their own
features. A ridge classifier with balanced classes is fitted in closed form on every training side
of a plan that keeps patients, or sites, together.

Scenarios N and P have patients of equal size and balanced classes, as textbooks do. All others are
as cohorts are: log-normal numbers of tiles, rare classes, heavy-tailed noise, wrong labels, one
test set, sites.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featurebench.results import Cost, ResultsTable, RunResult

if TYPE_CHECKING:
    from benchmarks.scenarios import Scenario

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

N_FEATURES = 16
PATIENT_SD, SITE_SD = 0.6, 1.0
TILE_CORRELATION, SITE_CORRELATION = 0.3, 0.5
PENALTY = 1.0
ARMS = ("probe", "fine-tune")
PLAN_ID = "0123456789abcdef"
# Patients of each class, at the least: as many as there are folds.
FOLDS = 5
# Log of the median number of tiles of a patient, its standard deviation, and the limits.
LOG_TILES, LOG_TILES_SD, FEWEST_TILES, MOST_TILES = np.log(17), 1.2, 1, 200
# The smaller, the fewer patients have tiles of a rare class.
CONCENTRATION = 4.0


@dataclass(frozen=True)
class Study:
    """One drawn cohort with its folds and both arms' out-of-fold predictions.

    Parameters
    ----------
    results
        Both arms on 10 repeats of 5 folds (or one test set), as
        `featurebench.comparison.compare` takes them.
    two_folds
        The same arms on 5 repeats of 2 folds; None where there is one test set.
    """

    results: ResultsTable
    two_folds: ResultsTable | None


@dataclass(frozen=True)
class Cohort:
    """Tiles of one cohort: codes of patient, site and label, each of shape (n_tiles,).

    ``stratum`` is each patient's rarest class, shape (n_patients,).
    """

    patients: Ints
    sites: Ints | None
    y: Ints
    stratum: Ints


def draw_study(scenario: Scenario, seed: int, *, repeats: int = 10, folds: int = FOLDS) -> Study:
    """Draw a cohort and run both arms on it."""
    rng = np.random.default_rng([seed, *scenario.name.encode()])
    cohort, truth = _draw_cohort(scenario, rng)
    features = _draw_features(scenario, cohort, truth, rng)
    if scenario.holdout:
        table = _draw_holdout(cohort, rng)
        return Study(_run(scenario, features, cohort, table, rng), None)
    tables = [
        _run(scenario, features, cohort, _draw_folds(scenario, cohort, n, k, rng), rng)
        for n, k in ((repeats, folds), (5, 2))
    ]
    return Study(*tables)


def _draw_cohort(scenario: Scenario, rng: np.random.Generator) -> tuple[Cohort, Ints]:
    """Draw who has which tiles; gives the true class of every tile beside what is told of it."""
    n_classes = len(scenario.classes)
    while True:
        n_patients = scenario.n_patients if scenario.mixed else sum(scenario.classes)
        patients = np.repeat(np.arange(n_patients), _draw_sizes(scenario, n_patients, rng))
        if scenario.mixed:
            truth = _mixed_labels(scenario, patients, rng)
        else:
            truth = rng.permutation(np.repeat(np.arange(n_classes), scenario.classes))[patients]
        y = _mislabel(scenario, patients, truth, rng)
        counts = np.bincount(patients * n_classes + y, minlength=n_patients * n_classes)
        has = counts.reshape(n_patients, n_classes) > 0
        if has.sum(axis=0).min() >= (2 if scenario.holdout else FOLDS):
            break
    by_rarity = np.argsort(has.sum(axis=0), kind="stable")
    stratum = by_rarity[has[:, by_rarity].argmax(axis=1)]
    sites = None
    if scenario.n_sites:
        order = np.argsort(stratum + rng.random(n_patients))
        of_patient = np.empty(n_patients, dtype=np.int64)
        of_patient[order] = np.arange(n_patients) % scenario.n_sites
        sites = of_patient[patients]
    return Cohort(patients, sites, y, stratum), truth


def _draw_sizes(scenario: Scenario, n_patients: int, rng: np.random.Generator) -> Ints:
    if scenario.n_tiles is not None:
        return np.full(n_patients, scenario.n_tiles)
    drawn = np.exp(LOG_TILES + LOG_TILES_SD * rng.normal(size=n_patients))
    return np.asarray(np.clip(np.rint(drawn), FEWEST_TILES, MOST_TILES), dtype=np.int64)


def _mixed_labels(scenario: Scenario, patients: Ints, rng: np.random.Generator) -> Ints:
    """Give every patient shares of the classes of its own, unless the classes are balanced."""
    weights = np.array(scenario.classes, dtype=float)
    n_classes = len(weights)
    if np.ptp(weights) == 0:
        return rng.permuted(np.arange(len(patients)) % n_classes)
    shares = rng.dirichlet(CONCENTRATION * weights / weights.sum(), size=patients[-1] + 1)
    edges = np.cumsum(shares, axis=1)[patients, :-1]
    return np.asarray((rng.random(len(patients))[:, None] > edges).sum(axis=1), dtype=np.int64)


def _mislabel(scenario: Scenario, patients: Ints, truth: Ints, rng: np.random.Generator) -> Ints:
    n_patients = int(patients[-1]) + 1
    wrong = rng.permutation(n_patients)[: round(scenario.wrong * n_patients)]
    y = truth.copy()
    if scenario.mixed:
        for patient in wrong:
            rows = np.flatnonzero(patients == patient)
            y[rows] = rng.permutation(truth[rows])
        return y
    of_patient = truth[np.searchsorted(patients, np.arange(n_patients))]
    of_patient[wrong] = of_patient[rng.permutation(wrong)]
    return np.asarray(of_patient[patients])


def _draw_features(
    scenario: Scenario, cohort: Cohort, truth: Ints, rng: np.random.Generator
) -> Floats:
    """Features of both encoders, shape (2, n_tiles, 16)."""
    n_patients, n_tiles = int(cohort.patients[-1]) + 1, len(cohort.y)
    of_patients = _pair((n_patients, N_FEATURES), scenario.patient_correlation, rng)
    of_tiles = _pair((n_tiles, N_FEATURES), TILE_CORRELATION, rng)
    if np.isfinite(scenario.noise_df):
        df = scenario.noise_df
        of_tiles *= np.sqrt((df - 2) / rng.chisquare(df, size=(n_tiles, 1)))
    shift = np.array(scenario.shift)[:, None, None] * _class_means(len(scenario.classes))[truth]
    features = shift + PATIENT_SD * of_patients[:, cohort.patients] + of_tiles
    if cohort.sites is not None:
        of_sites = _pair((scenario.n_sites, N_FEATURES), SITE_CORRELATION, rng)
        features += SITE_SD * of_sites[:, cohort.sites]
    return np.asarray(features)


def _class_means(n_classes: int) -> Floats:
    """Two classes differ in every feature; of more, each has features of its own."""
    if n_classes == 2:
        return np.repeat([[-0.5], [0.5]], N_FEATURES, axis=1)
    own = np.arange(N_FEATURES) % n_classes == np.arange(n_classes)[:, None]
    return np.asarray(own, dtype=np.float64)


def _pair(shape: tuple[int, int], correlation: float, rng: np.random.Generator) -> Floats:
    shared, own = rng.normal(size=shape), rng.normal(size=(2, *shape))
    return np.asarray(np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own)


def _draw_folds(
    scenario: Scenario, cohort: Cohort, repeats: int, folds: int, rng: np.random.Generator
) -> npt.NDArray[np.int16]:
    """Folds of whole patients, sites or, where neither is known, tiles; (repeats, n_tiles)."""
    units, strata = cohort.patients, cohort.stratum
    if not scenario.known:
        units, strata = np.arange(len(cohort.y)), cohort.y
    elif scenario.group == "site":
        assert cohort.sites is not None
        units, strata = cohort.sites, np.zeros(scenario.n_sites, dtype=np.int64)
    table = np.empty((repeats, len(strata)), dtype=np.int16)
    for row in table:
        start = 0
        for stratum in np.unique(strata):
            members = rng.permutation(np.flatnonzero(strata == stratum))
            row[members] = (np.arange(len(members)) + start) % folds
            start += len(members)
    return table[:, units]


def _draw_holdout(cohort: Cohort, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Half of the patients of each class are tested, shape (1, n_tiles)."""
    part = np.full(len(cohort.stratum), -1, dtype=np.int16)
    for stratum in np.unique(cohort.stratum):
        members = rng.permutation(np.flatnonzero(cohort.stratum == stratum))
        part[members[: len(members) // 2]] = 0
    return part[None, cohort.patients]


def _run(
    scenario: Scenario,
    features: Floats,
    cohort: Cohort,
    test_fold: npt.NDArray[np.int16],
    rng: np.random.Generator,
) -> ResultsTable:
    n_classes = len(scenario.classes)
    classes = tuple("abcdefgh"[:n_classes])
    runs = [
        _as_run(name, predict_out_of_fold(X, cohort.y, test_fold, noise, rng), classes)
        for name, X, noise in zip(ARMS, features, scenario.training_noise, strict=True)
    ]
    names = np.array([f"t{i}" for i in range(len(cohort.y))])
    return ResultsTable(
        tuple(runs),
        (),
        cohort.y,
        classes,
        names,
        cohort.patients if scenario.known else None,
        test_fold,
        PLAN_ID,
        sites=cohort.sites,
        groups=cohort.sites if scenario.group == "site" else None,
        grouped_by=scenario.group,
    )


def predict_out_of_fold(
    X: Floats,
    y: Ints,
    test_fold: npt.NDArray[np.int16],
    noise: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.float32]:
    """Out-of-fold probabilities of a ridge classifier that weighs all classes equally.

    Returns
    -------
    ndarray
        Float32, shape (repeats, n_tiles, n_classes); NaN where a tile is not tested.
    """
    Z = np.column_stack([X, np.ones(len(X))])
    n_classes = int(y.max()) + 1
    rows = [Z[y == label] for label in range(n_classes)]
    whole = _moments(rows)
    y_prob = np.full((*test_fold.shape, n_classes), np.nan, dtype=np.float32)
    for repeat, row in enumerate(test_fold):
        for fold in range(int(row.max()) + 1):
            tested = row == fold
            inside = Z[tested]
            weights = _ridge(whole, _moments([inside[y[tested] == c] for c in range(n_classes)]))
            if noise:
                weights[:-1] += (
                    noise
                    * np.sqrt(np.mean(weights[:-1] ** 2))
                    * _centred(rng.normal(size=(N_FEATURES, n_classes)))
                )
            scores = np.exp(inside @ weights)
            y_prob[repeat, tested] = scores / scores.sum(axis=1, keepdims=True)
    return y_prob


def _moments(rows: list[Floats]) -> tuple[Floats, Floats, Floats]:
    """Z'Z, the sum of Z and the number of rows, of each class."""
    return (
        np.stack([part.T @ part for part in rows]),
        np.stack([part.sum(axis=0) for part in rows]),
        np.array([float(len(part)) for part in rows]),
    )


def _ridge(whole: tuple[Floats, Floats, Floats], tested: tuple[Floats, Floats, Floats]) -> Floats:
    """Solve for targets of -1 and 1, with classes weighted by n / (K n_c) of the training side."""
    gram, total, n = (a - b for a, b in zip(whole, tested, strict=True))
    weight = n.sum() / (len(n) * np.maximum(n, 1.0))
    left = np.einsum("c,cij->ij", weight, gram) + PENALTY * np.eye(gram.shape[1])
    sums = (weight[:, None] * total).T
    return np.asarray(np.linalg.solve(left, 2 * sums - sums.sum(axis=1, keepdims=True)))


def _centred(noise: Floats) -> Floats:
    """Take off what all classes share, and keep the variance."""
    n_classes = noise.shape[1]
    own = noise - noise.mean(axis=1, keepdims=True)
    return np.asarray(own * np.sqrt(n_classes / (n_classes - 1)))


def _as_run(name: str, y_prob: npt.NDArray[np.float32], classes: tuple[str, ...]) -> RunResult:
    return RunResult(
        arm=name,
        kind="probe" if name == ARMS[0] else "finetune",
        embedding=None,
        head=None,
        strategy=None,
        params={},
        fingerprint="",
        plan_id=PLAN_ID,
        seed=0,
        classes=classes,
        y_prob=y_prob,
        scores=(),
        cost=Cost(),
    )
