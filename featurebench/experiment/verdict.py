"""From the runs on disk to the comparison and the report; needs neither store nor torch."""

from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from featurebench.comparison import Comparison, compare
from featurebench.comparison.subgroups import subgroup_columns
from featurebench.config import dump_config
from featurebench.errors import ResultsError
from featurebench.experiment.auditing import make_audit, read_audit, read_map
from featurebench.experiment.console import QUIET
from featurebench.experiment.freshness import (
    differences,
    digest_inputs,
    digest_of,
)
from featurebench.experiment.index import Index, read_index, write_tiles
from featurebench.experiment.protocol import protocol_section, seal_protocol
from featurebench.experiment.provenance import git_commit, machine, versions
from featurebench.experiment.study import Study, load_tiles, make_study
from featurebench.results import (
    Failure,
    LearningCurve,
    ResultsTable,
    RunResult,
    folder_bytes,
    is_complete,
    is_complete_curve,
    load_curve,
    load_failure,
    load_run,
)
from featurebench.tiles import unused_ids

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from featurebench.config import ExperimentConfig
    from featurebench.experiment.console import Console
    from featurebench.experiment.protocol import Protocol


@dataclass(frozen=True)
class Findings:
    """The runs of an experiment, ready to be compared.

    Parameters
    ----------
    study, index, results
        Tiles and folds, what was declared, and what is there.
    pending
        Names of declared arms that have neither a result nor a failure.
    protocol
        What was declared before the first run, with what was changed since.
    inputs
        Hash of each kind of thing that the report is made of, by name.
    curves
        What is there of the arms with fewer labels.
    stored_bytes
        Size of each run's folder, by arm.
    replicas
        By arm, what other seeds gave; they are shown beside it and not compared.
    audit
        As `featurebench.experiment.auditing.make_audit` gives it; None where there is none.
    """

    study: Study
    index: Index
    results: ResultsTable
    pending: tuple[str, ...]
    protocol: Protocol
    inputs: Mapping[str, str]
    curves: tuple[LearningCurve, ...] = ()
    stored_bytes: Mapping[str, int] = field(default_factory=dict)
    replicas: Mapping[str, tuple[RunResult, ...]] = field(default_factory=dict)
    audit: Mapping[str, Any] | None = None

    @property
    def inputs_sha256(self) -> str:
        """Hash of everything that the report is made of."""
        return digest_of(self.inputs)


def gather(config: ExperimentConfig, *, audit: bool = False, console: Console = QUIET) -> Findings:
    """Read the manifest and every run on disk.

    Parameters
    ----------
    audit
        Whether to make the audit where it is not there yet, and to note a changed protocol.
    console
        Where that is told.

    Raises
    ------
    ResultsError
        If nothing was run, or the tiles or folds have changed since.
    """
    index = read_index(config.output.results)
    study = make_study(config, load_tiles(config, QUIET), index.bad_tiles)
    if study.plan.id != index.plan_id:
        raise ResultsError(
            f"the runs are on plan {index.plan_id}, the experiment file and its tiles now give "
            f"{study.plan.id}: run 'featurebench run' again"
        )
    root = config.output.results / "runs"
    runs: list[RunResult] = []
    failures: list[Failure] = []
    pending: list[str] = []
    stored: dict[str, int] = {}
    replicas: dict[str, tuple[RunResult, ...]] = {}
    for entry in index.arms:
        folder = root / entry["folder"]
        if is_complete(folder):
            run, original = load_run(folder), entry.get("replica_of")
            stored[run.arm] = folder_bytes(folder)
            if original is None:
                runs.append(run)
            else:
                replicas[original] = (*replicas.get(original, ()), run)
        elif (failure := load_failure(folder)) is not None:
            failures.append(failure)
        else:
            pending.append(entry["arm"])
    results = _table(study, runs, failures)
    folders = _curve_folders(config, index)
    curves = tuple(load_curve(folder) for folder in folders)
    declared = {entry["arm"]: entry["run_id"] for entry in index.arms}
    protocol = seal_protocol(config, study.plan.id, declared, record=audit)
    found = make_audit(config, study, index, console) if audit else read_audit(config, study, index)
    inputs = digest_inputs(config, study, index, folders)
    return Findings(
        study, index, results, tuple(pending), protocol, inputs, curves, stored, replicas, found
    )


