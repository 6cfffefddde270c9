"""Seconds per training step: featurebench's loop against a plain one of PyTorch and timm.

    python -m benchmarks.finetuning --model resnet50 --device cuda

Both train the same network from the same weights on the same tiles in memory, in the same order,
with the same optimiser and number format, without augmentation; they take turns.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler

from benchmarks.machine import machine_facts
from featurebench.backbones import create_network
from featurebench.finetuning import Recipe
from featurebench.finetuning.fabric import make_fabric, own_randomness, precision_on
from featurebench.finetuning.feed import Feed, split_evenly
from featurebench.finetuning.training import Lesson, Seeds, Training, seed_of_epoch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SEEDS = Seeds(0, 1, 2, 3, 4)
CLASSES = 2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STILL = {"flips": False, "quarter_turns": False, "color_jitter": 0.0}
_LIBRARIES = ("timm", "lightning-fabric")
# Gives the mean loss of an epoch.
Epoch = Callable[[], float]


@dataclass(frozen=True)
class Settings:
    """What is measured: so many rounds of an epoch of so many steps, after one that is not."""

    model: str
    batch_size: int
    steps: int
    rounds: int
    image_size: int
    device: str
    precision: str
    threads: int | None


@dataclass(frozen=True)
class Report:
    """Seconds per step by round, and the mean loss of the first epoch, of each loop."""

    seconds: dict[str, list[float]]
    loss: dict[str, float]
    precision: str
    ratio: float = field(init=False)

    def __post_init__(self) -> None:
        """Divide the medians."""
        median = {name: statistics.median(times) for name, times in self.seconds.items()}
        object.__setattr__(self, "ratio", median["featurebench"] / median["plain"])


class Tiles:
    """Random tiles in memory, read as `TilePixels` are; half of them are brighter, class 1."""

    def __init__(self, n: int, size: int) -> None:
        rng = np.random.default_rng(0)
        self.labels = rng.permutation(np.arange(n) % CLASSES)
        tiles = rng.integers(0, 200, (n, size, size, 3), dtype=np.uint8)
        self.pixels = tiles + (50 * self.labels).astype(np.uint8)[:, None, None, None]

    def batches(self, batches: Sequence[npt.NDArray[np.intp]]) -> Iterator[torch.Tensor]:
        """Yield uint8 batches, shape (n, 3, size, size), channels last in memory."""
        for rows in batches:
            yield torch.from_numpy(self.pixels[rows]).permute(0, 3, 1, 2)


def measure(settings: Settings, say: Callable[[str], None] = lambda _: None) -> Report:
    """Time both loops, in turns; the first epoch of each warms up and gives the loss."""
    device = torch.device(settings.device)
    precision = precision_on(device, settings.precision)
    tiles = Tiles(settings.batch_size * settings.steps, settings.image_size)
    recipe = Recipe(
        settings.model,
        weights="random",
        image_size=settings.image_size,
        epochs=settings.rounds + 1,
        batch_size=settings.batch_size,
        precision=precision,
        augmentation=STILL,
    )
    network, _ = create_network(
        settings.model,
        num_classes=CLASSES,
        weights="random",
        preprocessing={"input_size": settings.image_size},
    )
    network = network.to(device).to(memory_format=torch.channels_last)
    with own_randomness(device):
        loops = {
            "featurebench": our_epoch(copy.deepcopy(network), tiles, recipe, device),
            "plain": plain_epoch(copy.deepcopy(network), tiles, recipe, device),
        }
        loss = {name: epoch() for name, epoch in loops.items()}
        seconds: dict[str, list[float]] = {name: [] for name in loops}
        for number in range(settings.rounds):
            say(f"round {number + 1} of {settings.rounds}")
            turn = list(loops) if number % 2 else list(reversed(loops))
            for name in turn:
                seconds[name].append(_timed(loops[name], device) / settings.steps)
    return Report(seconds, loss, precision)


def our_epoch(
    network: torch.nn.Module, tiles: Tiles, recipe: Recipe, device: torch.device
) -> Epoch:
    """Give featurebench's loop."""
    feed = Feed(tiles, MEAN, STD, device, recipe.batch_size)
    rows = np.arange(len(tiles.labels))
    lesson = Lesson(tiles.labels, CLASSES, rows, rows[:0])
    training = Training.of(network, feed, lesson, recipe, make_fabric(device, recipe.precision))

    def epoch() -> float:
        training.learn(SEEDS, lambda _: None)
        return training.history.train_loss[-1]

    return epoch


