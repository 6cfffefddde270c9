"""Tiles per second of `featurebench extract` against a plain timm loop, in one run on one machine.

    python -m benchmarks.extraction --tiles 512 --repeats 3 --json extraction.json

The peer is the loop of timm's own documentation: `timm.create_model(num_classes=0)`, the model's
evaluation transform, a PyTorch `DataLoader`, a forward pass under `torch.inference_mode`, and one
`.npy` file at the end; once per backbone. It is run with each number of workers asked for, and its
best counts. Ours is `featurebench.extraction.extract` into a new store, with its hashes, its
checksums and its fsyncs. `networks` is the time of the networks alone on pixels in memory, in the
memory format that each side uses: what no pass over files can beat.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch.utils.data import DataLoader, Dataset

from benchmarks.machine import machine_facts
from featurebench.backbones import Backbone
from featurebench.extraction import Settings, bound_by, extract
from featurebench.store import FeatureStore
from featurebench.tiles import TileManifest, read_tile, write_cohort

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from featurebench.extraction import ExtractionReport

DEFAULT = ("tf_efficientnet_lite0", "mobilenetv2_100", "resnet18")
TILES_PER_PATIENT = 16


@dataclass(frozen=True)
class Timing:
    """Seconds of each repeat of one way of doing the work."""

    name: str
    seconds: list[float]
    n_tiles: int
    note: str = ""

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Tiles per second at the median."""
        return self.n_tiles / self.median


class TileFiles(Dataset[torch.Tensor]):
    """The peer's data set: open, convert, transform."""

    def __init__(
        self, files: Sequence[Path], transform: Callable[[Image.Image], torch.Tensor]
    ) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        """Count the tiles."""
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        """Read one tile."""
        return self.transform(Image.open(self.files[index]).convert("RGB"))


@dataclass(frozen=True)
class Bench:
    """What all measurements share."""

    manifest: TileManifest
    backbones: list[Backbone]
    folder: Path
    device: str
    batch_size: int

    @property
    def files(self) -> list[Path]:
        """Files of all tiles, in the order of the rows."""
        return [self.manifest.path_of(row) for row in range(len(self.manifest))]

    def peer(self, backbones: Sequence[Backbone], workers: int) -> float:
        """Run the plain loop once per backbone; give its seconds."""
        networks = [self._peer_network(backbone) for backbone in backbones]
        started = time.perf_counter()
        for network in networks:
            config = resolve_data_config({}, model=network)
            transform = create_transform(**config, is_training=False)
            loader = DataLoader(
                TileFiles(self.files, transform),
                batch_size=self.batch_size,
                num_workers=workers,
                pin_memory=self.device != "cpu",
            )
            rows = []
            with torch.inference_mode():
                for images in loader:
                    rows.append(network(images.to(self.device)).cpu().numpy())  # noqa: PERF401
            np.save(self.folder / "peer.npy", np.concatenate(rows))
        return time.perf_counter() - started

    def ours(
        self, backbones: Sequence[Backbone], workers: int | None
    ) -> tuple[float, ExtractionReport]:
        """Extract into a new store; give the seconds and the report."""
        path = Path(tempfile.mkdtemp(dir=self.folder)) / "bench.store"
        store = FeatureStore.create(
            path,
            self.manifest.table,
            dataset="bench",
            classes=self.manifest.classes,
            manifest_sha256=self.manifest.sha256,
        )
        settings = Settings(batch_size=self.batch_size, workers=workers)
        started = time.perf_counter()
        report = extract(self.manifest, list(backbones), store, settings)
        return time.perf_counter() - started, report

    def networks(self, backbones: Sequence[Backbone]) -> float:
        """Run the networks alone on as many tiles as there are, from memory."""
        image = read_tile(self.manifest.path_of(0))
        n_tiles = len(self.manifest)
        started = time.perf_counter()
        for backbone in backbones:
            one = torch.from_numpy(backbone.prepare(image).copy())
            batch = one.expand(self.batch_size, *one.shape).contiguous()
            for start in range(0, n_tiles, self.batch_size):
                backbone.embed(batch[: min(self.batch_size, n_tiles - start)])
        return time.perf_counter() - started

    def _peer_network(self, backbone: Backbone) -> torch.nn.Module:
        network: torch.nn.Module = timm.create_model(backbone.model, num_classes=0)
        network.load_state_dict(backbone.network.state_dict())
        return network.eval().to(self.device)


def compare(bench: Bench, workers: Sequence[int], repeats: int) -> dict[str, list[Timing]]:
    """Measure one backbone, then all; the ways of doing it take turns."""
    groups = {"1 backbone": bench.backbones[:1]}
    if len(bench.backbones) > 1:
        groups[f"{len(bench.backbones)} backbones"] = bench.backbones
    return {name: _compare(bench, chosen, workers, repeats) for name, chosen in groups.items()}


