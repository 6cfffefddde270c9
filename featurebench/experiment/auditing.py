"""The audit of an experiment's tiles and embeddings: made once, kept beside the results."""

from __future__ import annotations

import hashlib
import io
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from featurebench.errors import StoreError, TileError
from featurebench.experiment.console import QUIET
from featurebench.results import write_atomically
from featurebench.store import FeatureStore
from featurebench.tiles import read_tile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt
    from PIL import Image

    from featurebench.audit import Pair
    from featurebench.config import AuditConfig, ExperimentConfig
    from featurebench.experiment.console import Console
    from featurebench.experiment.index import Index
    from featurebench.experiment.study import Study

    Embeddings = dict[str, npt.NDArray[np.floating[Any]]]

AUDIT_VERSION = 2
AUDIT_FILE = "audit.json"
MAP_FILE = "embedding_map.npz"
_ALWAYS = ("patient_id", "slide_id")
# A search that takes longer than this is announced.
_LONG_S = 30.0


def make_audit(
    config: ExperimentConfig, study: Study, index: Index, console: Console = QUIET
) -> dict[str, Any] | None:
    """Audit the tiles and the embeddings that the probes read, unless that was done before.

    Written to ``audit.json`` and ``embedding_map.npz`` beside the results where the store holds
    the embeddings; without them the folds alone are looked at, and nothing is written.

    Parameters
    ----------
    study, index
        Tiles and folds, and the embeddings that are read, the first of which is searched for
        duplicates and mapped.

    Returns
    -------
    dict or None
        JSON-ready; None where the experiment file says ``audit: false``.
    """
    if not config.audit:
        return None
    kept = read_audit(config, study, index)
    if kept is not None:
        console.say("audit", "cached")
        return kept
    from featurebench.audit import separations

    started = time.perf_counter()
    columns = _columns(study, [*_ALWAYS, *config.audit.columns])
    embeddings, absent = _load(config, study, index)
    document: dict[str, Any] = {
        "version": AUDIT_VERSION,
        "key": _key(config.audit, study, index),
        "settings": config.audit.model_dump(mode="json"),
        "separations": [asdict(each) for each in separations(columns, study.plan.test_fold)],
        "duplicates": None,
        "shortcuts": [],
        "map": None,
        "absent": absent,
    }
    if embeddings:
        from featurebench.experiment.networks import resolve_threads

        threads = resolve_threads(config.compute.threads)
        with threadpool_limits(threads):
            document |= _look_at(config.audit, study, embeddings, console)
            document["shortcuts"] = _shortcuts(config.audit, study, embeddings, columns, threads)
            absent += _untested(config.audit, columns)
            _write_map(config, study, embeddings, document)
        text = json.dumps(_finite(document), indent=1, allow_nan=False) + "\n"
        write_atomically(config.output.results / AUDIT_FILE, text)
    console.say("audit", f"{time.perf_counter() - started:.1f} s")
    found: dict[str, Any] = _finite(document)
    return found


def read_audit(config: ExperimentConfig, study: Study, index: Index) -> dict[str, Any] | None:
    """Read the audit that was made of exactly these tiles, folds, embeddings and settings."""
    if not config.audit:
        return None
    try:
        text = (config.output.results / AUDIT_FILE).read_text(encoding="utf-8")
        document = json.loads(text)
    except (OSError, ValueError):
        return None
    current = _key(config.audit, study, index)
    return document if isinstance(document, dict) and document.get("key") == current else None


