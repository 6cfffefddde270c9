"""Arguments and options that several verbs share."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featurebench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from featurebench.config import ExperimentConfig

config_argument = click.argument("config", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would run and what is cached."
)
jobs_option = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Processes that share the probes and the threads; 1 by default.",
)


def overridable(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb ``--set`` and hand it each experiment that its CONFIG describes."""

    @config_argument
    @click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY.PATH=VALUE",
        help="Change a value of the experiment file; repeatable.",
    )
    @click.option("--splits", help="Of a file with several named splits, only this one.")
    @functools.wraps(verb)
    def wrapped(
        config: Path,
        overrides: tuple[str, ...],
        splits: str | None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        for experiment in _chosen(config, overrides, splits, one=bool(options.get("as_json"))):
            verb(experiment, **options)

    return wrapped


def _chosen(
    file: Path, overrides: tuple[str, ...], splits: str | None, *, one: bool
) -> list[ExperimentConfig]:
    from featurebench.config import load_experiments

    experiments = load_experiments(file, overrides)
    if splits is not None and splits not in experiments:
        raise ConfigError(
            f"--splits {splits!r} is not in {file.name}; it has {', '.join(experiments)}"
        )
    if splits is None and one and len(experiments) > 1:
        raise ConfigError(
            f"--json prints one experiment: choose by --splits one of {', '.join(experiments)}"
        )
    return [each for key, each in experiments.items() if splits in {None, key}]


def over_data_sets(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Let a verb that takes one experiment at a time also take several CONFIG files together.

    One file is handled as `overridable` does, for each experiment that it describes. Several give
    ``verb`` a list with one experiment for each file in place of an experiment.
    """

    @click.argument(
        "configs", metavar="CONFIG...", nargs=-1, required=True, type=click.Path(path_type=Path)
    )
    @click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY.PATH=VALUE",
        help="Change a value of every experiment file; repeatable.",
    )
    @click.option("--splits", help="Of a file with several named splits, only this one.")
    @functools.wraps(verb)
    def wrapped(
        configs: tuple[Path, ...],
        overrides: tuple[str, ...],
        splits: str | None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        if len(configs) > 1:
            verb([_only(file, overrides, splits) for file in configs], **options)
            return
        one = bool(options.get("as_json"))
        for experiment in _chosen(configs[0], overrides, splits, one=one):
            verb(experiment, **options)

    return wrapped


def _only(file: Path, overrides: tuple[str, ...], splits: str | None) -> ExperimentConfig:
    """Give the one experiment of a file; several splits of the same tiles are no data sets."""
    from featurebench.config import load_experiments

    experiments = load_experiments(file, overrides)
    if len(experiments) == 1:
        return next(iter(experiments.values()))
    if splits not in experiments:
        raise ConfigError(
            f"{file.name} splits the same tiles in {len(experiments)} ways, which are one data "
            f"set: choose by --splits one of {', '.join(experiments)}"
        )
    return experiments[splits]


device_option = click.option("--device", help="cpu, cuda, cuda:1 ... (overrides compute.device).")


def on_device(config: ExperimentConfig, device: str | None) -> ExperimentConfig:
    """Give the experiment with another device, where one was named."""
    if device is None:
        return config
    compute = config.compute.model_copy(update={"device": device})
    return config.model_copy(update={"compute": compute})


def own_command(without: str) -> list[str]:
    """Give the command that started this process, without an option and its value."""
    kept: list[str] = []
    arguments = iter(sys.argv[1:])
    for argument in arguments:
        if argument == without:
            next(arguments, None)
        elif not argument.startswith(f"{without}="):
            kept.append(argument)
    return [sys.executable, "-m", "featurebench.cli", *kept]


def refuse_together(**options: object) -> None:
    """Refuse options that mean different ways to share the work.

    Raises
    ------
    ConfigError
        If more than one is given.
    """
    given = [f"--{name}" for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} do not go together; give one of them")