def _compare(
    bench: Bench, backbones: Sequence[Backbone], workers: Sequence[int], repeats: int
) -> list[Timing]:
    seconds: dict[str, list[float]] = {}
    notes: dict[str, str] = {}

    def note(name: str, taken: float) -> None:
        seconds.setdefault(name, []).append(taken)

    for repeat in range(repeats + 1):
        for n in workers:
            note(f"timm loop, {n} workers", bench.peer(backbones, n))
            taken, report = bench.ours(backbones, n)
            name = f"featurebench, {n} workers"
            note(name, taken)
            notes[name] = _describe(report)
        note("networks alone", bench.networks(backbones))
        if repeat == 0:
            seconds.clear()  # the first round warms caches and allocators
    n_tiles = len(bench.manifest)
    return [Timing(name, taken, n_tiles, notes.get(name, "")) for name, taken in seconds.items()]


def _describe(report: ExtractionReport) -> str:
    gpu_s = sum(embedding.cost["gpu_s"] for embedding in report.embeddings)
    busy = f", GPU busy {gpu_s / report.wall_s:.0%}" if gpu_s else ""
    return f"{bound_by(report.waited_s)}{busy}"


def precisions(bench: Bench, model: str, repeats: int) -> list[Timing]:
    """Measure one network in each precision and engine that this device has."""
    on_gpu = bench.device != "cpu"
    ways = [("float32", "eager"), ("bfloat16", "eager"), ("float32", "compile")]
    ways += (
        [("bfloat16", "compile")] if on_gpu else [("float32", "openvino"), ("bfloat16", "openvino")]
    )
    timings = []
    for precision, engine in ways:
        backbone = Backbone.load(
            model, weights="random", precision=precision, engine=engine, device=bench.device
        )
        bench.networks([backbone])
        seconds = [bench.networks([backbone]) for _ in range(repeats)]
        timings.append(Timing(f"{model} {precision} {engine}", seconds, len(bench.manifest)))
    return timings


def _write_tiles(folder: Path, n_tiles: int, size: int, kind: str) -> TileManifest:
    patients = max(4, n_tiles // TILES_PER_PATIENT)
    manifest = write_cohort(
        folder / "png", patients=patients, tiles_per_patient=TILES_PER_PATIENT, size=size
    )
    if kind == "png":
        return manifest
    for row, label in enumerate(manifest.table["label"].astype(str)):
        target = folder / "jpeg" / label / f"{row:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        read_tile(manifest.path_of(row)).save(target, quality=80)
    return TileManifest.from_folder(folder / "jpeg")


def _print(title: str, timings: Sequence[Timing]) -> None:
    print(f"\n{title}")
    for timing in timings:
        spread = f"{min(timing.seconds):.2f} to {max(timing.seconds):.2f}"
        print(
            f"  {timing.name:<38} {timing.median:8.2f} s ({spread})  "
            f"{timing.rate:8.1f} tiles/s  {timing.note}"
        )
    best = {
        who: min((t.median for t in timings if t.name.startswith(who)), default=0.0)
        for who in ("timm loop", "featurebench", "networks")
    }
    if best["timm loop"] and best["featurebench"]:
        speed = best["timm loop"] / best["featurebench"]
        floor = best["featurebench"] / best["networks"]
        print(f"  speed against the best timm loop: {speed:.2f}x")
        print(f"  time against the networks alone: {floor:.2f}x")


def main() -> None:
    """Read the options, measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(DEFAULT))
    parser.add_argument("--tiles", type=int, default=512)
    parser.add_argument("--size", type=int, default=224, help="pixels of a tile's side")
    parser.add_argument("--format", choices=("jpeg", "png"), default="jpeg")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precisions", metavar="MODEL", help="also measure each precision")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        manifest = _write_tiles(Path(folder), options.tiles, options.size, options.format)
        backbones = [
            Backbone.load(model, weights="random", device=options.device)
            for model in options.models
        ]
        bench = Bench(manifest, backbones, Path(folder), options.device, options.batch_size)
        results = compare(bench, options.workers, options.repeats)
        if options.precisions:
            results["precision"] = precisions(bench, options.precisions, options.repeats)
    facts: dict[str, Any] = machine_facts() | {"threads": options.threads, "device": options.device}
    print(json.dumps(facts, indent=1))
    for title, timings in results.items():
        _print(f"{title}: {len(manifest)} {options.format} tiles of {options.size} px", timings)
    if options.json is not None:
        content = {title: [asdict(t) for t in timings] for title, timings in results.items()}
        options.json.write_text(json.dumps({"machine": facts, **content}, indent=1) + "\n")


if __name__ == "__main__":
    main()
