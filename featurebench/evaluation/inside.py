"""score_inside(): how a head does on inner folds of each fold's training side.

An arm that is chosen by such scores is chosen without a look at the tiles that it is tested on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.errors import SplitError
from featurebench.evaluation.folds import inner_of, inner_pairs
from featurebench.evaluation.predicting import count_trials, predict_folds
from featurebench.heads import Fold
from featurebench.metrics import METRICS, arm_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from sklearn.base import ClassifierMixin

    from featurebench.evaluation.views import Views
    from featurebench.splits import Split, SplitPlan

    Array = npt.NDArray[np.floating[Any]]
    Codes = npt.NDArray[np.int64]

_NOTHING: dict[str, float | None] = dict.fromkeys(METRICS)


@dataclass(frozen=True, eq=False)
class InnerFolds:
    """The inner folds of one fold's training side; none where they cannot be drawn.

    Parameters
    ----------
    folds
        Rows to fit on, rows to score, and inner folds of the former where the head tunes. No row
        is scored twice.
    reason
        One line; empty where there are folds.
    """

    folds: tuple[Fold, ...]
    reason: str = ""


@dataclass(frozen=True)
class InnerScore:
    """How a head did on the inner folds of one fold, each fitted without the tiles it scores.

    Parameters
    ----------
    n
        Tiles scored, of all inner folds; 0 where none could be.
    scores
        Value of each of `METRICS`, None where it is undefined or nothing was scored.
    trials
        Configurations that a search tried on the way.
    reason
        Why nothing was scored; one line, empty where something was.
    folds
        Inner folds that were scored.
    """

    n: int
    scores: Mapping[str, float | None]
    trials: int = 0
    reason: str = ""
    folds: int = 0

    @classmethod
    def missing(cls, reason: str) -> InnerScore:
        """Give that of a fold in which nothing could be scored."""
        return cls(0, _NOTHING, reason=reason)

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready, as it stands in a run's ``details``."""
        told = {"reason": self.reason} if self.reason else {}
        return {"n": self.n, "folds": self.folds, "scores": dict(self.scores), **told}


def make_inner_folds(
    plan: SplitPlan,
    y: Codes,
    groups: npt.NDArray[Any] | None = None,
    *,
    inner: int = 3,
    seed: int = 0,
    tune: bool = True,
) -> list[InnerFolds]:
    """Lay out the inner folds of every fold of a plan, in the plan's order.

    They are the inner folds that `make_folds` gives the fold for tuning, and in a hold-out the
    plan's validation part: the same for every head. What is fitted there is tuned on folds of its
    own training rows.

    Parameters
    ----------
    plan, y, groups, inner, seed
        As in `make_folds`.
    tune
        Whether inner folds of the inner training rows are wanted.

    Returns
    -------
    list of InnerFolds
        Without any where there are too few groups for one of them: a head that is scored on part
        of the tiles could not be held against one that is scored on all.

    Examples
    --------
    >>> import numpy as np
    >>> from featurebench.splits import SplitPlan
    >>> patients = np.arange(16) // 2
    >>> labels = patients % 2
    >>> plan = SplitPlan.draw(labels, patients, folds=2)
    >>> inside = make_inner_folds(plan, labels, patients, tune=False)
    >>> [[(len(fold.train), len(fold.test)) for fold in each.folds] for each in inside]
    [[(4, 4), (4, 4)], [(4, 4), (4, 4)]]
    """
    return [_inside(split, y, groups, inner=inner, seed=seed, tune=tune) for split in plan.splits()]


def score_inside(
    head: ClassifierMixin,
    X: Array,
    y: Codes,
    inside: Sequence[InnerFolds],
    *,
    n_classes: int,
    views: Views | None = None,
    threads: int = 1,
) -> list[InnerScore]:
    """Fit a head on every inner fold and score the tiles held back, as an arm is scored.

    The predictions of all inner folds of a fold are pooled before they are scored, so that a class
    that an inner fold lacks does not make chance look better than it is. Metrics that rank tiles
    are averaged over the inner folds that hold all classes instead, since scores of different fits
    need not be on one scale. A class whose tiles all belong to one group is always trained on: it
    is held back nowhere, and all heads are scored on the others alike.

    The folds of the plan are no part of this call: a head that shares work between folds rounds
    differently in other company, and what an arm predicts must not hang on whether it was scored
    here.

    Parameters
    ----------
    head, X, y, n_classes, views, threads
        As in `predict_folds`.
    inside
        From `make_inner_folds`.

    Returns
    -------
    list of InnerScore
        In the order of the folds.
    """
    folds = [fold for each in inside for fold in each.folds]
    found = (
        iter(predict_folds(head, X, y, folds, n_classes=n_classes, views=views, threads=threads))
        if folds
        else iter(())
    )
    scored = []
    for each in inside:
        if not each.folds:
            scored.append(InnerScore.missing(each.reason))
            continue
        predictions = [next(found) for _ in each.folds]
        rows = np.concatenate([fold.test for fold in each.folds])
        sizes = [len(fold.test) for fold in each.folds]
        y_prob = np.concatenate([prediction.y_prob for prediction in predictions])
        scores = _scores(y[rows], y_prob, np.repeat(np.arange(len(sizes)), sizes))
        trials = count_trials(predictions)
        scored.append(InnerScore(len(rows), scores, trials, folds=len(sizes)))
    return scored


def _scores(
    y_true: Codes, y_prob: npt.NDArray[np.float32], inner_fold: Codes
) -> dict[str, float | None]:
    values = {name: arm_value(name, y_true, y_prob[None], inner_fold[None])[0] for name in METRICS}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _inside(
    split: Split,
    y: Codes,
    groups: npt.NDArray[Any] | None,
    *,
    inner: int,
    seed: int,
    tune: bool,
) -> InnerFolds:
    try:
        pairs = inner_of(split, y, groups, inner=inner, seed=seed)
        folds = tuple(
            Fold(
                train,
                held_back,
                inner_pairs(train, y, groups, inner=inner, seed=seed + split.repeat)
                if tune
                else (),
            )
            for train, held_back in pairs
        )
    except SplitError as error:
        return InnerFolds((), str(error))
    return InnerFolds(folds)
