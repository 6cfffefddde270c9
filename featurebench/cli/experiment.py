"""The verbs of the work, in its order: each reads its arguments and calls one library function."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featurebench.cli.main import main
from featurebench.cli.options import (
    device_option,
    dry_run_option,
    jobs_option,
    json_option,
    on_device,
    overridable,
    own_command,
    refuse_together,
)
from featurebench.cli.progress import make_console
from featurebench.cli.text import print_findings, print_table, print_verdict, shown
from featurebench.errors import FeatureBenchError

if TYPE_CHECKING:
    from featurebench.config import ExperimentConfig


@main.command()
@click.argument("directory", type=click.Path(path_type=Path), default=".")
@click.option("--output", type=click.Path(path_type=Path), help="File to write.")
def init(directory: Path, output: Path | None) -> None:
    """Write a commented experiment file for the tiles found in DIRECTORY."""
    from featurebench.experiment import write_starter

    file, summary = write_starter(directory, output)
    click.echo(f"{summary}\nwrote {file}: read it, then run 'featurebench run {file}'")


@main.command()
@overridable
@dry_run_option
@jobs_option
def run(config: ExperimentConfig, *, dry_run: bool, jobs: int | None) -> None:
    """Embed, probe, fine-tune, compare and report: the whole line."""
    from featurebench import experiment

    if dry_run:
        experiment.outlook(config, make_console())
        return
    report_file = experiment.run(config, make_console(), jobs=jobs)
    print_verdict(config)
    click.echo(f"report: {shown(report_file)}")


@main.command()
@click.argument("config", type=click.Path(path_type=Path), required=False)
@json_option
def doctor(config: Path | None, as_json: bool) -> None:
    """Say what this machine can do, and what the experiment of CONFIG will take on it."""
    from featurebench import experiment

    findings = experiment.examine(config)
    if as_json:
        click.echo(json.dumps([finding.to_dict() for finding in findings], indent=1))
    else:
        print_findings(findings)
    if n_wrong := sum(finding.state == "wrong" for finding in findings):
        raise FeatureBenchError(f"{n_wrong} of these will stop a run; mend them first")


@main.command()
@overridable
@dry_run_option
@click.option("--backbone", help="Only the backbones with this model name.")
@device_option
@click.option("--blocks", metavar="I/N", help="Only the I-th of N shares of the blocks.")
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    help="Local processes that share the work; one per GPU by default.",
)
@click.option("--dask", metavar="ADDRESS", help="Deal blocks to a Dask cluster, or to 'local'.")
def extract(
    config: ExperimentConfig,
    *,
    dry_run: bool,
    backbone: str | None,
    device: str | None,
    blocks: str | None,
    processes: int | None,
    dask: str | None,
) -> None:
    """Embed the tiles that have no embedding yet, in one pass for all backbones."""
    from featurebench import experiment

    placed = on_device(config, device)
    if dry_run:
        experiment.outlook(placed, make_console())
    elif dask is not None:
        refuse_together(blocks=blocks, dask=dask)
        experiment.embed_on_dask(
            placed, make_console(), address=dask, processes=processes, only=backbone
        )
    elif n_local := experiment.local_processes(placed, processes):
        refuse_together(blocks=blocks, processes=processes)
        sys.exit(experiment.embed_in_processes(n_local, own_command("--processes")))
    else:
        experiment.embed_share(placed, make_console, share=blocks, only=backbone)


@main.command()
@overridable
@dry_run_option
@click.option("--head", help="Only this entry of heads.")
@device_option
@jobs_option
@click.option("--dask", metavar="ADDRESS", help="Deal folds to a Dask cluster, or to 'local'.")
def probe(
    config: ExperimentConfig,
    *,
    dry_run: bool,
    head: str | None,
    device: str | None,
    jobs: int | None,
    dask: str | None,
) -> None:
    """Cross-validate heads on stored embeddings."""
    from featurebench import experiment

    placed = on_device(config, device)
    if dry_run:
        experiment.outlook(placed, make_console())
        return
    experiment.probe_arms(placed, make_console(), head=head, jobs=jobs, dask=dask)


@main.command()
@overridable
@dry_run_option
@click.option("--backbone", help="Only the entries with this model name.")
@click.option("--strategy", help="Only the entries with this strategy.")
@device_option
def finetune(
    config: ExperimentConfig,
    dry_run: bool,
    backbone: str | None,
    strategy: str | None,
    device: str | None,
) -> None:
    """Fine-tune on the folds that the probes use."""
    from featurebench import experiment

    placed = on_device(config, device)
    if dry_run:
        experiment.outlook(placed, make_console())
        return
    experiment.fine_tune_arms(placed, make_console(), model=backbone, strategy=strategy)


@main.command()
@overridable
@json_option
def compare(config: ExperimentConfig, as_json: bool) -> None:
    """Print the verdict and the table behind it."""
    from featurebench import experiment

    summary = experiment.compare_arms(config)
    if as_json:
        keys = ("experiment", "verdict", "caveats", "arms", "comparisons")
        click.echo(json.dumps({key: summary[key] for key in keys}, indent=1))
        return
    print_table(summary)


@main.command()
@overridable
@click.option("--check", is_flag=True, help="Write nothing; fail if the report is stale.")
def report(config: ExperimentConfig, check: bool) -> None:
    """Write the report of the runs on disk."""
    from featurebench import experiment

    if check:
        if not experiment.report_is_fresh(config):
            raise FeatureBenchError(
                "the report is stale or absent: its runs, tiles or settings differ; "
                "write it with 'featurebench report'"
            )
        click.echo("the report is up to date")
        return
    click.echo(f"report: {shown(experiment.report(config, make_console()))}")
