"""LearningCurve: how an arm scored with fewer labels, in memory and on disk."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.errors import ResultsError
from featurebench.results.cost import Cost
from featurebench.results.files import write_atomically
from featurebench.results.run import run_folder, run_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA_VERSION = 1
_HEAD = ("kind", "size", "draw", "repeat", "fold", "n_tiles", "n_patients", "inner")
# Of the draws, this share lies below and above the spread.
_TAIL = 0.1


@dataclass(frozen=True)
class CurvePoint:
    """One fit on one smaller training set.

    Parameters
    ----------
    kind, size
        What was counted (``patients``, ``tiles``, ``shots`` or ``patient_shots``), and how many.
    draw, repeat, fold
        Number of the draw, and the test fold that it was drawn for.
    n_tiles, n_patients
        Trained on; ``n_patients`` is None where no patient is known.
    inner
        What hyper-parameters were chosen on: ``groups`` or ``tiles`` (inner folds of whole
        groups, or of single tiles), ``fixed`` (not chosen, for want of rows), or empty where the
        head has nothing to choose.
    values
        Value of each metric on the fold's test tiles, NaN where it is undefined.
    """

    kind: str
    size: int
    draw: int
    repeat: int
    fold: int
    n_tiles: int
    n_patients: int | None
    inner: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class LeftOut:
    """A size that was asked for and is not in the curve, with the reason."""

    kind: str
    size: int
    reason: str


@dataclass(frozen=True)
class SizeSummary:
    """One size of a curve in one metric.

    Parameters
    ----------
    value
        Mean over the draws and folds of a repeat, then over repeats; NaN if it is undefined.
    spread_low, spread_high
        10th and 90th percentile, over repeats and draws, of the mean over folds. They tell how
        much it matters which tiles are labelled; they are no confidence interval, because all
        draws share the same patients.
    n_draws
        Repeats times draws.
    n_tiles, n_patients
        Mean numbers trained on.
    n_fixed
        Fits whose hyper-parameters were not chosen, for want of rows, of ``n_fits``.
    """

    kind: str
    size: int
    value: float
    spread_low: float
    spread_high: float
    n_draws: int
    n_tiles: float
    n_patients: float | None
    n_fixed: int
    n_fits: int


@dataclass(frozen=True)
class LearningCurve:
    """An arm's scores with fewer labels, on the test folds of the plan that all arms share.

    Parameters
    ----------
    arm, embedding, head, params, fingerprint, plan_id, seed, classes
        As of a `RunResult`.
    settings
        How training sets were drawn, JSON-ready.
    metrics
        Names of the metrics of every point.
    points
        One per size, draw, repeat and fold; a size is there for all folds and draws, or for none.
    left_out
        Sizes asked for that the training sides, or the head, cannot do with.
    full_tiles, full_patients
        Mean numbers of a whole training side.
    cost
        Of all fits together.
    """

    arm: str
    embedding: str | None
    head: str | None
    params: Mapping[str, Any]
    fingerprint: str
    plan_id: str
    seed: int
    classes: tuple[str, ...]
    settings: Mapping[str, Any]
    metrics: tuple[str, ...]
    points: tuple[CurvePoint, ...]
    left_out: tuple[LeftOut, ...]
    full_tiles: float
    full_patients: float | None
    cost: Cost
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def curve_id(self) -> str:
        """Hash (16 hex) of what changes the numbers."""
        return curve_id(
            self.arm, self.params, self.settings, self.fingerprint, self.plan_id, self.seed
        )

    def by_size(self, metric: str) -> tuple[SizeSummary, ...]:
        """Summarise a metric by kind and size, kinds as first met, sizes ascending.

        Raises
        ------
        ResultsError
            If the curve does not have the metric.
        """
        if metric not in self.metrics:
            raise ResultsError(
                f"curve of {self.arm} has no {metric!r}: it has {', '.join(self.metrics)}"
            )
        groups: dict[str, dict[int, list[CurvePoint]]] = {}
        for point in self.points:
            groups.setdefault(point.kind, {}).setdefault(point.size, []).append(point)
        return tuple(
            _summarise(points, metric)
            for sizes in groups.values()
            for _, points in sorted(sizes.items())
        )


def curve_id(  # noqa: PLR0917
    arm: str,
    params: Mapping[str, Any],
    settings: Mapping[str, Any],
    fingerprint: str,
    plan_id: str,
    seed: int,
) -> str:
    """Hash (16 hex) of an arm and of how its training sets are drawn."""
    return run_id(arm, {"params": params, "few_labels": settings}, fingerprint, plan_id, seed)


def curve_folder(root: Path, arm: str, identity: str) -> Path:
    """Folder of one curve below ``root``, named as a run's is."""
    return run_folder(root, arm, identity)


