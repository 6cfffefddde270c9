"""The index of an experiment's results: its plan, its bad tiles and its arms in order."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from featurebench.errors import ResultsError
from featurebench.experiment.study import BadTile
from featurebench.results import run_folder, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from featurebench.experiment.arms import Arm
    from featurebench.experiment.study import Study


@dataclass(frozen=True)
class Index:
    """What ``arms.json`` holds.

    Parameters
    ----------
    plan_id
        Of the folds that all listed runs share.
    bad_tiles
        Tiles that no arm uses.
    arms
        Each with ``arm``, ``kind``, ``run_id`` and ``folder``, in the order declared; with
        ``curve`` where it is to have a few-label curve, with ``replica_of`` where it repeats an
        arm with another seed, and with ``varied`` where it is one of a sweep.
    embeddings
        What the probes read: ``name``, ``fingerprint``, ``weights_sha256`` and ``preprocessing``.
    """

    plan_id: str
    bad_tiles: tuple[BadTile, ...]
    arms: Sequence[Mapping[str, Any]] = ()
    embeddings: Sequence[Mapping[str, Any]] = ()


def read_index(results: Path) -> Index:
    """Read ``arms.json``.

    Raises
    ------
    ResultsError
        If nothing was run yet, or the file is damaged.
    """
    file = results / "arms.json"
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        bad = tuple(BadTile(**tile) for tile in document.pop("bad_tiles"))
        return Index(**document, bad_tiles=bad)
    except FileNotFoundError:
        raise ResultsError(f"no runs in {results.name}/: start with 'featurebench run'") from None
    except (ValueError, TypeError, KeyError) as error:
        raise ResultsError(f"arms.json is damaged ({error}): delete it and run again") from error


def write_index(
    results: Path, study: Study, arms: Sequence[Arm], curves: Mapping[str, Path] | None = None
) -> Index:
    """List all declared arms in ``arms.json``, and write the plan and the tiles beside it.

    Parameters
    ----------
    curves
        Folder of the few-label curve of each arm that is to have one, by the arm's name.
    """
    listed = [_entry(arm, results) for arm in arms]
    for entry in listed:
        if curves and entry["arm"] in curves:
            entry["curve"] = curves[entry["arm"]].name
    index = Index(study.plan.id, study.bad_tiles, listed, _embeddings(arms))
    write_atomically(results / "arms.json", json.dumps(asdict(index), indent=1) + "\n")
    study.plan.save(results / "splits.csv")
    write_tiles(results, study)
    return index


def write_tiles(results: Path, study: Study) -> None:
    """Write the usable tiles with all columns of the manifest to ``tiles.parquet``.

    Row i is the tile in row i of the plan and of all predictions, so that scores can be computed
    from the results' folder alone.
    """
    content = io.BytesIO()
    study.tiles.table.to_parquet(content, index=False)
    write_atomically(results / "tiles.parquet", content.getvalue())


def digest_files(files: Sequence[Path], *further: str) -> str:
    """Hash (64 hex) of files' contents and further text, to tell whether a report is stale."""
    digest = hashlib.sha256()
    for part in further:
        digest.update(part.encode() + b"\0")
    for file in files:
        digest.update(file.read_bytes() if file.is_file() else b"absent")
        digest.update(b"\0")
    return digest.hexdigest()


def _entry(arm: Arm, results: Path) -> dict[str, Any]:
    folder = run_folder(results / "runs", arm.name, arm.run_id).name
    entry: dict[str, Any] = {
        "arm": arm.name,
        "kind": arm.kind,
        "run_id": arm.run_id,
        "folder": folder,
    }
    if arm.replica_of is not None:
        entry["replica_of"] = arm.replica_of
    if arm.fine_tune is not None and arm.fine_tune.varied:
        entry["varied"] = dict(arm.fine_tune.varied)
    return entry


def _embeddings(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    read = [spec for arm in arms for spec in (arm.spec, *arm.views) if spec is not None]
    specs: dict[str, Any] = {spec.name: spec for spec in read}
    return [
        {
            "name": name,
            "fingerprint": spec.fingerprint,
            "weights_sha256": spec.weights_sha256,
            "preprocessing": dict(spec.preprocessing),
        }
        for name, spec in specs.items()
    ]
