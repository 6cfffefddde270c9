"""The verbs around a feature store: look into it, check it, mend it, bring in and take out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featurebench.cli.main import main
from featurebench.cli.options import json_option, overridable
from featurebench.cli.progress import make_console
from featurebench.cli.text import print_status, shown
from featurebench.errors import FeatureBenchError

if TYPE_CHECKING:
    from featurebench.config import ExperimentConfig


@main.group()
def store() -> None:
    """Look into a feature store."""


@store.command("info")
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def store_info(path: Path, as_json: bool) -> None:
    """Show what a store holds, how much of it is done, and from which weights."""
    from featurebench.store import FeatureStore

    opened = FeatureStore.open(path)
    statuses = opened.status()
    if as_json:
        rows = [{**asdict(status), "spec": status.spec.to_dict()} for status in statuses]
        click.echo(json.dumps({"dataset": opened.dataset, "embeddings": rows}, indent=1))
        return
    click.echo(f"{opened.dataset}: {opened.n_tiles:,} tiles, classes {', '.join(opened.classes)}")
    for status in statuses:
        print_status(status)


@store.command("verify")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--repair", is_flag=True, help="Set what is damaged aside, so that it is redone.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Experiment file whose tiles the store must be of.",
)
def store_verify(path: Path, repair: bool, config: Path | None) -> None:
    """Compare every byte of a store with what was committed."""
    from featurebench.store import FeatureStore

    opened = FeatureStore.open(path, damaged=True)
    problems = opened.verify(manifest_sha256=None if config is None else _manifest_of(config))
    for problem in problems:
        rows = f"rows {problem.start} to {problem.stop - 1}: " if problem.stop else ""
        click.echo(f"{problem.embedding or 'store'}: {rows}{problem.what}")
    if problems and not repair:
        raise FeatureBenchError(
            f"{len(problems)} problems in {path.name}; 'featurebench store verify --repair {path}' "
            "sets damaged blocks aside, then 'featurebench extract' makes them anew"
        )
    if problems:
        n_pending = opened.repair(problems)
        click.echo(f"{n_pending} blocks are pending again: run 'featurebench extract'")
        return
    click.echo("every committed block is as it was written")


@store.command("import")
@overridable
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the network that made the embeddings.")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["auto", "clam", "trident", "stamp", "eva", "npy"]),
    default="auto",
    help="How the sources are laid out.",
)
def store_import(
    config: ExperimentConfig, *, sources: tuple[Path, ...], name: str, layout: str
) -> None:
    """Bring embeddings made elsewhere into the store of an experiment, marked as foreign."""
    from featurebench import experiment

    experiment.import_foreign(config, make_console(), sources=sources, name=name, layout=layout)


@store.command("export")
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("embedding")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "layout",
    type=click.Choice(["auto", "npy", "parquet", "hdf5"]),
    default="auto",
    help="Of the file that is written; by its ending if auto.",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
def store_export(path: Path, embedding: str, target: Path, layout: str, overwrite: bool) -> None:
    """Write one embedding of a store as a file for other programs."""
    from featurebench.store import FeatureStore
    from featurebench.store.export import export_embedding, find_spec

    opened = FeatureStore.open(path)
    spec = find_spec(opened, embedding)
    done = export_embedding(opened, spec, target, format=layout, overwrite=overwrite)
    left_out = f", {done.n_refused} refused and {done.n_pending} pending ones left out"
    click.echo(
        f"wrote {done.n_rows:,} rows to {shown(done.path)}"
        f"{left_out if done.n_refused or done.n_pending else ''}"
    )


def _manifest_of(config: Path) -> str:
    from featurebench.config import load_config
    from featurebench.experiment import QUIET
    from featurebench.experiment.study import load_tiles

    return load_tiles(load_config(config), QUIET).sha256
