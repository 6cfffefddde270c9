"""The networks' part of a pass: inputs in, rows out, with as many tiles at once as memory holds."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from featurebench.errors import ExtractionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    import numpy.typing as npt

    from featurebench.backbones.protocols import Frozen
    from featurebench.backbones.taps import Tap
    from featurebench.extraction.passes import Forward, Target
    from featurebench.extraction.reading import Feed
    from featurebench.store import EmbeddingSpec

_TORCH_DTYPES = {"float16": torch.float16, "float32": torch.float32}
# How torch says that a processor's memory is full; a GPU's has an error of its own.
_HOST_MEMORY = ("DefaultCPUAllocator", "can't allocate memory", "bad_alloc")


@dataclass
class Computed:
    """Rows that are on their way from the devices.

    `collect` waits for them; until then a GPU may still be computing.
    """

    rows: dict[EmbeddingSpec, torch.Tensor] = field(default_factory=dict)
    seconds: dict[EmbeddingSpec, float] = field(default_factory=dict)
    gpu_s: float = 0.0
    timed: list[tuple[tuple[Target, ...], Any, Any]] = field(default_factory=list)

    def collect(self) -> dict[EmbeddingSpec, npt.NDArray[np.floating[Any]]]:
        """Wait for the rows, in their stored type, shape (n, dim) each."""
        for targets, started, ended in self.timed:
            ended.synchronize()
            elapsed = started.elapsed_time(ended) / 1000
            self.gpu_s += elapsed
            self.share(targets, elapsed)
        self.timed.clear()
        return {spec: rows.numpy() for spec, rows in self.rows.items()}

    def share(self, targets: Sequence[Target], seconds: float) -> None:
        """Count seconds for some targets, in equal parts."""
        for target in targets:
            before = self.seconds.get(target.spec, 0.0)
            self.seconds[target.spec] = before + seconds / len(targets)


class Computer:
    """Runs the forward passes of a pass on batch after batch.

    A batch that does not fit into memory is halved until it does, and stays so.

    Parameters
    ----------
    forwards
        From `plan_forwards`.
    say
        Told in one line that a batch was halved.
    """

    def __init__(self, forwards: Sequence[Forward], say: Callable[[str], None]) -> None:
        self._forwards = forwards
        self._say = say
        self._sizes: dict[int, int] = {}

    def compute(
        self,
        inputs: Mapping[Feed, npt.NDArray[Any]],
        wanted: Collection[EmbeddingSpec],
        prepared_s: Mapping[Feed, float] | None = None,
    ) -> Computed:
        """Start to embed a batch; the inputs may be overwritten when this returns.

        Parameters
        ----------
        inputs
            Of each feed, shape (n, ...).
        wanted
            Embeddings to make; the others of the pass are left out.
        prepared_s
            Seconds that the making of each feed took, to be shared out over its users.
        """
        computed = Computed()
        users = Counter(forward.feed for forward in self._forwards)
        placed: dict[tuple[Feed, str], torch.Tensor] = {}
        for forward in self._forwards:
            targets = tuple(t for t in forward.targets if t.spec in wanted)
            if not targets:
                continue
            device = forward.frozen.device
            key = (forward.feed, device)
            if key not in placed:
                placed[key] = _place(inputs[forward.feed], device)
            self._run(forward, targets, turn(placed[key], forward.symmetry), computed)
            if prepared_s:
                computed.share(targets, prepared_s[forward.feed] / users[forward.feed])
        return computed

    def seconds_per_tile(self, n: int) -> float:
        """Embed blank tiles, twice, and give the time of the second go for one tile."""
        feeds = {forward.feed for forward in self._forwards}
        wanted = [target.spec for forward in self._forwards for target in forward.targets]
        shapes = {f: ((n, *f.prepare.shape), np.dtype(f.prepare.dtype)) for f in feeds}
        blank = {feed: np.zeros(shape, dtype) for feed, (shape, dtype) in shapes.items()}
        self.compute(blank, wanted).collect()
        started = time.perf_counter()
        self.compute(blank, wanted).collect()
        return (time.perf_counter() - started) / n

    def _run(
        self,
        forward: Forward,
        targets: tuple[Target, ...],
        pixels: torch.Tensor,
        computed: Computed,
    ) -> None:
        taps = [target.backbone.tap for target in targets]
        on_gpu = torch.device(forward.frozen.device).type == "cuda"
        started = _mark(forward.frozen.device) if on_gpu else time.perf_counter()
        outputs = self._fitting(forward.frozen, pixels, taps)
        for target, features in zip(targets, outputs, strict=True):
            stored = features.to(_TORCH_DTYPES[target.spec.dtype])
            computed.rows[target.spec] = _fetch(stored) if on_gpu else stored
        if on_gpu:
            computed.timed.append((targets, started, _mark(forward.frozen.device)))
        else:
            computed.share(targets, time.perf_counter() - started)

    def _fitting(
        self, frozen: Frozen, pixels: torch.Tensor, taps: Sequence[Tap]
    ) -> list[torch.Tensor]:
        while True:
            size = self._sizes.get(id(frozen), len(pixels))
            try:
                parts = [frozen.run(part, taps) for part in torch.split(pixels, size)]
                return [torch.cat(outputs) for outputs in zip(*parts, strict=True)]
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
            self._halve(frozen, min(size, len(pixels)))

    def _halve(self, frozen: Frozen, size: int) -> None:
        if size == 1:
            raise ExtractionError(
                f"one tile does not fit into the memory of {frozen.device}; use another device, "
                "or free its memory and run again"
            )
        self._sizes[id(frozen)] = size // 2
        if torch.device(frozen.device).type == "cuda":
            torch.cuda.empty_cache()
        self._say(f"out of memory on {frozen.device}: batches of {size // 2} tiles from here on")


def turn(pixels: torch.Tensor, symmetry: int) -> torch.Tensor:
    """Mirror and turn pixels as `featurebench.tiles.turn_pixels` does.

    Parameters
    ----------
    pixels
        Shape (n, height, width, channels).
    symmetry
        0 to 7.
    """
    mirrored = torch.flip(pixels, dims=(2,)) if symmetry >= 4 else pixels
    return torch.rot90(mirrored, symmetry % 4, dims=(1, 2)) if symmetry % 4 else mirrored


def _place(array: npt.NDArray[Any], device: str) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    if torch.device(device).type != "cuda":
        return tensor
    # pinned memory is a copy, so the caller may overwrite the array while the GPU still reads
    return tensor.pin_memory().to(device, non_blocking=True)


def _fetch(features: torch.Tensor) -> torch.Tensor:
    host = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
    return host.copy_(features, non_blocking=True)


def _mark(device: str) -> Any:  # noqa: ANN401
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(sign in str(error) for sign in _HOST_MEMORY)
