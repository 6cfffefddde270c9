"""What an experiment did not show, in sentences that follow from its facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from featurebench.comparison.rates import rule_sentence
from featurebench.reporting.formats import counted, magnitude, metric_phrase
from featurebench.reporting.operating import operating_limits


def limits_of(summary: Mapping[str, Any]) -> list[str]:
    """Return sentences on what the summary's numbers do not cover, beyond its caveats."""
    return [
        *_on_tiles(summary["data"], summary["settings"]),
        *_on_plan(summary),
        *_on_arms(summary),
        *_on_differences(summary),
        *operating_limits(summary),
    ]


def _on_tiles(data: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    if (settings.get("data") or {}).get("synthetic"):
        yield "All tiles are drawn by a program: nothing here is evidence about real tissue."
    sites = data["n_sites"]
    if sites is None:
        yield "No site is recorded, so differences between sites were not examined."
    elif sites == 1:
        yield "All tiles come from one site; performance at another was not examined."
    if data["bad_tiles"]:
        yield (
            f"{counted(len(data['bad_tiles']), 'tile')} could not be used; what the arms would "
            "have called them is unknown."
        )


def _on_plan(summary: Mapping[str, Any]) -> Iterator[str]:
    """Say what the tested side is, as far as the record knows it."""
    yield given_side(summary) or (
        "Training and test sides were drawn from one data set; no external cohort was scored."
    )
    n_sites, sites = summary["data"]["n_sites"] or 0, summary["plan"]["sites"]
    if n_sites > 1 and sites and sites["shared"] and not _given(summary):
        yield (
            f"{sites['shared']} of {counted(n_sites, 'site')} "
            f"{'occurs' if sites['shared'] == 1 else 'occur'} in training and test of one fold; "
            "performance at a site that was never seen was not examined for "
            f"{'any' if sites['shared'] == sites['tested'] else 'them'}."
        )


def given_side(summary: Mapping[str, Any]) -> str:
    """Say what is known of a test side that was given and not drawn; empty where it was drawn."""
    column, sites = _given(summary), summary["plan"]["sites"]
    if not column:
        return ""
    start = f"The test side was given in column {column} and not drawn"
    if not sites or not sites["tested"]:
        return (
            f"{start}; no site is recorded, so whether it comes from another cohort than the "
            "training side is not known here."
        )
    tested, shared = sites["tested"], sites["shared"]
    its = f"its {'one site' if tested == 1 else f'{tested} sites'}"
    if not shared:
        return f"{start}, and none of {its} is trained on: scores are those at other sites."
    which = its if shared == tested else f"{shared} of {its}"
    verb = "is" if shared == 1 else "are"
    return (
        f"{start}; {which} {verb} trained on as well, so scores are not those at other sites alone."
    )


def _given(summary: Mapping[str, Any]) -> str | None:
    column: str | None = (summary["settings"].get("splits") or {}).get("given")
    return column


def _on_arms(summary: Mapping[str, Any]) -> Iterator[str]:
    finetuned = [arm for arm in summary["arms"] if arm["kind"] == "finetune"]
    if finetuned:
        yield (
            "Fine-tuning was tried with the recorded settings only; longer training, larger images "
            "or another schedule could change its place."
        )
    else:
        yield "No fine-tuned network was compared."
    if _random_weights(summary["settings"]):
        yield "At least one network has random weights, as the settings ask."
    yield "Times and memory are those of this machine and depend on its load."


def _on_differences(summary: Mapping[str, Any]) -> Iterator[str]:
    contrasts = summary["comparisons"]
    open_ones = [c for c in contrasts if c["outcome"] == "not resolved"]
    if open_ones:
        verb, subject = ("is", "it does") if len(open_ones) == 1 else ("are", "they do")
        yield (
            f"{len(open_ones)} of {counted(len(contrasts), 'difference')} {verb} not resolved; "
            f"{subject} not show that arms are equally good."
        )
    if any(c["outcome"] == "not claimed" for c in contrasts):
        yield "Differences are shown as they were measured; none of them supports a claim."
    if contrasts and summary["metric"]["margin"]:
        yield _on_margin(summary)
    if contrasts:
        yield rule_sentence()


def _on_margin(summary: Mapping[str, Any]) -> str:
    metric = summary["metric"]["name"]
    text = f"The margin of {magnitude(summary['metric']['margin'], metric)} in "
    text += f"{metric_phrase(metric)} is a declaration"
    rationale = (summary["settings"].get("compare") or {}).get("margin_rationale")
    reason = f'with the reason "{rationale}"' if rationale else "without a reason"
    return (
        f"{text}, {reason}; whether a difference of that size matters to patients was not examined."
    )


def _random_weights(settings: Mapping[str, Any]) -> bool:
    entries = [*(settings.get("backbones") or []), *(settings.get("finetune") or [])]
    return any(isinstance(e, Mapping) and e.get("weights") == "random" for e in entries)
