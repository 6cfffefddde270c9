"""From the evidence sections of the summary to their charts and legends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featurebench.reporting import curves
from featurebench.reporting.decision_chart import decision
from featurebench.reporting.legend import COLOURS, swatch
from featurebench.reporting.map import map_panels
from featurebench.reporting.pareto import Arm, Pareto, pareto
from featurebench.reporting.patients_chart import component_bar, difference_bars
from featurebench.reporting.ranking import better_sign, value_of
from featurebench.reporting.subgroups import mark_sample, subgroup_tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    Summary = Mapping[str, Any]


def evidence_figures(summary: Summary) -> dict[str, Any]:
    """Return the charts of the evidence by section; the parts that are not there are empty."""
    patients = summary.get("patients")
    return {
        "bands": _bands(summary.get("bands"), summary["data"]["classes"]),
        "decision": _decision(summary.get("decision")),
        "subgroups": subgroup_tables(summary.get("subgroups")),
        "lead_marks": [mark_sample(0), mark_sample(1)],
        "patients": None if patients is None else difference_bars(patients),
        "components": component_bar(patients["components"]) if patients else None,
        "map": map_panels(summary.get("map")),
        "pareto": _pareto(summary),
    }


def _bands(section: Mapping[str, Any] | None, classes: Sequence[str]) -> dict[str, Any] | None:
    if section is None:
        return None
    names = [arm["id"] for arm in section["panels"][0]["arms"]]
    colours = {name: number % COLOURS for number, name in enumerate(names)}
    panels = []
    for panel in section["panels"]:
        roc, pr = (
            [_series(arm, arm[kind], colours[arm["id"]]) for arm in panel["arms"]]
            for kind in ("roc", "pr")
        )
        of, prevalence = panel["of"], panel["prevalence"]
        panels.append(
            {
                "of": of,
                "roc": curves.roc(roc, label=f"ROC curves of {of}"),
                "pr": curves.precision_recall(
                    pr, label=f"Precision-recall curves of {of}", prevalence=prevalence
                ),
            }
        )
    is_binary = len(classes) == 2
    axes = ("predicted probability", "observed frequency")
    if not is_binary:
        axes = ("probability of the called class", "share of calls that are right")
    calibration = curves.calibration(
        [_bins(arm, colours[arm["id"]]) for arm in section["calibration"]],
        label="Calibration with intervals",
        x_axis=axes[0],
        y_axis=axes[1],
    )
    legend = [
        (swatch(colours[arm["id"]], line=True), arm["id"]) for arm in section["panels"][0]["arms"]
    ]
    return {"panels": panels, "calibration": calibration, "legend": legend}


def _series(arm: Mapping[str, Any], curve: Mapping[str, Any], colour: int) -> curves.Series:
    return curves.Series(
        arm["label"],
        colour,
        tuple(curve["x"]),
        tuple(curve["y"]),
        low=tuple(curve["low"] or ()),
        high=tuple(curve["high"] or ()),
    )


def _bins(arm: Mapping[str, Any], colour: int) -> curves.Series:
    keys = ("predicted", "observed", "n", "low", "high")
    return curves.Series(arm["label"], colour, *(tuple(arm[key]) for key in keys))


def _decision(section: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if section is None:
        return None
    colours = [number % COLOURS for number in range(len(section["arms"]))]
    chart: Markup = decision(section, colours)
    legend = [
        (swatch(colour, line=True), arm)
        for colour, arm in zip(colours, section["arms"], strict=True)
    ]
    return {"chart": chart, "legend": legend}


def _pareto(summary: Summary) -> list[dict[str, Any]]:
    """Return score against wall-clock time and, where all arms used that alone, CPU time."""
    if not summary.get("pareto"):
        return []
    found = []
    for key, axis in (("wall_s", "wall-clock time"), ("cpu_s", "processor time")):
        arms = _costed(summary, key)
        if arms is None:
            continue
        chart: Pareto | None = pareto(
            arms, metric=summary["metric"]["name"], better=better_sign(summary), axis=axis
        )
        if chart is not None:
            found.append({"axis": axis, "chart": chart.chart, "front": chart.front})
    return found


def _costed(summary: Summary, key: str) -> list[Arm] | None:
    """Return the arms with a score and a cost; None for processor time that some arm lacks.

    The cost is that of one repeat, since arms may have been run on different numbers of them, with
    the whole embedding.
    """
    name, arms = summary["metric"]["name"], []
    for arm in summary["arms"]:
        value = value_of(arm, name)
        seconds = (arm["training_cost"].get(key) or 0.0) / arm["n_repeats"]
        seconds += arm["extraction_cost"].get(key) or 0.0
        if value is None or arm["kind"] == "baseline":
            continue
        if not seconds or (key == "cpu_s" and arm["cost"].get("gpu_s")):
            if key == "cpu_s":
                return None
            continue
        estimate = arm["metrics"][name]
        ends = estimate["ci_low"], estimate["ci_high"]
        is_reference = arm["id"] == summary["reference"]
        arms.append(Arm(arm["label"], arm["kind"], seconds, value, *ends, is_reference))
    return arms
