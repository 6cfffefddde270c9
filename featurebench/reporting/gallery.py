"""Tiles behind the numbers: where two arms disagree, and each arm's most confident errors."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from featurebench.errors import TileError
from featurebench.tiles import read_tile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from featurebench.results import ResultsTable, RunResult
    from featurebench.tiles import TileManifest

    Floats = npt.NDArray[np.float64]
    Rows = npt.NDArray[np.intp]

SIDE = 96
MAX_PICTURES = 120
PER_CHANGE = 12
PER_CELL = 8
PER_CELL_NAMED = 5
MAX_NAMED_CELLS = 30


@dataclass(frozen=True)
class _First:
    """One arm's first repeat, the one that confusion matrices count."""

    prob: Floats
    called: npt.NDArray[np.int64]
    tested: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, run: RunResult) -> _First:
        prob = run.y_prob[0].astype(np.float64)
        tested = ~np.isnan(prob).any(axis=1)
        return cls(prob, np.where(tested, np.nan_to_num(prob).argmax(axis=1), -1), tested)


def gallery_section(
    arms: Sequence[Mapping[str, Any]],
    runs: Mapping[str, RunResult],
    results: ResultsTable,
    manifest: TileManifest,
    leads: Sequence[str],
) -> dict[str, Any] | None:
    """Choose the tiles to show, the same ones every time; None where no arm has predictions.

    Parameters
    ----------
    arms
        The summary's arms; an arm's place among them is in its anchors. Baselines are left out.
    runs
        The arms' runs by name.
    results, manifest
        Truth, patients and where the pixels are.
    leads
        Reference and, where there is one, the arm of the primary contrast: their tiles are shown
        as pictures, those of other arms by their ids.

    Returns
    -------
    dict or None
        ``changes``: tiles that one lead calls right and the other wrong, by the difference between
        their probabilities of the true class; ``arms``: for each arm its ``cells`` of the confusion
        matrix off the diagonal, each with its most confident errors.
    """
    known = {arm["id"]: _First.of(runs[arm["id"]]) for arm in arms if arm["id"] in runs}
    if not known:
        return None
    shown = [name for name in leads if name in known]
    tiles = _Tiles(results, manifest)
    changes = _changes(tiles, {name: known[name] for name in shown}, shown)
    pictured, each = _share_out(results, [known[name] for name in shown])
    rows = []
    for place, arm in enumerate(arms):
        if arm["id"] not in known or arm["kind"] == "baseline":
            continue
        is_lead = arm["id"] in shown
        keep = pictured[shown.index(arm["id"])] if is_lead else frozenset()
        cells = _cells(tiles, known[arm["id"]], keep, each, everything=is_lead)
        rows.append(
            {"place": place, "id": arm["id"], "label": arm["label"], "is_lead": is_lead} | cells
        )
    rows.sort(key=lambda row: (not row["is_lead"], shown.index(row["id"]) if row["is_lead"] else 0))
    return {"changes": changes, "arms": rows, "n_pictures": tiles.n_pictures}


class _Tiles:
    """Reads and describes tiles; counts the pictures made."""

    def __init__(self, results: ResultsTable, manifest: TileManifest) -> None:
        self.results, self.manifest = results, manifest
        self.classes = results.classes
        self.n_pictures = 0

    def describe(self, row: int, first: _First, *, picture: bool) -> dict[str, Any]:
        """Return one tile with what an arm makes of it; patients by number, never by name."""
        results = self.results
        image = None
        if picture and self.n_pictures < MAX_PICTURES:
            image = picture_of(self.manifest, row)
            self.n_pictures += image is not None
        called = int(first.called[row])
        return {
            "tile_id": str(results.tile_ids[row]),
            "patient": None if results.patients is None else int(results.patients[row]) + 1,
            "true": self.classes[int(results.y_true[row])],
            "called": self.classes[called],
            "probability": round(float(first.prob[row, called]), 4),
            "image": image,
        }