def compare_findings(config: ExperimentConfig, findings: Findings) -> Comparison:
    """Compare the arms as the experiment file declares.

    Raises
    ------
    ResultsError
        If no arm has finished; the first failure is named.
    """
    from featurebench.reporting.audit import audit_sentences

    if not findings.results.runs:
        first = findings.results.failures[0].error if findings.results.failures else "none was run"
        raise ResultsError(f"no arm has finished ({first}): there is nothing to compare")
    comparison = compare(
        findings.results,
        metric=config.compare.metric,
        reference=config.compare.reference,
        margin=config.compare.margin,
        alpha=config.compare.alpha,
        n_boot=config.compare.resamples,
        weights=config.compare.weights,
        seed=config.splits.seed,
        tests=config.compare.tests,
        subgroups=subgroup_columns(findings.study.tiles, config.compare.subgroups),
        floor=config.compare.floor,
        min_recall=config.compare.min_recall,
        max_ece=config.compare.max_ece,
    )
    told = [
        *unused_ids(findings.study.tiles.table),
        *protocol_section(findings.protocol)["caveats"],
        *audit_sentences(findings.audit),
    ]
    if findings.pending:
        waiting = ", ".join(findings.pending)
        told.insert(0, f"Declared but not run yet, and so not compared: {waiting}.")
    return replace(comparison, caveats=(*told, *comparison.caveats))


def summarize_findings(
    config: ExperimentConfig, findings: Findings, comparison: Comparison
) -> dict[str, Any]:
    """Gather everything that the report shows as a plain dict."""
    from featurebench.audit import frozen_proofs
    from featurebench.reporting import summarize

    proofs = frozen_proofs(findings.results.runs, findings.index.embeddings)
    return summarize(
        experiment=config.name,
        comparison=comparison,
        results=findings.results,
        manifest=findings.study.tiles,
        bad_tiles=[vars(tile) for tile in findings.study.bad_tiles],
        plan=findings.study.plan,
        settings=dump_config(config, config.base),
        provenance=_provenance(config, findings),
        curves=findings.curves,
        stored_bytes=findings.stored_bytes,
        varied=_varied(findings.index),
        replicas=findings.replicas,
        embedding_map=read_map(config, findings.audit),
        audit=findings.audit,
        frozen=[asdict(proof) for proof in proofs],
        protocol=protocol_section(findings.protocol),
    )


def write_findings(config: ExperimentConfig, findings: Findings, console: Console) -> Path:
    """Compare and write the report, unless the one that is there says the same already."""
    from featurebench.reporting import write_report

    if is_fresh(config, findings):
        console.say("report", "cached")
        return config.output.reports / "report.html"
    # Labels may have been mended since the runs.
    write_tiles(config.output.results, findings.study)
    with console.track("comparing", 1) as advance:
        comparison = compare_findings(config, findings)
        advance(1)
    return write_report(summarize_findings(config, findings, comparison), config.output.reports)


def is_fresh(config: ExperimentConfig, findings: Findings) -> bool:
    """Whether the report on disk was made from exactly these inputs, and shows all of it."""
    return not differences(config, findings.inputs)


def _table(study: Study, runs: list[RunResult], failures: list[Failure]) -> ResultsTable:
    return ResultsTable(
        runs=tuple(runs),
        failures=tuple(failures),
        y_true=study.tiles.labels,
        classes=study.tiles.classes,
        tile_ids=study.plan.tile_ids,
        patients=study.patients,
        slides=study.slides,
        test_fold=study.plan.test_fold,
        plan_id=study.plan.id,
        sites=study.codes("site"),
        groups=study.unit_codes,
        grouped_by=study.grouped_by,
    )


def _curve_folders(config: ExperimentConfig, index: Index) -> list[Path]:
    """List the complete curves of the declared arms."""
    root = config.output.results / "curves"
    folders = [root / entry["curve"] for entry in index.arms if "curve" in entry]
    return [folder for folder in folders if is_complete_curve(folder)]


def _varied(index: Index) -> dict[str, Mapping[str, Any]]:
    """List what is varied in every arm of a sweep; another seed is no combination of its own."""
    return {
        entry["arm"]: entry["varied"]
        for entry in index.arms
        if "varied" in entry and "replica_of" not in entry
    }


def _provenance(config: ExperimentConfig, findings: Findings) -> dict[str, Any]:
    from featurebench.experiment.networks import resolve_threads

    runs = findings.results.runs
    device = ", ".join(sorted({run.device for run in runs}))
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "inputs_sha256": findings.inputs_sha256,
        "inputs": dict(findings.inputs),
        "commit": git_commit(config.base),
        "versions": versions(),
        "machine": machine(resolve_threads(config.compute.threads), device),
        **({"pending": list(findings.pending)} if findings.pending else {}),
        "embeddings": [dict(entry) for entry in findings.index.embeddings],
        "manifest_sha256": findings.study.tiles.sha256,
    }
