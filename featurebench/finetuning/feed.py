"""Feed: rows of tiles as normalised batches on the device, and what a network says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn

Rows = npt.NDArray[np.intp]


class Pixels(Protocol):
    """Where a feed has its pixels from, such as `TilePixels`."""

    def batches(self, batches: Sequence[Rows], /) -> Iterator[torch.Tensor]:
        """Yield the pixels of each batch of rows, uint8, shape (n, 3, size, size)."""


@dataclass(frozen=True)
class Feed:
    """Turns rows into normalised batches on the device.

    Parameters
    ----------
    pixels
        Of all tiles.
    mean, std
        Of the network's preprocessing, per channel, for pixels from 0 to 1.
    device
        Where the network is.
    batch_size
        Tiles at a time.
    """

    pixels: Pixels
    mean: Sequence[float]
    std: Sequence[float]
    device: torch.device
    batch_size: int

    def batches(
        self,
        batches: Sequence[Rows],
        augmentation: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> Iterator[torch.Tensor]:
        """Yield float batches, shape (n, 3, size, size); ``augmentation`` sees them from 0 to 1."""
        mean = torch.tensor(self.mean, device=self.device)[:, None, None]
        std = torch.tensor(self.std, device=self.device)[:, None, None]
        for pixels in self.pixels.batches(batches):
            images = pixels.to(self.device, non_blocking=True).float() / 255
            images = images if augmentation is None else augmentation(images)
            # Convolutions run 1.5 to 2 times faster so, on processors as on GPUs.
            yield ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def predict(
    network: Callable[[torch.Tensor], torch.Tensor],
    feed: Feed,
    rows: Rows,
    progress: Callable[[int], None],
) -> torch.Tensor:
    """Apply a function to rows batch by batch; float32 on the CPU, shape (n_rows, n_outputs)."""
    batches = split_evenly(rows, feed.batch_size)
    outputs = []
    with torch.inference_mode():
        for part, images in zip(batches, feed.batches(batches), strict=True):
            outputs.append(network(images).float().cpu())
            progress(len(part))
    return torch.cat(outputs)


def predict_logits(
    network: nn.Module, feed: Feed, rows: Rows, progress: Callable[[int], None]
) -> torch.Tensor:
    """Run the network in evaluation mode; float32 on the CPU, shape (n_rows, n_classes)."""
    return predict(network.eval(), feed, rows, progress)


def split_evenly(rows: Rows, batch_size: int) -> list[Rows]:
    """Cut rows into batches whose sizes differ by at most one.

    None has a single row unless there is only one: batch normalisation cannot train on it. So a
    batch may have one tile more than ``batch_size`` where that is smaller than 3.
    """
    n_batches = min(-(-len(rows) // batch_size), len(rows) // 2)
    return np.array_split(rows, max(1, n_batches))


def ignore(_: int) -> None:
    """Be told of progress and do nothing."""
