"""Draws: the random numbers of one batch, a stream of their own for each transform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

_SEEDS: Final = 2**63 - 1


@dataclass(frozen=True)
class Draws:
    """Random numbers that depend on the batch's seed and on the transform's name alone.

    So a transform that is switched on, or added to the program, leaves the draws of all others
    as they were, and so does the device or the number format of the images.

    Parameters
    ----------
    seed
        Of the batch, 0 or more.
    """

    seed: int

    @classmethod
    def of(cls, generator: torch.Generator) -> Draws:
        """Take one number, never more or fewer, from the generator (of the CPU) as the seed."""
        return cls(int(torch.randint(_SEEDS, (), generator=generator)))

    def sequence(self, transform: str) -> np.random.SeedSequence:
        """Return the seed of a transform's stream."""
        return np.random.SeedSequence([self.seed, *transform.encode()])

    def coins(self, transform: str, *shape: int) -> torch.Tensor:
        """Toss fair coins; bool."""
        rng = np.random.default_rng(self.sequence(transform))
        return torch.from_numpy(rng.integers(0, 2, shape, dtype=np.uint8)).bool()

    def uniform(self, transform: str, limit: float, *shape: int) -> torch.Tensor:
        """Draw uniformly from ``-limit`` to ``limit``; float64."""
        rng = np.random.default_rng(self.sequence(transform))
        return torch.from_numpy(rng.uniform(-limit, limit, shape))
