"""RunResult and ResultsTable: what an arm predicted, how it scored and what it cost, on disk."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import zipfile
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from featurebench.errors import ResultsError
from featurebench.results.cost import Cost
from featurebench.results.embeddings import write_embeddings
from featurebench.results.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SCHEMA_VERSION = 1
ArmKind = Literal["probe", "finetune", "baseline"]


@dataclass(frozen=True)
class FoldScore:
    """One metric on one test fold; ``value`` is NaN where the metric is undefined there."""

    repeat: int
    fold: int
    metric: str
    value: float
    n_test: int


@dataclass(frozen=True)
class RunResult:
    """One arm's out-of-fold probabilities on one plan, with provenance and cost.

    Parameters
    ----------
    arm
        Identity within the experiment, ``<embedding>+<head>`` or ``<backbone>+<strategy>``.
    kind
        ``probe``, ``finetune`` or ``baseline``.
    embedding, head, strategy
        What the arm is made of; those that do not apply are None.
    params
        Everything that changes the numbers, JSON-ready.
    fingerprint
        Of the embedding or of the network that fine-tuning started from; empty for a baseline.
    plan_id
        Of the `SplitPlan`; runs on different plans are never compared.
    y_prob
        Float32, shape (n_repeats, n_tiles, n_classes); NaN where a tile was not tested.
    scores
        Tile-level metrics of every repeat and fold.
    cost, extraction_cost
        Of this arm's own training and prediction; of the embeddings that it reads, whole.
    embedding_costs
        What each embedding that it reads took, by name; shared with other arms that read it.
    details
        What the arm chose or saw by fold (penalty, epochs), JSON-ready; not part of its identity.
    features
        Of a fine-tuned network's tested tiles, float16, shape (n_repeats, n_tiles, dim), NaN where
        a tile was not tested; None where there are none, and in a run that was loaded: they stay
        on disk for `load_embeddings`.
    """

    arm: str
    kind: ArmKind
    embedding: str | None
    head: str | None
    strategy: str | None
    params: Mapping[str, Any]
    fingerprint: str
    plan_id: str
    seed: int
    classes: tuple[str, ...]
    y_prob: npt.NDArray[np.float32]
    scores: tuple[FoldScore, ...]
    cost: Cost
    extraction_cost: Cost = field(default_factory=Cost)
    embedding_costs: Mapping[str, Cost] = field(default_factory=dict)
    device: str = "cpu"
    details: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    features: npt.NDArray[np.float16] | None = None

    @property
    def n_repeats(self) -> int:
        """Repeats that this arm was run on: the first ones of the plan."""
        return int(self.y_prob.shape[0])

    @property
    def run_id(self) -> str:
        """Hash (16 hex) of what changes the numbers: arm, params, fingerprint, plan and seed."""
        return run_id(self.arm, self.params, self.fingerprint, self.plan_id, self.seed)


@dataclass(frozen=True)
class Failure:
    """An arm that raised instead of predicting; shown in the report as a row."""

    arm: str
    kind: ArmKind
    error: str


@dataclass(frozen=True)
class ResultsTable:
    """All runs of an experiment with the truth that they are scored against; row i is one tile.

    Parameters
    ----------
    runs, failures
        In the order in which the experiment declares the arms.
    y_true
        Int64 codes into ``classes``, shape (n_tiles,).
    patients
        Codes 0..P-1 of each tile's patient, shape (n_tiles,), or None where no patient is known.
    test_fold
        The plan's table, shape (n_repeats, n_tiles).
    sites
        Codes of each tile's site, shape (n_tiles,), or None where none is known.
    groups, grouped_by
        Codes of what folds keep together where each holds whole patients, such as sites, and the
        column's name; None and ``patient_id`` where that is the patients.
    slides
        Codes of each tile's slide, -1 where it is unknown, shape (n_tiles,); None where none is
        known.
    """

    runs: tuple[RunResult, ...]
    failures: tuple[Failure, ...]
    y_true: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    tile_ids: npt.NDArray[np.str_]
    patients: npt.NDArray[np.int64] | None
    test_fold: npt.NDArray[np.int16]
    plan_id: str
    sites: npt.NDArray[np.int64] | None = None
    groups: npt.NDArray[np.int64] | None = None
    grouped_by: str = "patient_id"
    slides: npt.NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls,
        runs: Sequence[RunResult],
        *,
        y_true: npt.NDArray[np.int64],
        test_fold: npt.NDArray[np.int16],
        tile_ids: npt.NDArray[np.str_],
        patients: npt.ArrayLike | None = None,
        slides: npt.ArrayLike | None = None,
        failures: Sequence[Failure] = (),
    ) -> ResultsTable:
        """Put runs of one plan together with their truth.

        Parameters
        ----------
        runs
            At least one.
        y_true, test_fold, tile_ids, failures
            As the table's.
        patients, slides
            Any value that tells patients, and slides, apart, shape (n_tiles,).

        Raises
        ------
        ResultsError
            If there is no run.
        """
        if not runs:
            raise ResultsError("no runs are given: there is nothing to put into a table")
        first = runs[0]
        return cls(
            tuple(runs),
            tuple(failures),
            y_true,
            first.classes,
            tile_ids,
            _codes(patients),
            test_fold,
            first.plan_id,
            slides=_codes(slides),
        )


def _codes(names: npt.ArrayLike | None) -> npt.NDArray[np.int64] | None:
    if names is None:
        return None
    found = np.asarray(names).astype(str)
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def run_id(arm: str, params: Mapping[str, Any], fingerprint: str, plan_id: str, seed: int) -> str:
    """Hash (16 hex) of what changes an arm's numbers; its first 8 digits name the run's folder."""
    identity = json.dumps([arm, params, fingerprint, plan_id, seed], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def run_folder(root: Path, arm: str, identity: str) -> Path:
    """Folder of one run below ``root``: ``<arm>__<run_id8>`` with a file name's characters only."""
    return root / f"{re.sub(r'[^A-Za-z0-9._+@-]', '-', arm)}__{identity[:8]}"


