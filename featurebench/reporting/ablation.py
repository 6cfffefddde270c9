"""What sweeps of fine-tunes found: a row per combination, means per value, best and worst."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from featurebench.comparison import wording
from featurebench.metrics import GREATER_IS_BETTER
from featurebench.reporting.formats import counted

if TYPE_CHECKING:
    from featurebench.results import RunResult

Arm = Mapping[str, Any]
Values = Mapping[str, Any]
# Settings that are found when the network is loaded, so that they change with what is varied.
_FOUND = ("weights", "preprocessing")


@dataclass(frozen=True)
class _Sweep:
    """Combinations of one entry of the experiment file, finished or not, as declared."""

    members: dict[str, Values] = field(default_factory=dict)
    arms: dict[str, Arm] = field(default_factory=dict)

    def takes(self, values: Values, arm: Arm | None) -> bool:
        """Whether a combination goes on with this sweep: same keys, new values, same settings."""
        if not self.members:
            return True
        if list(values) != list(next(iter(self.members.values()))):
            return False
        if _told(values) in map(_told, self.members.values()):
            return False
        first = next(iter(self.arms.values()), None)
        if arm is None or first is None or "preset" in values:
            return True
        return _settings(first, values) == _settings(arm, values)

    def values_of(self, key: str) -> list[str]:
        """Every value of a key as text, in the order declared."""
        return list(dict.fromkeys(value_text(values[key]) for values in self.members.values()))


def ablation_section(
    arms: Sequence[Arm], varied: Mapping[str, Values], metric: str
) -> dict[str, Any] | None:
    """Return the combinations of every sweep; None where fewer than two of any have finished.

    Parameters
    ----------
    arms
        The summary's arms.
    varied
        Of every declared arm that is one of a sweep, in the order declared: its values of the keys
        that were lists. Combinations that have not finished are among them.
    metric
        The declared one.

    Returns
    -------
    dict or None
        ``metric``, and ``designs``, one for each sweep: ``keys`` with their values, ``fixed`` (keys
        with one value), ``rows`` (one per finished combination, as declared), ``n_declared``,
        ``effects`` (means of each value of a key over the other keys; only where every combination
        has a value), ``sentences``, and ``axes``: which key is drawn along the axis, which one as
        series and which as panels.
    """
    designs = [
        _design(sweep, metric) for sweep in _sweeps(arms, varied) if _is_shown(sweep, metric)
    ]
    return {"metric": metric, "designs": designs} if designs else None


def epochs_run(run: RunResult) -> float | None:
    """Return how many epochs a fine-tune was trained, mean over folds; None where not known."""
    epochs = [fold.get("epochs") for fold in run.details.get("folds", ())]
    known = [float(each) for each in epochs if isinstance(each, int | float)]
    return math.fsum(known) / len(known) if known and len(known) == len(epochs) else None


def key_text(key: str) -> str:
    """Return a key as in running text."""
    return key.replace("_", " ")


def value_text(value: object) -> str:
    """Return a value as an experiment file has it, such as ``0.001``, ``true`` or ``last:2``."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key_text(str(key))} {value_text(each)}" for key, each in value.items())
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sweeps(arms: Sequence[Arm], varied: Mapping[str, Values]) -> list[_Sweep]:
    finished = {arm["id"]: arm for arm in arms}
    sweeps = [_Sweep()]
    for arm_id, values in varied.items():
        arm = finished.get(arm_id)
        if not sweeps[-1].takes(values, arm):
            sweeps.append(_Sweep())
        sweeps[-1].members[arm_id] = values
        if arm is not None:
            sweeps[-1].arms[arm_id] = arm
    return sweeps


def _told(values: Values) -> tuple[str, ...]:
    return tuple(map(value_text, values.values()))


def _settings(arm: Arm, varied: Values) -> dict[str, Any]:
    """Give the settings that are the same for a whole sweep."""
    left_out = {*varied, *_FOUND}
    if not left_out.isdisjoint({"model", "image_size"}):
        left_out.add("image_size")
    return {key: value for key, value in arm["params"].items() if key not in left_out}


def _is_shown(sweep: _Sweep, metric: str) -> bool:
    return sum(_value(arm, metric) is not None for arm in sweep.arms.values()) > 1


def _value(arm: Arm, metric: str) -> float | None:
    value: float | None = arm["metrics"].get(metric, {}).get("value")
    return None if value is None or math.isnan(value) else value


