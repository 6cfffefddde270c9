"""From the summary to its charts: which arms share a plot, which colour means what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featurebench.reporting import (
    ablation_chart,
    charts,
    counts,
    curves,
    drift_chart,
    formats,
    learning_chart,
    scatter,
)
from featurebench.reporting.svg import element

if TYPE_CHECKING:
    from markupsafe import Markup

Summary = Mapping[str, Any]
COLOURS = 8
LEARNING_LINES = 5
OTHERS = "Fine-tuned and baseline"


def figures(summary: Summary) -> dict[str, Any]:
    """Return every chart of the report by name."""
    arms = ranked_arms(summary)
    return {
        "forest": forest_of(summary, arms),
        "folds": fold_scores_of(summary, arms),
        "classes": classes_chart(summary["data"]),
        "sites": sites_chart(summary["data"]),
        "patients": patients_chart(summary["data"]),
        "plan": plan_chart(summary),
        "confusion": [(arm, confusion_of(arm, summary)) for arm in arms],
        "panels": panels(summary),
        "gallery": gallery(summary["data"]),
        "few_labels": learning_panels(summary["few_labels"]),
        "ablations": ablation_chart.sweeps(summary["ablations"]),
        "seeds": seeds_chart(summary["seeds"]),
        "drift": drift_panels(summary["drift"], arms),
        "cost": cost_chart(summary, arms),
        "class_key": [
            (swatch(k % COLOURS), name) for k, name in enumerate(summary["data"]["classes"])
        ],
    }


def ranked_arms(summary: Summary) -> list[Mapping[str, Any]]:
    """Return the arms from the best value of the declared metric to the worst; undefined last."""
    name, sign = summary["metric"]["name"], better_sign(summary)

    def key(arm: Mapping[str, Any]) -> tuple[bool, float]:
        value = value_of(arm, name)
        return (value is None, 0.0 if value is None else -sign * value)

    return sorted(summary["arms"], key=key)


def better_sign(summary: Summary) -> int:
    """Return 1 where a larger value of the declared metric is better, else -1."""
    return 1 if summary["metric"]["greater_is_better"] else -1


def value_of(arm: Mapping[str, Any], metric: str) -> float | None:
    """Return an arm's value of a metric; None where it is undefined or was not computed."""
    value: float | None = arm["metrics"].get(metric, {}).get("value")
    return value


