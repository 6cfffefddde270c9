"""Error rates, power and coverage of the claim rule and of the tests offered, on simulated studies.

    python -m benchmarks.error_rates --studies 500 --power-studies 200 --jobs 2 --write

Every study is drawn by `benchmarks.cohorts` and analysed by the code that a comparison runs. A
cell is the share of studies in which a test says that the arms differ at 5 %: its type I error
where they are equally good on average, its power where the fine-tune is better. Below stands how
often the intervals of a difference, and of a score, hold the mean of all studies. With ``--write``
the rates go to where reports and documents take them from, see `featurebench.comparison.rates`.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import stats as scipy_stats
from threadpoolctl import threadpool_limits

from benchmarks.cohorts import Study, draw_study
from benchmarks.machine import machine_facts
from benchmarks.scenarios import SCENARIOS, Scenario
from featurebench.comparison.arms import arm_estimate
from featurebench.comparison.barred import bars
from featurebench.comparison.contrasts import Declared, contrast_arms
from featurebench.comparison.design import Design
from featurebench.comparison.evidence import fold_scores
from featurebench.comparison.rates import FILE, ON_TILES, in_per_cent, rule_sentence, scenarios
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
REPEATS = (10, 3, 1)
RULE = "claim rule"
CHUNK = 10
START, END = "<!-- error rates: python -m benchmarks.error_rates -->", "<!-- end -->"
# Of tests that need the differences of single folds or tiles, those on the cohorts of textbooks.
NAIVE_10, NAIVE_1 = "naive paired t, 10 x 5 folds", "naive paired t, 1 x 5 folds"
CLUSTERED = "clustered McNemar (Obuchowski), 1 repeat"


@dataclass(frozen=True)
class Finding:
    """What one study gave on one metric.

    Parameters
    ----------
    difference
        Mean over the repeats, fine-tune minus probe.
    rejected
        For each test, whether it calls the arms different; absent where it does not apply.
    outcomes
        For each rule, what is claimed of the fine-tune.
    intervals
        By name, an estimate with its lower and upper bound.
    """

    difference: float
    rejected: Mapping[str, bool]
    outcomes: Mapping[str, str]
    intervals: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)


def analyse(study: Study, metric: str) -> Finding:
    """Run every test on one study."""
    results = study.results
    p_values: dict[str, float] = {}
    outcomes: dict[str, str] = {}
    intervals: dict[str, tuple[float, float, float]] = {}
    designs = {"": Design.of(results, n_boot=1, seed=0, weights="auto")}
    if designs[""].weights == "patients":
        designs[", tiles weighed"] = Design.of(results, n_boot=1, seed=0, weights="tiles")
    for also, design in designs.items():
        for n in REPEATS if results.runs[0].n_repeats > 1 else (1,):
            contrast = _contrast(design, results, metric, n)
            folds = f"{n} x 5 folds" if design.n_folds > 1 else "one test set"
            outcomes[f"{RULE}, {folds}{also}"] = contrast.outcome
            p_values[f"t over units, {folds}{also}"] = contrast.by_patients.p_value
            if design.n_folds > 1:
                p_values[f"corrected t, {folds}{also}"] = contrast.by_folds.p_value
            ends = (contrast.difference, contrast.ci_low, contrast.ci_high)
            intervals[f"difference, {folds}{also}"] = ends
            score = arm_estimate(design, results.runs[0], metric, alpha=ALPHA, n_repeats=n)
            intervals[f"score, {folds}{also}"] = (score.value, score.ci_low, score.ci_high)
    if study.two_folds is not None:
        p_values |= _of_folds(study, metric)
    p_values |= _on_tiles(results, metric)
    rejected = {name: bool(p < ALPHA) for name, p in p_values.items()}
    claimed = {rule: outcome in {"better", "worse"} for rule, outcome in outcomes.items()}
    difference = next(iter(intervals.values()))[0]
    return Finding(difference, claimed | rejected, outcomes, intervals)


def rates(findings: Sequence[Finding]) -> dict[str, float]:
    """Share of studies in which each test calls the arms different."""
    names = dict.fromkeys(name for found in findings for name in found.rejected)
    return {name: float(np.mean([f.rejected.get(name, False) for f in findings])) for name in names}


def outcome_rates(findings: Sequence[Finding]) -> dict[str, dict[str, float]]:
    """For each rule, how often each outcome is claimed."""
    told = {}
    for rule in dict.fromkeys(name for found in findings for name in found.outcomes):
        seen = [found.outcomes[rule] for found in findings if rule in found.outcomes]
        told[rule] = {outcome: seen.count(outcome) / len(seen) for outcome in sorted(set(seen))}
    return told


def coverage(findings: Sequence[Finding]) -> dict[str, float]:
    """For each interval, in what share of the studies it holds the mean of all of them.

    An interval that is not estimable holds nothing.
    """
    told = {}
    for name in dict.fromkeys(name for found in findings for name in found.intervals):
        table = np.array([f.intervals[name] for f in findings if name in f.intervals])
        target = np.nanmean(table[:, 0])
        told[name] = float(np.mean((table[:, 1] <= target) & (target <= table[:, 2])))
    return told


def simulate(
    scenario: Scenario, n_studies: int, *, jobs: int = 1, first: int = 0
) -> dict[str, list[Finding]]:
    """Draw and analyse studies ``first``, ``first + 1`` ...; gives the findings by metric."""
    starts = range(first, first + n_studies, CHUNK)
    work = partial(_some, scenario, last=first + n_studies)
    if jobs == 1:
        chunks = list(map(work, starts))
    else:
        with ProcessPoolExecutor(jobs) as pool:
            chunks = list(pool.map(work, starts))
    return {metric: [f for chunk in chunks for f in chunk[metric]] for metric in METRICS}


def summary(scenario: Scenario, found: Mapping[str, Sequence[Finding]]) -> dict[str, object]:
    """Gather what is kept of a scenario, JSON-ready."""
    return {
        "told": scenario.told,
        "null": scenario.null,
        "textbook": scenario.textbook,
        "studies": len(next(iter(found.values()))),
        **{
            metric: {
                "difference": round(float(np.mean([f.difference for f in each])), 4),
                "rejected": _rounded(rates(each)),
                "outcomes": {rule: _rounded(told) for rule, told in outcome_rates(each).items()},
                "coverage": _rounded(coverage(each)),
            }
            for metric, each in found.items()
        },
    }


def _some(scenario: Scenario, start: int, *, last: int) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {metric: [] for metric in METRICS}
    with threadpool_limits(1):
        for seed in range(start, min(start + CHUNK, last)):
            study = draw_study(scenario, seed)
            for metric, findings in found.items():
                findings.append(analyse(study, metric))
    return found


def _contrast(design: Design, results: ResultsTable, metric: str, n_repeats: int) -> Contrast:
    """Compare the arms on their first repeats, as `compare` does."""
    runs = [replace(run, y_prob=run.y_prob[:n_repeats]) for run in results.runs]
    declared = Declared(metric, METRICS[metric], ALPHA, runs[1].arm)
    return contrast_arms(design, runs, runs[0], declared, barred=bool(bars(results, design)))[0]


def _of_folds(study: Study, metric: str) -> dict[str, float]:
    """Run the literature's tests that take folds as independent."""
    assert study.two_folds is not None
    by_fold = _differences(study.results, metric)
    halves = _differences(study.two_folds, metric).reshape(5, 2)
    known = not np.isnan(halves).any()
    return {
        NAIVE_10: paired_t(by_fold).p_value,
        NAIVE_1: paired_t(by_fold[:5]).p_value,
        # Ties that differ by rounding would be ranked.
        "Wilcoxon, 10 x 5 folds": float(
            scipy_stats.wilcoxon(np.round(by_fold[~np.isnan(by_fold)], 12), method="approx").pvalue
        ),
        "5x2cv t": five_by_two_t(halves).p_value if known else np.nan,
        "5x2cv F": five_by_two_f(halves).p_value if known else np.nan,
    }


