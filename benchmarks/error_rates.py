"""Type I error and power of every test offered, and of the claim rule, on simulated studies.

    python -m benchmarks.error_rates --studies 2000 --jobs 2

Every study is drawn by `benchmarks.cohorts` and analysed by the code that a comparison runs. A
cell of the table is the share of studies in which a test says that the arms differ at 5 %: in
scenarios N1 to N7, where they are equally good on average, its type I error; in P1 to P7 its power.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import stats as scipy_stats
from threadpoolctl import threadpool_limits

from benchmarks.cohorts import SCENARIOS, Scenario, Study, draw_study
from benchmarks.machine import machine_facts
from featurebench.comparison.contrasts import Declared, contrast_arms
from featurebench.comparison.design import Design
from featurebench.comparison.evidence import by_bootstrap, fold_scores
from featurebench.stats import (
    clustered_mcnemar,
    delong,
    five_by_two_f,
    five_by_two_t,
    mcnemar,
    paired_t,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featurebench.comparison import Contrast
    from featurebench.results import ResultsTable

    Floats = npt.NDArray[np.float64]

ALPHA = 0.05
METRICS = {"balanced_accuracy": 0.02, "roc_auc": 0.01}
"""The metrics that are simulated, each with its margin."""
CHUNK = 25


@dataclass(frozen=True)
class Finding:
    """What one study gave on one metric.

    Parameters
    ----------
    difference
        Mean over the repeats, fine-tune minus probe.
    rejected
        For each test, whether it calls the arms different.
    outcomes
        For each rule, what is claimed of the fine-tune.
    """

    difference: float
    rejected: Mapping[str, bool]
    outcomes: Mapping[str, str]


def analyse(study: Study, metric: str, *, n_boot: int = 1000) -> Finding:
    """Run every test on one study."""
    results, margin = study.results, METRICS[metric]
    declared = Declared(metric, margin, ALPHA, results.runs[1].arm)
    by_repeats = {n: _contrast(results, n, declared) for n in (10, 3, 1)}
    by_fold = _differences(results, metric)
    p_values = {
        f"naive paired t, {n} x 5 folds": paired_t(by_fold[: 5 * n]).p_value for n in (10, 1)
    }
    p_values["Wilcoxon, 10 x 5 folds"] = _wilcoxon(by_fold)
    p_values |= _two_folds(study.two_folds, metric)
    p_values |= _on_tiles(results, metric)
    for n, contrast in by_repeats.items():
        p_values[f"corrected t, {n} x 5 folds"] = contrast.by_folds.p_value
    for n in (10, 1):
        mean = "mean of 10" if n == 10 else "1 repeat"
        p_values[f"t over patients, {mean}"] = by_repeats[n].by_patients.p_value
    p_values["sign-flip over patients, mean of 10"] = by_repeats[10].permutation_p
    p_values["bootstrap (BCa) over patients, mean of 10"] = _bootstrap(results, metric, n_boot)
    rejected = {name: bool(p < ALPHA) for name, p in p_values.items() if not np.isnan(p)}
    first = by_fold[:5]
    rejected["all 5 folds agree in sign"] = bool(np.all(first > 0) or np.all(first < 0))
    outcomes = {_rule(n): contrast.outcome for n, contrast in by_repeats.items()}
    claimed = {rule: outcome in {"better", "worse"} for rule, outcome in outcomes.items()}
    return Finding(by_repeats[10].difference, rejected | claimed, outcomes)


def rates(findings: Sequence[Finding]) -> dict[str, float]:
    """Share of studies in which each test calls the arms different."""
    names = dict.fromkeys(name for found in findings for name in found.rejected)
    return {name: float(np.mean([f.rejected.get(name, False) for f in findings])) for name in names}


def outcome_rates(findings: Sequence[Finding]) -> dict[str, dict[str, float]]:
    """For each rule, how often each outcome is claimed."""
    told = {}
    for rule in findings[0].outcomes:
        seen = [found.outcomes[rule] for found in findings]
        told[rule] = {outcome: seen.count(outcome) / len(seen) for outcome in sorted(set(seen))}
    return told


def simulate(
    scenario: Scenario, n_studies: int, *, jobs: int = 1, first: int = 0, n_boot: int = 1000
) -> dict[str, list[Finding]]:
    """Draw and analyse studies ``first``, ``first + 1`` ...; gives the findings by metric."""
    starts = range(first, first + n_studies, CHUNK)
    work = partial(_some, scenario, last=first + n_studies, n_boot=n_boot)
    if jobs == 1:
        chunks = list(map(work, starts))
    else:
        with ProcessPoolExecutor(jobs) as pool:
            chunks = list(pool.map(work, starts))
    return {metric: [f for chunk in chunks for f in chunk[metric]] for metric in METRICS}


def _some(scenario: Scenario, start: int, *, last: int, n_boot: int) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {metric: [] for metric in METRICS}
    with threadpool_limits(1):
        for seed in range(start, min(start + CHUNK, last)):
            study = draw_study(scenario, seed)
            for metric, findings in found.items():
                findings.append(analyse(study, metric, n_boot=n_boot))
    return found


def _contrast(results: ResultsTable, n_repeats: int, declared: Declared) -> Contrast:
    """Compare the arms on their first repeats, as `compare` does."""
    table = replace(
        results,
        test_fold=results.test_fold[:n_repeats],
        runs=tuple(replace(run, y_prob=run.y_prob[:n_repeats]) for run in results.runs),
    )
    design = Design.of(table, n_boot=1, seed=0)
    return contrast_arms(design, table.runs, table.runs[0], declared)[0]


def _rule(n_repeats: int) -> str:
    alone = ", over patients alone" if n_repeats == 1 else ""
    return f"claim rule, {n_repeats} x 5 folds{alone}"


def _differences(results: ResultsTable, metric: str) -> Floats:
    """Fine-tune minus probe in every fold of every repeat."""
    design = Design.of(results, n_boot=1, seed=0)
    probe, tuned = (fold_scores(design, run, metric, run.n_repeats) for run in results.runs)
    return tuned - probe


def _wilcoxon(differences: Floats) -> float:
    # Ties that differ by rounding would be ranked.
    return float(scipy_stats.wilcoxon(np.round(differences, 12), method="approx").pvalue)


def _two_folds(results: ResultsTable, metric: str) -> dict[str, float]:
    differences = _differences(results, metric).reshape(5, 2)
    return {
        "5x2cv t": five_by_two_t(differences).p_value,
        "5x2cv F": five_by_two_f(differences).p_value,
    }


def _on_tiles(results: ResultsTable, metric: str) -> dict[str, float]:
    """Test on the tiles of the first repeat, as if each stood for itself."""
    y = results.y_true
    scores = np.stack([run.y_prob[0, :, 1].astype(np.float64) for run in results.runs])
    if metric == "roc_auc":
        return {"McNemar mid-p, or DeLong, on tiles": delong(y == 1, scores).p_value}
    right = (scores > 0.5) == (y == 1)
    only_probe, only_tuned = right[0] & ~right[1], right[1] & ~right[0]
    patients = results.patients
    assert patients is not None
    tuned, probe = (np.bincount(patients, each) for each in (only_tuned, only_probe))
    clustered = clustered_mcnemar(tuned, probe, np.bincount(patients))
    return {
        "McNemar mid-p, or DeLong, on tiles": mcnemar(
            int(only_tuned.sum()), int(only_probe.sum())
        ).mid_p,
        "clustered McNemar (Obuchowski), 1 repeat": clustered.p_obuchowski,
    }


def _bootstrap(results: ResultsTable, metric: str, n_boot: int) -> float:
    design = Design.of(results, n_boot=n_boot, seed=0)
    pair = (results.runs[1], results.runs[0])
    return by_bootstrap(design, pair, metric, 10, (METRICS[metric], ALPHA)).evidence.p_value


def table(rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Lay the rates out in Markdown, balanced accuracy before ROC AUC, per cent.

    Parameters
    ----------
    rows
        Rates by scenario, metric and test.
    """
    names = dict.fromkeys(
        name for by_metric in rows.values() for found in by_metric.values() for name in found
    )
    lines = ["| test | " + " | ".join(rows) + " |", "|---|" + "---|" * len(rows)]
    for name in names:
        cells = []
        for by_metric in rows.values():
            shown = [by_metric[metric].get(name) for metric in METRICS]
            cells.append(" / ".join("-" if s is None else f"{100 * s:.1f}" for s in shown))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the scenarios asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--studies", type=int, default=2000, help="studies of each null scenario")
    parser.add_argument("--power-studies", type=int, default=1000, help="of each of the others")
    parser.add_argument("--only", nargs="*", default=None, help="names of scenarios")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file to write everything to")
    options = parser.parse_args()
    rows, whole = {}, {}
    for scenario in SCENARIOS:
        if options.only and scenario.name not in options.only:
            continue
        n_studies = options.studies if scenario.null else options.power_studies
        found = simulate(scenario, n_studies, jobs=options.jobs)
        rows[scenario.name] = {metric: rates(each) for metric, each in found.items()}
        whole[scenario.name] = {
            metric: {
                "studies": n_studies,
                "difference": float(np.mean([f.difference for f in each])),
                "difference_se": float(
                    np.std([f.difference for f in each], ddof=1) / np.sqrt(n_studies)
                ),
                "rejected": rates(each),
                "outcomes": outcome_rates(each),
            }
            for metric, each in found.items()
        }
        print(scenario.name, json.dumps(whole[scenario.name]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine_facts(), "scenarios": whole}))
    print(table(rows))


if __name__ == "__main__":
    main()