def save_run(run: RunResult, root: Path) -> Path:
    """Write a run below ``root``; ``run.json`` comes last, so a folder that has it is complete."""
    folder = run_folder(root, run.arm, run.run_id)
    folder.mkdir(parents=True, exist_ok=True)
    archive = io.BytesIO()
    np.savez_compressed(archive, y_prob=run.y_prob)
    write_atomically(folder / "predictions.npz", archive.getvalue())
    write_embeddings(run.features, folder)
    _write_scores(run.scores, folder / "scores.csv")
    write_atomically(
        folder / "run.json", json.dumps(_header(run), indent=1, allow_nan=False) + "\n"
    )
    (folder / "failure.json").unlink(missing_ok=True)
    return folder


def load_run(folder: Path) -> RunResult:
    """Read a complete run.

    Raises
    ------
    ResultsError
        If the run is unfinished, damaged, or of a newer schema.
    """
    try:
        header = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        y_prob = _read_predictions(folder / "predictions.npz")
        scores = _read_scores(folder / "scores.csv")
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        message = f"run {folder.name} cannot be read ({error}): delete its folder and run again"
        raise ResultsError(message) from error
    if header.pop("schema_version") > SCHEMA_VERSION:
        raise ResultsError(f"run {folder.name} was written by a newer featurebench: upgrade")
    if not header.pop("run_id").startswith(folder.name.rpartition("__")[2]):
        raise ResultsError(f"run {folder.name} holds another run: delete its folder and run again")
    for key in ("cost", "extraction_cost"):
        header[key] = Cost.of(header[key])
    header["embedding_costs"] = {
        name: Cost.of(cost) for name, cost in header.get("embedding_costs", {}).items()
    }
    header["classes"] = tuple(header["classes"])
    return RunResult(**header, y_prob=y_prob, scores=scores)


def is_complete(folder: Path) -> bool:
    """Whether a run's last file is there."""
    return (folder / "run.json").is_file()


def save_failure(root: Path, arm: str, kind: ArmKind, identity: str, error: str) -> Failure:
    """Record that an arm raised; the next run tries it again."""
    folder = run_folder(root, arm, identity)
    folder.mkdir(parents=True, exist_ok=True)
    failure = Failure(arm, kind, error)
    write_atomically(folder / "failure.json", json.dumps(asdict(failure), indent=1) + "\n")
    return failure


def load_failure(folder: Path) -> Failure | None:
    """Read the failure recorded for a run, or None."""
    file = folder / "failure.json"
    if not file.is_file():
        return None
    return Failure(**json.loads(file.read_text(encoding="utf-8")))


def _header(run: RunResult) -> dict[str, Any]:
    skipped = {"y_prob", "scores", "features"}
    header = {k: v for k, v in vars(run).items() if k not in skipped}
    header["cost"], header["extraction_cost"] = asdict(run.cost), asdict(run.extraction_cost)
    header["embedding_costs"] = {name: asdict(cost) for name, cost in run.embedding_costs.items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.run_id,
        **header,
    }


def _read_predictions(file: Path) -> npt.NDArray[np.float32]:
    # numpy leaves a file that it opened itself open when the archive is damaged.
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        y_prob: npt.NDArray[np.float32] = arrays["y_prob"]
    return y_prob


def _write_scores(scores: tuple[FoldScore, ...], file: Path) -> None:
    lines = ["repeat,fold,metric,value,n_test"]
    for s in scores:
        value = "" if np.isnan(s.value) else repr(float(s.value))
        lines.append(f"{s.repeat},{s.fold},{s.metric},{value},{s.n_test}")
    write_atomically(file, "\n".join(lines) + "\n")


def _read_scores(file: Path) -> tuple[FoldScore, ...]:
    with file.open(encoding="utf-8", newline="") as stream:
        return tuple(
            FoldScore(
                int(row["repeat"]),
                int(row["fold"]),
                row["metric"],
                float(row["value"] or "nan"),
                int(row["n_test"]),
            )
            for row in csv.DictReader(stream)
        )
