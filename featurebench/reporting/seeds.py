"""How much the draws of training matter: other seeds on the same folds, and other repeats."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.comparison import wording
from featurebench.metrics import GREATER_IS_BETTER, arm_value
from featurebench.reporting.formats import counted, minus, percent
from featurebench.reporting.learning import full_value
from featurebench.stats import MEANINGFUL, MIN_PAIRS, crossed_components, outperformance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featurebench.comparison import Comparison
    from featurebench.results import ResultsTable, RunResult

    Arm = Mapping[str, Any]
    FoldScores = Sequence[Mapping[str, Any]]


def seeds_section(
    arms: Sequence[Arm], replicas: Mapping[str, Sequence[RunResult]], metric: str
) -> dict[str, Any] | None:
    """Return what other seeds gave; None where no arm has a finished replica.

    Parameters
    ----------
    arms
        The summary's arms.
    replicas
        By arm: its runs with other seeds, on the same folds.
    metric
        The declared one.

    Returns
    -------
    dict or None
        ``metric``, and ``arms``: each with its ``seeds`` (``value``, the mean over folds of a
        repeat, then over repeats, and ``wall_s``), their ``mean`` and ``sd``, the ``components`` of
        a single fold's score as standard deviations with the seed's ``share`` of the variance, the
        best ``probe`` to hold it against, and ``sentences``.

    References
    ----------
    Bouthillier X, Delaunay P, Bronzi M, et al. Accounting for variance in machine learning
    benchmarks. MLSys 2021 (why the draws of training are to be varied, and not only the data).
    """
    probes = [arm for arm in arms if arm["kind"] == "probe"]
    rows = [
        row
        for arm in arms
        if replicas.get(arm["id"])
        and (row := _arm_row(arm, replicas[arm["id"]], probes, metric)) is not None
    ]
    return {"metric": metric, "arms": rows} if rows else None


def repeat_wins(
    comparison: Comparison,
    runs: Mapping[str, RunResult],
    results: ResultsTable,
    labels: Mapping[str, str],
) -> dict[str, Any] | None:
    """Return how often the primary contrast's first arm does better in one repeat: P(A > B).

    Every repeat is a pair: a new division into folds and new draws of training, scored as arms are.

    Parameters
    ----------
    comparison, results
        As in `summarize`.
    runs
        Of all arms, by name.
    labels
        What arms are called, by name.

    Returns
    -------
    dict or None
        ``arm_a``, ``arm_b``, the fields of `featurebench.stats.Outperformance`, ``meaningful`` and
        ``sentences``. None without a primary contrast, or where nothing may be claimed.
    """
    primary = comparison.primary
    if primary is None or comparison.barred or not {primary.arm_a, primary.arm_b} <= runs.keys():
        return None
    metric, pair = comparison.metric, [runs[primary.arm_a], runs[primary.arm_b]]
    first, second = (
        [
            arm_value(metric, results.y_true, run.y_prob[r : r + 1], results.test_fold[r : r + 1])[
                0
            ]
            for r in range(primary.n_repeats)
        ]
        for run in pair
    )
    greater = GREATER_IS_BETTER[metric]
    found = outperformance(first, second, greater_is_better=greater, alpha=comparison.alpha)
    row = {
        "arm_a": primary.arm_a,
        "arm_b": primary.arm_b,
        **asdict(found),
        "meaningful": found.meaningful,
    }
    names = [labels.get(run.arm, run.arm) for run in pair]
    tuned = any(run.kind == "finetune" for run in pair)
    unit = "tiles" if results.patients is None else "patients"
    return row | {"sentences": _wins(row, names, metric, comparison.alpha, unit, tuned=tuned)}


def _wins(
    row: Mapping[str, Any],
    names: Sequence[str],
    metric: str,
    alpha: float,
    unit: str,
    *,
    tuned: bool,
) -> list[str]:
    """Say how often the first arm does better, what varies in it, and whether that is much."""
    better = f"{names[0]} does better than {names[1]}"
    what = f"How often {better} in the {wording.label(metric)} of one repeat"
    if math.isnan(row["p"]):
        return [
            f"{what}, P(A > B), is not given: {counted(row['n'], 'common repeat')} of the "
            f"{MIN_PAIRS} that it takes (Bouthillier et al. 2021)."
        ]
    share, low, high = (f"{row[key]:.2f}" for key in ("p", "ci_low", "ci_high"))
    tied = f", {row['n_tied']} tied" if row["n_tied"] else ""
    varies = f"the division of the {unit} into folds, and with it training sets and inner folds"
    if tuned:
        varies += ", and the seed of every fine-tuning"
    judged = "does" if row["meaningful"] else "does not"
    return [
        f"{what}: P(A > B) = {share} ({wording.level(alpha)} CI {low} to {high}; "
        f"{counted(row['n'], 'repeat')}{tied}).",
        f"From repeat to repeat vary {varies}; a head's own random draws keep their seed, and the "
        f"{unit} stay the same, so that this says nothing of others.",
        f"It {judged} reach what counts as meaningful, a share of {MEANINGFUL} with an interval "
        "above one half (Bouthillier et al. 2021). No claim rests on it.",
    ]


def _arm_row(
    arm: Arm, others: Sequence[RunResult], probes: Sequence[Arm], metric: str
) -> dict[str, Any] | None:
    repeats = min([arm["n_repeats"], *(run.n_repeats for run in others)])
    scores = [_within(arm["fold_scores"], repeats)]
    scores += [_within([asdict(score) for score in run.scores], repeats) for run in others]
    values = [full_value(each, metric) for each in scores]
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return None
    seconds = [arm["training_cost"]["wall_s"], *(run.cost.wall_s for run in others)]
    row: dict[str, Any] = {
        **{key: arm[key] for key in ("id", "label", "method", "source")},
        "n_repeats": repeats,
        "seeds": [
            {"number": i + 1, "value": value, "wall_s": wall_s}
            for i, (value, wall_s) in enumerate(zip(values, seconds, strict=True))
        ],
        "mean": statistics.fmean(known),
        "sd": statistics.stdev(known),
        "components": _components(scores, metric),
        "probe": _against(arm, known, probes, metric, repeats),
    }
    return row | {"sentences": [*_shares(row, metric), *_difference(row, metric)]}


def _within(scores: FoldScores, repeats: int) -> FoldScores:
    return [score for score in scores if score["repeat"] < repeats]


def _components(scores: Sequence[FoldScores], metric: str) -> dict[str, Any] | None:
    """Split the variance of a fold's score; None with fewer than two folds that all seeds have.

    What a fold's training draws depends on the seed and on the fold. So the seed's part is both
    what it does to all folds alike and the residual, which another seed in the same fold changes.
    """
    by_fold = [
        {(s["repeat"], s["fold"]): s["value"] for s in each if s["metric"] == metric}
        for each in scores
    ]
    folds = [fold for fold in by_fold[0] if all(_is_number(each.get(fold)) for each in by_fold)]
    if len(folds) < 2:
        return None
    found = crossed_components(np.array([[each[fold] for fold in folds] for each in by_fold]))
    by_seed = found.seeds + found.residual
    return {
        **{key: math.sqrt(variance) for key, variance in asdict(found).items()},
        "by_seed": math.sqrt(by_seed),
        "share": by_seed / found.total if found.total > 0 else None,
        "n_folds": len(folds),
        "n_left_out": len(by_fold[0]) - len(folds),
    }


def _is_number(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _against(
    arm: Arm, values: Sequence[float], probes: Sequence[Arm], metric: str, repeats: int
) -> dict[str, Any] | None:
    """Hold every seed against the best probe, of the same network where there is one."""
    own = [probe for probe in probes if _network(probe["embedding"]) == _model(arm)]
    sign = 1 if GREATER_IS_BETTER[metric] else -1
    scored = [
        (sign * value, probe["label"], value)
        for probe in own or probes
        if (value := full_value(_within(probe["fold_scores"], repeats), metric)) is not None
    ]
    if not scored:
        return None
    _, label, value = max(scored, key=lambda each: each[0])
    differences = [each - value for each in values]
    return {
        "label": label,
        "same_network": bool(own),
        "value": value,
        "difference": statistics.fmean(differences),
        "lowest": min(differences),
        "highest": max(differences),
    }


def _network(embedding: str | None) -> str:
    return (embedding or "").partition("@")[0].partition(".")[0]


def _model(arm: Arm) -> str:
    return str(arm["params"].get("model", arm["id"])).partition(".")[0].partition("+")[0]


def _shares(row: Mapping[str, Any], metric: str) -> list[str]:
    """Say how much of the spread of one fold's score is the seed's and how much the fold's."""
    parts = row["components"]
    seeds, label = counted(len(row["seeds"]), "seed"), row["label"]
    if parts is None:
        return [
            f"{label}: over {seeds} the {wording.label(metric)} has an SD of "
            f"{wording.unsigned(metric, row['sd'])}; with one fold it cannot be held against the "
            "spread between folds."
        ]
    if parts["share"] is None:
        return [f"{label}: every seed gave the same {wording.label(metric)} in every fold."]
    fold, seed = (wording.unsigned(metric, parts[key]) for key in ("folds", "by_seed"))
    return [
        f"{label}: of the variance of a single fold's {wording.label(metric)} an estimated "
        f"{percent(parts['share'])} comes from the seed (SD {seed}) and "
        f"{percent(1 - parts['share'])} from the fold (SD {fold}); the mean over folds has an SD "
        f"of {wording.unsigned(metric, row['sd'])} over {seeds}."
    ]


def _difference(row: Mapping[str, Any], metric: str) -> list[str]:
    """Say whether the difference to the best probe is larger than the spread over seeds."""
    probe = row["probe"]
    if probe is None:
        return []
    mean, lowest, highest = map(
        minus,
        wording.difference(metric, [probe[key] for key in ("difference", "lowest", "highest")]),
    )
    which = "the best probe of the same network" if probe["same_network"] else "the best probe"
    exceeds = "exceeds" if abs(probe["difference"]) > row["sd"] else "does not exceed"
    return [
        f"Its difference to {which}, {probe['label']}, is {mean}{wording.points(metric)} on "
        f"average over seeds ({lowest} to {highest}), which {exceeds} the SD over seeds."
    ]