def _differences(results: ResultsTable, metric: str) -> Floats:
    """Fine-tune minus probe in every fold of every repeat."""
    design = Design.of(results, n_boot=1, seed=0)
    probe, tuned = (fold_scores(design, run, metric, run.n_repeats) for run in results.runs)
    return tuned - probe


def _on_tiles(results: ResultsTable, metric: str) -> dict[str, float]:
    """Test on the tiles of the first repeat, as if each stood for itself."""
    rows = np.flatnonzero(results.test_fold[0] >= 0)
    y = results.y_true[rows]
    y_prob = np.stack([run.y_prob[0, rows] for run in results.runs])
    if metric == "roc_auc":
        if y_prob.shape[2] > 2:
            return {}
        return {ON_TILES: delong(y == 1, y_prob[:, :, 1].astype(np.float64)).p_value}
    right = y_prob.argmax(axis=2) == y
    only_probe, only_tuned = right[0] & ~right[1], right[1] & ~right[0]
    found = {ON_TILES: mcnemar(int(only_tuned.sum()), int(only_probe.sum())).mid_p}
    if results.patients is not None:
        patients = results.patients[rows]
        tuned, probe = (np.bincount(patients, each) for each in (only_tuned, only_probe))
        clustered = clustered_mcnemar(tuned, probe, np.bincount(patients))
        found[CLUSTERED] = clustered.p_obuchowski
    return found


def _rounded(shares: Mapping[str, float]) -> dict[str, float]:
    return {name: round(share, 4) for name, share in shares.items()}


