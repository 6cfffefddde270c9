"""The feature store against zarr alone, HDF5, a file per tile and a raw map, in one run."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks.layouts import LAYOUTS, Shape
from benchmarks.machine import machine_facts
from benchmarks.rounds import Data, Plan, Timings, make_data, run_rounds
from benchmarks.surroundings import disk_folder, file_system, limit_threads, usable_cores

OPERATIONS = ("write", "create", "fill", "read", "gather", "first_read")
# layout and operation above the line, layout and operation below it
RATIOS = (
    ("featurebench", "read", "npy", "read"),
    ("featurebench", "gather", "npy", "gather"),
    ("featurebench", "first_read", "npy", "read"),
    ("featurebench", "write", "zarr", "write"),
    ("featurebench", "write", "zarr_fsync", "write"),
    ("featurebench", "fill", "zarr_fsync", "fill"),
    ("zarr", "read", "featurebench", "read"),
    ("zarr", "gather", "featurebench", "gather"),
    ("pt_per_tile", "write", "featurebench", "write"),
    ("pt_per_tile", "read", "featurebench", "read"),
    ("pt_per_tile", "read", "featurebench", "first_read"),
    ("pt_per_tile", "gather", "featurebench", "gather"),
    ("hdf5_rows", "write", "featurebench", "write"),
    ("hdf5_rows", "read", "featurebench", "read"),
    ("hdf5_rows", "gather", "featurebench", "gather"),
    ("zarr_rows", "write", "featurebench", "write"),
    ("zarr_rows", "read", "featurebench", "read"),
    ("zarr_rows", "gather", "featurebench", "gather"),
)
Report = dict[str, Any]
_COUNT = click.IntRange(min=1)


@click.command()
@click.option("--rows", type=_COUNT, default=20_000, show_default=True, help="Tiles.")
@click.option("--columns", type=_COUNT, default=2048, show_default=True, help="Features.")
@click.option("--block-rows", type=_COUNT, help="Rows of a block; default: the store's choice.")
@click.option(
    "--fold",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.8,
    show_default=True,
    help="Share of the rows in a training fold.",
)
@click.option("--repeats", type=_COUNT, default=5, show_default=True, help="Rounds that count.")
@click.option("--readings", type=_COUNT, default=3, show_default=True, help="Of each round.")
@click.option(
    "--slow-repeats",
    type=_COUNT,
    default=2,
    show_default=True,
    help="Rounds of the layouts with a file per tile, each with one reading.",
)
@click.option("--threads", type=_COUNT, help="Of BLAS, torch and zarr; default: all usable cores.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of features and fold.")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the files are kept meanwhile; default: a temporary folder on a disk.",
)
@click.option("--drop-caches", is_flag=True, help="Read cold: take files out of the page cache.")
@click.option(
    "--json",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for every figure and the facts of the machine.",
)
def main(
    *,
    rows: int,
    columns: int,
    block_rows: int | None,
    fold: float,
    repeats: int,
    readings: int,
    slow_repeats: int,
    threads: int | None,
    seed: int,
    folder: Path | None,
    drop_caches: bool,
    target: Path | None,
) -> None:
    """Time writing, reading and one training fold of a feature matrix, kept in several ways."""
    if drop_caches and not hasattr(os, "posix_fadvise"):
        raise click.UsageError("this system cannot drop its caches; leave out --drop-caches")
    plan = Plan(Shape(rows, columns, block_rows), repeats, readings, slow_repeats, drop_caches)
    chosen = threads or usable_cores()
    report = run(plan, folder or disk_folder(), fold=fold, threads=chosen, seed=seed)
    print(format_report(report))
    if target is not None:
        target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def run(plan: Plan, folder: Path, *, fold: float, threads: int, seed: int) -> Report:
    """Measure all layouts in a temporary folder below ``folder``.

    Returns
    -------
    dict
        JSON-ready: ``machine``, ``settings``, ``measurements`` (seconds of each repeat, their
        median and the best), ``sizes`` (bytes) and ``ratios`` (of medians and of bests).

    Raises
    ------
    ValueError
        If a layout returns other rows than were written.
    """
    click.echo(f"files are kept on {file_system(folder)}, in {folder}", err=True)
    data = make_data(plan.shape, fold=fold, seed=seed)
    with (
        limit_threads(threads),
        tempfile.TemporaryDirectory(dir=folder, prefix="featurebench-benchmark-") as place,
    ):
        machine = machine_facts() | {"file_system": file_system(Path(place))}
        load = [os.getloadavg()[0]]
        timings = run_rounds(
            LAYOUTS, plan, data, Path(place), say=lambda text: click.echo(text, err=True)
        )
        load.append(os.getloadavg()[0])
    settings = asdict(plan) | {"fold": fold, "threads": threads, "seed": seed}
    return {
        "machine": machine | {"load_before_and_after": load},
        "settings": settings | {"page_cache": "cold" if plan.drop_caches else "warm"},
        "measurements": _summarize(timings, data),
        "sizes": {name: asdict(size) for name, size in timings.sizes.items()},
        "ratios": _ratios(timings),
    }


def format_report(report: Report) -> str:
    """Lay a report out as plain text: settings, a table of times and sizes, and ratios."""
    blocks = (_head(report), _table(report), _ratio_table(report))
    return "\n\n".join("\n".join(lines) for lines in blocks)


def _summarize(timings: Timings, data: Data) -> list[Report]:
    found = []
    for (layout, operation), seconds in sorted(timings.seconds.items()):
        median = statistics.median(seconds)
        n_rows = len(data.index if operation == "gather" else data.rows)
        n_bytes = n_rows * data.rows[0].nbytes
        found.append(
            {
                "layout": layout,
                "operation": operation,
                "seconds": seconds,
                "median_s": median,
                "best_s": min(seconds),
                "median_mb_per_s": None if operation == "create" else n_bytes / median / 1e6,
            }
        )
    return found


def _ratios(timings: Timings) -> list[Report]:
    ratios = []
    for above, operation, below, other in RATIOS:
        top, bottom = timings.seconds[above, operation], timings.seconds[below, other]
        title = f"{operation}: {above} / {below}"
        ratios.append(
            {
                "ratio": title if operation == other else f"{title} {other}",
                "of_medians": statistics.median(top) / statistics.median(bottom),
                "of_bests": min(top) / min(bottom),
            }
        )
    return ratios


def _head(report: Report) -> list[str]:
    machine, settings = report["machine"], report["settings"]
    shape = settings["shape"]
    load = " to ".join(f"{value:.1f}" for value in machine["load_before_and_after"])
    libraries = ", ".join(f"{name} {text}" for name, text in machine["libraries"].items())
    return [
        f"{shape['rows']} x {shape['columns']} float16, one fold = {settings['fold']:.0%} of rows, "
        f"{settings['page_cache']} page cache",
        f"{machine['cpu']}, {machine['usable_cores']} cores, {settings['threads']} threads, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB, {machine['file_system']}, load {load}, "
        f"{machine['date']}",
        f"Python {machine['python']}, {libraries}",
        f"milliseconds, median (best): {settings['repeats']} writes and "
        f"{settings['repeats'] * settings['readings']} readings, {settings['slow_repeats']} and "
        f"{settings['slow_repeats']} where there is a file per tile",
    ]


def _table(report: Report) -> list[str]:
    cells = {
        (m["layout"], m["operation"]): f"{m['median_s'] * 1e3:.1f} ({m['best_s'] * 1e3:.1f})"
        for m in report["measurements"]
    }
    names = [operation.replace("_", " ") for operation in OPERATIONS]
    lines = [_line("layout", names, "MB", "files")]
    for layout in LAYOUTS:
        size = report["sizes"][layout.name]
        times = [cells.get((layout.name, operation), "-") for operation in OPERATIONS]
        lines.append(_line(layout.title, times, f"{size['on_disk'] / 1e6:.1f}", str(size["files"])))
    return lines


def _line(title: str, times: list[str], size: str, files: str) -> str:
    return f"{title:<37}" + "".join(f"{text:>20}" for text in times) + f"{size:>9}{files:>7}"


def _ratio_table(report: Report) -> list[str]:
    lines = [f"{'ratio of times':<50}{'of medians':>12}{'of bests':>12}"]
    for ratio in report["ratios"]:
        medians, bests = (f"{ratio[key]:.2f}" for key in ("of_medians", "of_bests"))
        lines.append(f"{ratio['ratio']:<50}{medians:>12}{bests:>12}")
    return lines


if __name__ == "__main__":
    main()
