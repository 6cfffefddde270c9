"""cross_validate(): one head on one embedding over one SplitPlan -> out-of-fold probabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.errors import ResultsError
from featurebench.evaluation.folds import make_folds
from featurebench.evaluation.inside import make_inner_folds, score_inside
from featurebench.evaluation.predicting import count_trials, predict_folds
from featurebench.heads import needs_inner_folds
from featurebench.metrics import score_folds
from featurebench.results import Cost, CostMeter, FoldScore, RunResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sklearn.base import ClassifierMixin

    from featurebench.evaluation.inside import InnerScore
    from featurebench.evaluation.views import Views
    from featurebench.heads import FoldPrediction
    from featurebench.results import ArmKind
    from featurebench.splits import SplitPlan

    Array = npt.NDArray[np.floating[Any]]

    Codes = npt.NDArray[np.int64]


# Rows looked at together, so that a memory map larger than memory can be checked.
_CHECKED = 65_536


def cross_validate(
    head: ClassifierMixin,
    X: Array,
    y: Codes,
    plan: SplitPlan,
    *,
    classes: Sequence[str],
    groups: npt.NDArray[Any] | None = None,
    arm: str | None = None,
    kind: ArmKind = "probe",
    embedding: str | None = None,
    head_name: str | None = None,
    params: Mapping[str, Any] | None = None,
    fingerprint: str = "",
    extraction_cost: Cost | None = None,
    views: Views | None = None,
    inner: int = 3,
    seed: int = 0,
    threads: int = 1,
    validate: bool = False,
    progress: Callable[[int], None] | None = None,
) -> RunResult:
    """Fit the head on the training side of every fold and predict its test side.

    A head with a parameter ``cv`` chooses its hyper-parameters on ``inner`` folds drawn from the
    training tiles alone, grouped like the plan; in a hold-out plan on its validation part. What
    was chosen is fitted on all that is not tested, validation tiles included.

    Parameters
    ----------
    head
        Any unfitted scikit-learn classifier with ``predict_proba``; cloned for every fold, unless
        it is a `ManyFoldHead`, which shares work between them.
    X
        Embeddings, shape (n_tiles, dim), finite, of any float type; used as float32. It may be a
        memory map.
    y
        Codes 0..K-1 into ``classes``, shape (n_tiles,).
    plan
        Test folds of the same tiles in the same order.
    classes
        Names of the classes, in the order of the codes.
    groups
        Patient (or site) of each tile, shape (n_tiles,), for the inner folds.
    arm, kind, embedding, head_name, params, fingerprint, extraction_cost
        Provenance, kept with the result; ``arm`` defaults to the head's class name.
    views
        Augmented views of the tiles to train on, or to average predictions over.
    seed
        Of the inner folds.
    threads
        Processor threads of the linear algebra.
    validate
        Whether the head is also fitted and scored inside the training side of every fold, where
        nothing is tested: what the best of several probes is chosen by. It changes no prediction,
        and is part of the cost.
    progress
        Called with 1 after every fold.

    Returns
    -------
    RunResult
        ``y_prob`` of shape (n_repeats, n_tiles, n_classes), NaN where a tile was not tested;
        ``details["folds"]`` tells what was chosen, ``details["inner"]`` the scores inside.

    Raises
    ------
    ResultsError
        If ``X``, ``y`` and the plan are not of the same tiles, or ``X`` is not finite.
    """
    check_rows(X, y, plan)
    meter = CostMeter()
    drawn: dict[str, Any] = {"inner": inner, "seed": seed, "tune": needs_inner_folds(head)}
    given: dict[str, Any] = {"n_classes": len(classes), "views": views, "threads": threads}
    folds = make_folds(plan, y, groups, **drawn)
    predictions = predict_folds(head, X, y, folds, progress=progress, **given)
    inside: Sequence[InnerScore] = ()
    if validate:
        inside = score_inside(head, X, y, make_inner_folds(plan, y, groups, **drawn), **given)
    trials = count_trials(predictions) + sum(each.trials for each in inside)
    cost = replace(meter.read(), trials=trials)
    return RunResult(
        arm=arm or type(head).__name__,
        kind=kind,
        embedding=embedding,
        head=head_name or type(head).__name__,
        strategy=None,
        params=dict(params or {}),
        fingerprint=fingerprint,
        plan_id=plan.id,
        seed=seed,
        classes=tuple(classes),
        **assemble(plan, y, predictions, len(classes), inside=inside),
        cost=cost,
        extraction_cost=extraction_cost or Cost(),
    )


def assemble(
    plan: SplitPlan,
    y: Codes,
    predictions: Sequence[FoldPrediction],
    n_classes: int,
    *,
    inside: Sequence[InnerScore] = (),
) -> dict[str, Any]:
    """Put the folds' predictions together: the fields of a `RunResult` that follow from them.

    Parameters
    ----------
    predictions
        One per fold of every repeat, in the plan's order.
    inside
        The same of the scores inside the folds; empty where there are none.

    Returns
    -------
    dict
        ``y_prob``, ``scores`` and ``details``.
    """
    y_prob = np.full((plan.n_repeats, len(y), n_classes), np.nan, dtype=np.float32)
    splits = list(plan.splits())
    for split, prediction in zip(splits, predictions, strict=True):
        y_prob[split.repeat, split.test] = prediction.y_prob
    places = [{"repeat": split.repeat, "fold": split.fold} for split in splits]
    details: dict[str, Any] = {
        "folds": [{**at, **p.choices} for at, p in zip(places, predictions, strict=True)]
    }
    if inside:
        details["inner"] = [
            {**at, **score.to_dict()} for at, score in zip(places, inside, strict=True)
        ]
    scores = tuple(FoldScore(*row) for row in score_folds(y, y_prob, plan.test_fold))
    return {"y_prob": y_prob, "scores": scores, "details": details}


def check_rows(X: Array, y: Codes, plan: SplitPlan) -> None:
    """Make sure that row i is the same tile in all three, and that X is finite.

    Raises
    ------
    ResultsError
        If the lengths differ, or a row is not finite.
    """
    if not len(X) == len(y) == plan.n_tiles:
        raise ResultsError(
            f"{len(X)} embeddings, {len(y)} labels and a plan of {plan.n_tiles} tiles: "
            "row i must be the same tile in all three"
        )
    bad = [
        start + np.flatnonzero(~np.isfinite(X[start : start + _CHECKED]).all(axis=1))
        for start in range(0, len(X), _CHECKED)
    ]
    rows = np.concatenate(bad)
    if len(rows):
        raise ResultsError(
            f"{len(rows)} embeddings are not finite (first: row {rows[0]}): leave those tiles out"
        )
