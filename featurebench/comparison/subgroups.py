"""How every arm scores in each class, site or scanner, with intervals over patients."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.comparison.arms import BY_CLASS, estimate, evaluate_repeat
from featurebench.comparison.model import Subgroup
from featurebench.errors import ConfigError
from featurebench.stats import Resamples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from featurebench.comparison.design import Design
    from featurebench.results import RunResult
    from featurebench.tiles import TileManifest

    Flags = npt.NDArray[np.bool_]
    Values = npt.NDArray[Any]

CLASS = "class"
"""Column name of the subgroups made of the true classes."""

USUAL = ("site", "scanner")
FEW_PATIENTS = 10
MAX_GROUPS = 30
NOT_RECORDED = "not recorded"
# Identities and places are no groups; patients in particular are never named in a report.
_NO_GROUPS = frozenset({"tile_id", "path", "label", "patient_id", "slide_id", "x", "y", "level"})


@dataclass(frozen=True)
class _Group:
    """The tested tiles of one value, and the resamples that its units have a part in.

    ``kept`` are the rows of the design's weights without the jackknife's that leave out others.
    """

    column: str
    value: str
    inside: Flags
    kept: npt.NDArray[np.intp]
    resamples: Resamples
    units: npt.NDArray[np.int64]
    n_tiles: int
    n_classes: int

    @property
    def n_units(self) -> int:
        """Independent units of the group."""
        return len(self.units)


def subgroup_columns(
    manifest: TileManifest, wanted: Sequence[str] | None = None
) -> dict[str, npt.NDArray[np.str_]]:
    """Read the columns of the manifest that scores are split by.

    Parameters
    ----------
    manifest
        The tiles, in the rows of the results.
    wanted
        Names of columns; None for ``site`` and ``scanner``, those of them that are there.

    Returns
    -------
    dict
        By column, its value for each tile as text, shape (n_tiles,).

    Raises
    ------
    ConfigError
        If a column does not exist (the nearest name is given), names tiles, slides or patients,
        or has more values than a table can show.
    """
    usable = [str(name) for name in manifest.table.columns if name not in _NO_GROUPS]
    names = [name for name in USUAL if name in usable] if wanted is None else list(wanted)
    found = {}
    for name in dict.fromkeys(names):
        values = manifest.column(name) if name in usable else None
        if values is None:
            raise ConfigError(f"compare.subgroups: {_refusal(name, usable)}")
        n_values = len(set(values))
        if wanted is not None and n_values > MAX_GROUPS:
            raise ConfigError(
                f"compare.subgroups: column {name!r} has {n_values} values: give one with "
                f"{MAX_GROUPS} or fewer"
            )
        found[name] = values.astype(str)
    return found


def subgroup_scores(
    design: Design,
    runs: Sequence[RunResult],
    metric: str,
    columns: Mapping[str, npt.ArrayLike],
    *,
    alpha: float = 0.05,
) -> tuple[Subgroup, ...]:
    """Score every arm on the tiles of each true class and of each value of the columns.

    Scores and intervals are made as for all tiles: the mean over repeats of each repeat's value,
    with the design's resamples of patients, so that arms are paired. Within one true class the
    score is the recall, which there is the share of tiles called right, whatever the metric.

    Parameters
    ----------
    design, runs
        As in `compare`; ``runs`` are the arms to be scored.
    metric
        A name of `featurebench.metrics.METRICS`.
    columns
        By name, a value for each tile, shape (n_tiles,). Beyond the `MAX_GROUPS` largest groups of
        a column the rest are scored together. A column called ``class`` is left out.
    alpha
        Intervals have level 1 - alpha.

    Returns
    -------
    tuple of Subgroup
        By column (classes first), value, and arm in the order of the runs. Values without a tested
        tile are left out.

    Raises
    ------
    ValueError
        If a column does not have one value for each tile.
    """
    found = []
    tested: Flags = np.asarray((design.test_fold >= 0).any(axis=0))
    for column, values in _all_columns(design, runs, columns).items():
        order = runs[0].classes if column == CLASS else None
        for value, inside in _members(values, tested, order):
            group = _group(design, column, value, inside)
            found += [_score(design, run, group, metric, alpha) for run in runs]
    return tuple(found)


def _all_columns(
    design: Design, runs: Sequence[RunResult], columns: Mapping[str, npt.ArrayLike]
) -> dict[str, Values]:
    if not runs:
        return {}
    names = np.array(runs[0].classes, dtype=object)
    table: dict[str, Values] = {CLASS: names[design.y_true]}
    for column, given in columns.items():
        values = np.asarray(given)
        if values.shape != design.y_true.shape:
            raise ValueError(
                f"column {column!r} has shape {values.shape}: give one value for each of "
                f"{len(design.y_true)} tiles"
            )
        table.setdefault(column, values)
    return table


def _members(values: Values, tested: Flags, order: Sequence[str] | None) -> list[tuple[str, Flags]]:
    """Return the tested tiles of each value, in order or sorted; the smallest groups as one."""
    names: dict[str, int] = {}
    codes = np.array(
        [names.setdefault(str(value).strip() or NOT_RECORDED, len(names)) for value in values]
    )
    sizes = np.bincount(codes[tested], minlength=len(names))
    occurring = [name for name in order or sorted(names) if name in names and sizes[names[name]]]
    if len(occurring) <= MAX_GROUPS:
        return [(name, tested & (codes == names[name])) for name in occurring]
    ranked = sorted(occurring, key=lambda name: (-sizes[names[name]], name))
    kept, rest = ranked[: MAX_GROUPS - 1], ranked[MAX_GROUPS - 1 :]
    groups = [(name, tested & (codes == names[name])) for name in sorted(kept)]
    others = tested & np.isin(codes, [names[name] for name in rest])
    return [*groups, (f"{len(rest)} others", others)]


def _group(design: Design, column: str, value: str, inside: Flags) -> _Group:
    units = np.unique(design.clusters[inside])
    shared, end = design.resamples, 1 + design.resamples.n_jackknife
    left_out = 1 + np.flatnonzero((shared.weights[1:end, units] == 0).any(axis=1))
    kept = np.concatenate([[0], left_out, np.arange(end, len(shared.weights))])
    return _Group(
        column,
        value,
        inside,
        kept,
        Resamples(shared.weights[kept], len(left_out)),
        units,
        int(np.sum(inside & (design.test_fold[0] >= 0))),
        len(np.unique(design.y_true[inside])),
    )


def _score(design: Design, run: RunResult, group: _Group, metric: str, alpha: float) -> Subgroup:
    # Of tiles of one class, accuracy is that class's recall.
    of_class = group.column == CLASS
    name = "recall" if of_class else metric
    samples = [
        evaluate_repeat(
            design,
            ("accuracy" if of_class else metric,),
            probabilities,
            np.where(group.inside, folds, -1).astype(np.int16),
        ).popitem()[1]
        for probabilities, folds in zip(run.y_prob, design.test_fold, strict=False)
        if (folds[group.inside] >= 0).any()
    ]
    n_rows = len(samples[0]) if samples else len(design.resamples.weights)
    table = np.stack(samples) if samples else np.full((1, n_rows), np.nan)
    found = estimate(
        group.resamples,
        table[:, group.kept[group.kept < n_rows]],
        name,
        shares=design.shares(by_class=metric in BY_CLASS and not of_class, inside=group.inside)[
            group.units
        ],
        n_classes=run.y_prob.shape[2],
        alpha=alpha,
    )
    return Subgroup(
        column=group.column,
        value=group.value,
        arm=run.arm,
        metric=name,
        estimate=found,
        n_tiles=group.n_tiles,
        n_patients=group.n_units if design.unit == "patients" else 0,
        warning=_warning(design, group, is_known=bool(np.isfinite(found.value))),
    )


def _warning(design: Design, group: _Group, *, is_known: bool) -> str:
    found = []
    if group.n_classes < 2 and group.column != CLASS:
        found.append("tiles of one class only" if is_known else "undefined: one class only")
    elif not is_known:
        found.append("undefined here")
    if design.unit == "patients" and group.n_units < FEW_PATIENTS:
        found.append(f"fewer than {FEW_PATIENTS} patients")
    return "; ".join(found)


def _refusal(name: str, usable: Sequence[str]) -> str:
    if name in _NO_GROUPS:
        return f"{name!r} is no column of groups: give one such as site or scanner"
    near = difflib.get_close_matches(name, usable, n=1, cutoff=0.5)
    if near:
        return f"the tiles have no column {name!r}: did you mean {near[0]!r}?"
    listed = ", ".join(usable)
    return f"the tiles have no column {name!r}: " + (
        f"use one of {listed}" if usable else "leave it out, there is none to group by"
    )
