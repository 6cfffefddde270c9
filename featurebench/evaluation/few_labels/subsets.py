"""draw_subsets(): the smaller training sets of every fold, the same ones for every arm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from featurebench.errors import ConfigError, SplitError
from featurebench.evaluation.few_labels.orders import ORDERS, Order
from featurebench.evaluation.few_labels.settings import KINDS
from featurebench.evaluation.folds import make_folds
from featurebench.heads import Fold
from featurebench.metrics import METRICS
from featurebench.results import CurvePoint, LeftOut
from featurebench.splits import inner_folds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from featurebench.evaluation.few_labels.settings import FewLabels
    from featurebench.splits import SplitPlan

    Codes = npt.NDArray[np.int64]

_NOUNS = {
    "patients": "patients",
    "tiles": "tiles",
    "shots": "tiles of every class",
    "patient_shots": "tiles of every class",
}


@dataclass(frozen=True, eq=False)
class Subset:
    """One smaller training set of one fold.

    Parameters
    ----------
    kind, size, draw, repeat, fold
        As of a `CurvePoint`.
    rows
        Row numbers of its tiles in the order of the draw, int32, shape (n_tiles,).
    test
        Row numbers of the fold's test tiles.
    n_patients
        Patients among the tiles; None where they are unknown.
    level
        What its inner folds keep together: ``groups``, or ``tiles`` where there are too few
        groups; empty if there are none.
    inner
        Inner fold of each tile of ``train``, -1 if it is always trained on, int8, shape
        (n_tiles,).
    """

    kind: str
    size: int
    draw: int
    repeat: int
    fold: int
    rows: npt.NDArray[np.integer[Any]]
    test: Codes
    n_patients: int | None
    level: str = ""
    inner: npt.NDArray[np.int8] | None = None

    @property
    def train(self) -> Codes:
        """Row numbers of its tiles, ascending."""
        return np.sort(self.rows).astype(np.int64)

    def as_fold(self, *, tune: bool) -> Fold:
        """Lay it out for a head, with its inner folds if ``tune``."""
        train = self.train
        if not tune or self.inner is None:
            return Fold(train, self.test)
        parts = range(int(self.inner.max()) + 1)
        pairs = tuple((train[self.inner != i], train[self.inner == i]) for i in parts)
        return Fold(train, self.test, pairs)


@dataclass(frozen=True, eq=False)
class Subsets:
    """All smaller training sets of an experiment; hand the same ones to every arm.

    Parameters
    ----------
    few
        Settings they were drawn with.
    plan
        Whose test folds they belong to.
    members
        Draw by draw; within one by repeat, fold, kind and size.
    left_out
        Sizes that not every training side holds.
    tune
        Whether inner folds were drawn.
    full_tiles, full_patients
        Mean numbers of a whole training side.
    """

    few: FewLabels
    plan: SplitPlan
    members: tuple[Subset, ...]
    left_out: tuple[LeftOut, ...]
    tune: bool
    full_tiles: float
    full_patients: float | None

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Subset]:
        return iter(self.members)


def score_subset(
    subset: Subset,
    y: Codes,
    y_prob: npt.NDArray[np.floating[Any]],
    metrics: Sequence[str],
    *,
    inner: str,
) -> CurvePoint:
    """Score what was predicted on a subset's test tiles, as a point of a curve.

    Parameters
    ----------
    y
        Codes of all tiles, shape (n_tiles,).
    y_prob
        Of the subset's test tiles, shape (n_test, n_classes).
    metrics
        Keys of `featurebench.metrics.METRICS`.
    inner
        As of a `CurvePoint`.
    """
    truth = y[subset.test]
    return CurvePoint(
        subset.kind,
        subset.size,
        subset.draw,
        subset.repeat,
        subset.fold,
        len(subset.rows),
        subset.n_patients,
        inner,
        {name: METRICS[name](truth, y_prob) for name in metrics},
    )


class _Side(NamedTuple):
    repeat: int
    fold: int
    train: Codes
    test: Codes


def draw_subsets(
    y: Codes,
    plan: SplitPlan,
    few: FewLabels,
    *,
    groups: npt.NDArray[Any] | None = None,
    patients: npt.NDArray[Any] | None = None,
    tune: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Subsets:
    """Draw smaller training sets from the training side of every fold; test sides stay whole.

    A draw depends on the seed, repeat, fold, kind and its own number, and the training set of a
    size is a beginning of it. So no training set depends on which other sizes, kinds or draws are
    asked for, and all arms are fitted on the same ones. A size that one of the training sides
    does not hold is left out on all, so that sizes are compared on the same folds.

    Parameters
    ----------
    y
        Codes, shape (n_tiles,).
    plan
        Test folds of the same tiles. In a hold-out the validation part is drawn from, too.
    few
        Sizes, draws and seed.
    groups
        What inner folds do not tear apart (patient or site), shape (n_tiles,).
    patients
        Patient of each tile, shape (n_tiles,); ``groups`` by default.
    tune
        Whether inner folds are drawn, for heads that choose something. They keep groups together
        where at least two classes can be validated so, else single tiles, else there are none.
    progress
        Called with 1 after every training set.

    Raises
    ------
    ConfigError
        If patients are to be counted but not known.

    Examples
    --------
    >>> from featurebench.evaluation import FewLabels
    >>> from featurebench.splits import SplitPlan
    >>> y, patients = np.array([0, 0, 1, 1] * 3), np.repeat(np.arange(6), 2)
    >>> plan = SplitPlan.draw(y, patients, folds=3)
    >>> subsets = draw_subsets(y, plan, FewLabels(patients=[2, 9], draws=1), groups=patients)
    >>> [(each.fold, len(each.train)) for each in subsets]
    [(0, 4), (1, 4), (2, 4)]
    >>> subsets.left_out[0].reason
    'the smallest training side has 4 patients'
    """
    patients = groups if patients is None else patients
    if patients is None and few.by_patient:
        raise ConfigError(
            "few labels: patients are to be counted, but the tiles have no patient_id: give one, "
            "or sizes of tiles or shots only"
        )
    tiles = _Tiles.of(y, groups, patients)
    sides = [
        _Side(split.repeat, split.fold, fold.train, fold.test)
        for split, fold in zip(plan.splits(), make_folds(plan, y, tune=False), strict=True)
    ]
    left_out: list[LeftOut] = []
    members: list[Subset] = []
    for kind, wanted in few.sizes.items():
        orders = _draw_orders(kind, wanted, tiles, sides, few)
        refused = [LeftOut(kind, s, r) for s in wanted if (r := _reason_against(kind, s, orders))]
        left_out += refused
        held = [size for size in wanted if size not in {each.size for each in refused}]
        members += _cut(kind, held, tiles, sides, orders)
    members.sort(key=lambda each: (each.draw, each.repeat, each.fold))
    if tune:
        members = list(_with_inner_folds(members, tiles, few, progress))
    sizes = _mean_sizes(sides, tiles)
    return Subsets(few, plan, tuple(members), tuple(left_out), tune, *sizes)


class _Tiles(NamedTuple):
    """Codes of the class, the group and the patient of every tile."""

    y: Codes
    groups: Codes | None
    patients: Codes | None

    @classmethod
    def of(
        cls, y: Codes, groups: npt.NDArray[Any] | None, patients: npt.NDArray[Any] | None
    ) -> _Tiles:
        def code(names: npt.NDArray[Any] | None) -> Codes | None:
            if names is None:
                return None
            return np.unique(np.asarray(names).astype(str), return_inverse=True)[1]

        return cls(y, code(groups), code(patients))

    def count_patients(self, rows: npt.NDArray[np.integer[Any]]) -> int | None:
        return None if self.patients is None else len(np.unique(self.patients[rows]))


def _draw_orders(
    kind: str, wanted: Sequence[int], tiles: _Tiles, sides: Sequence[_Side], few: FewLabels
) -> list[Order]:
    """Draw an order on every side, draw by draw, as long as the largest size needs it."""
    orders = []
    for draw in range(few.draws if wanted else 0):
        for side in sides:
            place = [few.seed, side.repeat, side.fold, KINDS.index(kind), draw]
            patients = side.train if tiles.patients is None else tiles.patients[side.train]
            order = ORDERS[kind](
                tiles.y[side.train],
                np.unique(patients, return_inverse=True)[1],
                np.random.default_rng(np.random.SeedSequence(place)),
            )
            length = order.ends[min(wanted[-1], len(order.ends)) - 1]
            rows = side.train[order.rows[:length]].astype(np.int32)
            orders.append(Order(rows, order.ends))
    return orders


def _reason_against(kind: str, size: int, orders: Sequence[Order]) -> str:
    """Say why a size cannot be drawn on all sides; empty if it can."""
    most = min(len(order.ends) for order in orders)
    if size > most:
        return f"the smallest training side has {most} {_NOUNS[kind]}"
    least = max(int((order.ends == 0).sum()) for order in orders) + 1
    if size < least:
        return f"to have every class, a draw took {least} {_NOUNS[kind]}"
    return ""


def _cut(
    kind: str,
    sizes: Sequence[int],
    tiles: _Tiles,
    sides: Sequence[_Side],
    orders: Sequence[Order],
) -> Iterator[Subset]:
    for place, order in enumerate(orders):
        draw, of_side = divmod(place, len(sides))
        side = sides[of_side]
        for size in sizes:
            rows = order.rows[: order.ends[size - 1]]
            n_patients = tiles.count_patients(rows)
            yield Subset(kind, size, draw, side.repeat, side.fold, rows, side.test, n_patients)


def _with_inner_folds(
    members: Sequence[Subset],
    tiles: _Tiles,
    few: FewLabels,
    progress: Callable[[int], None] | None,
) -> Iterator[Subset]:
    for subset in members:
        seed = few.seed + subset.repeat
        level, inner = _inner_folds(subset.train, tiles, folds=few.inner, seed=seed)
        yield replace(subset, level=level, inner=inner)
        if progress is not None:
            progress(1)


def _inner_folds(
    train: Codes, tiles: _Tiles, *, folds: int, seed: int
) -> tuple[str, npt.NDArray[np.int8] | None]:
    """Draw inner folds of groups, else of tiles; a choice needs two classes to validate."""
    y = tiles.y[train]
    levels = {"groups": tiles.groups, "tiles": np.arange(len(tiles.y))}
    for level, groups in levels.items():
        if groups is None:
            continue
        try:
            drawn = inner_folds(y, groups[train], folds=folds, seed=seed)
        except SplitError:
            continue
        inner = drawn.test_fold[0].astype(np.int8)
        if len(np.unique(y[inner >= 0])) > 1:
            return level, inner
    return "", None


def _mean_sizes(sides: Sequence[_Side], tiles: _Tiles) -> tuple[float, float | None]:
    n_tiles = float(np.mean([len(side.train) for side in sides]))
    if tiles.patients is None:
        return n_tiles, None
    return n_tiles, float(np.mean([tiles.count_patients(side.train) for side in sides]))
