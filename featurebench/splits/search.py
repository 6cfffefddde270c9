"""The search for balanced partitions of groups in which every part has every class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_GROUP_WEIGHT = 0.25  # balance of groups against balance of tiles
_EMPTY = 1e6  # cost of a part without a required class; above any imbalance
_JITTER = 0.35  # of log size in the order of assignment: repeats must differ
_EXCHANGES = 512  # looked at in one step of the local search
_STEPS = 60
_ROUNDS = 10  # fresh starts before a repeat is given up


@dataclass(frozen=True)
class Problem:
    """Groups to be shared out.

    Parameters
    ----------
    features
        What is to be balanced, as shares of the whole times the root of their weight, shape
        (n_groups, n_features): tiles by class, tiles, groups by class, groups.
    present
        Whether the group has the class, required classes only, shape (n_groups, n_required).
    target
        Ideal share of each part, shape (n_parts,).
    scale
        Root of the weight of every feature, shape (n_features,).
    """

    features: Floats
    present: Bools
    target: Floats
    scale: Floats

    @classmethod
    def pose(cls, counts: Ints, target: Floats, required: Bools) -> Problem:
        """Pose the problem of sharing out groups with ``counts`` tiles by class."""
        has = counts > 0
        ones = np.ones((len(counts), 1))
        raw = np.hstack([counts, counts.sum(axis=1, keepdims=True), has, ones]).astype(np.float64)
        half = counts.shape[1] + 1
        scale = np.sqrt(np.repeat([1.0, _GROUP_WEIGHT], [half, half]))
        total = np.maximum(raw.sum(axis=0), 1.0)
        return cls(raw / total * scale, has[:, required], target, scale)

    def cost(self, load: Floats, held: Ints, part: Ints) -> Floats:
        """Cost of parts that hold ``load`` (..., n_features) and ``held`` (..., n_required)."""
        share = self.target[part][..., None]
        imbalance = ((load - share * self.scale) ** 2 / share).sum(axis=-1)
        return np.asarray(imbalance + _EMPTY * (held == 0).sum(axis=-1), dtype=np.float64)

    def total(self, parts: Ints) -> float:
        """Cost of a partition, ``parts`` (n_groups,); at least `_EMPTY` if a class is missing."""
        load, held = self.tally(parts)
        return float(self.cost(load, held, np.arange(len(self.target))).sum())

    def tally(self, parts: Ints) -> tuple[Floats, Ints]:
        """Load (n_parts, n_features) and groups by class (n_parts, n_required) of a partition."""
        columns = np.hstack([self.features, self.present]).T
        sums = [np.bincount(parts, column, minlength=len(self.target)) for column in columns]
        load, held = np.split(np.array(sums, dtype=np.float64).T, [self.features.shape[1]], axis=1)
        return load, np.rint(held).astype(np.int64)


def partitions(problem: Problem, rngs: Sequence[np.random.Generator]) -> Iterator[Ints | None]:
    """Draw one partition per generator, each different from those before it.

    The order in which groups are handed out is random (large ones first, roughly); each goes where
    the sum of squared imbalances grows least, unless a part still lacks one of its classes and
    nobody else is left to fill the gap. The best of several starts is polished by exchanges. A
    partition depends on its own generator and on the partitions before it, not on how many follow.

    Yields
    ------
    parts
        Part of every group, shape (n_groups,), or None where no partition was found that gives
        every part every required class and that was not drawn before.
    """
    n_groups = len(problem.features)
    starts = int(np.clip(4000 // max(n_groups, 1), 2, 16))
    orders = [_orders(problem, starts, rng) for rng in rngs]
    drafts = _hand_out(problem, np.concatenate(orders)).reshape(len(rngs), starts, n_groups)
    seen: set[bytes] = set()
    for rng, draft in zip(rngs, drafts, strict=True):
        parts = _first_new(problem, draft, rng, seen)
        if parts is not None:
            seen.add(canonical(parts))
        yield parts


def deal(labels: Ints, target: Floats, rng: np.random.Generator) -> Ints:
    """Share out groups of one tile each, class by class; every part gets every class.

    Parameters
    ----------
    labels
        Class of every group, shape (n_groups,); each class has at least as many as there are parts.
    target
        Share of each part, shape (n_parts,).

    Returns
    -------
    parts
        Part of every group, shape (n_groups,).
    """
    parts = np.empty(len(labels), dtype=np.int64)
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    given = np.zeros(len(target), dtype=np.int64)
    stop = 0
    for size in np.bincount(labels).tolist():
        start, stop = stop, stop + size
        behind = stop * target - given + 1e-6 * rng.random(len(target))
        quota = _quota(size, target, behind)
        parts[order[start:stop]] = np.repeat(np.arange(len(target)), quota)
        given += quota
    return parts


def _quota(size: int, target: Floats, behind: Floats) -> Ints:
    """Split ``size`` by ``target``; what rounding leaves goes to the parts most behind so far."""
    quota = np.floor(size * target + 1e-9).astype(np.int64)
    quota[np.argsort(quota - behind)[: size - quota.sum()]] += 1
    while size >= len(quota) and quota.min() == 0:
        quota[quota.argmin()] += 1
        quota[quota.argmax()] -= 1
    return quota


def _orders(problem: Problem, starts: int, rng: np.random.Generator) -> Ints:
    size = np.log(problem.features.max(axis=1))
    jitter = rng.standard_normal((starts, len(size)))
    return np.argsort(-(size + _JITTER * jitter), axis=1, kind="stable")


def _hand_out(problem: Problem, orders: Ints) -> Ints:
    target = problem.target[:, None]
    runs = np.arange(len(orders))
    load = np.tile(-target * problem.scale, (len(orders), 1, 1))
    lacking = np.ones((len(orders), len(target), problem.present.shape[1]), dtype=bool)
    left = np.tile(problem.present.sum(axis=0), (len(orders), 1))
    parts = np.empty_like(orders)
    for position in range(orders.shape[1]):
        group = orders[:, position]
        step, has = problem.features[group], problem.present[group]
        growth = ((2 * load + step[:, None]) * step[:, None] / target).sum(axis=-1)
        urgent = has & (left <= lacking.sum(axis=1))
        if urgent.any():
            growth -= _EMPTY * (lacking & urgent[:, None]).sum(axis=-1)
        part = growth.argmin(axis=1)
        load[runs, part] += step
        lacking[runs, part] &= ~has
        left -= has
        parts[runs, group] = part
    return parts


def _first_new(
    problem: Problem, starts: Ints, rng: np.random.Generator, seen: set[bytes]
) -> Ints | None:
    for _ in range(_ROUNDS):
        for start in sorted(starts, key=problem.total):
            for parts in (_polish(problem, start, rng), start):
                if problem.total(parts) < _EMPTY and canonical(parts) not in seen:
                    return parts
        ordered = _hand_out(problem, _orders(problem, (len(starts) + 1) // 2, rng))
        blind = rng.integers(len(problem.target), size=(len(starts) // 2, starts.shape[1]))
        starts = np.concatenate([ordered, blind])
    return None


def _polish(problem: Problem, start: Ints, rng: np.random.Generator) -> Ints:
    parts, (load, held) = start.copy(), problem.tally(start)
    stalled = 0
    for _ in range(_STEPS):
        exchange = _best_exchange(problem, parts, load, held, rng)
        stalled = 0 if exchange else stalled + 1
        if stalled == 3:
            break
        for group, part in exchange:
            load[parts[group]] -= problem.features[group]
            held[parts[group]] -= problem.present[group]
            load[part] += problem.features[group]
            held[part] += problem.present[group]
            parts[group] = part
    return parts


def _best_exchange(
    problem: Problem, parts: Ints, load: Floats, held: Ints, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Look at random moves and swaps: (group, new part) of the best one, if it gains anything."""
    n_parts = len(problem.target)
    first, second = rng.integers(len(parts), size=(2, _EXCHANGES))
    here, there = parts[first], parts[second]
    swap = (here != there) & (rng.random(_EXCHANGES) < 0.75)
    elsewhere = (here + 1 + rng.integers(n_parts - 1, size=_EXCHANGES)) % n_parts
    to = np.where(swap, there, elsewhere)
    moved = problem.features[first] - swap[:, None] * problem.features[second]
    counted = problem.present[first].astype(np.int64) - (swap[:, None] & problem.present[second])
    before = problem.cost(load, held, np.arange(n_parts))
    after = problem.cost(load[here] - moved, held[here] - counted, here)
    after += problem.cost(load[to] + moved, held[to] + counted, to)
    gain = before[here] + before[to] - after
    best = int(gain.argmax())
    if gain[best] <= 1e-9:
        return []
    moves = [(int(first[best]), int(to[best])), (int(second[best]), int(here[best]))]
    return moves if swap[best] else moves[:1]


def canonical(parts: Ints) -> bytes:
    """Bytes that two partitions share if they differ in the numbering of their parts only."""
    first = [int((parts == part).argmax()) for part in range(int(parts.max()) + 1)]
    return np.argsort(np.argsort(first))[parts].astype(np.int16).tobytes()
