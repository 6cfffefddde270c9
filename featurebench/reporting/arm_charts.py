"""ROC and calibration curves of every arm, one panel for each embedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from featurebench.reporting import curves
from featurebench.reporting.legend import method_colours, swatch

if TYPE_CHECKING:
    from collections.abc import Sequence


Summary = Mapping[str, Any]
OTHERS = "Fine-tuned and baseline"


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
