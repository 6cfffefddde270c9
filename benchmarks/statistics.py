"""Patient bootstrap against a scikit-learn loop; comparing and reporting many arms.

python -m benchmarks.statistics --json statistics.json
python -m benchmarks.statistics --only bootstrap
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, roc_auc_score
from threadpoolctl import threadpool_limits

from benchmarks.arms import Drawn, Shape, draw_arms
from benchmarks.machine import machine_facts
from benchmarks.probes.clock import kernels
from benchmarks.surroundings import usable_cores
from featurebench.comparison import compare
from featurebench.heads.threads import own_threads
from featurebench.metrics import METRICS, weighted_metrics
from featurebench.reporting import summarize, write_report
from featurebench.stats import Resamples

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from featurebench.results import RunResult

    Floats = npt.NDArray[np.float64]

Report = dict[str, Any]
RESAMPLED = ("balanced_accuracy", "kappa", "roc_auc")
_DEFAULTS: dict[str, Any] = {
    "tiles": 20_000,
    "patients": 100,
    "arms": 10,
    "replicates": 10_000,
    "compared_tiles": 100_000,
    "compared_patients": 200,
    "compared_arms": 20,
    "repeats": 5,
    "resamples": 2000,
}
QUICK: dict[str, Any] = {
    "tiles": 2_000,
    "patients": 40,
    "arms": 2,
    "replicates": 500,
    "compared_tiles": 4_000,
    "compared_patients": 40,
    "compared_arms": 4,
    "repeats": 2,
    "resamples": 200,
}


@dataclass(frozen=True)
class Settings:
    """What is measured; each is an option of the command line."""

    only: list[str]
    tiles: int
    patients: int
    arms: int
    replicates: int
    peer_replicates: int
    compared_tiles: int
    compared_patients: int
    compared_arms: int
    compared_classes: list[int]
    repeats: int
    resamples: int
    metric: str
    folds: int
    threads: int
    rounds: int
    seed: int
    quick: bool
    json: Path | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options, measure, print, and write JSON where asked."""
    settings = read_options(arguments)
    report = run(settings)
    if settings.json is not None:
        settings.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def run(settings: Settings) -> Report:
    """Measure the chosen sections, each in a process of its own, and print each as it is done.

    Returns
    -------
    dict
        JSON-ready: ``machine``, ``settings`` and ``sections``, each with its seconds, its peak
        memory and the thread pools of its libraries.
    """
    machine = machine_facts()
    machine["libraries"] |= {name: metadata.version(name) for name in ("scikit-learn", "scipy")}
    load = [os.getloadavg()[0]]
    libraries = ", ".join(f"{name} {text}" for name, text in machine["libraries"].items())
    print(
        f"{machine['cpu']}, {machine['usable_cores']} cores, {settings.threads} threads, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB, {machine['date']}\n"
        f"Python {machine['python']}, {libraries}; {kernels(machine['threadpools'])}"
    )
    sections: Report = {}
    for name, measure in _measures(settings).items():
        print(name, file=sys.stderr, flush=True)
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as fresh:
            sections[name] = fresh.submit(_in_threads, measure, settings).result()
        print("\n".join(["", name, *(f"  {line}" for line in describe(sections[name]))]))
    load.append(os.getloadavg()[0])
    plain = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(settings).items()
    }
    return {
        "machine": machine | {"load_before_and_after": load},
        "settings": plain,
        "sections": sections,
    }


