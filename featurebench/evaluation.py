"""`cross_validate`: one head on one embedding over one SplitPlan -> out-of-fold probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from featurebench.errors import ResultsError
from featurebench.metrics import score_folds
from featurebench.results import Cost, CostMeter, FoldScore, RunResult
from featurebench.splits import Split, SplitPlan, inner_folds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sklearn.base import ClassifierMixin

    from featurebench.results import ArmKind

    Codes = npt.NDArray[np.int64]


def cross_validate(
    head: ClassifierMixin,
    X: npt.NDArray[np.floating[Any]],
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
        Any unfitted scikit-learn classifier with ``predict_proba``; cloned for every fold.
    X
        Embeddings, shape (n_tiles, dim), finite; used as float32.
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
    X = _checked(X, y, plan)
    y_prob = np.full((plan.n_repeats, len(y), len(classes)), np.nan, dtype=np.float32)
    details: list[dict[str, Any]] = []
    meter = CostMeter()
    with threadpool_limits(threads):
        for split in plan.splits():
            fitted = _fit(head, X, y, groups, split, inner=inner, seed=seed)
            y_prob[split.repeat, split.test] = _aligned(fitted, X[split.test], len(classes))
            details.append(_choices(fitted, split))
            if progress is not None:
                progress(1)
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
        y_prob=y_prob,
        scores=tuple(FoldScore(*row) for row in score_folds(y, y_prob, plan.test_fold)),
        cost=meter.read(),
        extraction_cost=extraction_cost or Cost(),
        details={"folds": details},
    )


def _checked(
    X: npt.NDArray[np.floating[Any]], y: Codes, plan: SplitPlan
) -> npt.NDArray[np.float32]:
    n_tiles = plan.test_fold.shape[1]
    if not len(X) == len(y) == n_tiles:
        raise ResultsError(
            f"{len(X)} embeddings, {len(y)} labels and a plan of {n_tiles} tiles: "
            "row i must be the same tile in all three"
        )
    X = np.ascontiguousarray(X, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(X).all(axis=1))
    if len(bad):
        raise ResultsError(
            f"{len(bad)} embeddings are not finite (first: row {bad[0]}): leave those tiles out"
        )
    return X


def _fit(
    head: ClassifierMixin,
    X: npt.NDArray[np.float32],
    y: Codes,
    groups: npt.NDArray[Any] | None,
    split: Split,
    *,
    inner: int,
    seed: int,
) -> ClassifierMixin:
    fitted = clone(head)
    rows, validation = _not_tested(split)
    if getattr(fitted, "needs_inner_folds", "cv" in fitted.get_params(deep=False)):
        if validation is None:
            of_rows = None if groups is None else groups[rows]
            cv = list(inner_folds(y[rows], of_rows, folds=inner, seed=seed + split.repeat))
        else:
            cv = [validation]
        fitted.set_params(cv=cv)
    return fitted.fit(X[rows], y[rows])


def _not_tested(split: Split) -> tuple[Codes, tuple[Codes, Codes] | None]:
    """Rows to fit on, and in a hold-out the one inner fold that the plan already holds."""
    if split.validation is None:
        return split.train, None
    rows = np.concatenate([split.train, split.validation])
    inside = np.arange(len(rows))
    return rows, (inside[: len(split.train)], inside[len(split.train) :])


def _aligned(
    fitted: ClassifierMixin, X: npt.NDArray[np.float32], n_classes: int
) -> npt.NDArray[np.float32]:
    """Probabilities with one column per class; a class that the training fold lacks gets zero."""
    p = np.zeros((len(X), n_classes), dtype=np.float32)
    p[:, fitted.classes_.astype(int)] = fitted.predict_proba(X)
    return p


def _choices(fitted: ClassifierMixin, split: Split) -> dict[str, Any]:
    """Record what the head chose on the inner folds."""
    chosen = {"repeat": split.repeat, "fold": split.fold}
    return chosen | ({"C": fitted.C_} if hasattr(fitted, "C_") else {})
