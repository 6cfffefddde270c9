"""CSV tables of a report: arms, comparisons, scores, items; safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Of these, an arm bears a part only where others read the same embedding.
_SHARED = ("wall_s", "cpu_s", "gpu_s", "bytes_read", "bytes_written", "energy_j")
FORMULA_STARTS = ("=", "+", "-", "@", "\t")


def arms_csv(summary: Mapping[str, Any]) -> str:
    """Return one line per arm: scores with intervals at tile and patient level, and cost."""
    rows = [
        {
            **{
                key: arm[key]
                for key in ("id", "kind", "embedding", "head", "strategy", "n_repeats")
            },
            **_flat_metrics(arm["metrics"], ""),
            **_flat_metrics(arm["patient_metrics"], "patient_"),
            **arm["cost"],
            "stored_bytes": arm["stored"]["bytes"],
            **{f"amortised_{key}": arm["amortised_cost"][key] for key in _SHARED},
            "amortised_stored_bytes": arm["stored"]["amortised_bytes"],
            **_of_section(summary["recalibration"], arm["id"], "calibration_"),
            **_of_section(summary["operating_point"], arm["id"], "operating_"),
        }
        for arm in summary["arms"]
    ]
    return to_csv(rows)


def comparisons_csv(summary: Mapping[str, Any]) -> str:
    """Return one line per difference, with all that each test gave."""
    return to_csv(_flat(contrast) for contrast in summary["comparisons"])


def scores_csv(summary: Mapping[str, Any]) -> str:
    """Return one line per arm, repeat, fold and metric."""
    return to_csv({"arm": arm["id"], **s} for arm in summary["arms"] for s in arm["fold_scores"])


def subgroups_csv(summary: Mapping[str, Any]) -> str:
    """Return one line per column of the manifest, value and arm."""
    return to_csv((summary["subgroups"] or {"scores": []})["scores"])


def checklist_csv(summary: Mapping[str, Any]) -> str:
    """Return one line per item of the reporting checklists."""
    return to_csv(summary["checklist"]["rows"])


def to_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as CSV whose columns are all keys that occur; None is an empty cell."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_cells(columns))
    writer.writerows(_cells([row.get(column) for column in columns]) for row in rows)
    return buffer.getvalue()


def _cells(values: Sequence[Any]) -> list[Any]:
    return [inert(value) if isinstance(value, str) else value for value in values]


def inert(text: str) -> str:
    """Return text that no spreadsheet takes for a formula, on one line.

    An apostrophe goes before a start that would make it one.
    """
    line = " ".join(text.splitlines()).lstrip(" ")
    return f"'{line}" if line.startswith(FORMULA_STARTS) else line


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record whose nested ones are spread over columns: ``by_folds_p_value``."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        inner = value.items() if isinstance(value, Mapping) else ()
        flat |= {f"{key}_{name}": item for name, item in inner} if inner else {key: value}
    return flat


def _of_section(section: Mapping[str, Any] | None, arm_id: str, prefix: str) -> dict[str, Any]:
    """Return an arm's estimates of a section, each with its interval."""
    arms = [] if section is None else section["arms"]
    found: Mapping[str, Any] = next((arm for arm in arms if arm["id"] == arm_id), {})
    estimates = {name: each for name, each in found.items() if isinstance(each, Mapping)}
    return _flat_metrics(estimates, prefix)


def _flat_metrics(metrics: Mapping[str, Mapping[str, Any]], prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}{name}{suffix}": estimate[key]
        for name, estimate in metrics.items()
        for key, suffix in (("value", ""), ("ci_low", "_ci_low"), ("ci_high", "_ci_high"))
    }
