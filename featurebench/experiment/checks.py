"""What can be checked before hours of work: heads, metric, weight files and the reference."""

from __future__ import annotations

import difflib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from featurebench.config import WEIGHT_SOURCES
from featurebench.errors import ConfigError
from featurebench.experiment.arms import search_of
from featurebench.experiment.probes import check_probe
from featurebench.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from featurebench.config import ExperimentConfig
    from featurebench.experiment.arms import Arm


def check_settings(config: ExperimentConfig) -> None:
    """Refuse what would fail only after the tiles are embedded.

    Raises
    ------
    ConfigError
        If a head, its parameter, a search, the metric, the floor or a weight file cannot be used.
    """
    for entry in config.heads:
        check_probe(config, entry)
    for fine_tune in config.finetune:
        try:
            search_of(config, fine_tune)
        except ConfigError as error:
            raise ConfigError(f"finetune, {fine_tune.model}: {error}") from None
    for name in (config.few_labels and config.few_labels.heads) or ():
        if name not in config.heads:
            raise ConfigError(_unknown("few_labels.heads", name, config.heads))
    if config.compare.metric not in METRICS:
        raise ConfigError(_unknown("compare.metric", config.compare.metric, METRICS))
    _check_floor(config)
    for section in ("backbones", "finetune"):
        for i, entry in enumerate(getattr(config, section)):
            if entry.weights not in WEIGHT_SOURCES and not Path(entry.weights).is_file():
                raise ConfigError(
                    f"{section}.{i}.weights: no file {entry.weights}; give a path, or one of "
                    f"{', '.join(WEIGHT_SOURCES)}"
                )


def _check_floor(config: ExperimentConfig) -> None:
    from featurebench.comparison.checks import check_floor

    try:
        check_floor(config.compare.metric, config.compare.floor)
    except ConfigError as error:
        raise ConfigError(f"compare.{error}") from None


def check_reference(config: ExperimentConfig, arms: Sequence[Arm]) -> None:
    """Refuse a reference that is none of the declared arms."""
    names = [arm.name for arm in arms]
    if config.compare.reference is not None and config.compare.reference not in names:
        raise ConfigError(_unknown("compare.reference", config.compare.reference, names))


def check_names(arms: Sequence[Arm]) -> None:
    """Refuse two arms of one name, which no table could tell apart."""
    uses = Counter(arm.name for arm in arms)
    for name, count in uses.items():
        if count > 1:
            raise ConfigError(
                f"{count} arms are called {name!r}: rename an entry of heads, or give a fine-tune "
                "another name"
            )


def _unknown(key: str, value: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(names)}"
    return f"{key} {value!r} is unknown: {hint}"
