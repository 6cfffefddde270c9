"""Simulated studies of two arms whose true difference is known, for the error rates of tests.

Each patient has tiles with 16 Gaussian features from each of two encoders. A patient's own effect
(sd 0.6, correlation 0.5 between the encoders) makes its tiles alike, and a tile's noise (sd 1,
correlation 0.3) makes the encoders alike; the classes differ by a shift in every feature. A ridge
classifier is fitted in closed form on every training side of a patient-grouped plan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featurebench.results import Cost, ResultsTable, RunResult

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

N_FEATURES = 16
PATIENT_SD, PATIENT_CORRELATION = 0.6, 0.5
TILE_CORRELATION = 0.3
PENALTY = 1.0
ARMS = ("probe", "fine-tune")
PLAN_ID = "0123456789abcdef"


@dataclass(frozen=True)
class Scenario:
    """What a study is drawn from.

    Parameters
    ----------
    name, told
        Short name, and what it stands for.
    n_patients, n_tiles
        Patients, and tiles of each.
    mixed
        Whether a patient has tiles of both classes; else one label for all.
    shift
        Distance between the classes in every feature, for each encoder.
    training_noise
        Spread of what each training adds to the weights, relative to their size, for each arm.
    null
        Whether both arms are equally good on average.
    """

    name: str
    told: str
    n_patients: int = 60
    n_tiles: int = 10
    mixed: bool = False
    shift: tuple[float, float] = (0.45, 0.45)
    training_noise: tuple[float, float] = (0.0, 0.0)
    null: bool = True


SCENARIOS = (
    Scenario("N1", "60 patients, both classes in each", mixed=True),
    Scenario("N2", "60 patients, one label each"),
    Scenario("N3", "24 patients, one label each", n_patients=24),
    Scenario("N4", "200 patients, one label each", n_patients=200, n_tiles=20),
    Scenario("N5", "as N2, both trainings noisy", training_noise=(0.5, 0.5)),
    Scenario("N6", "400 patients of one tile", n_patients=400, n_tiles=1),
    Scenario(
        "N7",
        "as N2, only the fine-tune noisy, equal on average",
        shift=(0.45, 0.5),
        training_noise=(0.0, 0.5),
    ),
    Scenario(
        "P1",
        "as N1, the fine-tune better",
        mixed=True,
        shift=(0.45, 0.472),
        null=False,
    ),
    Scenario("P2", "as N2, the fine-tune better", shift=(0.45, 0.55), null=False),
    Scenario(
        "P4",
        "as N4, the fine-tune better",
        n_patients=200,
        n_tiles=20,
        shift=(0.45, 0.497),
        null=False,
    ),
    Scenario(
        "P7",
        "as N7, the fine-tune better",
        shift=(0.45, 0.588),
        training_noise=(0.0, 0.5),
        null=False,
    ),
)


@dataclass(frozen=True)
class Study:
    """One drawn cohort with its folds and both arms' out-of-fold predictions.

    Parameters
    ----------
    results
        Both arms on 10 repeats of 5 folds, as `featurebench.comparison.compare` takes them.
    two_folds
        The same arms on 5 repeats of 2 folds.
    """

    results: ResultsTable
    two_folds: ResultsTable


def draw_study(scenario: Scenario, seed: int, *, repeats: int = 10, folds: int = 5) -> Study:
    """Draw a cohort and run both arms on it."""
    rng = np.random.default_rng([seed, scenario.n_patients, scenario.n_tiles, scenario.mixed])
    patients = np.repeat(np.arange(scenario.n_patients), scenario.n_tiles)
    labels = np.arange(scenario.n_patients) % 2
    y = rng.permuted(np.arange(len(patients)) % 2) if scenario.mixed else labels[patients]
    features = _draw_features(scenario, patients, y, rng)
    tables = [
        _run(scenario, features, y, _draw_folds(labels, patients, n, k, rng), rng)
        for n, k in ((repeats, folds), (5, 2))
    ]
    return Study(*tables)


def _draw_features(scenario: Scenario, patients: Ints, y: Ints, rng: np.random.Generator) -> Floats:
    """Features of both encoders, shape (2, n_tiles, 16)."""
    of_patients = _pair((scenario.n_patients, N_FEATURES), PATIENT_CORRELATION, rng)
    of_tiles = _pair((len(patients), N_FEATURES), TILE_CORRELATION, rng)
    shift = np.array(scenario.shift)[:, None, None] * (y - 0.5)[:, None]
    return np.asarray(shift + PATIENT_SD * of_patients[:, patients] + of_tiles)


def _pair(shape: tuple[int, int], correlation: float, rng: np.random.Generator) -> Floats:
    shared, own = rng.normal(size=shape), rng.normal(size=(2, *shape))
    return np.asarray(np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own)


def _draw_folds(
    labels: Ints, patients: Ints, repeats: int, folds: int, rng: np.random.Generator
) -> npt.NDArray[np.int16]:
    """Patient-grouped folds, stratified by the patients' labels, shape (repeats, n_tiles)."""
    table = np.empty((repeats, len(labels)), dtype=np.int16)
    for row in table:
        for label in (0, 1):
            members = rng.permutation(np.flatnonzero(labels == label))
            row[members] = (np.arange(len(members)) + label * folds // 2) % folds
    return table[:, patients]


def _run(
    scenario: Scenario,
    features: Floats,
    y: Ints,
    test_fold: npt.NDArray[np.int16],
    rng: np.random.Generator,
) -> ResultsTable:
    runs = [
        _as_run(name, predict_out_of_fold(X, y, test_fold, noise, rng))
        for name, X, noise in zip(ARMS, features, scenario.training_noise, strict=True)
    ]
    patients = np.repeat(np.arange(scenario.n_patients), scenario.n_tiles)
    names = np.array([f"t{i}" for i in range(len(y))])
    return ResultsTable(tuple(runs), (), y, ("a", "b"), names, patients, test_fold, PLAN_ID)


def predict_out_of_fold(
    X: Floats,
    y: Ints,
    test_fold: npt.NDArray[np.int16],
    noise: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.float32]:
    """Out-of-fold probabilities of a ridge classifier, shape (repeats, n_tiles, 2)."""
    Z = np.column_stack([X, np.ones(len(X))])
    target = 2.0 * y - 1
    gram, moment = Z.T @ Z + PENALTY * np.eye(Z.shape[1]), Z.T @ target
    y_prob = np.empty((*test_fold.shape, 2), dtype=np.float32)
    for repeat, row in enumerate(test_fold):
        for fold in range(int(row.max()) + 1):
            tested = row == fold
            inside = Z[tested]
            weights = np.linalg.solve(gram - inside.T @ inside, moment - inside.T @ target[tested])
            size = np.sqrt(np.mean(weights[:-1] ** 2))
            weights[:-1] += noise * size * rng.normal(size=N_FEATURES)
            y_prob[repeat, tested, 1] = 1 / (1 + np.exp(-2 * (inside @ weights)))
    y_prob[..., 0] = 1 - y_prob[..., 1]
    return y_prob


def _as_run(name: str, y_prob: npt.NDArray[np.float32]) -> RunResult:
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
        classes=("a", "b"),
        y_prob=y_prob,
        scores=(),
        cost=Cost(),
    )
