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
    over_data_sets,
    overridable,
    own_command,
    refuse_together,
)
from featurebench.cli.progress import make_console
from featurebench.cli.text import (
    print_across,
    print_across_verdict,
    print_findings,
    print_table,
    print_verdict,
    shown,
)
from featurebench.errors import ConfigError, FeatureBenchError

if TYPE_CHECKING:
    from featurebench.config import ExperimentConfig


@main.command()
@click.argument("directory", type=click.Path(path_type=Path), default=".")
@click.option("--output", type=click.Path(path_type=Path), help="File to write.")
def init(directory: Path, output: Path | None) -> None:
    """Write a commented experiment file for the tiles found in DIRECTORY.

    Then time a few steps of its fine-tunes and say how many hours they take at most.
    """
    from featurebench.experiment import write_starter

    file, summary = write_starter(directory, output)
    click.echo(f"{summary}\nwrote {file}: read it, then run 'featurebench run {file}'")
    _tell_hours(file)


def _tell_hours(file: Path) -> None:
    """Estimate the hours of a file just written; one that cannot be timed here is still written."""
    from featurebench.config import load_config
    from featurebench.experiment.hours import estimate_hours

    try:
        estimate_hours(load_config(file), make_console())
    except FeatureBenchError as error:
        click.echo(f"the hours of fine-tuning are not estimated here: {error}")


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
@over_data_sets
@json_option
def compare(config: ExperimentConfig | list[ExperimentConfig], as_json: bool) -> None:
    """Print the verdict and the table behind it; of several CONFIG, that over their data sets."""
    from featurebench import experiment

    if isinstance(config, list):
        print_across(experiment.compare_experiments(config), as_json=as_json)
        return
    summary = experiment.compare_arms(config)
    if as_json:
        keys = ("experiment", "verdict", "others", "barred", "caveats", "arms", "comparisons")
        click.echo(json.dumps({key: summary[key] for key in keys}, indent=1))
        return
    print_table(summary)


@main.command()
@over_data_sets
@click.option("--check", is_flag=True, help="Write nothing; fail if the report is stale.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the report over data sets, for several CONFIG.",
)
def report(
    config: ExperimentConfig | list[ExperimentConfig], *, check: bool, output: Path | None
) -> None:
    """Write the report of the runs on disk; of several CONFIG, also one over their data sets."""
    from featurebench import experiment

    if isinstance(config, list):
        if output is None:
            raise ConfigError("several experiments need --output: name the folder of their report")
        _report_together(config, output, check=check)
        return
    if output is not None:
        raise ConfigError(
            "--output is for several experiments; one is reported in its output.reports"
        )
    if check:
        _say_fresh(experiment.report_differences(config))
        return
    click.echo(f"report: {shown(experiment.report(config, make_console()))}")


def _report_together(configs: list[ExperimentConfig], output: Path, *, check: bool) -> None:
    from featurebench import experiment

    if check:
        _say_fresh(experiment.across_differences(configs, output))
        return
    page = experiment.report_experiments(configs, output, make_console())
    print_across_verdict(output)
    click.echo(f"report: {shown(page)}")


def _say_fresh(differences: tuple[str, ...]) -> None:
    if differences:
        from featurebench.experiment.freshness import ABSENT

        state = "absent" if differences == (ABSENT,) else f"stale: {'; '.join(differences)}"
        raise FeatureBenchError(f"the report is {state}: write it with 'featurebench report'")
    click.echo("the report is up to date")
