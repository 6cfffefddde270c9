"""select(): the best arm of a kind, chosen fold by fold by its scores on inner folds."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.comparison import wording
from featurebench.comparison.model import Selection
from featurebench.errors import ResultsError
from featurebench.metrics import GREATER_IS_BETTER, METRICS, arm_value
from featurebench.results import Cost, RunResult, embeddings_read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featurebench.results import ArmKind, FoldScore, ResultsTable

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

# Scores closer than this differ by rounding.
_NO_REGRET = 1e-9
_TITLES = {"probe": "best probe", "finetune": "best fine-tune", "baseline": "best baseline"}


def inner_scores(run: RunResult, metric: str) -> Floats:
    """Read an arm's scores on the inner folds of every fold's training side.

    Parameters
    ----------
    run
        Whose ``details["inner"]`` is read.
    metric
        A name of `featurebench.metrics.METRICS`.

    Returns
    -------
    ndarray
        Float64, shape (n_repeats, n_folds), of as many folds as the run tells of; NaN where a
        score is absent or undefined.
    """
    entries = _entries(run)
    places = [each["fold"] for each in entries] + [each.fold for each in run.scores]
    found = np.full((run.n_repeats, 1 + max(places, default=-1)), np.nan)
    for each in entries:
        value = each["scores"].get(metric)
        if each["repeat"] < run.n_repeats and value is not None:
            found[each["repeat"], each["fold"]] = value
    return found


def select(
    runs: Sequence[RunResult],
    kind: ArmKind,
    *,
    metric: str,
    test_fold: npt.NDArray[np.int16],
) -> tuple[RunResult, Selection]:
    """Choose the best arm of a kind in every fold of every repeat, by inner folds alone.

    In a fold the arm with the best score on the inner folds of that fold's training side is chosen
    (a fine-tune: on the tiles held back to stop its training), and it predicts the tiles tested
    there: the whole is what a user would get who tries all candidates on the training patients and
    keeps one (Varma and Simon 2006; Cawley and Talbot 2010). Choosing the best arm by its test
    scores instead would favour the kind with more candidates. An undefined score loses, and of
    equals the first declared is taken.

    Folds are chosen in on the repeats that all candidates have. Where one arm is chosen in all of
    them, it is returned as it is, with all its repeats. Otherwise a run is made of the chosen arms'
    predictions and scores. Its ``cost`` is the sum of those of all candidates for these repeats,
    since none can be left out before all were tried: seconds of work done one after the other, of
    peaks the largest. Embeddings that several candidates read are counted once.

    Parameters
    ----------
    runs
        In the order in which they were declared; those of other kinds are left out.
    kind
        ``probe`` or ``finetune``.
    metric
        A name of `featurebench.metrics.METRICS`.
    test_fold
        The plan's table, shape (n_repeats, n_tiles), negative where a tile is not tested.

    Returns
    -------
    run, selection
        The chosen arm's own run or the one made of several, and how it was chosen. Where a
        candidate has no inner score at all, or probes were scored on other tiles, the first
        declared one, with the reason in ``selection.not_chosen``.

    Raises
    ------
    ResultsError
        If the metric is unknown, or there is no run of that kind.

    References
    ----------
    Varma S, Simon R. Bias in error estimation when using cross-validation for model selection. BMC
    Bioinformatics 2006; 7:91.
    Cawley GC, Talbot NLC. On over-fitting in model selection and subsequent selection bias in
    performance evaluation. Journal of Machine Learning Research 2010; 11:2079-2107.
    """
    if metric not in METRICS:
        raise ResultsError(f"metric {metric!r} is unknown: choose from {', '.join(METRICS)}")
    candidates = [run for run in runs if run.kind == kind]
    if not candidates:
        raise ResultsError(f"no run is a {kind}: run at least one before choosing the best")
    shape = (min(run.n_repeats for run in candidates), int(test_fold.max()) + 1)
    if len(candidates) == 1:
        return candidates[0], Selection(
            kind, candidates[0].arm, {candidates[0].arm: shape[0] * shape[1]}
        )
    scores = np.stack([_in_shape(inner_scores(run, metric), shape) for run in candidates])
    for run, own in zip(candidates, scores, strict=True):
        if np.isnan(own).all():
            return candidates[0], Selection(kind, candidates[0].arm, {}, _reason(run, metric))
    if kind == "probe" and (reason := _unlike(candidates)):
        return candidates[0], Selection(kind, candidates[0].arm, {}, reason)
    best = _best(scores, greater=GREATER_IS_BETTER[metric])
    counts = Counter(candidates[each].arm for each in best.ravel().tolist())
    chosen = {run.arm: counts[run.arm] for run in candidates if counts[run.arm]}
    if len(chosen) == 1:
        return candidates[int(best[0, 0])], Selection(kind, next(iter(chosen)), chosen)
    name = _free_name(_TITLES[kind], {run.arm for run in runs})
    made = _composite(name, candidates, best, metric=metric, test_fold=test_fold)
    return made, Selection(kind, name, chosen)


def with_regret(
    selection: Selection, run: RunResult, results: ResultsTable, metric: str
) -> Selection:
    """Add which candidate would have been best on the tiles tested, and what choosing cost.

    Parameters
    ----------
    selection, run
        As `select` gives them.
    results
        The candidates, their labels and folds.
    metric
        That the choice was made by.

    Returns
    -------
    Selection
        With scores as arms are scored, on the repeats that all candidates have.
    """
    candidates = [each for each in results.runs if each.kind == selection.kind]
    if not selection.chosen or len(candidates) == 1:
        return selection
    n_repeats = min(each.n_repeats for each in candidates)

    def gain(each: RunResult) -> float:
        y_prob, folds = each.y_prob[:n_repeats], results.test_fold[:n_repeats]
        value = arm_value(metric, results.y_true, y_prob, folds)[0]
        return value if GREATER_IS_BETTER[metric] else -value

    gains = np.array([gain(each) for each in candidates])
    chosen = gain(run)
    if np.isnan(gains).all() or math.isnan(chosen):
        return selection
    best = int(np.nanargmax(gains))
    regret = float(gains[best]) - chosen
    return replace(selection, hindsight=candidates[best].arm, regret=regret)


def describe_choice(
    selection: Selection, labels: Mapping[str, str], metric: str, n_candidates: int
) -> str:
    """Say what choosing on inner folds cost on the tiles tested; empty where nothing was chosen.

    Parameters
    ----------
    labels
        What arms are called, by name.
    metric
        That the choice was made by.
    n_candidates
        Arms that there were to choose from.
    """
    if not selection.hindsight:
        return ""
    noun = {"probe": "probes", "finetune": "fine-tunes"}[selection.kind]
    name = labels.get(selection.hindsight, selection.hindsight)
    among = f"Of the {n_candidates} {noun}, {name}"
    if abs(selection.regret) < _NO_REGRET:
        return f"{among} scores best on the tiles tested, which is what inner folds chose."
    size = wording.unsigned(metric, selection.regret)
    than = "more" if GREATER_IS_BETTER[metric] else "less"
    measured = f"{size} {than} {wording.label(metric)}"
    if selection.regret < 0:
        return (
            f"{among} scores best on the tiles tested; what inner folds chose, fold by fold, "
            f"scores {measured} than it."
        )
    return (
        f"{among} would have been best on the tiles tested: it scores {measured} than what inner "
        "folds chose. Nobody could know that beforehand, and the best of several test scores is "
        "too good by chance."
    )


def _best(scores: Floats, *, greater: bool) -> Ints:
    """Find the best candidate of each repeat and fold, of scores with the candidates first."""
    turned = scores if greater else -scores
    best: Ints = np.where(np.isnan(turned), -np.inf, turned).argmax(axis=0)
    return best


def _composite(
    name: str,
    candidates: Sequence[RunResult],
    best: Ints,
    *,
    metric: str,
    test_fold: npt.NDArray[np.int16],
) -> RunResult:
    """Put a run together from the arm chosen in each fold, shape (n_repeats, n_folds)."""
    first, n_repeats = candidates[0], len(best)
    y_prob = np.full((n_repeats, *first.y_prob.shape[1:]), np.nan, dtype=np.float32)
    folds: list[dict[str, Any]] = []
    scores: list[FoldScore] = []
    inner: list[Mapping[str, Any]] = []
    for repeat, fold in np.ndindex(*best.shape):
        run = candidates[int(best[repeat, fold])]
        rows = test_fold[repeat] == fold
        y_prob[repeat, rows] = run.y_prob[repeat, rows]
        folds.append({"repeat": repeat, "fold": fold, "arm": run.arm})
        scores += [each for each in run.scores if (each.repeat, each.fold) == (repeat, fold)]
        inner += [e for e in _entries(run) if (e["repeat"], e["fold"]) == (repeat, fold)]
    embeddings = {key: cost for run in candidates for key, cost in embeddings_read(run).items()}
    return RunResult(
        arm=name,
        kind=first.kind,
        embedding=None,
        head=None,
        strategy=None,
        params={"candidates": [run.arm for run in candidates], "chosen_by": metric},
        fingerprint="",
        plan_id=first.plan_id,
        seed=first.seed,
        classes=first.classes,
        y_prob=y_prob,
        scores=tuple(scores),
        cost=sum((_cost_of(run, n_repeats) for run in candidates), Cost()),
        extraction_cost=sum(embeddings.values(), Cost()),
        embedding_costs=embeddings,
        device=", ".join(dict.fromkeys(run.device for run in candidates)),
        details={"folds": folds, "inner": inner},
    )


def _cost_of(run: RunResult, n_repeats: int) -> Cost:
    """Give the cost of the first repeats of a run, as their share of all."""
    if run.n_repeats == n_repeats:
        return run.cost
    trials = round(run.cost.trials * n_repeats / run.n_repeats)
    return replace(run.cost.part_of(run.n_repeats / n_repeats), trials=trials)


def _entries(run: RunResult) -> Sequence[Mapping[str, Any]]:
    entries: Sequence[Mapping[str, Any]] = run.details.get("inner", ())
    return entries


def _unlike(candidates: Sequence[RunResult]) -> str:
    """Say which probe was scored on fewer held-back tiles than another; empty where none was."""
    sizes = [
        {(each["repeat"], each["fold"]): each["n"] for each in _entries(run) if each["n"]}
        for run in candidates
    ]
    for run, own in zip(candidates, sizes, strict=True):
        if any(own[at] < other[at] for other in sizes for at in own.keys() & other.keys()):
            return (
                f"{run.arm} was scored on fewer inner folds than other probes, as earlier "
                "versions did: delete the folder of its run and run it again."
            )
    return ""


def _in_shape(scores: Floats, shape: tuple[int, int]) -> Floats:
    """Cut to the repeats looked at, and fill up folds that a run does not tell of."""
    whole = np.full(shape, np.nan)
    part = scores[: shape[0], : shape[1]]
    whole[: part.shape[0], : part.shape[1]] = part
    return whole


def _reason(run: RunResult, metric: str) -> str:
    """Say why an arm has no inner scores and what to do."""
    entries = _entries(run)
    told = next((each["reason"] for each in entries if each.get("reason")), "")
    if not entries:
        why = "none were kept when it was run: delete the folder of its run and run it again"
    elif told:
        why = told
    elif not any(each["n"] for each in entries):
        why = "no tiles were held back: set validation_fraction above 0 and run it again"
    else:
        why = (
            f"{metric} was not kept or is undefined on the tiles held back: choose another metric, "
            "or delete the folder of its run and run it again"
        )
    return f"{run.arm} has no scores on inner folds ({why.rstrip('.')})."


def _free_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name += " (chosen)"
    return name
