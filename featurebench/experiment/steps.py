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
    has_choice,
)
from featurebench.experiment.console import QUIET, Console
from featurebench.experiment.fine_tunes import run_fine_tunes
from featurebench.experiment.index import write_index
from featurebench.experiment.protocol import seal_protocol
from featurebench.experiment.study import find_bad_tiles, load_tiles, make_study
from featurebench.results import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from featurebench.config import ExperimentConfig
    from featurebench.experiment.arms import Arm
    from featurebench.experiment.study import Study
    from featurebench.store import EmbeddingSpec
    from featurebench.tiles import TileManifest


def run(config: ExperimentConfig, console: Console = QUIET, *, jobs: int | None = None) -> Path:
    """Do the whole line; what is on disk already is not done again.

    Parameters
    ----------
    config
        The experiment, as `featurebench.config.load_config` gives it.
    console
        Where lines and progress go.
    jobs
        Processes that share the probes; this one alone if None.

    Returns
    -------
    Path
        Of ``report.html``.
    """
    from featurebench.experiment.checks import check_settings
    from featurebench.experiment.curves import run_curves
    from featurebench.experiment.hands import Hands
    from featurebench.experiment.probing import run_probes

    check_settings(config)
    tiles, specs = embed_tiles(config, console)
    study, specs = _lay_out(config, tiles, specs, console)
    probes, fine_tunes = _declare(config, study, specs)
    run_probes(config, probes, study, console, Hands(jobs), validate=has_choice(probes))
    run_curves(config, probes, study, console, Hands(jobs))
    run_fine_tunes(config, fine_tunes, study, console)
    run_curves(config, fine_tunes, study, console, Hands())
    return report(config, console)


def embed_tiles(
    config: ExperimentConfig, console: Console = QUIET, *, only: str | None = None
) -> tuple[TileManifest, list[EmbeddingSpec]]:
    """Read the tiles and embed the pending blocks of every backbone, or of the one named."""
    tiles = _load(config, console)
    if not config.backbones:
        return tiles, []
    from featurebench.experiment.embedding import embed

    return tiles, embed(config, tiles, console, only=only)


def probe_arms(
    config: ExperimentConfig,
    console: Console = QUIET,
    *,
    head: str | None = None,
    jobs: int | None = None,
    dask: str | None = None,
) -> None:
    """Cross-validate every head, or the one named, on embeddings that are stored already.

    Parameters
    ----------
    head
        Key of ``heads``; all if None.
    jobs
        Processes of this machine that share the work; this one alone if None.
    dask
        Address of a Dask scheduler whose workers share the work, or ``local`` for one of ``jobs``
        processes.

    Raises
    ------
    MissingRowsError
        If tiles are still to be embedded.
    """
    from featurebench.experiment.checks import check_settings
    from featurebench.experiment.curves import run_curves
    from featurebench.experiment.embedding import stored_specs
    from featurebench.experiment.hands import Hands
    from featurebench.experiment.probing import run_probes

    hands = Hands(jobs, dask)
    check_settings(config)
    _check_named("--head", head, config.heads)
    tiles = _load(config, console)
    study, specs = _lay_out(config, tiles, stored_specs(config, tiles), console)
    probes, _ = _declare(config, study, specs)
    chosen = [arm for arm in probes if head in {None, arm.entry}]
    run_probes(config, chosen, study, console, hands, validate=has_choice(probes))
    run_curves(config, chosen, study, console, hands)


def fine_tune_arms(
    config: ExperimentConfig,
    console: Console = QUIET,
    *,
    model: str | None = None,
    strategy: str | None = None,
) -> None:
    """Fine-tune on the folds that the probes use, all entries or those named."""
    from featurebench.experiment.curves import run_curves
    from featurebench.experiment.embedding import stored_specs
    from featurebench.experiment.hands import Hands

    _check_named("--backbone", model, [entry.model for entry in config.finetune])
    _check_named("--strategy", strategy, [entry.recipe.strategy for entry in config.finetune])
    tiles = _load(config, console)
    study, specs = _lay_out(config, tiles, stored_specs(config, tiles), console)
    _, fine_tunes = _declare(config, study, specs)
    chosen = [
        arm
        for arm in fine_tunes
        if arm.fine_tune is not None
        and model in {None, arm.fine_tune.model}
        and strategy in {None, arm.fine_tune.recipe.strategy}
    ]
    run_fine_tunes(config, chosen, study, console)
    run_curves(config, chosen, study, console, Hands())


