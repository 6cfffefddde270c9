"""What verbs print: the verdict, the table behind it, paths."""

from __future__ import annotations

import contextlib
import json
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featurebench.config import ExperimentConfig
    from featurebench.experiment.doctor import Finding
    from featurebench.store.status import EmbeddingStatus


def shown(path: Path) -> str:
    """Give the path relative to the current folder where it is below it."""
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)


def print_verdict(config: ExperimentConfig) -> None:
    """Print the verdict of the report on disk."""
    summary = json.loads((config.output.reports / "report.json").read_text(encoding="utf-8"))
    click.echo(f"\n{_wrapped(summary['verdict'])}\n")


def print_table(summary: Any) -> None:  # noqa: ANN401
    """Print the verdict, then the scores, the other contrasts and the caveats."""
    click.echo(f"{_wrapped(summary['verdict'])}\n")
    name = summary["metric"]["name"]
    rows = [("arm", summary["metric"]["label"], "interval", "time")]
    for arm in summary["arms"]:
        score = arm["metrics"][name]
        low, high = score["ci_low"], score["ci_high"]
        interval = "not estimable" if low is None else f"{low:.3f} to {high:.3f}"
        value = "undefined" if score["value"] is None else f"{score['value']:.3f}"
        rows.append((arm["id"], value, interval, f"{arm['cost']['wall_s']:.1f} s"))
    print_columns(rows)
    for title, sentences in (("Other arms", "others"), ("Caveats", "caveats")):
        if summary[sentences]:
            click.echo(f"\n{title}")
        for sentence in summary[sentences]:
            click.echo(_wrapped(f"- {sentence}"))


def print_across(summary: Any, *, as_json: bool) -> None:  # noqa: ANN401
    """Print the effect of every data set, their mean, the verdict and its notes; or as JSON."""
    if as_json:
        click.echo(json.dumps(summary, indent=1))
        return
    rows = [("data set", "difference", "interval", "outcome")]
    for effect in summary["effects"]:
        evidence = effect["evidence"] or {"difference": None, "ci_low": None, "ci_high": None}
        value = evidence["difference"]
        outcome = effect["outcome"] if effect["evidence"] else "no primary contrast"
        rows.append((effect["data_set"], *_numbers(value, evidence), outcome))
    if (mean := summary["mean"]) is not None:
        rows.append(("mean", *_numbers(mean["mean"], mean), summary["outcome"]))
    print_columns(rows)
    click.echo(f"\n{_wrapped(summary['verdict'])}\n")
    for note in summary["notes"]:
        click.echo(_wrapped(f"- {note}"))


def print_across_verdict(folder: Path) -> None:
    """Print the verdict of the report over data sets in a folder."""
    summary = json.loads((folder / "across.json").read_text(encoding="utf-8"))
    click.echo(f"\n{_wrapped(summary['verdict'])}\n")


def print_findings(findings: Sequence[Finding]) -> None:
    """Print what was examined, one line each, what is wrong marked."""
    marks = {"good": " ", "note": "-", "wrong": "!"}
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        click.echo(f"{marks[finding.state]} {finding.subject.ljust(width)}  {finding.text}")


def print_status(status: EmbeddingStatus) -> None:
    """Print how much of an embedding is done, how it is stored and what made it."""
    spec, notes = status.spec, status.notes
    click.echo(
        f"  {status.name}\n"
        f"    {status.n_done:,}/{status.n_tiles:,} tiles x {spec.dim} {spec.dtype}, "
        f"{status.n_refused} refused, {status.n_bytes / 1e6:.1f} MB, blocks of "
        f"{status.block_rows:,} rows, compression {status.compression}\n"
        f"    layer {spec.layer}, pool {spec.pool}, view {spec.view}, {spec.precision}, weights "
        f"sha256 {spec.weights_sha256[:16]}"
    )
    device = dict(notes.get("provenance") or {}).get("device")
    if device or status.hosts:
        click.echo(f"    on {device or 'unknown device'}, by {', '.join(status.hosts) or 'nobody'}")


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells, the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        click.echo("  ".join(cells))


def _numbers(value: float | None, ends: Mapping[str, Any]) -> tuple[str, str]:
    low, high = ends["ci_low"], ends["ci_high"]
    interval = "not estimable" if low is None else f"{low:+.3f} to {high:+.3f}"
    return "undefined" if value is None else f"{value:+.3f}", interval


def _wrapped(text: str) -> str:
    width = min(shutil.get_terminal_size().columns, 100)
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