def _design(sweep: _Sweep, metric: str) -> dict[str, Any]:
    every = {key: sweep.values_of(key) for key in next(iter(sweep.members.values()))}
    keys = {key: values for key, values in every.items() if len(values) > 1}
    rows = [_row(arm, sweep.members[arm_id], keys, metric) for arm_id, arm in sweep.arms.items()]
    known = [row["value"] for row in rows if row["value"] is not None]
    best = max(known) if GREATER_IS_BETTER[metric] else min(known)
    for row in rows:
        row["is_best"] = row["value"] == best
    effects = _effects(rows, keys) if len(keys) > 1 else []
    return {
        "keys": [
            {"name": key, "label": key_text(key), "values": values} for key, values in keys.items()
        ],
        "fixed": {key_text(key): values[0] for key, values in every.items() if key not in keys},
        "n_declared": len(sweep.members),
        "rows": rows,
        "effects": effects,
        "sentences": [*_sentences(rows, keys, metric), *_missing(sweep, known, keys)],
        "axes": _axes(keys),
    }


def _row(
    arm: Arm, values: Values, keys: Mapping[str, Sequence[str]], metric: str
) -> dict[str, Any]:
    estimate = arm["metrics"].get(metric, {})
    return {
        "id": arm["id"],
        "values": {key: value_text(values[key]) for key in keys},
        "value": _value(arm, metric),
        "ci_low": estimate.get("ci_low"),
        "ci_high": estimate.get("ci_high"),
        "wall_s": arm["training_cost"]["wall_s"],
        "epochs": arm.get("epochs"),
    }


def _effects(
    rows: Sequence[Mapping[str, Any]], keys: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Average over the other keys; where a combination has no value, means do not compare."""
    complete = [row for row in rows if row["value"] is not None]
    if len(complete) != math.prod(map(len, keys.values())):
        return []
    found = []
    for key, values in keys.items():
        groups = {
            value: [row["value"] for row in complete if row["values"][key] == value]
            for value in values
        }
        means = [
            {"value": value, "mean": math.fsum(group) / len(group), "n": len(group)}
            for value, group in groups.items()
        ]
        found.append({"key": key, "label": key_text(key), "means": means})
    return found


def _sentences(
    rows: Sequence[Mapping[str, Any]], keys: Mapping[str, Sequence[str]], metric: str
) -> list[str]:
    """Say which combination is best, which one is worst, and how far apart they are."""
    sign = 1 if GREATER_IS_BETTER[metric] else -1
    known = sorted(
        (row for row in rows if row["value"] is not None), key=lambda row: -sign * row["value"]
    )
    best, worst = known[0]["value"], known[-1]["value"]
    name = wording.label(metric)
    if best == worst:
        return [f"All {len(known)} combinations have the same {name}, {_score(metric, best)}."]
    tops = [row for row in known if row["value"] == best]
    bottoms = [row for row in known if row["value"] == worst]
    apart = wording.unsigned(metric, best - worst)
    return [
        f"Of {len(known)} combinations the best {name}, {_score(metric, best)}, is that of "
        f"{_named(tops, keys)}, the worst, {_score(metric, worst)}, that of "
        f"{_named(bottoms, keys)}: {apart} apart."
    ]


def _missing(sweep: _Sweep, known: Sequence[float], keys: Mapping[str, Sequence[str]]) -> list[str]:
    """Say how many combinations have no score, and what is not shown for that."""
    without = len(sweep.members) - len(known)
    if not without:
        return []
    means = " Means over the other keys are not shown for that." if len(keys) > 1 else ""
    verb = "has" if without == 1 else "have"
    return [f"{counted(without, 'further combination')} {verb} no score.{means}"]


def _named(rows: Sequence[Mapping[str, Any]], keys: Mapping[str, Sequence[str]]) -> str:
    values = rows[0]["values"]
    name = ", ".join(f"{key_text(key)} {values[key]}" for key in keys)
    others = f" (and {counted(len(rows) - 1, 'other')})" if len(rows) > 1 else ""
    return f"{name}{others}"


def _score(metric: str, value: float) -> str:
    return wording.plain(metric, value) + wording.unit_of_score(metric)


def _axes(keys: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Choose what is drawn where: depth or the longest key along the axis, networks in panels."""
    x = "strategy" if "strategy" in keys else max(keys, key=lambda key: len(keys[key]))
    rest = [key for key in keys if key != x]
    series = next((key for key in rest if key != "model"), rest[0] if rest else None)
    return {"x": x, "series": series, "panels": [key for key in rest if key != series]}