def bootstrap(settings: Settings) -> Report:
    """Replicates of three metrics for all arms, and the same ones with scikit-learn.

    Ours is timed from the probabilities to the intervals, with one thread and with all. The peer
    repeats the rows of every patient as often as he was drawn and scores them with scikit-learn
    (ROC AUC in each fold): some replicates of the first arm are timed, and scaled to all.
    """
    drawn = draw_arms(
        Shape(settings.tiles, settings.patients, settings.arms, 2, 1), settings.folds, settings.seed
    )
    ours = {
        threads: [
            _timed(partial(_resample, settings, drawn, threads)) for _ in range(settings.rounds)
        ]
        for threads in dict.fromkeys((1, settings.threads))
    }
    arms, resamples = ours[settings.threads][-1][1]
    n_boot = settings.replicates
    chosen = np.linspace(0, n_boot - 1, settings.peer_replicates).astype(int) - n_boot
    peer = [_timed(partial(_with_sklearn, drawn, resamples.weights[row])) for row in chosen]
    found = np.array([[arms[0][name][row] for name in RESAMPLED] for row in chosen])
    each = median(seconds for seconds, _ in peer)
    whole = each * len(resamples.weights) * settings.arms
    seconds = {str(threads): [taken for taken, _ in rounds] for threads, rounds in ours.items()}
    return {
        "title": f"{n_boot} replicates of {len(RESAMPLED)} metrics, {settings.arms} arms, "
        f"{settings.tiles} tiles of {settings.patients} patients, {settings.folds} folds",
        "seconds_by_threads": seconds,
        "peer_s_per_replicate": [taken for taken, _ in peer],
        "peer_s": whole,
        "ratios_by_threads": {name: whole / median(taken) for name, taken in seconds.items()},
        "largest_difference": float(np.abs(found - [values for _, values in peer]).max()),
    }


def comparing(settings: Settings, n_classes: int) -> Report:
    """From probabilities in memory to the files of the report, each step timed."""
    shape = Shape(
        settings.compared_tiles,
        settings.compared_patients,
        settings.compared_arms,
        n_classes,
        settings.repeats,
    )
    with tempfile.TemporaryDirectory(prefix="featurebench-benchmark-") as place:
        drawn = draw_arms(shape, settings.folds, settings.seed, folder=Path(place))
        before, cpu_s = _peak_bytes(), time.process_time()
        comparing_s, comparison = _timed(
            partial(
                compare,
                drawn.results,
                metric=settings.metric,
                n_boot=settings.resamples,
                margin=0.02,
            )
        )
        summarizing_s, summary = _timed(
            partial(
                summarize,
                experiment="benchmark",
                comparison=comparison,
                results=drawn.results,
                manifest=drawn.manifest,
                bad_tiles=[],
                plan=drawn.plan,
                settings={"name": "benchmark"},
                provenance={},
            )
        )
        writing_s, report = _timed(partial(write_report, summary, Path(place) / "report"))
        cpu_s = time.process_time() - cpu_s
        size = sum(path.stat().st_size for path in report.parent.iterdir())
    scores = [arm.metrics["balanced_accuracy"].value for arm in comparison.arms]
    return {
        "title": f"{shape.arms} arms, {settings.repeats} x {settings.folds} folds, {shape.tiles} "
        f"tiles of {shape.patients} patients, {n_classes} classes, {len(METRICS)} metrics, "
        f"{settings.resamples} resamples, declared metric {settings.metric}",
        "comparing_s": comparing_s,
        "summarizing_s": summarizing_s,
        "writing_s": writing_s,
        "whole_s": comparing_s + summarizing_s + writing_s,
        "cpu_s": cpu_s,
        "peak_rss_bytes": _peak_bytes(),
        "peak_rss_of_drawing_bytes": before,
        "report_bytes": size,
        "balanced_accuracies": [min(scores), max(scores)],
    }


def describe(section: Report) -> list[str]:
    """Lay out a section in lines."""
    lines = [section["title"]]
    for threads, seconds in section.get("seconds_by_threads", {}).items():
        lines.append(
            f"ours, {threads} threads: {median(seconds):.2f} s ({min(seconds):.2f} to "
            f"{max(seconds):.2f}); scikit-learn {section['ratios_by_threads'][threads]:.0f} times"
        )
    if "peer_s" in section:
        timed = section["peer_s_per_replicate"]
        lines.append(
            f"scikit-learn: {1000 * median(timed):.1f} ms a replicate of one arm, from "
            f"{len(timed)} of them; {section['peer_s']:.0f} s if scaled to all, on one thread"
        )
        lines.append(f"largest difference {section['largest_difference']:.1e}")
    if "whole_s" in section:
        low, high = section["balanced_accuracies"]
        lines += [
            f"{section['whole_s']:.1f} s: comparing {section['comparing_s']:.1f}, summarizing "
            f"{section['summarizing_s']:.1f}, writing {section['writing_s']:.1f}; "
            f"{section['cpu_s']:.1f} s of all threads",
            f"peak resident memory {section['peak_rss_bytes'] / 1e9:.2f} GB, before comparing "
            f"{section['peak_rss_of_drawing_bytes'] / 1e9:.2f}; report "
            f"{section['report_bytes'] / 1e6:.1f} MB; balanced accuracies {low:.3f} to {high:.3f}",
        ]
    return lines


