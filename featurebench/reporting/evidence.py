"""The evidence behind the differences: subgroups, curves, decisions, patients, tiles, the map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.comparison.analysis import add_selected
from featurebench.comparison.design import Design
from featurebench.metrics import GREATER_IS_BETTER
from featurebench.reporting.bands import MAX_UNITS, mean_curves
from featurebench.reporting.decision import decision_section
from featurebench.reporting.gallery import gallery_section
from featurebench.reporting.map import map_section
from featurebench.reporting.operating import operating_section
from featurebench.reporting.patients import patients_section
from featurebench.reporting.reliability import recalibration_section, reliability
from featurebench.reporting.seeds import repeat_wins
from featurebench.reporting.subgroups import subgroups_section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featurebench.comparison import Comparison
    from featurebench.results import ResultsTable, RunResult
    from featurebench.tiles import TileManifest

    Arm = Mapping[str, Any]

# Enough for the edges of a pointwise band at 95 %, and few enough for seconds.
RESAMPLES = 200
MAX_LINES = 5
MAX_CLASS_PANELS = 9


@dataclass(frozen=True)
class _Cast:
    """Who is shown: the reference and the arm of the primary contrast, then the best others."""

    leads: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """The arms that a chart of lines has room for."""
        return (*self.leads, *self.others)[:MAX_LINES]


def evidence_sections(
    comparison: Comparison,
    results: ResultsTable,
    manifest: TileManifest,
    *,
    arms: Sequence[Arm],
    replicas: Mapping[str, Sequence[RunResult]] | None = None,
    embedding_map: Mapping[str, Any] | None = None,
    operating_point: Mapping[str, float] | None = None,
    prevalence: float | None = None,
) -> dict[str, Any]:
    """Return the sections of the report that show what the numbers are made of.

    Parameters
    ----------
    comparison, results, manifest
        As in `summarize`.
    arms
        The summary's arms.
    replicas
        By arm: its runs with other seeds.
    embedding_map
        As `map_section` takes it.
    operating_point
        The declared ``threshold`` on the second class's probability, if any.
    prevalence
        The declared share of the second class where the arms are to be used, if any.

    Returns
    -------
    dict
        ``subgroups``, ``bands``, ``recalibration``, ``decision``, ``operating_point``,
        ``patients``, ``gallery``, ``map``, ``pareto`` and ``repeat_wins``; None where there is
        nothing to show.
    """
    runs = _runs(comparison, results)
    cast = _cast(comparison, arms)
    design = Design.of(results, n_boot=RESAMPLES, seed=0, weights=comparison.weights)
    by_id = {arm["id"]: arm for arm in arms}
    lines = [(by_id[name], runs[name]) for name in cast.lines if name in runs]
    complete = [(by_id[name], run) for name, run in runs.items() if name in by_id]
    threshold = None if operating_point is None else operating_point["threshold"]
    alpha = comparison.alpha
    pair = tuple(runs[name] for name in reversed(cast.leads) if name in runs)
    return {
        "subgroups": subgroups_section(comparison, [*cast.leads, *cast.others]),
        "bands": _bands(design, lines, cast, results.classes, alpha),
        "recalibration": recalibration_section(design, complete, results.classes, alpha=alpha),
        "decision": decision_section(
            design, lines, results.classes, leads=cast.leads, prevalence=prevalence, alpha=alpha
        ),
        "operating_point": operating_section(
            design,
            complete,
            results.classes,
            threshold=threshold,
            prevalence=prevalence,
            alpha=alpha,
        ),
        "patients": _patients(design, pair, comparison.metric, replicas or {}),
        "gallery": gallery_section(arms, runs, results, manifest, cast.leads),
        "map": map_section(embedding_map, manifest),
        "pareto": {"leads": list(cast.leads)},
        "repeat_wins": repeat_wins(
            comparison, runs, results, {arm["id"]: arm["label"] for arm in arms}
        ),
    }


def _runs(comparison: Comparison, results: ResultsTable) -> dict[str, RunResult]:
    """Return the complete runs of all arms, those that a selection makes included."""
    runs = {run.arm: run for run in results.runs}
    if any(arm.arm not in runs for arm in comparison.arms):
        table, _ = add_selected(results, comparison.metric)
        runs = {run.arm: run for run in table.runs}
    return {name: run for name, run in runs.items() if _is_complete(run, results)}


def _is_complete(run: RunResult, results: ResultsTable) -> bool:
    """Whether every tested tile has a prediction, without which nothing here means anything."""
    missing = np.isnan(run.y_prob).any(axis=2) & (results.test_fold[: run.n_repeats] >= 0)
    return not missing.any()


def _cast(comparison: Comparison, arms: Sequence[Arm]) -> _Cast:
    primary = comparison.primary
    contrasts = [contrast.arm_a for contrast in comparison.contrasts]
    kinds = {arm["id"]: arm["kind"] for arm in arms}
    tuned = [name for name in contrasts if kinds.get(name) == "finetune"]
    second = [primary.arm_a] if primary else (tuned or contrasts)[:1]
    leads = (comparison.reference, *second)
    values = {arm["id"]: arm["metrics"].get(comparison.metric, {}).get("value") for arm in arms}
    sign = 1 if GREATER_IS_BETTER[comparison.metric] else -1
    others = sorted(
        (
            name
            for name, value in values.items()
            if name not in leads
            and kinds[name] != "baseline"
            and value is not None
            and np.isfinite(value)
        ),
        key=lambda name: -sign * values[name],
    )
    return _Cast(leads, tuple(others))


def _bands(
    design: Design,
    lines: Sequence[tuple[Arm, RunResult]],
    cast: _Cast,
    classes: Sequence[str],
    alpha: float,
) -> dict[str, Any] | None:
    """Return ROC and precision-recall curves by class, and the leads' calibration."""
    is_binary = len(classes) == 2
    shown = [1] if is_binary else list(range(min(len(classes), MAX_CLASS_PANELS)))
    rows = design.rows(0)
    panels = []
    for of in shown:
        # With several classes every panel is small: the leads alone.
        drawn = [each for each in lines if is_binary or each[0]["id"] in cast.leads]
        found = [
            {"id": arm["id"], "label": arm["label"], "is_lead": arm["id"] in cast.leads} | curves
            for arm, run in drawn
            if (curves := mean_curves(design, run, of, alpha=alpha, band=arm["id"] in cast.leads))
            is not None
        ]
        if found:
            is_of = design.y_true[rows] == of
            prevalence = float(np.average(is_of, weights=design.tile_weights[rows]))
            panels.append({"of": classes[of], "prevalence": prevalence, "arms": found})
    if not panels:
        return None
    calibration = [
        {"id": arm["id"], "label": arm["label"]} | reliability(design, run, alpha=alpha)
        for arm, run in lines
        if arm["id"] in cast.leads
    ]
    return {
        "panels": panels,
        "calibration": calibration,
        "unit": design.unit,
        "has_bands": design.n_units <= MAX_UNITS,
        "n_resamples": design.resamples.n_boot,
        "n_classes_left_out": 0 if is_binary else len(classes) - len(shown),
    }


def _patients(
    design: Design,
    pair: tuple[RunResult, ...],
    metric: str,
    replicas: Mapping[str, Sequence[RunResult]],
) -> dict[str, Any] | None:
    if len(pair) != 2:
        return None
    return patients_section(design, (pair[0], pair[1]), metric, replicas.get(pair[0].arm, ()))
