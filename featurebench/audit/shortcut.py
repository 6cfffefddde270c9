"""Whether a network could tell the class by the site: shortcuts, named where they are open."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from featurebench.audit.association import Association, associate
from featurebench.audit.robustness import LEAST_TILES, RobustnessCurve, robustness_curve
from featurebench.audit.telling import (
    Predictability,
    balanced,
    balanced_within,
    first_repeat,
    held_out_calls,
)

if TYPE_CHECKING:
    from featurebench.splits import SplitPlan

    Array = npt.NDArray[np.floating[Any]]
    Codes = npt.NDArray[np.int64]

Finding = Literal[
    "shortcut suspected",
    "site dominates",
    "site is told",
    "cannot be told apart",
    "not tested",
    "none",
]

MOST_VALUES = 50
# Below this share of what random neighbours would give, the index says that sites dominate.
DOMINATED = 0.9
_NONE = float("nan")


@dataclass(frozen=True)
class Shortcut:
    """What one embedding knows of one column, and whether that could stand in for the class.

    Parameters
    ----------
    embedding, column
        Names.
    site, label
        How well the column and the class are told; None where the folds do not let them be told.
    within
        How well the column is told among tiles of one class, so by more than the class; None where
        every class has one value of the column.
    association
        Of class and column.
    robustness
        The robustness index by neighbours; None where class and column are too entangled.
    k, index
        The number of neighbours at which the index is read, and the index; NaN without it.
    finding
        See `finding_of`.
    entangled
        Why class and column cannot be told apart, see `entanglement`; empty where they can.
    """

    embedding: str
    column: str
    site: Predictability | None
    label: Predictability | None
    within: Predictability | None
    association: Association
    robustness: RobustnessCurve | None
    k: int
    index: float
    finding: Finding
    entangled: str = ""


def finding_of(
    site: Predictability | None,
    within: Predictability | None,
    association: Association,
    *,
    robustness: RobustnessCurve | None,
    k: int,
    entangled: str = "",
) -> Finding:
    """Apply the rule.

    The site is told where the interval of a probe lies above chance, also among tiles of one
    class: otherwise it may only tell the class, and the site by that.

    - ``cannot be told apart``: no cell of the cohort separates class and site (`entanglement`).
    - ``shortcut suspected``: the site is told, or the robustness index is below
      nine tenths of what random neighbours give; and class and site are associated (p below 0.05,
      V at least 0.1). Folds of this cohort cannot tell such a probe from one that sees the disease.
    - ``site dominates``: the index is that low, but class and site are not associated: no shortcut
      in this cohort, but a doubt about other sites.
    - ``site is told``: the site is told, and neither holds.
    - ``not tested``: what would show that the site is told, or that it is not, has no interval, or
      one that reaches beyond half the way from chance to certainty.
    - ``none``: tested, and nothing of it.
    """
    if entangled:
        return "cannot be told apart"
    told = _is_told(site) and _is_told(within)
    low = robustness is not None and robustness.at(k) < DOMINATED * robustness.chance
    if (told or low) and association.related:
        return "shortcut suspected"
    if low:
        return "site dominates"
    if told:
        return "site is told"
    decisive = within if _is_told(site) else site
    return "none" if decisive is not None and decisive.settled else "not tested"


def untestable(column: str, values: npt.NDArray[Any] | None) -> str:
    """Say in a clause why nothing can be asked of a column; empty where something can.

    Parameters
    ----------
    column, values
        Its name, and its value for each tile, shape (n_tiles,); None where there is no such column.
    """
    if values is None:
        return f"the tiles have no column {column}"
    n_values = len(set(values.astype(str)) - {""})
    if n_values < 2:
        return f"the tiles have {'one value' if n_values else 'no value'} of it"
    if n_values > MOST_VALUES:
        return f"it has {n_values} values, more than {MOST_VALUES}"
    return ""


def entanglement(column: str, labels: Codes, values: Codes) -> str:
    """Say in a clause why class and column cannot be told apart; empty where they can.

    They cannot where every value has one class, or every class one value; cells of fewer than ten
    tiles are passed over where larger ones are of several classes and values.

    Parameters
    ----------
    column
        Its name.
    labels, values
        Codes from 0, shape (n_tiles,).

    Examples
    --------
    >>> entanglement("site", np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2]))
    'every site has tiles of one class only'
    """
    counts = np.zeros((int(values.max()) + 1, int(labels.max()) + 1), dtype=np.int64)
    np.add.at(counts, (values, labels), 1)
    clauses = (
        (1, f"every {column} has tiles of one class only", f"every class is of one {column} only"),
        (
            LEAST_TILES,
            f"no {column} has {LEAST_TILES} tiles of each of two classes",
            f"no class has {LEAST_TILES} tiles of each of two values of {column}",
        ),
    )
    for least, of_values, of_classes in clauses:
        there = counts >= least
        if min(there.any(axis=0).sum(), there.any(axis=1).sum()) < 2:
            continue
        if there.sum(axis=1).max() < 2:
            return of_values
        if there.sum(axis=0).max() < 2:
            return of_classes
    return ""


def find_shortcuts(
    embeddings: dict[str, Array],
    column: str,
    values: npt.NDArray[Any],
    *,
    labels: Codes,
    plan: SplitPlan,
    patients: Codes | None = None,
    slides: npt.NDArray[Any] | None = None,
    threads: int = 1,
    seed: int = 0,
) -> tuple[Shortcut, ...]:
    """Look at one column in every embedding.

    Parameters
    ----------
    embeddings
        By name, shape (n_tiles, dim), finite.
    column, values
        Its name, and its value for each tile, shape (n_tiles,); tiles with an empty one are left
        out.
    labels
        Codes of the class, shape (n_tiles,).
    plan
        Test folds; the first repeat is used.
    patients
        Codes, shape (n_tiles,), or None.
    slides
        Slide of each tile, for neighbours where no patient is known.
    threads
        Of the linear algebra.
    seed
        Of the permutations and of the tiles drawn for the robustness index.

    Returns
    -------
    tuple of Shortcut
        Empty where the column cannot be looked at, see `untestable`.
    """
    if untestable(column, values):
        return ()
    known = np.flatnonzero(values.astype(str) != "")
    codes = np.unique(values[known].astype(str), return_inverse=True)[1].astype(np.int64)
    owners = None if patients is None else patients[known]
    association = associate(labels[known], codes, owners, seed=seed)
    entangled = entanglement(column, labels[known], codes)
    first = first_repeat(plan, known)
    groups = owners if owners is not None else (known if slides is None else slides[known])
    found = []
    for name, whole in embeddings.items():
        X = whole if len(known) == len(whole) else whole[known]
        calls = held_out_calls(X, codes, first, threads=threads)
        site = balanced(codes, calls, owners)
        within = balanced_within(codes, calls, owners, labels[known])
        calls = held_out_calls(X, labels[known], first, threads=threads)
        label = balanced(labels[known], calls, owners)
        curve = robustness_curve(X, labels[known], codes, groups, seed=seed)
        found.append(
            Shortcut(
                name, column, site, label, within, association, curve, 0, _NONE, "none", entangled
            )
        )
    k = median_k([each.robustness for each in found])
    return tuple(_judged(each, k) for each in found)


def _judged(found: Shortcut, k: int) -> Shortcut:
    """Read the index at k neighbours and apply the rule."""
    finding = finding_of(
        found.site,
        found.within,
        found.association,
        robustness=found.robustness,
        k=k,
        entangled=found.entangled,
    )
    index = _NONE if found.robustness is None else found.robustness.at(k)
    return replace(found, k=k, index=index, finding=finding)


def _is_told(found: Predictability | None) -> bool:
    return found is not None and found.above_chance


def median_k(curves: list[RobustnessCurve | None]) -> int:
    """Return the median of the embeddings' best numbers of neighbours; 0 without any."""
    best = [curve.best_k for curve in curves if curve is not None]
    return int(np.median(best)) if best else 0