def read_map(config: ExperimentConfig, audit: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Read the embedding map that goes with an audit; None where there is none.

    Returns
    -------
    dict or None
        ``rows``, ``xy``, ``explained``, ``embedding`` and ``method``.
    """
    if audit is None or audit.get("map") is None:
        return None
    file = config.output.results / MAP_FILE
    try:
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != audit["map"]["sha256"]:
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in ("rows", "xy")}
    except (OSError, ValueError, KeyError):
        return None
    return found | {name: audit["map"][name] for name in ("explained", "embedding", "method")}


def _load(config: ExperimentConfig, study: Study, index: Index) -> tuple[Embeddings, list[str]]:
    """Open the clean embeddings that probes read; say in a sentence why there are none."""
    if not index.embeddings:
        return {}, ["Duplicates and shortcuts were not looked for: no probe reads an embedding."]
    rows = study.rows if study.bad_tiles else None
    try:
        store = FeatureStore.open(config.store)
        specs = {spec.fingerprint: spec for spec in store.embeddings()}
        chosen = [specs[entry["fingerprint"]] for entry in index.embeddings]
        found = {spec.name: store.load(spec, rows) for spec in chosen if spec.view == "clean"}
    except (StoreError, KeyError):
        # The message holds a path of this machine, and reports are shown around.
        return {}, ["Duplicates and shortcuts were not looked for: the store could not be read."]
    if any(len(X) != len(study.tiles) for X in found.values()):
        return {}, ["Duplicates and shortcuts were not looked for: the store holds other tiles."]
    return found, []


def _look_at(
    settings: AuditConfig, study: Study, embeddings: Embeddings, console: Console
) -> dict[str, Any]:
    """Search the first embedding for duplicates, and look at the tiles of those found."""
    from featurebench.audit import ALIKE, find_duplicates, seconds_needed

    if not settings.duplicates:
        return {}
    name, X = next(iter(embeddings.items()))
    if seconds_needed(len(X)) > _LONG_S:
        minutes = seconds_needed(len(X)) / 60
        console.say("audit", f"comparing every two of {len(X):,} tiles, about {minutes:.0f} min")
    found = find_duplicates(X, study.plan.test_fold, study.patients, threshold=settings.duplicates)
    worst = list(_with_likeness(study, found.worst))
    seen = [pair["likeness"] for pair in worst if pair["likeness"] is not None]
    confirmed = sum(1 for value in seen if value >= ALIKE)
    document = asdict(found) | {
        "embedding": name,
        "alike": ALIKE,
        "n_checked": len(seen),
        "n_confirmed": confirmed,
        "worst": worst,
    }
    return {"duplicates": document}


def _with_likeness(study: Study, pairs: Sequence[Pair]) -> Iterator[dict[str, Any]]:
    """Look at the two tiles of every pair, where both can be read; those that agree come first."""
    from featurebench.audit import likeness

    pictures: dict[int, Image.Image | None] = {}
    rows = []
    for pair in pairs:
        for row in (pair.a, pair.b):
            if row not in pictures:
                pictures[row] = _picture(study, row)
        a, b = pictures[pair.a], pictures[pair.b]
        seen = None if a is None or b is None else round(likeness(a, b), 4)
        rows.append(asdict(pair) | {"likeness": seen})
    return iter(sorted(rows, key=lambda row: -(row["likeness"] or 0.0)))


def _picture(study: Study, row: int) -> Image.Image | None:
    try:
        # A tile at the size of the comparison: thousands of tiles in full would fill the memory.
        return read_tile(study.tiles.path_of(row)).resize((64, 64))
    except TileError:
        return None


def _shortcuts(
    settings: AuditConfig,
    study: Study,
    embeddings: Embeddings,
    columns: Mapping[str, npt.NDArray[Any]],
    threads: int,
) -> list[dict[str, Any]]:
    from featurebench.audit import find_shortcuts

    return [
        asdict(each)
        for column in settings.columns
        if column in columns
        for each in find_shortcuts(
            embeddings,
            column,
            columns[column],
            labels=study.tiles.labels,
            plan=study.plan,
            patients=study.patients,
            slides=study.tiles.column("slide_id"),
            threads=threads,
        )
    ]


def _untested(settings: AuditConfig, columns: Mapping[str, npt.NDArray[Any]]) -> Iterator[str]:
    """Say what was not looked for although there are embeddings, and why."""
    from featurebench.audit import untestable

    if not settings.duplicates:
        yield "Near-identical tiles were not looked for: audit.duplicates is false."
    for column in settings.columns:
        reason = untestable(column, columns.get(column))
        if reason:
            yield f"Shortcuts by {column} were not tested: {reason}."


def _write_map(
    config: ExperimentConfig, study: Study, embeddings: Embeddings, document: dict[str, Any]
) -> None:
    from featurebench.audit import map_embedding

    if not config.audit or not config.audit.map or len(study.tiles) < 3:
        return
    name, X = next(iter(embeddings.items()))
    try:
        found = map_embedding(X, study.tiles.labels, method=config.audit.map)
    except ValueError as error:
        document["absent"].append(f"There is no map of the embedding: {error}.")
        return
    archive = io.BytesIO()
    np.savez_compressed(archive, rows=found.rows, xy=found.xy)
    write_atomically(config.output.results / MAP_FILE, archive.getvalue())
    document["map"] = {
        "embedding": name,
        "method": found.method,
        "explained": list(found.explained),
        "n": len(found.rows),
        "sha256": hashlib.sha256(archive.getvalue()).hexdigest(),
    }


def _columns(study: Study, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    found = {name: study.tiles.column(name) for name in dict.fromkeys(names)}
    return {name: values for name, values in found.items() if values is not None}


def _key(settings: AuditConfig, study: Study, index: Index) -> str:
    """Hash all that the audit depends on."""
    parts = [
        AUDIT_VERSION,
        settings.model_dump(mode="json"),
        study.tiles.sha256,
        study.plan.id,
        [entry["fingerprint"] for entry in index.embeddings],
    ]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    digest.update(study.tiles.labels.tobytes())
    for name, values in _columns(study, [*_ALWAYS, *settings.columns]).items():
        digest.update(f"\1{name}\0".encode() + "\0".join(values.astype(str)).encode())
    return digest.hexdigest()


def _finite(value: Any) -> Any:  # noqa: ANN401
    """Replace what JSON cannot hold by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
