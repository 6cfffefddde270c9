"""The steps from tiles to report, and `run`, which takes them all in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from featurebench.config import dump_config
from featurebench.errors import ConfigError
from featurebench.experiment.arms import (
    arm_status,
    declare_fine_tunes,
    declare_probes,
    run_arms,
)
from featurebench.experiment.console import QUIET, Console
from featurebench.experiment.index import write_index
from featurebench.experiment.study import find_bad_tiles, load_tiles, make_study
from featurebench.experiment.verdict import (
    compare_findings,
    gather,
    is_fresh,
    read_summary,
    write_findings,
)
from featurebench.results import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from featurebench.config import ExperimentConfig
    from featurebench.experiment.arms import Arm
    from featurebench.experiment.study import Study
    from featurebench.store import EmbeddingSpec, FeatureStore
    from featurebench.tiles import TileManifest


def run(config: ExperimentConfig, console: Console = QUIET) -> Path:
    """Do the whole line; what is on disk already is not done again.

    Parameters
    ----------
    config
        The experiment, as `featurebench.config.load_config` gives it.
    console
        Where lines and progress go.

    Returns
    -------
    Path
        Of ``report.html``.
    """
    from featurebench.experiment.checks import check_reference, check_settings

    check_settings(config)
    tiles, made = embed_tiles(config, console)
    specs = _probed(made)
    study, store = _lay_out(config, tiles, specs, console)
    probes, fine_tunes = _declare(config, study, specs)
    check_reference(config, [*probes, *fine_tunes])
    run_arms(config, [*probes, *fine_tunes], study, store, console)
    return report(config, console)


def embed_tiles(
    config: ExperimentConfig, console: Console = QUIET, *, only: str | None = None
) -> tuple[TileManifest, list[EmbeddingSpec]]:
    """Read the tiles and embed the pending blocks of every backbone, or of the one named."""
    tiles = load_tiles(config, console)
    if not config.backbones:
        return tiles, []
    from featurebench.experiment.embedding import embed

    return tiles, embed(config, tiles, console, only=only)


def probe_arms(
    config: ExperimentConfig, console: Console = QUIET, *, head: str | None = None
) -> None:
    """Cross-validate every head, or the one named, on embeddings that are stored already.

    Raises
    ------
    MissingRowsError
        If tiles are still to be embedded.
    """
    from featurebench.experiment.checks import check_settings
    from featurebench.experiment.embedding import stored_specs

    check_settings(config)
    _check_named("--head", head, config.heads)
    tiles = load_tiles(config, console)
    specs = _probed(stored_specs(config, tiles))
    study, store = _lay_out(config, tiles, specs, console)
    probes, _ = _declare(config, study, specs)
    chosen = [arm for arm in probes if head in {None, arm.head}]
    run_arms(config, chosen, study, store, console)


def fine_tune_arms(
    config: ExperimentConfig,
    console: Console = QUIET,
    *,
    model: str | None = None,
    strategy: str | None = None,
) -> None:
    """Fine-tune on the folds that the probes use, all entries or those named."""
    from featurebench.experiment.embedding import stored_specs

    _check_named("--backbone", model, [entry.model for entry in config.finetune])
    _check_named("--strategy", strategy, [entry.strategy for entry in config.finetune])
    tiles = load_tiles(config, console)
    specs = _probed(stored_specs(config, tiles))
    study, _ = _lay_out(config, tiles, specs, console)
    _, fine_tunes = _declare(config, study, specs)
    chosen = [
        arm
        for arm in fine_tunes
        if arm.fine_tune is not None
        and model in {None, arm.fine_tune.model}
        and strategy in {None, arm.fine_tune.strategy}
    ]
    run_arms(config, chosen, study, None, console)


def compare_arms(config: ExperimentConfig) -> Mapping[str, Any]:
    """Compare the runs on disk; the same dict as ``report.json``, without writing a report."""
    findings = gather(config)
    previous = read_summary(config)
    if previous is not None and is_fresh(config, findings):
        return previous
    from featurebench.experiment.verdict import summarize_findings

    return summarize_findings(config, findings, compare_findings(config, findings))


def report(config: ExperimentConfig, console: Console = QUIET) -> Path:
    """Write the report of the runs on disk, unless it is there; gives its path."""
    return write_findings(config, gather(config), console)


def report_is_fresh(config: ExperimentConfig) -> bool:
    """Whether the report on disk was made from exactly the runs, tiles and settings of now."""
    return is_fresh(config, gather(config))


def outlook(config: ExperimentConfig, console: Console = QUIET) -> None:
    """Say what `run` would do and what it would take from disk, and do nothing."""
    from featurebench.experiment.checks import check_settings
    from featurebench.experiment.embedding import foresee, refused_tiles
    from featurebench.store import FeatureStore

    check_settings(config)
    tiles = load_tiles(config, console)
    made, complete = foresee(config, tiles, console) if config.backbones else ([], True)
    specs = _probed(made)
    known_bad = refused_tiles(FeatureStore.open(config.store), specs) if specs and complete else []
    study = make_study(config, tiles, known_bad)
    fine_tunes = declare_fine_tunes(config, study, remember=False)
    for arm in [*declare_probes(config, specs, study), *fine_tunes]:
        console.say("arm", f"{arm.name}: {arm_status(config, arm)}")


def _probed(specs: list[EmbeddingSpec]) -> list[EmbeddingSpec]:
    """Choose the embeddings that probes are trained on: those of the tiles as they are."""
    return [spec for spec in specs if spec.view == "clean"]


def _lay_out(
    config: ExperimentConfig,
    tiles: TileManifest,
    specs: list[EmbeddingSpec],
    console: Console,
) -> tuple[Study, FeatureStore | None]:
    """Settle what all arms share, and write the resolved experiment beside the results."""
    store = None
    if specs:
        from featurebench.experiment.embedding import open_store, refused_tiles

        store = open_store(config, tiles)
        bad = refused_tiles(store, specs)
    else:
        bad = find_bad_tiles(tiles, config.data.max_bad_tiles, console)
    for tile in bad:
        console.say("bad tile", f"{tile.tile_id}: {tile.reason}")
    study = make_study(config, tiles, bad)
    plan = study.plan
    kind = "hold-out" if plan.scheme == "holdout" else f"{plan.n_repeats} x {plan.n_folds} folds"
    grouped = f"grouped by {plan.group}" if plan.group else "NOT grouped by patient"
    console.say("folds", f"{kind}, {grouped}, plan {plan.id}")
    _save_resolved(config)
    return study, store


def _declare(
    config: ExperimentConfig, study: Study, specs: list[EmbeddingSpec]
) -> tuple[list[Arm], list[Arm]]:
    """Declare all arms before the first one runs, and list them in the index."""
    probes = declare_probes(config, specs, study)
    fine_tunes = declare_fine_tunes(config, study)
    write_index(config.output.results, study, [*probes, *fine_tunes])
    return probes, fine_tunes


def _save_resolved(config: ExperimentConfig) -> None:
    results = config.output.results
    results.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(dump_config(config, results), sort_keys=False, allow_unicode=True)
    write_atomically(results / "experiment.yaml", text)


def _check_named(option: str, value: str | None, known: Mapping[str, Any] | list[str]) -> None:
    if value is not None and value not in known:
        names = ", ".join(dict.fromkeys(known)) or "none"
        raise ConfigError(f"{option} {value!r} is not in the experiment file; it has {names}")
