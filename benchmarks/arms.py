"""draw_arms(): runs of many arms with drawn probabilities, as if they had been trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from featurebench.metrics import score_folds
from featurebench.results import ArmKind, Cost, FoldScore, ResultsTable, RunResult
from featurebench.splits import SplitPlan
from featurebench.tiles import TileManifest

Ints = npt.NDArray[np.int64]
Probs = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """Size of the cohort, and how many arms there are."""

    tiles: int
    patients: int
    arms: int
    classes: int
    repeats: int


@dataclass(frozen=True)
class Drawn:
    """Tiles, folds and runs; ``rows_of_patient`` are the tiles of each patient."""

    manifest: TileManifest
    plan: SplitPlan
    results: ResultsTable
    y_true: Ints
    patients: Ints
    rows_of_patient: tuple[npt.NDArray[np.intp], ...]


def draw_arms(shape: Shape, folds: int, seed: int, *, folder: Path | None = None) -> Drawn:
    """Draw tiles of all classes in every patient, and arms that see them more or less clearly.

    Logits are the true class times a signal (1.2 to 2.4 from the first arm to the last), an effect
    of the patient on each class, and noise, half of whose variance all arms share.

    Parameters
    ----------
    shape, folds
        Of the cohort, and how many folds each repeat has.
    seed
        Of everything that is drawn.
    folder
        Where the picture that stands for every tile is written; None for none.
    """
    rng = np.random.default_rng(seed)
    patients = np.sort(np.arange(shape.tiles, dtype=np.int64) % shape.patients)
    y_true = rng.integers(shape.classes, size=shape.tiles)
    manifest = _manifest(y_true, patients, shape.classes, folder)
    plan = SplitPlan.draw(
        y_true,
        patients,
        folds=folds,
        repeats=shape.repeats,
        seed=seed,
        tile_ids=manifest.table["tile_id"].to_numpy(dtype=str),
    )
    size = (shape.repeats, shape.tiles, shape.classes)
    shared = rng.standard_normal(size, dtype=np.float32)
    runs = []
    for number in range(shape.arms):
        effects = rng.standard_normal((shape.patients, shape.classes), dtype=np.float32)
        logits = rng.standard_normal(size, dtype=np.float32)
        logits += shared
        logits *= np.sqrt(0.5)
        logits += 0.5 * effects[patients]
        logits[:, np.arange(shape.tiles), y_true] += 1.2 + 1.2 * number / max(shape.arms - 1, 1)
        runs.append(_run(number, _softmax(logits), y_true, plan, manifest.classes))
    results = ResultsTable(
        runs=tuple(runs),
        failures=(),
        y_true=y_true,
        classes=manifest.classes,
        tile_ids=plan.tile_ids,
        patients=patients,
        test_fold=plan.test_fold,
        plan_id=plan.id,
    )
    edges = np.searchsorted(patients, np.arange(1, shape.patients))
    rows = np.split(np.arange(shape.tiles), edges)
    return Drawn(manifest, plan, results, y_true, patients, tuple(rows))


def _manifest(y_true: Ints, patients: Ints, n_classes: int, folder: Path | None) -> TileManifest:
    if folder is not None:
        Image.new("RGB", (96, 96), (200, 150, 190)).save(folder / "tile.png")
    classes = tuple(f"class-{one}" for one in range(n_classes))
    columns = {
        "tile_id": [f"t{row:07d}" for row in range(len(y_true))],
        "path": ["tile.png"] * len(y_true),
        "label": np.array(classes, dtype=object)[y_true],
        "patient_id": [f"p{patient:05d}" for patient in patients],
    }
    return TileManifest(pd.DataFrame(columns), folder or Path(), classes)


def _softmax(logits: Probs) -> Probs:
    logits -= logits.max(axis=2, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=2, keepdims=True)
    return logits


def _run(
    number: int, y_prob: Probs, y_true: Ints, plan: SplitPlan, classes: tuple[str, ...]
) -> RunResult:
    kind: ArmKind = "finetune" if number % 4 == 3 else "probe"
    method = f"way{number}"
    return RunResult(
        arm=f"net{number}+{method}",
        kind=kind,
        embedding=f"net{number}.tag@00000000" if kind == "probe" else None,
        head=method if kind == "probe" else None,
        strategy=method if kind == "finetune" else None,
        params={},
        fingerprint="",
        plan_id=plan.id,
        seed=0,
        classes=classes,
        y_prob=y_prob,
        scores=tuple(FoldScore(*row) for row in score_folds(y_true, y_prob, plan.test_fold)),
        cost=Cost(wall_s=10.0 * (1 + number)),
    )
