"""few_label_curve(): one head on one embedding, fitted on every smaller training set."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from featurebench.errors import ResultsError
from featurebench.evaluation.crossval import check_rows
from featurebench.evaluation.few_labels.subsets import score_subset
from featurebench.evaluation.few_labels.untuned import without_tuning
from featurebench.evaluation.predicting import count_trials, predict_folds
from featurebench.heads import needs_inner_folds
from featurebench.results import CostMeter, CurvePoint, LearningCurve, LeftOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    from sklearn.base import ClassifierMixin

    from featurebench.evaluation.few_labels.subsets import Subset, Subsets
    from featurebench.evaluation.views import Views
    from featurebench.heads import FoldPrediction

    Array = npt.NDArray[np.floating[Any]]
    Codes = npt.NDArray[np.int64]

DEFAULT_METRICS = ("balanced_accuracy", "roc_auc", "log_loss")
# What the folds that are handed to a head at once may occupy there, roughly.
_CHUNK_BYTES = 2**29
# Candidates of a hyper-parameter that a head may keep a model of, per inner fold.
_CANDIDATES = 10


def few_label_curve(
    head: ClassifierMixin,
    X: Array,
    y: Codes,
    subsets: Subsets,
    *,
    classes: Sequence[str],
    arm: str | None = None,
    embedding: str | None = None,
    head_name: str | None = None,
    params: Mapping[str, Any] | None = None,
    fingerprint: str = "",
    seed: int = 0,
    metrics: Sequence[str] = DEFAULT_METRICS,
    views: Views | None = None,
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
) -> LearningCurve:
    """Fit the head on every smaller training set and score it on the fold's whole test side.

    A head that chooses something does so on the subset's own inner folds. Where a subset is too
    small for these, the head is fitted with fixed settings, see `without_tuning`; a head that has
    none goes without that size.

    Parameters
    ----------
    head, X, y, classes, views, threads
        As in `cross_validate`.
    subsets
        From `draw_subsets`, on the same tiles; the same ones for all arms.
    arm, embedding, head_name, params, fingerprint, seed
        Provenance, kept with the curve; ``arm`` defaults to the head's class name.
    metrics
        Keys of `featurebench.metrics.METRICS`.
    progress
        Called with numbers that add up to ``len(subsets)``.

    Returns
    -------
    LearningCurve

    Raises
    ------
    ResultsError
        If ``X``, ``y`` and the plan are not of the same tiles, or ``X`` is not finite, or the
        head chooses something and the subsets were drawn with ``tune=False``.

    Examples
    --------
    >>> import numpy as np
    >>> from featurebench.evaluation import FewLabels, draw_subsets
    >>> from featurebench.heads import make_head
    >>> from featurebench.splits import SplitPlan
    >>> y, patients = np.array([0, 0, 1, 1] * 3), np.repeat(np.arange(6), 2)
    >>> subsets = draw_subsets(
    ...     y, SplitPlan.draw(y, patients, folds=3), FewLabels(shots=[1, 2]), groups=patients
    ... )
    >>> head = make_head("knn", k=1, metric="euclidean")
    >>> curve = few_label_curve(head, y[:, None] * 1.0, y, subsets, classes=("a", "b"))
    >>> [(each.size, each.value) for each in curve.by_size("balanced_accuracy")]
    [(1, 1.0), (2, 1.0)]
    """
    check_rows(X, y, subsets.plan)
    meter = CostMeter()
    usable, left_out = _usable(head, subsets)
    if progress is not None:
        progress(len(subsets) - len(usable))
    points: list[CurvePoint] = []
    trials = 0
    for members in _chunks(usable, X.shape, len(classes), subsets.few.inner):
        found = _predict(
            head,
            X,
            y,
            members,
            n_classes=len(classes),
            views=views,
            threads=threads,
            progress=progress,
        )
        trials += count_trials(found.values())
        points += [
            score_subset(each, y, found[id(each)].y_prob, metrics, inner=_chosen_on(each, head))
            for each in members
        ]
    return LearningCurve(
        arm=arm or type(head).__name__,
        embedding=embedding,
        head=head_name or type(head).__name__,
        params=dict(params or {}),
        fingerprint=fingerprint,
        plan_id=subsets.plan.id,
        seed=seed,
        classes=tuple(classes),
        settings=subsets.few.as_json(),
        metrics=tuple(metrics),
        points=tuple(points),
        left_out=(*subsets.left_out, *left_out),
        full_tiles=subsets.full_tiles,
        full_patients=subsets.full_patients,
        cost=replace(meter.read(), trials=trials),
    )


def _usable(head: ClassifierMixin, subsets: Subsets) -> tuple[list[Subset], list[LeftOut]]:
    """Leave out the sizes at which the head lacks inner folds and cannot do without."""
    if not needs_inner_folds(head):
        return list(subsets), []
    if not subsets.tune:
        raise ResultsError(
            f"{type(head).__name__} chooses on inner folds, but the training sets were drawn "
            "without: draw them with tune=True"
        )
    if without_tuning(head) is not None:
        return list(subsets), []
    lacking = Counter((each.kind, each.size) for each in subsets if each.inner is None)
    of_size = Counter((each.kind, each.size) for each in subsets)
    left_out = [
        LeftOut(
            kind,
            size,
            f"{type(head).__name__} needs inner folds; {n} of {of_size[kind, size]} training sets "
            "are too small for them",
        )
        for (kind, size), n in lacking.items()
    ]
    return [each for each in subsets if (each.kind, each.size) not in lacking], left_out


def _predict(
    head: ClassifierMixin,
    X: Array,
    y: Codes,
    members: Sequence[Subset],
    **settings: Any,  # noqa: ANN401
) -> dict[int, FoldPrediction]:
    """Fit and predict, tuned or with fixed settings; predictions by the id of the subset."""
    tunes = needs_inner_folds(head)
    chosen = [each for each in members if tunes and each.inner is not None]
    fixed = [each for each in members if not (tunes and each.inner is not None)]
    found: dict[int, FoldPrediction] = {}
    for form, some in ((head, chosen), (without_tuning(head), fixed)):
        if form is None or not some:
            continue
        folds = [each.as_fold(tune=some is chosen) for each in some]
        predictions = predict_folds(form, X, y, folds, **settings)
        found |= {id(each): p for each, p in zip(some, predictions, strict=True)}
    return found


def _chunks(
    subsets: Sequence[Subset], shape: tuple[int, ...], n_classes: int, inner: int
) -> Iterator[Sequence[Subset]]:
    """Cut into runs of which a head can hold the membership tables and the models at once."""
    n_rows, n_features = shape
    models = 12 * _CANDIDATES * inner * n_features * n_classes
    per_fold = (inner + 1) * n_rows + models
    step = max(1, _CHUNK_BYTES // per_fold)
    for start in range(0, len(subsets), step):
        yield subsets[start : start + step]


def _chosen_on(subset: Subset, head: ClassifierMixin) -> str:
    return (subset.level or "fixed") if needs_inner_folds(head) else ""