def read_options(arguments: Sequence[str] | None = None) -> Settings:
    """Read the command line; ``--quick`` changes defaults, not what is given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.statistics", description=__doc__)
    sections = ("bootstrap", "comparing")
    parser.add_argument("--only", nargs="+", choices=sections, default=list(sections))
    parser.add_argument("--quick", action="store_true", help="few tiles, arms and replicates")
    for name in _DEFAULTS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=_count)
    parser.add_argument("--peer-replicates", type=_count, default=5, help="timed and scaled")
    parser.add_argument("--compared-classes", type=_count, nargs="+", default=[2, 9])
    parser.add_argument("--metric", choices=METRICS, default="balanced_accuracy", help="declared")
    parser.add_argument("--folds", type=_count, default=5)
    parser.add_argument("--threads", type=_count, default=usable_cores())
    parser.add_argument("--rounds", type=_count, default=3, help="of ours, bootstrap only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for every figure")
    parser.set_defaults(**_DEFAULTS)
    if parser.parse_known_args(arguments)[0].quick:
        parser.set_defaults(**QUICK)
    return Settings(**vars(parser.parse_args(arguments)))


def _measures(settings: Settings) -> dict[str, Callable[[Settings], Report]]:
    found: dict[str, Callable[[Settings], Report]] = {}
    if "bootstrap" in settings.only:
        found["bootstrap"] = bootstrap
    if "comparing" in settings.only:
        for n_classes in settings.compared_classes:
            found[f"comparing, {n_classes} classes"] = partial(comparing, n_classes=n_classes)
    return found


def _in_threads(measure: Callable[[Settings], Report], settings: Settings) -> Report:
    with threadpool_limits(settings.threads):
        return measure(settings) | {"threadpools": machine_facts()["threadpools"]}


def _resample(
    settings: Settings, drawn: Drawn, threads: int
) -> tuple[list[dict[str, Floats]], Resamples]:
    resamples = Resamples.draw(settings.patients, n_boot=settings.replicates, seed=settings.seed)

    def of_arm(arm: RunResult) -> dict[str, Floats]:
        prepared = weighted_metrics(
            RESAMPLED, drawn.y_true, arm.y_prob[0], drawn.patients, drawn.plan.test_fold[0]
        )
        values = resamples.evaluate_all(prepared)
        for each in values.values():
            resamples.interval(each)
        return values

    with own_threads(threads) as pool:
        return list(pool(of_arm, drawn.results.runs)), resamples


def _with_sklearn(drawn: Drawn, weights: npt.NDArray[np.uint8]) -> list[float]:
    rows = np.concatenate(
        [np.tile(drawn.rows_of_patient[p], int(times)) for p, times in enumerate(weights) if times]
    )
    y_true, y_prob = drawn.y_true[rows], drawn.results.runs[0].y_prob[0, rows]
    fold = drawn.plan.test_fold[0, rows]
    called = y_prob.argmax(axis=1)
    areas = [roc_auc_score(y_true[fold == one], y_prob[fold == one, 1]) for one in np.unique(fold)]
    return [
        float(balanced_accuracy_score(y_true, called)),
        float(cohen_kappa_score(y_true, called)),
        float(np.mean(areas)),
    ]


def _timed(step: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = step()
    return time.perf_counter() - start, found


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


if __name__ == "__main__":
    main()
