"""From the table of groups to partitions, or to a refusal that says with numbers why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featurebench.errors import SplitError
from featurebench.splits.search import Problem, canonical, deal, partitions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from featurebench.splits.groups import Groups

Ints = npt.NDArray[np.int64]

_ATTEMPTS = 100  # at a partition of single tiles that was not drawn before


def draw_folds(groups: Groups, *, folds: int, repeats: int, seed: int) -> Ints:
    """Draw ``repeats`` different partitions into ``folds`` test folds.

    Returns
    -------
    parts
        Test fold of every group, shape (repeats, n_groups).

    Raises
    ------
    SplitError
        If a class has fewer groups than there are folds, or no partition (or too few different
        ones) was found that puts every class in every fold.
    """
    if folds < 2:
        raise SplitError(f"splits.folds is {folds}; at least 2 are needed")
    if repeats < 1:
        raise SplitError(f"splits.repeats is {repeats}; at least 1 is needed")
    _require_groups(groups, folds)
    required = np.ones(len(groups.classes), dtype=bool)
    found = find(groups, np.full(folds, 1 / folds), required, repeats=repeats, seed=seed)
    if not found:
        raise SplitError(_not_found(groups, f"{folds} folds", "set splits.folds to less"))
    if len(found) < repeats:
        raise SplitError(
            f"only {len(found)} different ways found to share {groups.n_groups} {groups.noun} "
            f"among {folds} folds; splits.repeats is {repeats}: set it to {len(found)} or less"
        )
    return np.stack(found)


def draw_holdout(groups: Groups, *, fractions: Sequence[float], seed: int) -> Ints:
    """Draw one partition into train (0), validation (1) and test (2).

    Returns
    -------
    parts
        Part of every group, shape (n_groups,); 1 is absent where its fraction is 0.

    Raises
    ------
    SplitError
        If the fractions are unusable, or some part would lack a class.
    """
    shares = np.asarray(fractions, dtype=np.float64)
    ok = shares.shape == (3,) and (shares >= 0).all() and shares[0] > 0 and shares[2] > 0
    if not ok or abs(shares.sum() - 1) > 1e-6:
        raise SplitError(
            f"splits.holdout is {list(fractions)}; give three fractions (train, validation, test) "
            "that add up to 1, train and test above 0"
        )
    used = np.flatnonzero(shares)
    per_class = groups.groups_per_class()
    if per_class.min() < len(used):
        raise SplitError(
            f"{_scarce(groups, len(used))}; a hold-out in {len(used)} parts needs at least "
            f"{len(used)} of each class: use cross-validation (splits.folds) or add {groups.noun}"
        )
    required = np.ones(len(groups.classes), dtype=bool)
    found = find(groups, shares[used] / shares.sum(), required, repeats=1, seed=seed)
    if not found:
        raise SplitError(_not_found(groups, f"{len(used)} parts", "use cross-validation"))
    return used[found[0]]


def find(
    groups: Groups,
    target: npt.NDArray[np.float64],
    required: npt.NDArray[np.bool_],
    *,
    repeats: int,
    seed: int,
) -> list[Ints]:
    """Partitions found, at most ``repeats``; the classes in ``required`` are in every part.

    Repeat r draws from ``SeedSequence([seed, r])``: the first repeats of a long plan are those of
    a short one.
    """
    if seed < 0:
        raise SplitError(f"splits.seed is {seed}; it must be 0 or more")
    rngs = [
        np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, repeat])))
        for repeat in range(repeats)
    ]
    draws: Iterator[Ints | None]
    if groups.is_single:
        draws = _deal_different(groups.label_of_single(), target, rngs)
    else:
        draws = partitions(Problem.pose(groups.tile_counts(), target, required), rngs)
    found: list[Ints] = []
    for parts in draws:
        if parts is None:
            break
        found.append(parts)
    return found


def _deal_different(
    labels: Ints, target: npt.NDArray[np.float64], rngs: Sequence[np.random.Generator]
) -> Iterator[Ints | None]:
    seen: set[bytes] = set()
    for rng in rngs:
        attempts = (deal(labels, target, rng) for _ in range(_ATTEMPTS))
        parts = next((parts for parts in attempts if canonical(parts) not in seen), None)
        if parts is not None:
            seen.add(canonical(parts))
        yield parts


def _require_groups(groups: Groups, folds: int) -> None:
    fewest = int(groups.groups_per_class().min())
    if fewest >= folds:
        return
    remedy = f"set splits.folds to {fewest} or less"
    if fewest < 2:
        remedy = f"leave the class out or add {groups.noun} of it"
    raise SplitError(f"{_scarce(groups, folds)}; {folds} folds need at least {folds}: {remedy}")


def _scarce(groups: Groups, needed: int) -> str:
    """Name the classes with fewer groups than needed: ``class "benign" occurs in 3 patients``."""
    named = [
        f'class "{name}" occurs in {count} {groups.noun if count != 1 else groups.noun[:-1]}'
        for name, count in zip(groups.classes, groups.groups_per_class().tolist(), strict=True)
        if count < needed
    ]
    return " and ".join(named)


def _not_found(groups: Groups, parts: str, remedy: str) -> str:
    counts = zip(groups.classes, groups.groups_per_class().tolist(), strict=True)
    by_class = ", ".join(f'"{name}" {count}' for name, count in counts)
    return (
        f"no way found to share {groups.n_groups} {groups.noun} among {parts} with every class in "
        f"each ({groups.noun} by class: {by_class}): {remedy} or leave the rarest class out"
    )
