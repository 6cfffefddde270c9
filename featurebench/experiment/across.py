"""Several experiments, each on tiles of its own, put together: one comparison and one report."""

from __future__ import annotations

import datetime
import json
import os
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from featurebench.comparison.across import compare_across
from featurebench.errors import ConfigError
from featurebench.experiment.console import QUIET
from featurebench.experiment.freshness import differences
from featurebench.experiment.index import digest_files
from featurebench.experiment.provenance import versions
from featurebench.experiment.study import DEFAULT_GROUP
from featurebench.experiment.verdict import (
    compare_findings,
    gather,
    is_fresh,
    summarize_findings,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featurebench.comparison import Comparison
    from featurebench.config import ExperimentConfig
    from featurebench.experiment.console import Console
    from featurebench.experiment.verdict import Findings


@dataclass(frozen=True)
class DataSet:
    """One experiment and its runs."""

    config: ExperimentConfig
    findings: Findings

    @cached_property
    def comparison(self) -> Comparison:
        """Of its arms; made once, when it is first asked for."""
        return compare_findings(self.config, self.findings)


def compare_experiments(configs: Sequence[ExperimentConfig]) -> Mapping[str, Any]:
    """Compare over data sets, one experiment each; the same dict as ``across.json``.

    Parameters
    ----------
    configs
        Two or more, of different names, whose tiles are not the same files.

    Raises
    ------
    ConfigError
        If two have one name, or tiles in common: a mean takes data sets as independent.
    ResultsError
        If one has no runs, or they do not declare the same metric, margin and alpha.
    """
    return _summarize(_gather(configs), Path.cwd())


def report_experiments(
    configs: Sequence[ExperimentConfig], output: Path, console: Console = QUIET
) -> Path:
    """Write the report of every experiment, and one over all that links to them.

    Parameters
    ----------
    configs
        As for `compare_experiments`.
    output
        Folder of ``across.html``, ``.md``, ``.json`` and ``.csv``.
    console
        Where lines and progress go.

    Returns
    -------
    Path
        Of ``across.html``.

    Raises
    ------
    ConfigError, ResultsError
        As `compare_experiments`.
    """
    from featurebench.reporting import write_report
    from featurebench.reporting.across import write_across

    data_sets = _gather(configs, console)
    for each in data_sets:
        console.say("data set", each.config.name)
        if is_fresh(each.config, each.findings):
            console.say("report", "cached")
            continue
        summary = summarize_findings(each.config, each.findings, each.comparison)
        write_report(summary, each.config.output.reports)
    if _is_fresh(data_sets, output):
        console.say("over data sets", "cached")
        return output / "across.html"
    return write_across(_summarize(data_sets, output, console), output)


def across_differences(configs: Sequence[ExperimentConfig], output: Path) -> tuple[str, ...]:
    """Say in what the report over data sets, or one of its own, differs from one made now."""
    data_sets = _gather(configs)
    found = [
        f"{each.config.name}: {', '.join(texts)}"
        for each in data_sets
        if (texts := differences(each.config, each.findings.inputs))
    ]
    if not found and not _is_fresh(data_sets, output):
        found.append("the report over data sets is absent or was made of others")
    return tuple(found)


def _gather(configs: Sequence[ExperimentConfig], console: Console | None = None) -> list[DataSet]:
    """Read all runs; with a console, for a report, also the audits."""
    twice = [name for name, n in Counter(each.name for each in configs).items() if n > 1]
    if twice:
        raise ConfigError(f"{twice[0]!r} names two experiments: give one of them another name")
    data_sets = [
        DataSet(
            each, gather(each) if console is None else gather(each, audit=True, console=console)
        )
        for each in configs
    ]
    for one, other in combinations(data_sets, 2):
        if n := len(_files(one) & _files(other)):
            raise ConfigError(
                f"{one.config.name} and {other.config.name} have {n:,} tiles in common: a mean "
                "over data sets needs other patients in each; compare them one by one"
            )
    return data_sets


def _files(data_set: DataSet) -> set[str]:
    tiles = data_set.findings.study.tiles
    root, paths = tiles.root.resolve(), tiles.column("path")
    return set() if paths is None else {f"{root}/{path}" for path in paths}


def _summarize(
    data_sets: Sequence[DataSet], output: Path, console: Console = QUIET
) -> Mapping[str, Any]:
    from featurebench.reporting.across import summarize_across

    comparisons = {}
    with console.track("comparing over data sets", len(data_sets)) as advance:
        for each in data_sets:
            comparisons[each.config.name] = each.comparison
            advance(1)
    across = compare_across(comparisons)
    across = replace(across, notes=(*across.notes, *_shared_patients(data_sets)))
    return summarize_across(
        across,
        comparisons,
        facts={each.config.name: _facts(each, output) for each in data_sets},
        provenance={
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "inputs_sha256": _inputs(data_sets, output),
            "versions": versions(),
        },
    )


def _shared_patients(data_sets: Sequence[DataSet]) -> list[str]:
    """Warn of patients of one name in two data sets, who may or may not be the same."""
    notes = []
    for one, other in combinations(data_sets, 2):
        if n := len(_patients(one) & _patients(other)):
            notes.append(
                f"{one.config.name} and {other.config.name} have {n} patient "
                f"{'id' if n == 1 else 'ids'} in common: if these are the same people, the data "
                "sets are not independent and the interval of the mean is too narrow."
            )
    return notes


def _patients(data_set: DataSet) -> set[str]:
    ids = data_set.findings.study.tiles.column(DEFAULT_GROUP)
    return set() if ids is None else set(ids.astype(str))


def _facts(data_set: DataSet, output: Path) -> dict[str, Any]:
    tiles = data_set.findings.study.tiles
    patients = _patients(data_set)
    return {
        "page": _page(data_set.config, output),
        "n_tiles": len(tiles),
        "n_patients": len(patients) or None,
        "n_classes": len(tiles.classes),
    }


def _page(config: ExperimentConfig, output: Path) -> str:
    """Give the place of an experiment's own report as seen from a folder, as a link."""
    file = config.output.reports.resolve() / "report.html"
    return quote(Path(os.path.relpath(file, output.resolve())).as_posix())


def _inputs(data_sets: Sequence[DataSet], output: Path) -> str:
    from featurebench.reporting.across import SCHEMA_VERSION

    named = [(each.config.name, _page(each.config, output)) for each in data_sets]
    digests = [each.findings.inputs_sha256 for each in data_sets]
    return digest_files([], str(SCHEMA_VERSION), json.dumps(named), *digests)


def _is_fresh(data_sets: Sequence[DataSet], output: Path) -> bool:
    try:
        previous = json.loads((output / "across.json").read_text(encoding="utf-8"))
        made_from = previous["provenance"]["inputs_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(made_from == _inputs(data_sets, output)) and (output / "across.html").is_file()
