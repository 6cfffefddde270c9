"""cross_validate(): one head on one embedding over one SplitPlan -> out-of-fold probabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from featurebench.errors import ResultsError
from featurebench.evaluation.folds import make_folds
from featurebench.heads import ManyFoldHead, needs_inner_folds, predict_one_by_one
from featurebench.metrics import score_folds
from featurebench.results import Cost, CostMeter, FoldScore, RunResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sklearn.base import ClassifierMixin

    from featurebench.evaluation.views import Views
    from featurebench.heads import Fold, FoldPrediction
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
    progress
        Called with 1 after every fold.

    Returns
    -------
    RunResult
        ``y_prob`` of shape (n_repeats, n_tiles, n_classes), NaN where a tile was not tested.

    Raises
    ------
    ResultsError
        If ``X``, ``y`` and the plan are not of the same tiles, or ``X`` is not finite.
    """
    check_rows(X, y, plan)
    meter = CostMeter()
    folds = make_folds(plan, y, groups, inner=inner, seed=seed, tune=needs_inner_folds(head))
    predictions = predict_folds(
        head, X, y, folds, n_classes=len(classes), views=views, threads=threads, progress=progress
    )
    cost = replace(meter.read(), trials=count_trials(predictions))
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
        **assemble(plan, y, predictions, len(classes)),
        cost=cost,
        extraction_cost=extraction_cost or Cost(),
    )


def predict_folds(
    head: ClassifierMixin,
    X: Array,
    y: Codes,
    folds: Sequence[Fold],
    *,
    n_classes: int,
    views: Views | None = None,
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
) -> list[FoldPrediction]:
    """Fit a head on every fold and predict its test rows.

    Parameters
    ----------
    head, X, y, views, threads
        As in `cross_validate`.
    folds
        With inner folds where the head needs them.
    progress
        Called with the number of folds done.

    Returns
    -------
    list of FoldPrediction
        In the order of the folds.
    """
    if views is not None:
        wide = [views.spread(fold, len(X)) for fold in folds]
        X, y = views.stack(X), np.tile(y, len(views.X) + 1)
        found = predict_folds(
            head, X, y, wide, n_classes=n_classes, threads=threads, progress=progress
        )
        return [views.gather(prediction) for prediction in found]
    with threadpool_limits(threads):
        if isinstance(head, ManyFoldHead):
            many: ManyFoldHead = clone(head)
            return many.predict_folds(X, y, folds, n_classes=n_classes, progress=progress)
        predictions = []
        for prediction in predict_one_by_one(head, X, y, folds, n_classes=n_classes):
            predictions.append(prediction)
            if progress is not None:
                progress(1)
    return predictions


def count_trials(predictions: Iterable[FoldPrediction]) -> int:
    """Count the configurations that searches tried in all folds; 0 where none was made."""
    return sum(int(each.choices.get("trials", 0)) for each in predictions)


def assemble(
    plan: SplitPlan, y: Codes, predictions: Sequence[FoldPrediction], n_classes: int
) -> dict[str, Any]:
    """Put the folds' predictions together: the fields of a `RunResult` that follow from them.

    Parameters
    ----------
    predictions
        One per fold of every repeat, in the plan's order.

    Returns
    -------
    dict
        ``y_prob``, ``scores`` and ``details``.
    """
    y_prob = np.full((plan.n_repeats, len(y), n_classes), np.nan, dtype=np.float32)
    chosen = []
    for split, prediction in zip(plan.splits(), predictions, strict=True):
        y_prob[split.repeat, split.test] = prediction.y_prob
        chosen.append({"repeat": split.repeat, "fold": split.fold, **prediction.choices})
    scores = tuple(FoldScore(*row) for row in score_folds(y, y_prob, plan.test_fold))
    return {"y_prob": y_prob, "scores": scores, "details": {"folds": chosen}}


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
