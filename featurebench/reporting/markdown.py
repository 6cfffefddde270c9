"""report.md: verdict, arms and differences in the space of a pull request's comment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from featurebench.reporting import formats
from featurebench.reporting.figures import ranked_arms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def markdown(summary: Mapping[str, Any]) -> str:
    """Return the report in Markdown; text that came from outside is escaped."""
    sections = [
        f"# {plain(summary['experiment'])}",
        plain(summary["verdict"]),
        _bullets(summary["caveats"]),
        plain(_setup(summary)),
        _arms_table(summary),
        _differences(summary),
        _bullets((summary["few_labels"] or {}).get("sentences", [])),
        _failures(summary),
        "**Not shown**",
        _bullets(summary["limits"]),
        _colophon(summary),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def plain(text: object) -> str:
    """Return text in which nothing is Markdown or HTML, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def _setup(summary: Mapping[str, Any]) -> str:
    data, plan = summary["data"], summary["plan"]
    patients = data["n_patients"]
    parts = [formats.counted(data["n_tiles"], "tile")]
    if patients is not None:
        parts.append(f"{formats.counted(patients, 'patient')}")
    parts.append(formats.counted(len(data["classes"]), "class", "classes"))
    return ", ".join(parts) + f"; {formats.plan_text(plan)}."


def _arms_table(summary: Mapping[str, Any]) -> str:
    metric = summary["metric"]["name"]
    level = formats.percent(1 - summary["metric"]["alpha"])
    rows = []
    for arm in ranked_arms(summary):
        estimate = arm["metrics"].get(metric, {"value": None, "ci_low": None, "ci_high": None})
        label = plain(arm["label"])
        rows.append(
            [
                f"{label} (reference)" if arm["id"] == summary["reference"] else label,
                formats.estimate(**_ends(estimate)),
                formats.seconds(arm["cost"]["wall_s"]),
                formats.memory(arm["cost"]["peak_memory_mb"]),
            ]
        )
    head = ["Arm", f"{summary['metric']['label']} ({level} CI)", "Time", "Peak memory"]
    return _table(head, rows)


def _ends(estimate: Mapping[str, float | None]) -> dict[str, float | None]:
    return {"value": estimate["value"], "low": estimate["ci_low"], "high": estimate["ci_high"]}


def _differences(summary: Mapping[str, Any]) -> str:
    if not summary["comparisons"]:
        return ""
    labels = {arm["id"]: arm["label"] for arm in summary["arms"]}
    rows = [
        [
            plain(labels.get(c["arm_a"], c["arm_a"])),
            formats.difference(c["difference"], c["ci_low"], c["ci_high"], c["metric"]),
            plain(formats.p_value(c["p_adjusted"])),
            plain(c["outcome"]),
        ]
        for c in summary["comparisons"]
    ]
    reference = plain(labels.get(summary["reference"], summary["reference"]))
    head = [f"Difference from {reference}", summary["metric"]["label"], "p (Holm)", "Outcome"]
    return _table(head, rows)


def _failures(summary: Mapping[str, Any]) -> str:
    return _bullets([f"{f['arm']} failed: {f['error']}" for f in summary["failures"]])


def _colophon(summary: Mapping[str, Any]) -> str:
    provenance = summary["provenance"]
    known = [
        f"{key} {provenance[key]}"
        for key in ("featurebench", "commit", "device", "created")
        if isinstance(provenance.get(key), str)
    ]
    return plain("; ".join([f"Plan {summary['plan']['id']}", *known]) + ".")


def _bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {plain(sentence)}" for sentence in sentences)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
