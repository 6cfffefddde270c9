"""The verbs of the command line: each reads its arguments and calls one library function."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from featurebench.errors import FeatureBenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from featurebench.config import ExperimentConfig
    from featurebench.experiment import Console

RESUME = (
    "interrupted: finished blocks, folds and runs are kept; the same command goes on from there"
)
PLAIN_EVERY_S = 10.0
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}

_config = click.argument("config", type=click.Path(path_type=Path))
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would run and what is cached.")


def _overridable(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb ``--set`` and hand it the experiment that its CONFIG describes."""

    @_config
    @click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY.PATH=VALUE",
        help="Change a value of the experiment file; repeatable.",
    )
    @functools.wraps(verb)
    def wrapped(config: Path, overrides: tuple[str, ...], **options: Any) -> Any:  # noqa: ANN401
        from featurebench.config import load_config

        return verb(load_config(config, overrides), **options)

    return wrapped


class _Group(click.Group):
    """Turns errors that the user can mend into one line and status 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the verbs in the order of the work."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        signal.signal(signal.SIGTERM, _on_sigterm)
        try:
            return super().invoke(ctx)
        except FeatureBenchError as error:
            click.echo(f"featurebench: {error}", err=True)
            sys.exit(2)
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            place = f" {error.filename}" if error.filename else ""
            click.echo(
                f"featurebench: cannot write{place}: {error.strerror}; make room or give another "
                "folder, then run the same command again",
                err=True,
            )
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo(f"\nfeaturebench: {RESUME}", err=True)
            sys.exit(130)


def _on_sigterm(signum: int, frame: FrameType | None) -> NoReturn:
    """Stop like Ctrl-C, so that what is under way is left in order; status 143."""
    click.echo(f"\nfeaturebench: {RESUME}", err=True)
    sys.exit(128 + signum)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="featurebench")
def main() -> None:
    """Measure whether a frozen network with a cheap head is enough, or fine-tuning is needed.

    Start with 'featurebench init DIR' on a folder of labelled tiles, then run
    'featurebench run experiment.yaml'. Everything can be stopped and run again.
    """


@main.command()
@click.argument("directory", type=click.Path(path_type=Path), default=".")
@click.option("--output", type=click.Path(path_type=Path), help="File to write.")
def init(directory: Path, output: Path | None) -> None:
    """Write a commented experiment file for the tiles found in DIRECTORY."""
    from featurebench.experiment import write_starter

    file, summary = write_starter(directory, output)
    click.echo(f"{summary}\nwrote {file}: read it, then run 'featurebench run {file}'")


@main.command()
@_overridable
@_dry_run
def run(config: ExperimentConfig, dry_run: bool) -> None:
    """Embed, probe, fine-tune, compare and report: the whole line."""
    from featurebench import experiment

    if dry_run:
        experiment.outlook(config, _console())
        return
    report_file = experiment.run(config, _console())
    _print_verdict(config)
    click.echo(f"report: {_shown(report_file)}")


@main.command()
@_overridable
@_dry_run
@click.option("--backbone", help="Only the backbones with this model name.")
@click.option("--device", help="cpu, cuda, cuda:1 ... (overrides compute.device).")
def extract(
    config: ExperimentConfig, dry_run: bool, backbone: str | None, device: str | None
) -> None:
    """Embed the tiles that have no embedding yet."""
    from featurebench import experiment

    if dry_run:
        experiment.outlook(config, _console())
        return
    experiment.embed_tiles(_on_device(config, device), _console(), only=backbone)


@main.command()
@_overridable
@_dry_run
@click.option("--head", help="Only this head.")
def probe(config: ExperimentConfig, dry_run: bool, head: str | None) -> None:
    """Cross-validate heads on stored embeddings."""
    from featurebench import experiment

    if dry_run:
        experiment.outlook(config, _console())
        return
    experiment.probe_arms(config, _console(), head=head)


@main.command()
@_overridable
@_dry_run
@click.option("--backbone", help="Only the entries with this model name.")
@click.option("--strategy", help="Only the entries with this strategy.")
@click.option("--device", help="cpu, cuda, cuda:1 ... (overrides compute.device).")
def finetune(
    config: ExperimentConfig,
    dry_run: bool,
    backbone: str | None,
    strategy: str | None,
    device: str | None,
) -> None:
    """Fine-tune on the folds that the probes use."""
    from featurebench import experiment

    if dry_run:
        experiment.outlook(config, _console())
        return
    experiment.fine_tune_arms(
        _on_device(config, device), _console(), model=backbone, strategy=strategy
    )


@main.command()
@_overridable
@_json
def compare(config: ExperimentConfig, as_json: bool) -> None:
    """Print the verdict and the table behind it."""
    from featurebench import experiment

    summary = experiment.compare_arms(config)
    if as_json:
        keys = ("experiment", "verdict", "caveats", "arms", "comparisons")
        click.echo(json.dumps({key: summary[key] for key in keys}, indent=1))
        return
    _print_table(summary)


@main.command()
@_overridable
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
    click.echo(f"report: {_shown(experiment.report(config, _console()))}")


@main.group()
def store() -> None:
    """Look into a feature store."""


@store.command("info")
@click.argument("path", type=click.Path(path_type=Path))
@_json
def store_info(path: Path, as_json: bool) -> None:
    """Show what a store holds and how much of it is done."""
    from featurebench.store import FeatureStore

    opened = FeatureStore.open(path)
    rows = []
    for spec in opened.embeddings():
        pending = sum(len(block) for block in opened.pending(spec))
        refused = len(opened.refused(spec))
        rows.append(
            {
                "embedding": spec.name,
                "dim": spec.dim,
                "tiles": opened.n_tiles,
                "done": opened.n_tiles - pending,
                "refused": refused,
                "weights_sha256": spec.weights_sha256,
            }
        )
    if as_json:
        click.echo(json.dumps({"dataset": opened.dataset, "embeddings": rows}, indent=1))
        return
    click.echo(f"{opened.dataset}: {opened.n_tiles:,} tiles, classes {', '.join(opened.classes)}")
    for row in rows:
        click.echo(
            f"  {row['embedding']}  {row['done']:,}/{row['tiles']:,} tiles x {row['dim']}, "
            f"{row['refused']} refused, weights sha256 {str(row['weights_sha256'])[:16]}"
        )


@store.command("verify")
@click.argument("path", type=click.Path(path_type=Path))
def store_verify(path: Path) -> None:
    """Compare every committed block with its recorded SHA-256; fails at the first difference."""
    from featurebench.store import FeatureStore

    problems = FeatureStore.open(path).verify()
    for problem in problems:
        click.echo(
            f"{problem.embedding or 'store'}: rows {problem.start} to {problem.stop}: "
            f"{problem.what}"
        )
    if problems:
        raise FeatureBenchError(f"{len(problems)} problems in {path.name}")
    click.echo("every committed block is as it was written")


def _on_device(config: ExperimentConfig, device: str | None) -> ExperimentConfig:
    if device is None:
        return config
    compute = config.compute.model_copy(update={"device": device})
    return config.model_copy(update={"compute": compute})


def _shown(path: Path) -> str:
    """Path relative to the current folder where it is below it."""
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)


def _print_verdict(config: ExperimentConfig) -> None:
    summary = json.loads((config.output.reports / "report.json").read_text(encoding="utf-8"))
    click.echo(f"\n{_wrapped(summary['verdict'])}\n")


def _print_table(summary: Any) -> None:  # noqa: ANN401
    name = summary["metric"]["name"]
    rows = [("arm", summary["metric"]["label"], "interval", "time")]
    for arm in summary["arms"]:
        score = arm["metrics"][name]
        low, high = score["ci_low"], score["ci_high"]
        interval = "not estimable" if low is None else f"{low:.3f} to {high:.3f}"
        value = "undefined" if score["value"] is None else f"{score['value']:.3f}"
        rows.append((arm["id"], value, interval, f"{arm['cost']['wall_s']:.1f} s"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        click.echo("  ".join(cells))
    click.echo(f"\n{_wrapped(summary['verdict'])}\n")
    for caveat in summary["caveats"]:
        click.echo(_wrapped(f"- {caveat}"))


def _wrapped(text: str) -> str:
    return click.wrap_text(text, width=min(shutil.get_terminal_size().columns, 100))


def _console() -> Console:
    from featurebench.experiment import Console

    return Console(say=_say, track=_bar if sys.stderr.isatty() else _plain)


def _say(step: str, message: str) -> None:
    click.echo(f"{step:<10} {message}", err=True)


@contextlib.contextmanager
def _bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with the rate and the time left, gone when the work is done."""
    from rich.console import Console as Terminal
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Terminal(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total, rate="")

        def advance(n: int) -> None:
            speed = progress.tasks[0].speed
            rate = f"{speed:.1f}/s" if speed else ""
            progress.update(task, advance=n, rate=rate)

        yield advance


@contextlib.contextmanager
def _plain(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Print a line every few seconds where there is no terminal."""
    start = last = time.monotonic()
    done = 0

    def advance(n: int) -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if now - last >= PLAIN_EVERY_S and done < total:
            rate = done / (now - start)
            left = (total - done) / rate
            _say("...", f"{label}: {done:,}/{total:,}, {rate:.1f}/s, {left:.0f} s left")
            last = now

    yield advance


if __name__ == "__main__":
    main()
