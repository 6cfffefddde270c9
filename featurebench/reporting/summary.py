"""summarize(): everything that a report shows, as one plain dict without HTML."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.comparison import add_selected
from featurebench.comparison.barred import FEWEST_UNITS
from featurebench.comparison.selection import describe_choice
from featurebench.comparison.verdict import add_turning
from featurebench.metrics import GREATER_IS_BETTER
from featurebench.reporting.ablation import ablation_section, epochs_run
from featurebench.reporting.audit import audit_section
from featurebench.reporting.checklist import checklist_section
from featurebench.reporting.cohort import data_section, plan_section
from featurebench.reporting.diagnostics import calibration_curve, roc_curve
from featurebench.reporting.drift import drift_section
from featurebench.reporting.evidence import evidence_sections
from featurebench.reporting.formats import metric_label, short_sources, unit_of
from featurebench.reporting.learning import learning_section
from featurebench.reporting.ledger import budget_sentences, costs_of_arms
from featurebench.reporting.limits import limits_of
from featurebench.reporting.offered import offered_section
from featurebench.reporting.seeds import seeds_section
from featurebench.reporting.turning import turn_in_verdict

if TYPE_CHECKING:
    from featurebench.comparison import ArmSummary, Comparison
    from featurebench.results import LearningCurve, ResultsTable, RunResult
    from featurebench.splits import SplitPlan
    from featurebench.tiles import TileManifest

SCHEMA_VERSION = 3
Json = dict[str, Any] | list[Any] | str | int | float | None


def summarize(
    *,
    experiment: str,
    comparison: Comparison,
    results: ResultsTable,
    manifest: TileManifest,
    bad_tiles: Sequence[Mapping[str, Any]],
    plan: SplitPlan,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    curves: Sequence[LearningCurve] = (),
    stored_bytes: Mapping[str, int] | None = None,
    varied: Mapping[str, Mapping[str, Any]] | None = None,
    replicas: Mapping[str, Sequence[RunResult]] | None = None,
    embedding_map: Mapping[str, Any] | None = None,
    audit: Mapping[str, Any] | None = None,
    frozen: Sequence[Mapping[str, Any]] = (),
    protocol: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Gather what the report shows; JSON can hold it, undefined numbers are None.

    Parameters
    ----------
    experiment
        Its name.
    comparison, results
        The arms, their differences and their out-of-fold probabilities.
    manifest
        The usable tiles, in the rows of ``results``.
    bad_tiles
        ``tile_id`` and ``reason`` of every tile that was left out.
    plan
        The folds that all arms share.
    settings
        The resolved experiment.
    provenance
        Versions, weights, commit, device, time.
    curves
        How arms do with fewer labels; the report then has a section about it.
    stored_bytes
        Size of what each arm left on disk, by arm.
    varied
        Of every declared arm that is one of a sweep: its values of what is varied, by arm.
    replicas
        By arm: its runs with other seeds, which are not among the results.
    embedding_map
        Coordinates of tiles on a plane, as `featurebench.reporting.map.map_section` takes them.
    audit
        The content of ``audit.json``, with rows that count in ``manifest``.
    frozen
        By arm, what shows that its network was frozen: ``arm``, ``state``, ``network``, ``sha256``
        and ``shown``.
    protocol
        What was declared before the first run and changed since, with ``sentences`` that say so.

    Returns
    -------
    dict
        The content of ``report.json``.
    """
    data = data_section(manifest, bad_tiles)
    of_sizes = (data["tile_sizes"] or {}).get("caveat")
    summary: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "experiment": experiment,
        "verdict": comparison.verdict,
        "others": list(comparison.others),
        "barred": list(comparison.barred),
        "unit": _unit(comparison, results),
        "weights": comparison.weights,
        "n_effective": comparison.n_effective,
        "interval_units": _interval_units(comparison, results),
        "caveats": [*comparison.caveats, *([of_sizes] if of_sizes else [])],
        "metric": _metric(comparison),
        "reference": comparison.reference,
        "selections": [asdict(each) for each in comparison.selections],
        "data": data,
        "plan": plan_section(plan, manifest),
        "arms": _arms(comparison, results, stored_bytes or {}),
        "comparisons": [asdict(contrast) for contrast in comparison.contrasts],
        "failures": [asdict(failure) for failure in results.failures],
        "settings": dict(settings),
        "protocol": protocol,
        "provenance": dict(provenance),
    }
    summary["choices"] = _choices(comparison, summary["arms"])
    summary["few_labels"] = learning_section(
        curves, arms=summary["arms"], metric=comparison.metric, margin=comparison.margin
    )
    turning = turn_in_verdict(summary["few_labels"], comparison.metric)
    summary["verdict"] = add_turning(comparison.verdict, turning)
    summary["offered"] = offered_section(comparison)
    summary["budget"] = budget_sentences(summary["arms"])
    summary["ablations"] = ablation_section(summary["arms"], varied or {}, comparison.metric)
    summary["seeds"] = seeds_section(summary["arms"], replicas or {}, comparison.metric)
    summary["drift"] = drift_section(results.runs, arms=summary["arms"])
    summary |= evidence_sections(
        comparison,
        results,
        manifest,
        arms=summary["arms"],
        replicas=replicas,
        embedding_map=embedding_map,
        **_declared(settings),
    )
    summary["inputs"] = _inputs(provenance.get("embeddings") or (), results.runs)
    summary["audit"] = audit_section(audit, manifest=manifest, plan=plan, frozen=frozen)
    summary["limits"] = limits_of(summary)
    summary["checklist"] = checklist_section(summary)
    return {key: json_ready(value) for key, value in summary.items()}


