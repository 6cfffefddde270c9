"""In which order arms are shown, and which direction of the declared metric is a gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from featurebench.comparison.wording import listed

Summary = Mapping[str, Any]
Arm = Mapping[str, Any]
# So many arms are named in one sentence; of more, their number is given.
NAMED = 4


def ranked_arms(summary: Summary) -> list[Arm]:
    """Return the arms from the best value of the declared metric to the worst; undefined last."""
    name, sign = summary["metric"]["name"], better_sign(summary)

    def key(arm: Arm) -> tuple[bool, float]:
        value = value_of(arm, name)
        return (value is None, 0.0 if value is None else -sign * value)

    return sorted(summary["arms"], key=key)


def in_order(arms: Sequence[Arm], rows: Sequence[Arm]) -> list[Arm]:
    """Return a section's rows in the order of the arms, each with what is known of its arm."""
    by_id = {row["id"]: row for row in rows}
    return [{**arm, **by_id[arm["id"]]} for arm in arms if arm["id"] in by_id]


def repeats_note(summary: Summary) -> str:
    """Say of how many repeats each arm's scores and times are; empty where all have as many."""
    groups: dict[int, list[str]] = {}
    for arm in summary["arms"]:
        groups.setdefault(arm["n_repeats"], []).append(arm["label"])
    if len(groups) < 2:
        return ""
    fewest = sorted(groups)
    few = [
        f"{n} of {listed(groups[n]) if len(groups[n]) <= NAMED else f'{len(groups[n])} arms'}"
        for n in fewest[:-1]
    ]
    return (
        f"Scores and times are of all repeats that an arm has: {', '.join(few)}, {fewest[-1]} of "
        "the others; differences and the verdict are of common repeats."
    )


def weights_note(summary: Summary) -> str:
    """Say what counts the same in every score, and what the patients are worth by their tiles."""
    note = (
        "Every patient counts the same, with any number of tiles"
        if summary["weights"] == "patients"
        else "Every tile counts the same"
    )
    n_effective = summary["n_effective"]
    if n_effective is None:
        return f"{note}."
    return f"{note}; by their tiles, patients are worth {n_effective:.0f} of equal size (Kish)."


def better_sign(summary: Summary) -> int:
    """Return 1 where a larger value of the declared metric is better, else -1."""
    return 1 if summary["metric"]["greater_is_better"] else -1


def value_of(arm: Arm, metric: str) -> float | None:
    """Return an arm's value of a metric; None where it is undefined or was not computed."""
    value: float | None = arm["metrics"].get(metric, {}).get("value")
    return value