def cohort_table(*, null: bool) -> str:
    """Lay out what the claim rule and its tests do on each cohort, as Markdown.

    Per cent, balanced accuracy / ROC AUC. A second line of a cohort is that with tiles weighed
    alike, where a comparison would weigh patients alike by itself.
    """
    head = ["cohort", "rule 10 x 5", "3 x 5", "1 x 5", "over units, 10", "1", "over folds, 10"]
    head += ["interval of difference", "of score, 10", "1"] if null else ["true difference"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---|" * (len(head) - 1)]
    for name, each in scenarios().items():
        if each["null"] != null:
            continue
        for also in ("", ", tiles weighed"):
            found = [each[metric] for metric in METRICS]
            cells = [_both(found, "rejected", f"{RULE}, {n} x 5 folds{also}") for n in REPEATS]
            one_set = "one test set" in " ".join(found[0]["rejected"])
            last = "one test set" if one_set else "1 x 5 folds"
            cells += [
                _both(found, "rejected", f"t over units, 10 x 5 folds{also}"),
                _both(found, "rejected", f"t over units, {last}{also}"),
                _both(found, "rejected", f"corrected t, 10 x 5 folds{also}"),
            ]
            first = last if one_set else "10 x 5 folds"
            if null:
                cells += [
                    _both(found, "coverage", f"{what}, {folds}{also}")
                    for what, folds in (("difference", first), ("score", first), ("score", last))
                ]
            else:
                cells.append(" / ".join(f"{100 * each['difference']:+.1f}" for each in found))
            if set(cells[:6]) == {"-"}:
                continue
            if all(
                each["outcomes"].get(f"{RULE}, {first}{also}") == {"not claimed": 1}
                for each in found
            ):
                cells[:3] = ["nothing claimed", *cells[1:3]]
            lines.append(f"| {name + also} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def test_table() -> str:
    """Lay out the type I errors of the literature's tests on the cohorts of textbooks."""
    shown = {n: each for n, each in scenarios().items() if each["null"] and each["textbook"]}
    known = dict.fromkeys(
        test
        for each in shown.values()
        for test in each["balanced_accuracy"]["rejected"]
        if not test.startswith((RULE, "t over units", "corrected t"))
    )
    lines = ["| test | " + " | ".join(shown) + " |", "|---|" + "---|" * len(shown)]
    for test in known:
        cells = [
            _both([each[metric] for metric in METRICS], "rejected", test) for each in shown.values()
        ]
        lines.append(f"| {test} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _both(found: Sequence[Mapping[str, Any]], kind: str, name: str) -> str:
    shares = [each[kind].get(name) for each in found]
    shown = ["-" if share is None else f"{100 * share:.1f}" for share in shares]
    return "-" if set(shown) == {"-"} else " / ".join(shown)


def write_documents() -> None:
    """Put what was measured into README and docs/statistics.md, between their markers."""
    root = Path(__file__).parents[1]
    legend = "; ".join(f"{name}: {each['told']}" for name, each in scenarios().items())
    sizes = sorted({(each["null"], each["studies"]) for each in scenarios().values()})
    studies = " and ".join(str(n) for n in dict.fromkeys(n for _, n in reversed(sizes)))
    naive = in_per_cent(NAIVE_10)
    texts = {
        "README.md": f"{rule_sentence()} The paired t over the same 50 folds did so {naive}.",
        "docs/statistics.md": "\n\n".join(
            [
                f"{rule_sentence()} The paired t over the same 50 folds did so {naive}.",
                f"Cohorts: {legend}. Studies of each: {studies} (equally good arms first).",
                "Equally good arms:",
                cohort_table(null=True),
                "The fine-tune better:",
                cohort_table(null=False),
                "Tests of the literature, equally good arms, cohorts of textbooks:",
                test_table(),
            ]
        ),
    }
    for name, text in texts.items():
        file = root / name
        whole = file.read_text(encoding="utf-8")
        before, start, rest = whole.partition(START)
        _, end, after = rest.partition(END)
        if not end:
            raise SystemExit(f"{name} lacks the markers {START} and {END}")
        file.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")


def main() -> None:
    """Run the scenarios asked for, and print or keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--studies", type=int, default=500, help="studies of each null scenario")
    parser.add_argument("--power-studies", type=int, default=200, help="of each of the others")
    parser.add_argument("--only", nargs="*", default=None, help="names of scenarios")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="keep what was found in the package")
    parser.add_argument("--documents", action="store_true", help="only rewrite the documents")
    options = parser.parse_args()
    if options.documents:
        write_documents()
        return
    whole = json.loads(FILE.read_text(encoding="utf-8"))["scenarios"] if FILE.exists() else {}
    for scenario in SCENARIOS:
        if options.only and scenario.name not in options.only:
            continue
        n_studies = options.studies if scenario.null else options.power_studies
        whole[scenario.name] = summary(scenario, simulate(scenario, n_studies, jobs=options.jobs))
        print(scenario.name, json.dumps(whole[scenario.name]), flush=True)
        if options.write:
            kept = {each.name: whole[each.name] for each in SCENARIOS if each.name in whole}
            FILE.write_text(
                json.dumps({"machine": machine_facts(), "scenarios": kept}, indent=1) + "\n",
                encoding="utf-8",
            )
    if options.write:
        scenarios.cache_clear()
        write_documents()


if __name__ == "__main__":
    main()