def compare_arms(config: ExperimentConfig) -> Mapping[str, Any]:
    """Compare the runs on disk; the same dict as ``report.json``, without writing a report."""
    from featurebench.experiment.freshness import read_summary
    from featurebench.experiment.verdict import (
        compare_findings,
        gather,
        is_fresh,
        summarize_findings,
    )

    findings = gather(config)
    previous = read_summary(config)
    if previous is not None and is_fresh(config, findings):
        return previous
    return summarize_findings(config, findings, compare_findings(config, findings))


def report(config: ExperimentConfig, console: Console = QUIET) -> Path:
    """Write the report of the runs on disk, unless it is there; gives its path."""
    from featurebench.experiment.verdict import gather, write_findings

    return write_findings(config, gather(config, audit=True, console=console), console)


def report_is_fresh(config: ExperimentConfig) -> bool:
    """Whether the report on disk was made from exactly the runs, tiles and settings of now."""
    return not report_differences(config)


def report_differences(config: ExperimentConfig) -> tuple[str, ...]:
    """Say in what the report on disk differs from one made now, a clause each; () in nothing."""
    from featurebench.experiment.freshness import differences
    from featurebench.experiment.verdict import gather

    return differences(config, gather(config).inputs)


def outlook(config: ExperimentConfig, console: Console = QUIET) -> None:
    """Say what `run` would do and what it would take from disk, and do nothing."""
    from featurebench.experiment.checks import check_names, check_settings
    from featurebench.experiment.embedding import foresee, refused_tiles
    from featurebench.experiment.hours import tell_hours
    from featurebench.experiment.probes import used_specs
    from featurebench.store import FeatureStore

    check_settings(config)
    tiles = _load(config, console)
    made, complete = foresee(config, tiles, console) if config.backbones else ([], True)
    specs = used_specs(config, made)
    known_bad = refused_tiles(FeatureStore.open(config.store), specs) if specs and complete else []
    study = make_study(config, tiles, known_bad)
    fine_tunes = declare_fine_tunes(config, study, remember=False)
    arms = [*declare_probes(config, specs, study), *fine_tunes]
    check_names(arms)
    for arm in arms:
        console.say("arm", f"{arm.name}: {arm_status(config, arm)}")
    due = [arm for arm in arms if arm_status(config, arm) != "cached"]
    tell_hours(config, [arm for arm in due if arm.fine_tune is not None], study, console)
    plan = study.plan
    console.say(
        "outlook",
        f"{len(due)} of {len(arms)} arms to run, {plan.n_repeats} x {plan.n_folds} folds each",
    )


def _load(config: ExperimentConfig, console: Console) -> TileManifest:
    """Read the tiles, and refuse heads that do not fit their classes."""
    from featurebench.experiment.probes import check_class_weights

    tiles = load_tiles(config, console)
    check_class_weights(config, tiles.classes)
    return tiles


def _lay_out(
    config: ExperimentConfig,
    tiles: TileManifest,
    made: list[EmbeddingSpec],
    console: Console,
) -> tuple[Study, list[EmbeddingSpec]]:
    """Settle what all arms share, also which embeddings the probes read."""
    from featurebench.experiment.probes import used_specs

    specs = used_specs(config, made)
    if specs:
        from featurebench.experiment.embedding import open_store, refused_tiles

        bad = refused_tiles(open_store(config, tiles), specs)
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
    return study, specs


def _declare(
    config: ExperimentConfig, study: Study, specs: list[EmbeddingSpec]
) -> tuple[list[Arm], list[Arm]]:
    """Declare all arms before the first one runs: seal the protocol, and list them in the index."""
    from featurebench.experiment.checks import check_names, check_reference
    from featurebench.experiment.curves import curve_folder_of

    probes = declare_probes(config, specs, study)
    fine_tunes = declare_fine_tunes(config, study)
    arms = [*probes, *fine_tunes]
    check_names(arms)
    check_reference(config, arms)
    seal_protocol(config, study.plan.id, {arm.name: arm.run_id for arm in arms})
    folders = {arm.name: curve_folder_of(config, arm, study.plan.id) for arm in arms}
    curves = {name: folder for name, folder in folders.items() if folder is not None}
    write_index(config.output.results, study, arms, curves)
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
