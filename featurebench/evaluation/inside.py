"""score_inside(): how a head does on tiles held back from each fold's training side.

An arm that is chosen by such scores is chosen without a look at the tiles that it is tested on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featurebench.errors import SplitError
from featurebench.evaluation.folds import inner_of, inner_pairs
from featurebench.evaluation.predicting import count_trials, predict_folds
from featurebench.heads import Fold
from featurebench.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    from sklearn.base import ClassifierMixin

    from featurebench.evaluation.views import Views
    from featurebench.splits import Split, SplitPlan

    Array = npt.NDArray[np.floating[Any]]
    Codes = npt.NDArray[np.int64]

_NOTHING: dict[str, float | None] = dict.fromkeys(METRICS)


@dataclass(frozen=True, eq=False)
class InnerFold:
    """A fold inside the training side of another; None where it cannot be drawn, with the reason.

    Parameters
    ----------
    fold
        Rows to fit on, rows to score, and inner folds of the former where the head tunes.
    reason
        One line; empty where there is a fold.
    """

    fold: Fold | None
    reason: str = ""


@dataclass(frozen=True)
class InnerScore:
    """How a head did on the tiles held back inside one fold.

    Parameters
    ----------
    n
        Tiles scored; 0 where none could be.
    scores
        Value of each of `METRICS`, None where it is undefined or nothing was scored.
    trials
        Configurations that a search tried on the way.
    reason
        Why nothing was scored; one line, empty where something was.
    """

    n: int
    scores: Mapping[str, float | None]
    trials: int = 0
    reason: str = ""

    @classmethod
    def missing(cls, reason: str) -> InnerScore:
        """Give that of a fold in which nothing could be scored."""
        return cls(0, _NOTHING, reason=reason)

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready, as it stands in a run's ``details``."""
        told = {"reason": self.reason} if self.reason else {}
        return {"n": self.n, "scores": dict(self.scores), **told}


def make_inner_folds(
    plan: SplitPlan,
    y: Codes,
    groups: npt.NDArray[Any] | None = None,
    *,
    inner: int = 3,
    seed: int = 0,
    tune: bool = True,
) -> list[InnerFold]:
    """Lay out one fold inside the training side of every fold of a plan, in the plan's order.

    It is the first of the inner folds that `make_folds` gives the fold for tuning, and in a
    hold-out the plan's validation part: the same for every head. What is fitted there is tuned on
    folds of its own training rows.

    Parameters
    ----------
    plan, y, groups, inner, seed
        As in `make_folds`.
    tune
        Whether inner folds of the inner training rows are wanted.

    Returns
    -------
    list of InnerFold
        Without a fold where there are too few groups for it.

    Examples
    --------
    >>> import numpy as np
    >>> from featurebench.splits import SplitPlan
    >>> patients = np.arange(16) // 2
    >>> labels = patients % 2
    >>> plan = SplitPlan.draw(labels, patients, folds=2)
    >>> inside = make_inner_folds(plan, labels, patients, tune=False)
    >>> [(len(each.fold.train), len(each.fold.test)) for each in inside]
    [(4, 4), (4, 4)]
    """
    return [_inside(split, y, groups, inner=inner, seed=seed, tune=tune) for split in plan.splits()]


def score_inside(
    head: ClassifierMixin,
    X: Array,
    y: Codes,
    inside: Sequence[InnerFold],
    *,
    n_classes: int,
    views: Views | None = None,
    threads: int = 1,
) -> list[InnerScore]:
    """Fit a head on every inner fold and score the tiles held back.

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
    folds = [each.fold for each in inside if each.fold is not None]
    found = (
        iter(predict_folds(head, X, y, folds, n_classes=n_classes, views=views, threads=threads))
        if folds
        else iter(())
    )
    scored = []
    for each in inside:
        if each.fold is None:
            scored.append(InnerScore.missing(each.reason))
            continue
        prediction, rows = next(found), each.fold.test
        scores = _scores(y[rows], prediction.y_prob)
        scored.append(InnerScore(len(rows), scores, count_trials([prediction])))
    return scored


def _scores(y_true: Codes, y_prob: npt.NDArray[np.float32]) -> dict[str, float | None]:
    values = {name: float(metric(y_true, y_prob)) for name, metric in METRICS.items()}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _inside(
    split: Split,
    y: Codes,
    groups: npt.NDArray[Any] | None,
    *,
    inner: int,
    seed: int,
    tune: bool,
) -> InnerFold:
    try:
        train, held_back = inner_of(split, y, groups, inner=inner, seed=seed)[0]
        pairs = inner_pairs(train, y, groups, inner=inner, seed=seed + split.repeat) if tune else ()
    except SplitError as error:
        return InnerFold(None, str(error))
    return InnerFold(Fold(train, held_back, pairs))
