"""How often the interval of an arm's score holds what it should, on simulated studies.

    python -m benchmarks.coverage --studies 1000 --jobs 2

Studies are drawn by `benchmarks.cohorts`. What the interval should hold is the mean score over all
studies of a scenario: that of this way of training on cohorts of this size. It is the interval that
a report gives; `benchmarks.error_rates` has it for the metrics that are compared there.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from benchmarks.cohorts import draw_study
from benchmarks.machine import machine_facts
from benchmarks.scenarios import SCENARIOS, Scenario
from featurebench.comparison.arms import arm_estimate
from featurebench.comparison.design import Design

Floats = npt.NDArray[np.float64]

METRICS = (
    *("balanced_accuracy", "f1", "kappa", "mcc", "roc_auc", "average_precision"),
    *("log_loss", "brier", "ece"),
)
REPEATS = (10, 1)
ALPHA = 0.05
CHUNK = 10


def draw_intervals(scenario: Scenario, seeds: range, *, n_boot: int = 1000) -> Floats:
    """Score the probe of some studies.

    Returns
    -------
    ndarray
        Float64, shape (studies, metrics, repeats, 3): value, lower and upper bound.
    """
    found = np.empty((len(seeds), len(METRICS), len(REPEATS), 3))
    with threadpool_limits(1):
        for row, seed in zip(found, seeds, strict=True):
            results = draw_study(scenario, seed).results
            design = Design.of(results, n_boot=n_boot, seed=0, weights="auto")
            for by_repeats, metric in zip(row, METRICS, strict=True):
                for cells, n_repeats in zip(by_repeats, REPEATS, strict=True):
                    told = arm_estimate(
                        design, results.runs[0], metric, alpha=ALPHA, n_repeats=n_repeats
                    )
                    cells[:] = told.value, told.ci_low, told.ci_high
    return found


def coverage(intervals: Floats) -> Floats:
    """Share of the studies whose interval holds the mean value, shape (metrics, repeats).

    An interval that is not estimable holds nothing.
    """
    target = np.nanmean(intervals[..., 0], axis=0)
    held = (intervals[..., 1] <= target) & (target <= intervals[..., 2])
    return np.asarray(held.mean(axis=0))


def simulate(scenario: Scenario, n_studies: int, *, jobs: int = 1) -> Floats:
    """Give the coverage in a scenario, shape (metrics, repeats)."""
    starts = range(0, n_studies, CHUNK)
    seeds = [range(start, min(start + CHUNK, n_studies)) for start in starts]
    work = partial(draw_intervals, scenario)
    if jobs == 1:
        return coverage(np.concatenate(list(map(work, seeds))))
    with ProcessPoolExecutor(jobs) as pool:
        return coverage(np.concatenate(list(pool.map(work, seeds))))


def table(found: dict[str, Floats]) -> str:
    """Lay the coverage out in Markdown, per cent, with 10 repeats before that with one."""
    lines = ["| metric | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    for row, metric in enumerate(METRICS):
        cells = [
            " / ".join(f"{100 * share:.0f}" for share in shares[row]) for shares in found.values()
        ]
        lines.append(f"| {metric} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the scenarios asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--studies", type=int, default=1000, help="studies of each scenario")
    parser.add_argument(
        "--only",
        nargs="*",
        default=["N2", "N3", "R20", "R60", "L60", "B60"],
        help="names of scenarios",
    )
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file to write everything to")
    options = parser.parse_args()
    found = {
        scenario.name: simulate(scenario, options.studies, jobs=options.jobs)
        for scenario in SCENARIOS
        if scenario.name in options.only
    }
    print(table(found))
    if options.json:
        whole = {name: shares.tolist() for name, shares in found.items()}
        facts = {"machine": machine_facts(), "studies": options.studies, "coverage": whole}
        options.json.write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
