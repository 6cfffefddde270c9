"""What a pass over tiles needs of a backbone's two halves: the preparation and the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import PIL.Image
    import torch

    from featurebench.backbones.taps import Tap


class Preparation(Protocol):
    """What turns a tile into a network's input: equal, hashable and fit for other processes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result."""

    @property
    def dtype(self) -> str:
        """Of the result's elements."""

    @property
    def min_side(self) -> int | None:
        """Shorter side, in pixels, below which a tile must not be decoded; None: full size."""

    def __call__(self, image: PIL.Image.Image) -> npt.NDArray[Any]:
        """Prepare an RGB image."""


class Frozen(Protocol):
    """What runs on a device and never changes; `FrozenNetwork` is the usual one."""

    device: str
    loaded_sha256: str

    def run(self, pixels: torch.Tensor, taps: Sequence[Tap]) -> list[torch.Tensor]:
        """Turn prepared tiles into features, shape (n, dim), one tensor per tap."""

    def state_sha256(self) -> str:
        """Hash what could change."""