def picture_of(manifest: TileManifest, row: int) -> str | None:
    """Return a tile, at most 96 pixels wide and high, as a data URI; None if it cannot be read."""
    try:
        image = read_tile(manifest.path_of(row)).copy()
    except TileError:
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def most_confident(first: _First, inside: npt.NDArray[np.bool_], most: int) -> Rows:
    """Return the rows inside with the largest probability of the class called, ties by row."""
    rows = np.flatnonzero(inside)
    order = np.lexsort((rows, -first.prob[rows, first.called[rows]]))
    return rows[order[:most]]


def _changes(
    tiles: _Tiles, known: Mapping[str, _First], shown: Sequence[str]
) -> list[dict[str, Any]]:
    if len(shown) < 2:
        return []
    reference, other = (known[name] for name in shown[:2])
    y_true = tiles.results.y_true
    both = reference.tested & other.tested
    gap = np.full(len(y_true), np.nan)
    rows = np.flatnonzero(both)
    gap[rows] = other.prob[rows, y_true[rows]] - reference.prob[rows, y_true[rows]]
    right = {"reference": reference.called == y_true, "other": other.called == y_true}
    found = []
    for kind, inside, sign in (
        ("gained", both & right["other"] & ~right["reference"], 1),
        ("lost", both & right["reference"] & ~right["other"], -1),
    ):
        candidates = np.flatnonzero(inside)
        order = np.lexsort((candidates, -sign * gap[candidates]))[:PER_CHANGE]
        entries = []
        for row in candidates[order].tolist():
            entry = tiles.describe(row, other, picture=True)
            true = int(y_true[row])
            entry["called_by_reference"] = tiles.classes[int(reference.called[row])]
            entry["of_true"] = round(float(other.prob[row, true]), 4)
            entry["of_true_by_reference"] = round(float(reference.prob[row, true]), 4)
            entries.append(entry)
        found.append({"kind": kind, "n": int(inside.sum()), "tiles": entries})
    return found


def _share_out(
    results: ResultsTable, leads: Sequence[_First]
) -> tuple[list[frozenset[tuple[int, int]]], int]:
    """Choose whose cells get pictures, the fullest first, and how many each."""
    counts = [
        (n, -place, -true, -called)
        for place, first in enumerate(leads)
        for (true, called), n in _errors(results, first).items()
    ]
    budget = MAX_PICTURES - 2 * PER_CHANGE
    each = max(2, min(PER_CELL, budget // max(len(counts), 1)))
    kept = sorted(counts, reverse=True)[: budget // each]
    return [
        frozenset((-true, -called) for _, at, true, called in kept if -at == place)
        for place in range(len(leads))
    ], each


def _errors(results: ResultsTable, first: _First) -> dict[tuple[int, int], int]:
    """Count the errors by true and called class."""
    n_classes = len(results.classes)
    rows = first.tested & (first.called != results.y_true)
    counts = np.bincount(
        results.y_true[rows] * n_classes + first.called[rows], minlength=n_classes**2
    )
    return {divmod(int(cell), n_classes): int(counts[cell]) for cell in np.flatnonzero(counts)}


def _cells(
    tiles: _Tiles,
    first: _First,
    pictured: frozenset[tuple[int, int]],
    each: int,
    *,
    everything: bool,
) -> dict[str, Any]:
    y_true = tiles.results.y_true
    errors = _errors(tiles.results, first)
    ranked = sorted(errors, key=lambda cell: (-errors[cell], cell))
    kept = ranked if everything else ranked[:MAX_NAMED_CELLS]
    cells = []
    for true, called in sorted(kept):
        inside = first.tested & (y_true == true) & (first.called == called)
        show = (true, called) in pictured
        rows = most_confident(first, inside, each if show else PER_CELL_NAMED)
        entries = [tiles.describe(row, first, picture=show) for row in rows.tolist()]
        cells.append(
            {
                "true": true,
                "called": called,
                "says": f"{tiles.classes[true]} called {tiles.classes[called]}",
                "n": errors[true, called],
                "tiles": entries,
            }
        )
    return {"cells": cells, "n_left_out": len(ranked) - len(kept)}
