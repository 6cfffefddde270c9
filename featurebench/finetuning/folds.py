"""Finished folds on disk, each bound to the recipe that made it, so that a run can be resumed."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.results import Cost, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class FoldOutcome:
    """What fine-tuning on one fold gave.

    Parameters
    ----------
    repeat, fold
        Place in the plan.
    test
        Rows tested, shape (n_test,).
    y_prob
        Float32, shape (n_test, n_classes).
    cost
        Of training and prediction.
    details
        What training saw, JSON-ready.
    features
        Float16, shape (n_test, dim): what the trained network's classifier sees of the rows
        tested; None where that was not asked for.
    """

    repeat: int
    fold: int
    test: npt.NDArray[np.intp]
    y_prob: npt.NDArray[np.float32]
    cost: Cost
    details: Mapping[str, Any]
    features: npt.NDArray[np.float16] | None = None


def fold_key(*identity: object) -> str:
    """Hash (64 hex) of JSON-ready values and arrays that together fix a fold's numbers."""
    digest = hashlib.sha256()
    for part in identity:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode() + part.tobytes())
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()


def save_fold(outcome: FoldOutcome, folder: Path, key: str) -> Path:
    """Write a fold as ``fold_r<repeat>_f<fold>.npz`` without pickle; it appears whole or not."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / _name(outcome.repeat, outcome.fold)
    header = {"key": key, "cost": asdict(outcome.cost), "details": dict(outcome.details)}
    text = np.array(json.dumps(header, allow_nan=False))
    archive = io.BytesIO()
    arrays: dict[str, npt.NDArray[Any]] = {"test": outcome.test, "y_prob": outcome.y_prob}
    if outcome.features is not None:
        arrays["features"] = outcome.features
    np.savez(archive, allow_pickle=False, header=text, **arrays)
    write_atomically(file, archive.getvalue())
    return file


def load_fold(folder: Path, repeat: int, fold: int, key: str) -> FoldOutcome | None:
    """Read a fold; None where it is absent, damaged, or was made by another recipe."""
    try:
        content = (folder / _name(repeat, fold)).read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            header = json.loads(str(arrays["header"]))
            test, y_prob = arrays["test"], arrays["y_prob"]
            features = arrays.get("features")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if header["key"] != key:
        return None
    cost = Cost.of(header["cost"])
    return FoldOutcome(repeat, fold, test, y_prob, cost, header["details"], features)


def trials_file(folder: Path, repeat: int, fold: int) -> Path:
    """Where the finished trials of a fold's search are remembered."""
    return folder / f"search_r{repeat}_f{fold}.json"


def checkpoint_file(folder: Path, repeat: int, fold: int) -> Path:
    """Return where a fold is kept while it is in training."""
    return (folder / _name(repeat, fold)).with_suffix(".checkpoint")


def _name(repeat: int, fold: int) -> str:
    return f"fold_r{repeat}_f{fold}.npz"