def save_curve(curve: LearningCurve, root: Path) -> Path:
    """Write a curve below ``root``; ``curve.json`` comes last: a folder that has it is complete."""
    folder = curve_folder(root, curve.arm, curve.curve_id)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "curve.csv", _points_csv(curve))
    header = json.dumps(_header(curve), indent=1, allow_nan=False)
    write_atomically(folder / "curve.json", header + "\n")
    return folder


def load_curve(folder: Path) -> LearningCurve:
    """Read a complete curve.

    Raises
    ------
    ResultsError
        If the curve is unfinished, damaged, or of a newer schema.
    """
    try:
        header = json.loads((folder / "curve.json").read_text(encoding="utf-8"))
        newer = header.pop("schema_version") > SCHEMA_VERSION
        identity, n_points = header.pop("curve_id"), header.pop("n_points")
        points = () if newer else _read_points(folder / "curve.csv", header["metrics"], n_points)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"curve {folder.name} cannot be read ({error}): delete its folder and run again"
        raise ResultsError(message) from error
    if newer:
        raise ResultsError(f"curve {folder.name} was written by a newer featurebench: upgrade")
    if not identity.startswith(folder.name.rpartition("__")[2]):
        raise ResultsError(
            f"curve {folder.name} holds another curve: delete its folder and run again"
        )
    header["cost"] = Cost.of(header["cost"])
    header["left_out"] = tuple(LeftOut(**each) for each in header["left_out"])
    header["classes"], header["metrics"] = tuple(header["classes"]), tuple(header["metrics"])
    return LearningCurve(**header, points=points)


def is_complete_curve(folder: Path) -> bool:
    """Whether a curve's last file is there."""
    return (folder / "curve.json").is_file()


def _summarise(points: list[CurvePoint], metric: str) -> SizeSummary:
    draws: dict[tuple[int, int], list[float]] = {}
    for point in points:
        draws.setdefault((point.repeat, point.draw), []).append(point.values[metric])
    means = {key: _mean(values) for key, values in draws.items()}
    by_repeat: dict[int, list[float]] = {}
    for (repeat, _), mean in means.items():
        by_repeat.setdefault(repeat, []).append(mean)
    known = [mean for mean in means.values() if not np.isnan(mean)]
    low, high = np.quantile(known, [_TAIL, 1 - _TAIL]) if known else (np.nan, np.nan)
    patients = [point.n_patients for point in points if point.n_patients is not None]
    return SizeSummary(
        points[0].kind,
        points[0].size,
        _mean([_mean(values) for values in by_repeat.values()]),
        float(low),
        float(high),
        len(means),
        float(np.mean([point.n_tiles for point in points])),
        float(np.mean(patients)) if patients else None,
        sum(point.inner == "fixed" for point in points),
        len(points),
    )


def _mean(values: list[float]) -> float:
    """Mean of those that are defined."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _header(curve: LearningCurve) -> dict[str, Any]:
    header = {key: value for key, value in vars(curve).items() if key != "points"}
    header["cost"] = asdict(curve.cost)
    header["left_out"] = [asdict(each) for each in curve.left_out]
    return {
        "schema_version": SCHEMA_VERSION,
        "curve_id": curve.curve_id,
        "n_points": len(curve.points),
        **header,
    }


def _points_csv(curve: LearningCurve) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*_HEAD, *curve.metrics])
    for point in curve.points:
        values = [point.values[name] for name in curve.metrics]
        writer.writerow(
            [
                *(getattr(point, name) for name in _HEAD),
                *("" if np.isnan(value) else repr(float(value)) for value in values),
            ]
        )
    return buffer.getvalue()


def _read_points(file: Path, metrics: list[str], n_points: int) -> tuple[CurvePoint, ...]:
    with file.open(encoding="utf-8", newline="") as stream:
        points = tuple(_read_point(row, metrics) for row in csv.DictReader(stream))
    if len(points) != n_points:
        raise ValueError(f"{file.name} has {len(points)} rows, not {n_points}")
    return points


def _read_point(row: dict[str, str], metrics: list[str]) -> CurvePoint:
    return CurvePoint(
        row["kind"],
        int(row["size"]),
        int(row["draw"]),
        int(row["repeat"]),
        int(row["fold"]),
        int(row["n_tiles"]),
        int(row["n_patients"]) if row["n_patients"] else None,
        row["inner"],
        {name: float(row[name] or "nan") for name in metrics},
    )