def json_ready(value: object) -> Json:
    """Return the value made of dict, list, str, int, float, bool and None only.

    NaN and infinities become None; whatever JSON does not know becomes its text.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    elif is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def _declared(settings: Mapping[str, Any]) -> dict[str, Any]:
    declared = settings.get("compare") or {}
    return {key: declared.get(key) for key in ("operating_point", "prevalence")}


def _metric(comparison: Comparison) -> dict[str, Any]:
    return {
        "name": comparison.metric,
        "label": metric_label(comparison.metric),
        "unit": unit_of(comparison.metric),
        "greater_is_better": GREATER_IS_BETTER[comparison.metric],
        "margin": comparison.margin,
        "floor": comparison.floor,
        "alpha": comparison.alpha,
    }


def _inputs(
    embeddings: Sequence[Mapping[str, Any]], runs: Sequence[RunResult]
) -> list[dict[str, str]]:
    """Say in words what becomes of a tile before a network sees it, once for each network."""
    known = [(each["name"].partition("@")[0], each.get("preprocessing")) for each in embeddings]
    rows = [_input(name, found, is_tuned=False) for name, found in known if found is not None]
    tuned = [(run.arm, run.params.get("preprocessing")) for run in runs if run.kind == "finetune"]
    rows += [_input(name, found, is_tuned=True) for name, found in tuned if found]
    return [row for number, row in enumerate(rows) if row not in rows[:number]]


def _input(name: str, found: Mapping[str, Any], *, is_tuned: bool) -> dict[str, str]:
    if "input_size" not in found:
        size = "not known, embedded elsewhere" if "source" in found else "the tile as it is"
        return dict.fromkeys(("crop", "interpolation", "mean", "std"), "") | {
            "network": name,
            "size": size,
        }
    height, width = found["input_size"][-2:]
    crop = f"{100 * found['crop_pct']:g} % of the shorter side, {found['crop_mode']}"
    return {
        "network": name,
        "size": f"{width} × {height}",
        "crop": "to a square, margins of the longer side" if is_tuned else crop,
        "interpolation": found["interpolation"],
        **{key: ", ".join(f"{value:g}" for value in found[key]) for key in ("mean", "std")},
    }


def _unit(comparison: Comparison, results: ResultsTable) -> str:
    """Name what is taken as independent besides folds: ``patients``, or ``tiles`` without them."""
    for contrast in comparison.contrasts:
        return contrast.by_patients.unit
    return "tiles" if results.patients is None else "patients"


def _interval_units(comparison: Comparison, results: ResultsTable) -> list[str]:
    """Name what intervals of scores are over: sites too, where there are enough for a claim."""
    unit = _unit(comparison, results)
    if results.sites is None or unit != "patients":
        return [unit]
    n_sites = len(np.unique(results.sites[(results.test_fold >= 0).any(axis=0)]))
    return [unit, *(["sites"] if n_sites >= FEWEST_UNITS else [])]


def _arms(
    comparison: Comparison, results: ResultsTable, stored_bytes: Mapping[str, int]
) -> list[dict[str, Any]]:
    table, _ = add_selected(results, comparison.metric)
    runs = {run.arm: run for run in table.runs}
    # An arm made by a selection reads what its candidates read, so it shares nothing out itself.
    made = [run for run in table.runs if all(run.arm != own.arm for own in results.runs)]
    costs = costs_of_arms(made, {}) | costs_of_arms(results.runs, stored_bytes)
    names = arm_names(comparison.arms)
    return [
        names[arm.arm]
        | _arm(arm, runs[arm.arm])
        | costs[arm.arm]
        | {"curves": _curves(runs[arm.arm], results)}
        for arm in comparison.arms
    ]


def _choices(comparison: Comparison, arms: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what choosing the best probe and the best fine-tune cost on the tiles tested."""
    labels = {arm["id"]: arm["label"] for arm in arms}
    kinds = Counter(arm["kind"] for arm in arms if not arm["chosen"])
    told = [
        describe_choice(each, labels, comparison.metric, kinds[each.kind])
        for each in comparison.selections
    ]
    return [sentence for sentence in told if sentence]


