"""The report over several data sets: one plain dict, then a page, Markdown, JSON and CSV."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from featurebench.metrics import GREATER_IS_BETTER
from featurebench.reporting import formats
from featurebench.reporting.across_chart import across_forest
from featurebench.reporting.answer import split_verdict
from featurebench.reporting.critical_difference import critical_difference
from featurebench.reporting.markdown import plain
from featurebench.reporting.render import render_page
from featurebench.reporting.summary import arm_names, json_ready
from featurebench.reporting.tables import to_csv
from featurebench.results import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from featurebench.comparison import ArmSummary, Comparison
    from featurebench.comparison.across_model import Across, Ranks

SCHEMA_VERSION = 1


def summarize_across(
    across: Across,
    comparisons: Mapping[str, Comparison],
    *,
    facts: Mapping[str, Mapping[str, Any]],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Gather what the report over data sets shows; JSON can hold it, undefined numbers are None.

    Parameters
    ----------
    across
        As `featurebench.comparison.across.compare_across` gives it.
    comparisons
        What it was made of, by name.
    facts
        Of each data set: ``page``, where its own report lies relative to this one, and
        ``n_tiles``, ``n_patients`` (None where unknown) and ``n_classes``.
    provenance
        Versions, time, and the digest of all inputs.

    Returns
    -------
    dict
        The content of ``across.json``.
    """
    arms = _summaries(comparisons)
    names = arm_names(arms) | {arm.arm: _chosen_name(arm.arm) for arm in arms if arm.chosen}
    summary = {
        "schema_version": SCHEMA_VERSION,
        "verdict": across.verdict,
        "notes": list(across.notes),
        "metric": {
            "name": across.metric,
            "label": formats.metric_label(across.metric),
            "unit": formats.unit_of(across.metric),
            "greater_is_better": GREATER_IS_BETTER[across.metric],
            "margin": across.margin,
            "alpha": across.alpha,
        },
        "data_sets": [
            {"name": name, **facts[name], "verdict": comparisons[name].verdict}
            for name in across.data_sets
        ],
        "effects": [asdict(effect) for effect in across.effects],
        "mean": None if across.mean is None else asdict(across.mean),
        "outcome": across.outcome,
        "signed_ranks": None if across.signed_ranks is None else asdict(across.signed_ranks),
        "arms": [
            {
                "id": arm.arm,
                **(_chosen_name(arm.arm) if arm.chosen else names[arm.arm]),
                "kind": arm.kind,
                "chosen": arm.chosen,
                "scores": [None if score is None else asdict(score) for score in arm.scores],
                "average_rank": arm.average_rank,
            }
            for arm in across.arms
        ],
        "ranks": None if across.ranks is None else _ranks(across.ranks),
        "labels": {arm: name["label"] for arm, name in names.items()},
        "provenance": dict(provenance),
    }
    return {key: json_ready(value) for key, value in summary.items()}


