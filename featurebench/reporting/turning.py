"""Where fine-tuning turns from behind to ahead, as the number of labels grows."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.stats.crossing import crossing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from featurebench.results import LearningCurve

    Arm = Mapping[str, Any]
    # Size, and the repeat and number of a draw.
    Place = tuple[int, tuple[int, int]]


def turning_point(
    panel: Mapping[str, Any],
    shown: Sequence[tuple[Arm, LearningCurve]],
    *,
    metric: str,
    sign: int,
) -> dict[str, Any] | None:
    """Hold the best fine-tune against the best probe, both by their full-data values.

    Parameters
    ----------
    panel
        Of the learning section, its arms from the best down.
    shown
        The summary's arms that have a curve, with it.
    sign
        1 where a larger value of the metric is better, else -1.

    Returns
    -------
    dict or None
        Both arms' labels, the sizes, and what `featurebench.stats.crossing` found; where patients
        are counted, all of them are the last size. None unless both kinds of arms have curves
        with draws in common.
    """
    # the first of a kind is the best
    best = {row["kind"]: row for row in reversed(panel["arms"])}
    if not {"probe", "finetune"} <= set(best):
        return None
    first, second = best["probe"], best["finetune"]
    curves = {arm["id"]: curve for arm, curve in shown}
    scores = [_means(curves[row["id"]], panel["kind"], metric) for row in (first, second)]
    common = set(scores[0]) & set(scores[1])
    sizes = sorted({size for size, _ in common})
    draws = sorted({draw for _, draw in common})
    draws = [draw for draw in draws if all((size, draw) in common for size in sizes)]
    if not draws:
        return None
    tables = [np.array([[each[size, draw] for size in sizes] for draw in draws]) for each in scores]
    places: list[float] = [*sizes]
    whole = curves[first["id"]].full_patients if panel["kind"] == "patients" else None
    if whole is not None and whole > sizes[-1] and None not in {first["full"], second["full"]}:
        places.append(whole)
        for i, row in enumerate((first, second)):
            tables[i] = np.column_stack([tables[i], np.full(len(draws), row["full"])])
    found = crossing(places, sign * tables[0], sign * tables[1])
    return {"probe": first["label"], "finetune": second["label"], "sizes": places} | asdict(found)


def turn_sentences(panel: Mapping[str, Any]) -> Iterator[str]:
    """Say from how many labels on fine-tuning is ahead."""
    turn, unit = panel["crossing"], panel["unit"]
    if turn is None:
        return
    names = f"{turn['finetune']} (the best fine-tune) and {turn['probe']} (the best probe)"
    first, last = f"{turn['sizes'][0]:.0f}", f"{turn['sizes'][-1]:.0f}"
    if turn["course"] == "above":
        yield f"Of {names}, fine-tuning is ahead at all sizes tried, {first} to {last} {unit}."
    elif turn["course"] == "below":
        yield f"Of {names}, fine-tuning is not ahead with {last} {unit}, the most there are."
    else:
        spread = ""
        if turn["low"] is not None:
            low, high = f"{turn['low']:.0f}", f"{turn['high']:.0f}"
            spread = f" (10th to 90th percentile of the draws {low} to {high})"
        yield (
            f"Of {names}, fine-tuning overtakes at about {turn['size']:.0f} {unit}{spread}; with "
            f"{last} it is ahead in {turn['share']:.0%} of the draws."
        )


def turn_in_verdict(section: Mapping[str, Any] | None, metric: str) -> str:
    """Say in one sentence where fine-tuning overtakes, by patients if they were counted.

    Parameters
    ----------
    section
        The learning section of the summary; None where there are no curves.
    metric
        What the verdict is about; curves of another metric say nothing of it.

    Returns
    -------
    str
        Empty where no curves of both kinds can be held together.
    """
    if section is None or section["metric"] != metric:
        return ""
    panels = [panel for panel in section["panels"] if panel["crossing"] is not None]
    if not panels:
        return ""
    panel = min(panels, key=lambda each: each["kind"] != "patients")
    turn, unit = panel["crossing"], panel["unit"]
    sizes = f"{turn['sizes'][0]:.0f} to {turn['sizes'][-1]:.0f} {unit}"
    if turn["course"] == "overtakes":
        spread = ""
        if turn["low"] is not None:
            spread = f" (80 % of the draws: {turn['low']:.0f} to {turn['high']:.0f})"
        found = f"lies above that of the probe from about {turn['size']:.0f} {unit} on{spread}"
    elif turn["course"] == "above":
        found = f"lies above that of the probe at all sizes tried, {sizes}"
    else:
        found = f"does not end above that of the probe ({sizes})"
    return f"The mean learning curve of fine-tuning {found}; this is described, not tested."


def _means(curve: LearningCurve, kind: str, metric: str) -> dict[Place, float]:
    """Mean over folds of every size and draw; those that are undefined are left out."""
    values: dict[Place, list[float]] = {}
    for point in curve.points:
        if point.kind == kind:
            place = (point.size, (point.repeat, point.draw))
            values.setdefault(place, []).append(point.values[metric])
    means = {place: float(np.mean(each)) for place, each in values.items()}
    return {place: mean for place, mean in means.items() if not math.isnan(mean)}