def arm_names(arms: Sequence[ArmSummary]) -> dict[str, dict[str, str]]:
    """Return for each arm what to call it: ``method``, ``source`` and both as a ``label``.

    An arm that was given a name of its own, or whose label would be another's too, keeps its name.
    """
    parts = {arm.arm: _parts(arm) for arm in arms}
    short: dict[str, str] = {}
    for kind in ("probe", "finetune"):
        sources = [parts[arm.arm][1] for arm in arms if arm.kind == kind]
        short |= short_sources([source for source in sources if source])
    names = {}
    for arm in arms:
        method, source = parts[arm.arm][0], short.get(parts[arm.arm][1], parts[arm.arm][1])
        label = f"{method} · {source}" if source else method
        names[arm.arm] = {"method": method, "source": source, "label": label}
    labels = Counter(name["label"] for name in names.values())
    for arm_id, name in names.items():
        if labels[name["label"]] > 1:
            names[arm_id] = {"method": arm_id, "source": "", "label": arm_id}
    return names


def _parts(arm: ArmSummary) -> tuple[str, str]:
    if arm.chosen:
        return arm.arm, ""
    made_of = arm.head or arm.strategy or arm.kind
    method = f"fine-tune, {made_of}" if arm.kind == "finetune" else made_of
    prefix, plus, suffix = arm.arm.rpartition("+")
    stem, *varied = suffix.split(",")
    if plus and stem == made_of:
        told = [method, *(value.replace("=", " ") for value in varied)]
        return ", ".join(told), arm.embedding or prefix
    if plus and arm.kind == "probe" and _is_label(prefix, arm.embedding):
        return suffix, arm.embedding or prefix
    return arm.arm, "" if arm.arm == made_of else method


def _is_label(text: str, embedding: str | None) -> bool:
    """Tell whether a text is how an experiment calls an embedding: with fingerprint or without."""
    return embedding is not None and text.startswith(embedding.partition("@")[0])


def _arm(arm: ArmSummary, run: RunResult) -> dict[str, Any]:
    return {
        "id": arm.arm,
        "kind": arm.kind,
        "embedding": arm.embedding,
        "head": arm.head,
        "strategy": arm.strategy,
        "n_repeats": arm.n_repeats,
        "chosen": dict(arm.chosen),
        "metrics": {name: asdict(estimate) for name, estimate in arm.metrics.items()},
        "patient_metrics": arm.patient_metrics,
        "undefined_folds": arm.undefined_folds,
        "confusion": arm.confusion,
        "params": run.params,
        "epochs": epochs_run(run),
        "image_size": arm.training.image_size,
        "device": run.device,
        "fold_scores": [asdict(score) for score in run.scores],
    }


def _curves(run: RunResult, results: ResultsTable) -> dict[str, Any]:
    y_prob = run.y_prob[0].astype(np.float64)
    tested = ~np.isnan(y_prob).any(axis=1)
    arrays = results.y_true[tested], y_prob[tested], results.classes
    return {"roc": roc_curve(*arrays), "calibration": calibration_curve(*arrays)}