def write_across(summary: Mapping[str, Any], folder: Path) -> Path:
    """Write ``across.html``, ``.md``, ``.json`` and ``.csv``, each in one step, the page last.

    Parameters
    ----------
    summary
        As `summarize_across` returns it.
    folder
        Made where it is absent.

    Returns
    -------
    Path
        Of ``across.html``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "across.json": json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "across.md": across_markdown(summary),
        "across.csv": to_csv(_rows(summary)),
        "across.html": across_html(summary),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return folder / "across.html"


def across_html(summary: Mapping[str, Any]) -> str:
    """Return the page over data sets as one HTML document that loads nothing from elsewhere."""
    return render_page(
        "across.html.j2",
        s=summary,
        verdict=split_verdict(summary["verdict"]),
        forest=across_forest(summary),
        ranking=critical_difference(summary),
        contrast=shared_contrast(summary),
        sizes=[size_text(data_set) for data_set in summary["data_sets"]],
    )


def across_markdown(summary: Mapping[str, Any]) -> str:
    """Return the same in Markdown; text that came from outside is escaped."""
    metric = summary["metric"]
    parts = [
        "# Over data sets",
        plain(summary["verdict"]),
        "\n".join(f"- {plain(note)}" for note in summary["notes"]),
        _table(
            ["Data set", f"Difference in {formats.metric_phrase(metric['name'])}", "Outcome"],
            list(_effect_rows(summary)),
        ),
        _table(
            ["Arm", *(plain(each["name"]) for each in summary["data_sets"])],
            [
                [plain(arm["label"]), *(_score_text(score) for score in arm["scores"])]
                for arm in summary["arms"]
            ],
        ),
        "\n".join(
            f"- [{plain(each['name'])}](<{each['page']}>): {plain(size_text(each))}. "
            f"{plain(each['verdict'])}"
            for each in summary["data_sets"]
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def shared_contrast(summary: Mapping[str, Any]) -> str:
    """Return the primary contrast in words where it is the same on all data sets, else nothing."""
    pairs = {(e["arm_a"], e["arm_b"]) for e in summary["effects"] if e["evidence"]}
    if len(pairs) != 1:
        return ""
    first, second = (summary["labels"][arm] for arm in pairs.pop())
    return f"{first} minus {second}"


def size_text(data_set: Mapping[str, Any]) -> str:
    """Return how large a data set is: ``480 tiles, 40 patients, 2 classes``."""
    parts = [formats.counted(data_set["n_tiles"], "tile")]
    if data_set["n_patients"] is not None:
        parts.append(formats.counted(data_set["n_patients"], "patient"))
    parts.append(formats.counted(data_set["n_classes"], "class", "classes"))
    return ", ".join(parts)


def _summaries(comparisons: Mapping[str, Comparison]) -> list[ArmSummary]:
    found: dict[str, ArmSummary] = {}
    for comparison in comparisons.values():
        for summary in comparison.arms:
            found.setdefault(summary.arm, summary)
    return list(found.values())


def _chosen_name(title: str) -> dict[str, str]:
    return {"method": title, "source": "chosen on inner folds", "label": title}


def _ranks(ranks: Ranks) -> dict[str, Any]:
    return {
        "arms": list(ranks.arms),
        **asdict(ranks.friedman),
        "p_adjusted": ranks.pairs.p_adjusted,
        "critical_difference": ranks.critical_difference,
        "cliques": [list(clique) for clique in ranks.cliques],
    }


def _effect_rows(summary: Mapping[str, Any]) -> Iterator[list[str]]:
    metric = summary["metric"]["name"]
    for effect in summary["effects"]:
        evidence = effect["evidence"]
        text = plain(effect["left_out"]) if evidence is None else _difference(evidence, metric)
        yield [plain(effect["data_set"]), text, plain(effect["outcome"]) if evidence else ""]
    mean = summary["mean"]
    if mean is not None:
        value = formats.difference(mean["mean"], mean["ci_low"], mean["ci_high"], metric)
        yield ["**Mean**", value, plain(summary["outcome"])]


def _difference(evidence: Mapping[str, Any], metric: str) -> str:
    ends = (evidence["difference"], evidence["ci_low"], evidence["ci_high"])
    return formats.difference(*ends, metric)


def _score_text(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return formats.MISSING
    return formats.estimate(score["value"], score["ci_low"], score["ci_high"])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rows(summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one line per effect, for the mean, and per score of an arm on a data set."""
    metric = summary["metric"]["name"]
    for effect in summary["effects"]:
        evidence = effect["evidence"] or {}
        yield {
            "row": "effect",
            "data_set": effect["data_set"],
            "arm": effect["arm_a"],
            "against": effect["arm_b"],
            "metric": metric,
            "value": evidence.get("difference"),
            "ci_low": evidence.get("ci_low"),
            "ci_high": evidence.get("ci_high"),
            "se": evidence.get("se"),
            "unit": evidence.get("unit"),
            "p_value": evidence.get("p_value"),
            "weight": effect["weight"],
            "outcome": effect["outcome"],
            "left_out": effect["left_out"],
        }
    if summary["mean"] is not None:
        mean = {key: value for key, value in summary["mean"].items() if key != "weights"}
        yield {
            "row": "mean",
            "metric": metric,
            "value": mean.pop("mean"),
            "outcome": summary["outcome"],
            **mean,
        }
    for arm in summary["arms"]:
        for data_set, score in zip(summary["data_sets"], arm["scores"], strict=True):
            if score is not None:
                common = {"row": "score", "data_set": data_set["name"], "arm": arm["id"]}
                yield {**common, "metric": metric, **score, "average_rank": arm["average_rank"]}
