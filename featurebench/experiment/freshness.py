"""Whether a report says what the runs, tiles and settings say now, and which of them differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from featurebench.config import dump_config
from featurebench.experiment.auditing import AUDIT_FILE, AUDIT_VERSION, MAP_FILE
from featurebench.experiment.index import digest_files
from featurebench.experiment.protocol import PROTOCOL_FILE
from featurebench.experiment.provenance import versions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from featurebench.config import ExperimentConfig
    from featurebench.experiment.index import Index
    from featurebench.experiment.study import Study

Digests = Mapping[str, str]

RUN_FILES = ("run.json", "predictions.npz", "scores.csv", "failure.json")
CURVE_FILES = ("curve.json", "curve.csv")
ABSENT = "it is absent"
DIFFERS = {
    "runs": "its runs differ",
    "curves": "its curves with fewer labels differ",
    "tiles": "its manifest of tiles differs",
    "settings": "its settings differ",
    "protocol": "its protocol differs",
    "audit": "its audit differs",
    "featurebench": "it was made by another version of featurebench",
}
"""What may differ from what a report was made of, in the words of `featurebench report --check`."""


def digest_inputs(
    config: ExperimentConfig, study: Study, index: Index, curves: Sequence[Path]
) -> dict[str, str]:
    """Hash everything that a report is made of, one SHA-256 for each kind.

    By content, not by time: a file that was written again with the same bytes is the same input.
    Neither the pixels of the tiles nor the versions of other libraries count.

    Parameters
    ----------
    config, study, index
        The experiment, its tiles and folds, and its declared arms.
    curves
        Folders of the complete curves with fewer labels.

    Returns
    -------
    dict
        By name, the keys of `DIFFERS`, 64 hexadecimal digits.
    """
    results = config.output.results
    folders = [results / "runs" / entry["folder"] for entry in index.arms]
    runs = [folder / name for folder in folders for name in RUN_FILES]
    of_curves = [folder / name for folder in curves for name in CURVE_FILES]
    declared = json.dumps(
        [[dict(each) for each in part] for part in (index.arms, index.embeddings)]
    )
    bad = json.dumps([vars(tile) for tile in study.bad_tiles])
    # Where the work ran changes no number; the rest of the file is shown in the report.
    settings = dump_config(config, config.output.reports)
    settings.pop("compute")
    audit = [results / AUDIT_FILE, results / MAP_FILE]
    return {
        "runs": digest_files(runs, declared),
        "curves": digest_files(of_curves),
        "tiles": digest_files([], study.tiles.table.to_csv(index=False), bad, study.plan.id),
        "settings": digest_files([], json.dumps(settings, sort_keys=True)),
        "protocol": digest_files([results / PROTOCOL_FILE]),
        "audit": digest_files(audit, str(AUDIT_VERSION)),
        "featurebench": digest_files([], versions()["featurebench"]),
    }


def digest_of(inputs: Digests) -> str:
    """Hash the hashes of all kinds of input to one."""
    return digest_files([], *(f"{name} {value}" for name, value in sorted(inputs.items())))


def differences(config: ExperimentConfig, inputs: Digests) -> tuple[str, ...]:
    """Say in what the report on disk differs from one made now; () where it is the same.

    Parameters
    ----------
    config
        Of the experiment.
    inputs
        As `digest_inputs` gives them.

    Returns
    -------
    tuple of str
        One clause for each kind of input, or for what is amiss with the report's own files.
    """
    from featurebench.reporting import edited_files
    from featurebench.reporting.summary import SCHEMA_VERSION

    folder = config.output.reports
    summary = read_summary(config)
    if summary is None or not (folder / "report.html").is_file():
        return (ABSENT,)
    if summary.get("schema_version") != SCHEMA_VERSION:
        return (DIFFERS["featurebench"],)
    made_of = summary.get("provenance", {}).get("inputs")
    if not isinstance(made_of, Mapping):
        return (DIFFERS["featurebench"],)
    found = [text for name, text in DIFFERS.items() if made_of.get(name) != inputs[name]]
    edited = edited_files(folder)
    if edited:
        which = f"and {len(edited) - 1} more were" if len(edited) > 1 else "was"
        found.append(f"{edited[0]} {which} edited or deleted")
    return tuple(found)


def read_summary(config: ExperimentConfig) -> Mapping[str, Any] | None:
    """Read ``report.json``; None where there is none that can be read."""
    try:
        text = (config.output.reports / "report.json").read_text(encoding="utf-8")
        summary = json.loads(text)
    except (OSError, ValueError):
        return None
    return summary if isinstance(summary, Mapping) else None
