"""Tables for a paper: arms and differences in LaTeX, with the rules of the package booktabs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from featurebench.comparison.arms import RESAMPLED
from featurebench.reporting import formats
from featurebench.reporting.forest import tests_of
from featurebench.reporting.ranking import ranked_arms

Summary = Mapping[str, Any]

# In one pass, so that what stands for a character is not escaped again.
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\u2212": "$-$",
    "\u2013": "--",
    "\u2026": r"\ldots{}",
    "\u00b7": r"$\cdot$",
    "\u00d7": r"$\times$",
    "\u00b1": r"$\pm$",
    "\u2264": r"$\leq$",
    "\u2265": r"$\geq$",
    "\u202f": r"\,",
    "\u00a0": "~",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")
_SPECIAL = re.compile("|".join(re.escape(character) for character in _ESCAPES))


def latex_files(summary: Summary) -> dict[str, str]:
    """Return the tables by file name; without a contrast there is no table of differences."""
    files = {"arms.tex": latex_arms(summary)}
    if summary["comparisons"]:
        files["differences.tex"] = latex_differences(summary)
    return files


def latex_arms(summary: Summary) -> str:
    r"""Return a ``table`` of every arm's score, per tile and per patient, and its time.

    Parameters
    ----------
    summary
        As `summarize` returns it.

    Returns
    -------
    str
        To be included by ``\input``; needs ``\usepackage{booktabs}``. Text from outside is
        escaped.
    """
    metric = summary["metric"]
    of_patients = any(arm["patient_metrics"] for arm in summary["arms"])
    rows = []
    for arm in ranked_arms(summary):
        name = escape(arm["label"])
        cells = [f"{name} (reference)" if arm["id"] == summary["reference"] else name]
        cells.append(_score(arm["metrics"], metric["name"]))
        if of_patients:
            cells.append(_score(arm["patient_metrics"], metric["name"]))
        rows.append([*cells, escape(formats.seconds(arm["cost"]["wall_s"]))])
    head = ["Arm", "Per tile", *(["Per patient"] if of_patients else []), "Time"]
    units = summary["interval_units"]
    over = " and over ".join(units[:1] if metric["name"] in RESAMPLED else units)
    caption = (
        f"{metric['label']} of every arm with {_level(summary)} confidence intervals over "
        f"{over}{' (per patient: over patients)' if of_patients and over != units[0] else ''}; "
        f"{_design(summary)}. Time: wall clock of all repeats, embedding "
        "included."
    )
    return _table(summary, "arms", caption, head, rows)


def latex_differences(summary: Summary) -> str:
    """Return a ``table`` of every arm minus the reference by every test, with the outcome.

    Parameters
    ----------
    summary
        As for `latex_arms`.
    """
    metric = summary["metric"]
    labels = {arm["id"]: arm["label"] for arm in summary["arms"]}
    tests = tests_of(summary["comparisons"])
    rows = []
    for c in summary["comparisons"]:
        name = escape(labels.get(c["arm_a"], c["arm_a"]))
        cells = [f"{name} (primary)" if c["primary"] else name]
        for test in tests:
            cells += [_change(c[test], metric["name"]), _p(c[test]["p_value"])]
        rows.append([*cells, _p(c["p_adjusted"]), escape(c["outcome"])])
    columns = [title for unit in tests.values() for title in (f"Over {unit}", "$p$")]
    head = ["Arm", *columns, "$p$ (claim)", "Outcome"]
    unit = f" ({metric['unit']})" if metric["unit"] else ""
    reference = labels.get(summary["reference"], summary["reference"])
    caption = (
        f"Differences in {formats.metric_phrase(metric['name'])}{unit} from {reference} with "
        f"{_level(summary)} confidence intervals; {_design(summary)}. "
        f"{formats.margin(metric).capitalize()}. $p$ (claim): the largest of the "
        "tests that a claim asks for, adjusted by Holm's method except for the primary contrast."
    )
    if summary.get("barred"):
        caption += f" Nothing is claimed: {' '.join(summary['barred'])}"
    return _table(summary, "differences", caption, head, rows)


def escape(text: object) -> str:
    r"""Return text in which nothing is a command of LaTeX, on one line.

    >>> escape("50 % of a_b & {c}")
    '50 \\% of a\\_b \\& \\{c\\}'
    """
    line = _CONTROL.sub(" ", str(text))
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], line)


def _table(
    summary: Summary, name: str, caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]
) -> str:
    label = re.sub(r"[^a-z0-9]+", "-", str(summary["experiment"]).lower()).strip("-")
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{_caption(caption)}}}",
        f"  \\label{{tab:{label or 'experiment'}-{name}}}",
        f"  \\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        "    \\toprule",
        f"    {' & '.join(head)} \\\\",
        "    \\midrule",
        *(f"    {' & '.join(row)} \\\\" for row in rows),
        "    \\bottomrule",
        "  \\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _caption(text: str) -> str:
    """Escape a caption but for its own p in italics."""
    return "$p$".join(escape(part) for part in text.split("$p$"))


def _score(metrics: Mapping[str, Mapping[str, float | None]], name: str) -> str:
    found = metrics.get(name, {"value": None, "ci_low": None, "ci_high": None})
    return escape(formats.estimate(found["value"], found["ci_low"], found["ci_high"]))


def _change(found: Mapping[str, float | None], metric: str) -> str:
    ends = found["difference"], found["ci_low"], found["ci_high"]
    return escape(formats.difference(*ends, metric, unit=False))


def _p(value: float | None) -> str:
    text = formats.p_value(value)
    return f"${text}$" if text[0] in "<>" else escape(text)


def _level(summary: Summary) -> str:
    return formats.percent(1 - summary["metric"]["alpha"])


def _design(summary: Summary) -> str:
    data = summary["data"]
    counts = [formats.counted(data["n_tiles"], "tile")]
    if data["n_patients"] is not None:
        counts.append(formats.counted(data["n_patients"], "patient"))
    return f"{formats.plan_text(summary['plan'])}; {' of '.join(counts)}"