def plain_epoch(
    network: torch.nn.Module, tiles: Tiles, recipe: Recipe, device: torch.device
) -> Epoch:
    """Give the loop that one would write with PyTorch and timm for this alone."""
    optimizer = create_optimizer_v2(
        network, "adamw", lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    n = len(tiles.labels)
    total = recipe.epochs * -(-n // recipe.batch_size)
    schedule = CosineLRScheduler(optimizer, total, warmup_t=total // 10, t_in_epochs=False)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16")
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (MEAN, STD))
    state = {"epoch": 0, "step": 0}

    def epoch() -> float:
        state["epoch"] += 1
        order = np.random.default_rng(seed_of_epoch(SEEDS.order, state["epoch"])).permutation(n)
        batches = split_evenly(order, recipe.batch_size)
        network.train()
        summed = torch.zeros((), device=device)
        for rows, pixels in zip(batches, tiles.batches(batches), strict=True):
            images = (pixels.to(device, non_blocking=True).float() / 255 - mean) / std
            targets = torch.from_numpy(tiles.labels[rows]).to(device, non_blocking=True)
            with torch.autocast(
                device.type, dtype[recipe.precision], enabled=recipe.precision != "float32"
            ):
                loss = torch.nn.functional.cross_entropy(network(images).float(), targets)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
            state["step"] += 1
            schedule.step_update(state["step"])
            summed += loss.detach() * len(rows)
        return float(summed) / n

    return epoch


def _timed(epoch: Epoch, device: torch.device) -> float:
    start = time.perf_counter()
    epoch()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def format_report(report: Report, settings: Settings) -> list[str]:
    """Lay the report out in lines."""
    lines = [
        f"{settings.model}, {settings.batch_size} tiles of {settings.image_size} px a step, "
        f"{report.precision}, AdamW, {settings.device}; {settings.rounds} rounds of "
        f"{settings.steps} steps"
    ]
    for name, times in report.seconds.items():
        lines.append(
            f"  {name:14s}{1000 * statistics.median(times):9.2f} ms a step "
            f"({1000 * min(times):.2f} to {1000 * max(times):.2f}), "
            f"{settings.batch_size / statistics.median(times):.0f} tiles/s, "
            f"loss of the first epoch {report.loss[name]:.5f}"
        )
    return [*lines, f"  featurebench takes {report.ratio:.3f} times the plain loop's time"]


def read_options(arguments: Sequence[str] | None = None) -> tuple[Settings, Path | None]:
    """Read the command line: what to measure, and where to write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finetuning", description=__doc__)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, help="of torch; as they are if not given")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    given = vars(parser.parse_args(arguments))
    target: Path | None = given.pop("json")
    for name in ("batch_size", "steps", "rounds", "image_size"):
        if given[name] < 1 + (name == "batch_size"):
            parser.error(f"--{name.replace('_', '-')} {given[name]} is too small")
    return Settings(**given), target


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON if asked to."""
    settings, target = read_options(arguments)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    report = measure(settings, print)
    print(*format_report(report, settings), sep="\n")
    if target is not None:
        facts = machine_facts()
        facts["libraries"] |= {
            name: metadata.version(name) for name in ("timm", "lightning-fabric")
        }
        facts["torch_threads"] = torch.get_num_threads()
        if settings.device != "cpu":
            facts["gpu"] = torch.cuda.get_device_name(settings.device)
        document = {"machine": facts, "settings": asdict(settings), **asdict(report)}
        target.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
