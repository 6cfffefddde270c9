"""The primary contrast as the report's first figure: both intervals, the posterior, the price."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from featurebench.comparison.wording import listed
from featurebench.reporting import formats
from featurebench.reporting.forest import difference_axis, forest_scale, primary_plots
from featurebench.reporting.ranking import better_sign
from featurebench.reporting.svg import Attributes, at, element, stretched

if TYPE_CHECKING:
    from markupsafe import Markup

Summary = Mapping[str, Any]
Contrast = Mapping[str, Any]
POSTERIOR = (("p_worse", "worse"), ("p_practical", "practically equal"), ("p_better", "better"))
SEGMENTS = {"worse": "worse", "practically equal": "equal", "better": "better"}


def split_verdict(verdict: str) -> tuple[str, str]:
    """Return the verdict's first sentence and what follows it."""
    first = re.match(r"(.+?[.!?])\s+(?=[A-Z])", verdict, re.DOTALL)
    return (first[1], verdict[first.end() :]) if first else (verdict, "")


def primary_of(summary: Summary) -> dict[str, Any] | None:
    """Return the figure of the contrast that was declared before the run; None where none was."""
    found = [c for c in summary["comparisons"] if c["primary"]]
    if not found:
        return None
    contrast, metric = found[0], summary["metric"]
    scale = forest_scale([contrast], metric["margin"])
    return {
        "contrast": contrast,
        "tests": primary_plots(contrast, scale, metric),
        "axis": difference_axis(scale, metric["name"], better_sign(summary)),
        "posterior": posterior(contrast, better_sign(summary), metric["margin"]),
        "facts": facts(contrast, summary),
    }


def posterior(contrast: Contrast, better: int, margin: float) -> dict[str, Any] | None:
    """Return the bar of the posterior probabilities in the axis's order; None without.

    Without a margin there are two: nothing is practically equal.
    """
    shares = [(name, contrast[key]) for key, name in POSTERIOR if margin or key != "p_practical"]
    if any(share is None for _, share in shares):
        return None
    shares = shares if better > 0 else shares[::-1]
    parts, x = [], 0.0
    for name, share in shares:
        shape: Attributes = {"x": at(x), "width": at(100 * share), "y": 0, "height": "100%"}
        parts.append(element("rect", class_=f"segment {SEGMENTS[name]}", **shape))
        x += 100 * share
    return {
        "bar": stretched(*parts, class_="posterior"),
        "shares": [
            {"name": name, "share": probability(share), "sample": _sample(SEGMENTS[name])}
            for name, share in shares
        ],
    }


def probability(share: float) -> str:
    """Return a probability as a percentage that is 0 or 100 only where it is exactly so."""
    if 0 < share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 else formats.percent(share)


def facts(contrast: Contrast, summary: Summary) -> list[dict[str, str]]:
    """Return what the answer costs and what this cohort could have found, where it is known."""
    metric = summary["metric"]
    size = formats.magnitude(metric["margin"], metric["name"])
    unit, patients = contrast["by_patients"]["unit"], summary["data"]["n_patients"]
    here = (
        f"; here {formats.count(patients)}" if unit == "patients" and patients is not None else ""
    )
    rows = []
    if contrast["cost_ratio"] is not None:
        repeats = formats.counted(contrast["n_repeats"], "common repeat")
        note = f"the wall-clock time of the reference, for {repeats}, embedding included"
        note += _unequal_sizes(contrast, summary)
        rows.append(("Cost", formats.ratio(contrast["cost_ratio"]), note))
    if contrast["detectable"] is not None:
        value = formats.unsigned(contrast["detectable"], metric["name"])
        note = "the smallest true difference that 80 % of such cohorts would find"
        rows.append(("Could be found", value, note))
    if contrast["n_needed_high"] is not None:
        note = f"to find a difference of {size} in 80 % of cohorts{here}"
        rows.append((f"{unit.capitalize()} needed", formats.patients_needed(contrast), note))
    if contrast["p_patient_better"] is not None:
        note = f"of {unit}, ties counted half"
        rows.append(("Better for", formats.percent(contrast["p_patient_better"]), note))
    return [{"term": term, "value": value, "note": note} for term, value, note in rows]


def _unequal_sizes(contrast: Contrast, summary: Summary) -> str:
    """Say where the input sizes of a contrast's arms differ, as far as they are known."""
    sizes_of = {arm["id"]: {arm["image_size"]} for arm in summary["arms"]}
    for arm in summary["arms"]:
        if arm["chosen"]:
            sizes_of[arm["id"]] = set().union(
                *(sizes_of.get(each, {None}) for each in arm["chosen"])
            )
    pair = [sizes_of.get(contrast[side], {None}) for side in ("arm_a", "arm_b")]
    if pair[0] == pair[1] or None in pair[0] | pair[1]:
        return ""
    first, second = (listed([str(size) for size in sorted(sizes)]) for sizes in pair)
    return f"; at {first} px against {second} px"


def _sample(segment: str) -> Markup:
    mark = element("rect", class_=f"segment {segment}", width=12, height=12)
    return element("svg", mark, class_="swatch", width=12, height=12, aria_hidden="true")
