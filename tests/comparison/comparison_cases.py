"""Results drawn with known differences between arms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from featurebench.results import Cost, Failure, ResultsTable, RunResult

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Arm:
    """What to draw: how strongly the true class shows, and what the run says about itself."""

    name: str
    kind: Any = "probe"
    signal: float = 1.0
    n_repeats: int | None = None
    wall_s: float = 10.0
    extraction_s: float = 0.0
    device: str = "cpu"
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cohort:
    """Size of the study, and whether patients are known and kept together."""

    n_patients: int = 24
    n_tiles: int = 6
    n_classes: int = 2
    n_folds: int = 4
    n_repeats: int = 3
    known_patients: bool = True
    grouped: bool = True
    holdout: bool = False
    mixed_patients: int = 0
    seed: int = 0


def draw_results(
    arms: list[Arm], cohort: Cohort | None = None, failures: tuple[Failure, ...] = ()
) -> ResultsTable:
    """Draw one label per patient, patient-grouped folds and every arm's probabilities.

    All arms share each tile's noise in part, as networks that see the same tiles do.
    """
    c = cohort or Cohort()
    rng = np.random.default_rng(c.seed)
    patients = np.repeat(np.arange(c.n_patients), c.n_tiles)
    labels = np.arange(c.n_patients) % c.n_classes
    y_true = labels[patients]
    for patient in range(c.mixed_patients):
        first = int(np.flatnonzero(patients == patient)[0])
        y_true[first] = (y_true[first] + 1) % c.n_classes
    test_fold = _draw_folds(c, labels, patients, rng)
    shared = rng.normal(size=(c.n_repeats, len(y_true), c.n_classes))
    classes = tuple("abcdefgh"[: c.n_classes])
    effects = rng.normal(scale=0.5, size=(len(arms), c.n_patients, c.n_classes))[:, patients]
    noise = 0.7 * rng.normal(size=(len(arms), *shared.shape)) + 0.7 * shared
    logits = effects[:, None] + noise
    runs = tuple(
        _describe(arm, _predict(arm, own, y_true, test_fold), classes)
        for arm, own in zip(arms, logits, strict=True)
    )
    return ResultsTable(
        runs=runs,
        failures=failures,
        y_true=y_true.astype(np.int64),
        classes=classes,
        tile_ids=np.array([f"t{i}" for i in range(len(y_true))]),
        patients=patients.astype(np.int64) if c.known_patients else None,
        test_fold=test_fold,
        plan_id="0123456789abcdef",
    )


def _draw_folds(
    c: Cohort, labels: npt.NDArray[Any], patients: npt.NDArray[Any], rng: np.random.Generator
) -> npt.NDArray[np.int16]:
    table = np.empty((c.n_repeats, len(patients)), dtype=np.int16)
    for repeat in range(c.n_repeats):
        if not c.grouped:
            table[repeat] = rng.permutation(len(patients)) % c.n_folds
            continue
        fold = np.empty(c.n_patients, dtype=np.int16)
        for label in range(c.n_classes):
            members = np.flatnonzero(labels == label)
            fold[rng.permutation(members)] = np.arange(len(members)) % c.n_folds
        table[repeat] = fold[patients]
    if c.holdout:
        table = np.select([table == 0, table == 1], [0, -2], default=-1).astype(np.int16)
    return table


def _predict(
    arm: Arm, logits: Floats, y_true: npt.NDArray[Any], test_fold: npt.NDArray[np.int16]
) -> Floats:
    n_repeats, n_classes = arm.n_repeats or len(test_fold), logits.shape[2]
    shown = logits[:n_repeats] + arm.signal * np.eye(n_classes)[y_true]
    y_prob: Floats = np.exp(shown) / np.exp(shown).sum(axis=2, keepdims=True)
    if arm.kind == "baseline":
        y_prob = np.full(y_prob.shape, 1 / n_classes)
    y_prob[test_fold[:n_repeats] < 0] = np.nan
    return y_prob


def _describe(arm: Arm, y_prob: Floats, classes: tuple[str, ...]) -> RunResult:
    described: dict[str, Any] = {
        "arm": arm.name,
        "kind": arm.kind,
        "embedding": "net.tag@00000000" if arm.kind == "probe" else None,
        "head": "logistic" if arm.kind == "probe" else None,
        "strategy": "full" if arm.kind == "finetune" else None,
        "params": {},
        "fingerprint": "",
        "plan_id": "0123456789abcdef",
        "seed": 0,
        "classes": classes,
        "y_prob": y_prob.astype(np.float32),
        "scores": (),
        "cost": Cost(wall_s=arm.wall_s),
        "extraction_cost": Cost(wall_s=arm.extraction_s),
        "device": arm.device,
    }
    return RunResult(**{**described, **arm.extra})


def arm(name: str, kind: Any = "probe", signal: float = 1.0, **more: Any) -> Arm:
    """Describe an arm in short."""
    return Arm(name, kind, signal, **more)