def forest_of(summary: Summary, arms: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Return the plot of differences, its rows in the order of the arms; None without any."""
    contrasts = {c["arm_a"]: c for c in summary["comparisons"]}
    rows = [
        charts.DifferenceRow(
            label=arm["label"],
            difference=c["difference"],
            ci_low=c["ci_low"],
            ci_high=c["ci_high"],
            p_value=c["p_adjusted"],
            outcome=c["outcome"],
            is_baseline=arm["kind"] == "baseline",
        )
        for arm in arms
        if (c := contrasts.get(arm["id"]))
    ]
    if not rows:
        return None
    metric = summary["metric"]
    sign = better_sign(summary)
    return charts.forest(rows, metric=metric["name"], margin=metric["margin"], better=sign)


def fold_scores_of(summary: Summary, arms: Sequence[Mapping[str, Any]]) -> Markup:
    """Return the strips of fold scores in the declared metric."""
    metric = summary["metric"]["name"]
    rows = [
        charts.DotRow(
            label=arm["label"],
            values=tuple(
                s["value"]
                for s in arm["fold_scores"]
                if s["metric"] == metric and s["value"] is not None
            ),
            value=value_of(arm, metric),
            is_baseline=arm["kind"] == "baseline",
        )
        for arm in arms
    ]
    return charts.fold_scores(rows, metric=metric)


def classes_chart(data: Mapping[str, Any]) -> Markup:
    """Return tiles per class, each bar in its class's colour."""
    patients = data["patients_per_class"] or {}
    names = data["classes"]
    rows = [
        counts.BarRow(
            label=name,
            counts=tuple(data["tiles_per_class"][name] if k == j else 0 for j in range(len(names))),
            note=f"({formats.counted(patients[name], 'patient')})" if patients else "",
        )
        for k, name in enumerate(names)
    ]
    return counts.bars(rows, label="Tiles per class", series=_class_colours(names))


def sites_chart(data: Mapping[str, Any]) -> Markup | None:
    """Return tiles per site, split by class; None where no site is recorded."""
    names = data["classes"]
    rows = [
        counts.BarRow(
            label=row["site"],
            counts=tuple(row["class_counts"][name] for name in names),
            note=""
            if row["n_patients"] is None
            else f"({formats.counted(row['n_patients'], 'patient')})",
        )
        for row in data["sites"]
    ]
    if not rows:
        return None
    return counts.bars(rows, label="Tiles per site and class", series=_class_colours(names))


def patients_chart(data: Mapping[str, Any]) -> Markup | None:
    """Return the histogram of tiles per patient; None where patients are unknown or all alike."""
    spread = data["tiles_per_patient"]
    if spread is None or spread["min"] == spread["max"]:
        return None
    label = "Number of patients by their number of tiles"
    return counts.histogram(
        spread["edges"], spread["counts"], label=label, axis="tiles of a patient"
    )


def gallery(data: Mapping[str, Any]) -> dict[str, dict[str | None, list[Mapping[str, Any]]]]:
    """Return the example tiles by class and site."""
    groups: dict[str, dict[str | None, list[Mapping[str, Any]]]] = {}
    for tile in data["example_tiles"]:
        groups.setdefault(tile["label"], {}).setdefault(tile["site"], []).append(tile)
    return groups


def plan_chart(summary: Summary) -> Markup:
    """Return the tested tiles of the first repeat's folds, split by class."""
    names = summary["data"]["classes"]
    rows = [
        counts.BarRow(
            label=f"Fold {row['fold'] + 1}"
            if summary["plan"]["scheme"] == "kfold"
            else "Test part",
            counts=tuple(row["class_counts"][name] for name in names),
            note=""
            if row["n_test_patients"] is None
            else f"({formats.counted(row['n_test_patients'], 'patient')})",
        )
        for row in summary["plan"]["folds"]
        if row["repeat"] == 0
    ]
    return counts.bars(rows, label="Tested tiles per fold and class", series=_class_colours(names))


def confusion_of(arm: Mapping[str, Any], summary: Summary) -> Markup:
    """Return one arm's confusion matrix."""
    label = f"Confusion matrix of {arm['label']}"
    return curves.confusion(arm["confusion"], summary["data"]["classes"], label=label)


def panels(summary: Summary) -> list[dict[str, Any]]:
    """Return ROC and calibration of the arms, one panel per embedding and one for the others."""
    arms = summary["arms"]
    colours = method_colours(arms)
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for arm in arms:
        if arm["curves"]["roc"] or arm["curves"]["calibration"]:
            title = arm["source"] if arm["kind"] == "probe" else OTHERS
            groups.setdefault(title, []).append(arm)
    return [_panel(title, members, colours, summary) for title, members in groups.items()]


def learning_panels(section: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the chart of each kind of size, with its legend; of many arms the best ones only."""
    if section is None:
        return []
    found = []
    for panel in section["panels"]:
        drawn = panel["arms"][:LEARNING_LINES]
        lines = [_learning_line(arm, colour) for colour, arm in enumerate(drawn)]
        chart = learning_chart.learning(lines, metric=section["metric"], unit=panel["unit"])
        legend = [(swatch(line.colour, line=True), line.label) for line in lines]
        found.append({"panel": panel, "chart": chart, "legend": legend})
    return found


def _learning_line(arm: Mapping[str, Any], colour: int) -> learning_chart.LearningLine:
    points = [point for point in arm["points"] if point["value"] is not None]
    return learning_chart.LearningLine(
        label=arm["label"],
        colour=colour,
        sizes=tuple(point["size"] for point in points),
        values=tuple(point["value"] for point in points),
        low=tuple(point["spread_low"] for point in points),
        high=tuple(point["spread_high"] for point in points),
        full=arm["full"],
    )


def drift_panels(
    section: Mapping[str, Any] | None, ranked: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the chart of each sequence of stages; of many arms the best ones only."""
    if section is None:
        return []
    places = {arm["id"]: place for place, arm in enumerate(ranked)}
    found = []
    for panel in section["panels"]:
        arms = sorted(panel["arms"], key=lambda arm: places[arm["id"]])
        lines = [_drift_line(arm, colour) for colour, arm in enumerate(arms[:LEARNING_LINES])]
        sources = dict.fromkeys(arm["source"] or arm["label"] for arm in arms)
        found.append(
            {
                "title": ", ".join(sources),
                "stages": panel["stages"],
                "arms": arms,
                "chart": drift_chart.drift(lines, panel["stages"]),
                "legend": [(swatch(line.colour, line=True), line.label) for line in lines],
            }
        )
    return found


def _drift_line(arm: Mapping[str, Any], colour: int) -> drift_chart.DriftLine:
    values, low, high = (
        tuple(point[key] for point in arm["points"]) for key in ("value", "low", "high")
    )
    return drift_chart.DriftLine(arm["label"], colour, values, low, high)


def seeds_chart(section: Mapping[str, Any] | None) -> Markup | None:
    """Return the strips of scores by seed, a dot for each."""
    if section is None:
        return None
    rows = [
        charts.DotRow(
            label=arm["label"],
            values=tuple(seed["value"] for seed in arm["seeds"] if seed["value"] is not None),
            value=arm["mean"],
        )
        for arm in section["arms"]
    ]
    return charts.fold_scores(rows, metric=section["metric"], each="with every seed")


def method_colours(arms: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Map arm ids to colours: a head keeps its colour in every panel, other arms have their own."""
    keys = [arm["method"] if arm["kind"] == "probe" else arm["id"] for arm in arms]
    numbers = {key: i % COLOURS for i, key in enumerate(dict.fromkeys(keys))}
    return {arm["id"]: numbers[key] for arm, key in zip(arms, keys, strict=True)}


def swatch(colour: int, *, line: bool = False) -> Markup:
    """Return a colour's sample for a legend."""
    if line:
        mark = element("path", class_=f"line s{colour} d{colour}", d="M0 5H26")
        return element("svg", mark, class_="swatch", width=26, height=10, aria_hidden="true")
    mark = element("rect", class_=f"fill s{colour}", width=12, height=12)
    return element("svg", mark, class_="swatch", width=12, height=12, aria_hidden="true")


def cost_chart(summary: Summary, arms: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Return time against score of all arms but baselines; None where no time is known."""
    metric = summary["metric"]["name"]
    points = []
    for arm in arms:
        estimate = arm["metrics"].get(metric, {})
        unknown = estimate.get("value") is None or not arm["cost"]["wall_s"]
        if unknown or arm["kind"] == "baseline":
            continue
        point = scatter.CostPoint(
            label=arm["label"],
            kind=arm["kind"],
            wall_s=arm["cost"]["wall_s"],
            value=estimate["value"],
            ci_low=estimate["ci_low"],
            ci_high=estimate["ci_high"],
        )
        points.append(point)
    if not points:
        return None
    return scatter.cost_scatter(points, metric=metric, better=better_sign(summary))


def _panel(
    title: str, arms: Sequence[Mapping[str, Any]], colours: Mapping[str, int], summary: Summary
) -> dict[str, Any]:
    rocs = [(a, a["curves"]["roc"]) for a in arms if a["curves"]["roc"]]
    bins = [(a, a["curves"]["calibration"]) for a in arms if a["curves"]["calibration"]]
    is_binary = len(summary["data"]["classes"]) == 2
    axes = ("predicted probability", "observed frequency")
    if not is_binary:
        axes = ("probability of the called class", "share of calls that are right")
    return {
        "title": title,
        "roc": curves.roc(
            [_series(a, colours, c["fpr"], c["tpr"]) for a, c in rocs], label=f"ROC: {title}"
        ),
        "calibration": curves.calibration(
            [_series(a, colours, c["predicted"], c["observed"], c["n"]) for a, c in bins],
            label=f"Calibration: {title}",
            x_axis=axes[0],
            y_axis=axes[1],
        ),
        "legend": [
            {"swatch": swatch(colours[a["id"]], line=True), "arm": a, "name": _legend_name(a)}
            for a in arms
        ],
    }


def _legend_name(arm: Mapping[str, Any]) -> str:
    name: str = arm["method"] if arm["kind"] == "probe" else arm["label"]
    return name


def _series(
    arm: Mapping[str, Any],
    colours: Mapping[str, int],
    x: Sequence[float],
    y: Sequence[float],
    weights: Sequence[float] = (),
) -> curves.Series:
    return curves.Series(arm["label"], colours[arm["id"]], tuple(x), tuple(y), tuple(weights))


def _class_colours(names: Sequence[str]) -> list[int]:
    return [k % COLOURS for k in range(len(names))]
