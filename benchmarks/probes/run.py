"""Probes against scikit-learn, faiss and LightGBM on the same patient-grouped folds, in one run.

python -m benchmarks.probes --json probes.json
python -m benchmarks.probes --only useful --peer-folds 5
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib import import_module, metadata
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from joblib.externals.loky import get_reusable_executor
from threadpoolctl import threadpool_limits

from benchmarks.machine import machine_facts
from benchmarks.probes.boosting import lightgbm
from benchmarks.probes.clock import Clock, Section, kernels
from benchmarks.probes.curve import curve
from benchmarks.probes.efficiency import efficiency
from benchmarks.probes.linear import grid, useful
from benchmarks.probes.memory import memory
from benchmarks.probes.neighbours import find_faiss, knn
from benchmarks.probes.ridge import ridge
from benchmarks.probes.settings import Settings, read_options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MEASURES: dict[str, Callable[[Settings, Clock], Section]] = {
    "useful": useful,
    "grid": grid,
    "ridge": ridge,
    "knn": knn,
    "lightgbm": lightgbm,
    "efficiency": efficiency,
    "curve": curve,
    "memory": memory,
}
_PEERS = ("scikit-learn", "scipy", "joblib", "lightgbm", "faiss-cpu")
Report = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options, measure, print, and write JSON where asked."""
    settings = read_options(arguments, about=__doc__)
    report = run(settings)
    if settings.json is not None:
        settings.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def run(settings: Settings) -> Report:
    """Measure the chosen sections and print each as it is done.

    Each has a process of its own: threads that one section's libraries leave behind would take
    time from the next one.

    Returns
    -------
    dict
        JSON-ready: ``machine``, ``settings`` and ``sections``, each with the seconds of every
        round, medians, ratios, the thread pools of its libraries and what else was found.
    """
    machine = machine_facts()
    machine["libraries"] |= _peer_versions()
    load = [os.getloadavg()[0]]
    print("\n".join(_head(machine, settings)))
    sections: Report = {}
    for name in settings.only:
        _say(name)
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as fresh:
            section = fresh.submit(measure, name, settings).result()
        print("\n".join(["", *format_section(section)]), flush=True)
        sections[name] = _as_json(section)
    load.append(os.getloadavg()[0])
    return {
        "machine": machine | {"load_before_and_after": load},
        "settings": {key: _plain(value) for key, value in asdict(settings).items()},
        "sections": sections,
    }


def measure(name: str, settings: Settings) -> Section:
    """Measure one section in this process."""
    # threads are limited only in libraries that are loaded
    if name == "lightgbm":
        import_module("lightgbm")
    if name == "knn":
        find_faiss()
    with threadpool_limits(settings.threads):
        section = MEASURES[name](settings, Clock(settings.rounds, _say))
        section.facts["threadpools"] = machine_facts()["threadpools"]
    # idle workers would keep this process alive for minutes
    get_reusable_executor().shutdown(wait=True)
    return section


def format_section(section: Section) -> list[str]:
    """Lay out a section: its title, a line of times for each way, and what else was found."""
    lines = [section.title]
    for timing in section.timings:
        spread = f"{min(timing.seconds):.2f} to {max(timing.seconds):.2f}"
        ratio = section.ratios.get(timing.name)
        times = "" if ratio is None else f"{ratio:8.2f} times ours"
        lines.append(f"  {timing.name:<32} {timing.median:9.2f} s ({spread}){times}  {timing.note}")
    return [line.rstrip() for line in [*lines, *(f"  {line}" for line in section.lines)]]


def _head(machine: Report, settings: Settings) -> list[str]:
    rounds = "1 round" if settings.rounds == 1 else f"{settings.rounds} rounds"
    libraries = ", ".join(f"{name} {text}" for name, text in machine["libraries"].items())
    return [
        f"{settings.rows} x {settings.columns} float32, {settings.patients} patients, "
        f"{rounds}, {settings.threads} threads on either side ({settings.tree_threads} for trees)",
        f"{machine['cpu']}, {machine['usable_cores']} cores, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB, {machine['date']}",
        f"Python {machine['python']}, {libraries}; {kernels(machine['threadpools'])}",
    ]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _peer_versions() -> dict[str, str]:
    installed = {each.name for each in metadata.distributions()}
    return {name: metadata.version(name) for name in _PEERS if name in installed}


def _as_json(section: Section) -> Report:
    timings = [asdict(timing) | {"median_s": timing.median} for timing in section.timings]
    return {
        "title": section.title,
        "timings": timings,
        "ratios": section.ratios,
        "lines": list(section.lines),
        **section.facts,
    }


def _plain(value: object) -> object:
    return value if isinstance(value, int | float | str | list | None) else str(value)
