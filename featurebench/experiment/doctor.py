"""doctor: what this machine can do, and what an experiment will take on it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Literal

import psutil

from featurebench.errors import FeatureBenchError
from featurebench.experiment.hours import duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from featurebench.backbones import Backbone
    from featurebench.config import ExperimentConfig
    from featurebench.store import FeatureStore
    from featurebench.tiles import TileManifest

LIBRARIES = (
    "featurebench",
    "torch",
    "timm",
    "zarr",
    "scikit-learn",
    "xgboost",
    "lightgbm",
    "optuna",
)
OPTIONAL = {
    "peft": ("strategy lora", "lora"),
    "openvino": ("engine openvino, 2 to 5 times faster on processors", "openvino"),
    "distributed": ("extract --dask and probe --dask", "dask"),
}
TRIAL_S = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    subject
        What it is about, a word or two.
    state
        ``good``; ``note`` for what a user may want to know; ``wrong`` for what will stop a run.
    text
        One line.
    """

    subject: str
    state: Literal["good", "note", "wrong"]
    text: str

    def to_dict(self) -> dict[str, str]:
        """Give the fields."""
        return asdict(self)


def examine(config_file: Path | None = None) -> list[Finding]:
    """Look at the machine and, where an experiment file is given, at what it needs.

    The last finding comes from a trial of about five seconds on the experiment's own tiles.
    """
    findings = [*_machine(), *_libraries()]
    if config_file is not None:
        findings += _experiment(config_file)
    return findings


def _machine() -> Iterator[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0))
    memory = psutil.virtual_memory()
    yield Finding(
        "processor",
        "good",
        f"{cores} cores, {memory.total / 2**30:.0f} GiB memory ({memory.available / 2**30:.0f} "
        f"free), {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
    )
    if not torch.cuda.is_available():
        yield Finding("GPU", "note", "none that torch can use: networks run on the processor")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield Finding(
            "GPU",
            "good",
            f"cuda:{index} {properties.name}, {properties.total_memory / 2**30:.0f} GiB",
        )


def _libraries() -> Iterator[Finding]:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    yield Finding("versions", "good", f"Python {platform.python_version()}, {versions}")
    decoders = ", ".join(f"{name} {metadata.version(name)}" for name in ("simplejpeg", "pillow"))
    yield Finding("decoders", "good", f"{decoders}: JPEG, PNG, TIFF")
    for module, (what, extra) in OPTIONAL.items():
        if importlib.util.find_spec(module) is None:
            remedy = f"pip install 'featurebench[{extra}]'"
            yield Finding(module, "note", f"not installed; {remedy} for {what}")
        else:
            yield Finding(module, "good", f"{metadata.version(module)}, for {what}")
    if shutil.which("g++") is None:
        yield Finding("compiler", "note", "no g++: engine compile is not possible")


def _experiment(config_file: Path) -> Iterator[Finding]:
    from featurebench.config import load_config
    from featurebench.experiment.console import QUIET
    from featurebench.experiment.study import load_tiles

    try:
        config = load_config(config_file)
        tiles = load_tiles(config, QUIET)
    except FeatureBenchError as error:
        yield Finding("experiment", "wrong", str(error))
        return
    yield Finding("tiles", "good", f"{len(tiles):,} tiles, {len(tiles.classes)} classes")
    if config.heads:
        yield _heads(config, tiles)
    backbones: list[Backbone] = []
    for finding, loaded in _weights(config):
        yield finding
        backbones += loaded
    if backbones:
        yield from _job(config, tiles, backbones)


def _heads(config: ExperimentConfig, tiles: TileManifest) -> Finding:
    from featurebench.experiment.probes import check_class_weights, check_probe, is_searched

    try:
        for entry in config.heads:
            check_probe(config, entry)
        check_class_weights(config, tiles.classes)
    except FeatureBenchError as error:
        return Finding("heads", "wrong", str(error))
    searched = [entry for entry in config.heads if is_searched(config, entry)]
    how = f"; searched in every fold: {', '.join(searched)}" if searched else ""
    return Finding("heads", "good", f"{', '.join(config.heads)}{how}")


def _weights(config: ExperimentConfig) -> Iterator[tuple[Finding, list[Backbone]]]:
    from featurebench.config import FOREIGN
    from featurebench.experiment.networks import load_backbones, resolve_device

    for wanted in config.backbones:
        if wanted.weights == FOREIGN:
            continue
        try:
            loaded = load_backbones(wanted, resolve_device(config.compute.device))
        except FeatureBenchError as error:
            yield Finding("weights", "wrong", str(error)), []
            continue
        first = loaded[0]
        embeddings = f"{len(loaded)} embeddings" if len(loaded) > 1 else "1 embedding"
        yield Finding("weights", "good", f"{first.model}.{first.tag} found: {embeddings}"), loaded


def _job(
    config: ExperimentConfig, tiles: TileManifest, backbones: list[Backbone]
) -> Iterator[Finding]:
    from featurebench.experiment.embedding import open_store
    from featurebench.experiment.networks import resolve_threads, spec_of, use_threads
    from featurebench.extraction.preflight import bytes_to_write

    store: FeatureStore | None = None
    if (config.store / "store.json").is_file():
        try:
            store = open_store(config, tiles)
        except FeatureBenchError as error:
            yield Finding("store", "wrong", str(error))
            return
    known = [] if store is None else store.embeddings()
    missing = {}
    for spec in map(spec_of, backbones):
        rows = len(tiles) if store is None or spec not in known else 0
        if store is not None and spec in known:
            rows = sum(len(block) for block in store.pending(spec))
        missing[spec] = rows
    yield _disk(config, sum(bytes_to_write(spec, rows) for spec, rows in missing.items()))
    n_pending = max(missing.values())
    lacking = [b for b in backbones if missing[spec_of(b)]]
    if not lacking:
        yield Finding("embedding", "good", "every embedding is complete")
        return
    use_threads(resolve_threads(config.compute.threads))
    yield _trial(config, tiles, lacking, n_pending)


def _disk(config: ExperimentConfig, needed: int) -> Finding:
    from featurebench.store.files import human_bytes

    folder = next(parent for parent in [config.store, *config.store.parents] if parent.exists())
    free = shutil.disk_usage(folder).free
    text = f"{human_bytes(needed)} to write, {human_bytes(free)} free"
    if needed > free:
        return Finding("disk", "wrong", f"{text}; make room, or give another store path")
    return Finding("disk", "good", text)


def _trial(
    config: ExperimentConfig, tiles: TileManifest, backbones: list[Backbone], n_pending: int
) -> Finding:
    from featurebench.extraction.loop import BATCH_SIZE, default_workers
    from featurebench.extraction.trial import try_out

    kind = "cuda" if any(b.device.startswith("cuda") for b in backbones) else "cpu"
    trial = try_out(
        tiles,
        backbones,
        batch_size=config.compute.batch_size or BATCH_SIZE[kind],
        seconds=TRIAL_S,
    )
    readers = config.compute.workers
    n_readers = default_workers(on_gpu=kind == "cuda") if readers is None else readers
    rate = trial.tiles_per_s(n_readers)
    bad = f"; {trial.n_unreadable} of {trial.n_tiles} tried could not be read"
    return Finding(
        "trial",
        "note" if trial.n_unreadable else "good",
        f"about {rate:.0f} tiles/s, {duration(n_pending / rate)} for {n_pending:,} tiles "
        f"(reading {trial.reading_s * 1000:.1f} ms a tile and reader, networks "
        f"{trial.network_s * 1000:.1f} ms){bad if trial.n_unreadable else ''}",
    )
