"""Embeddings to try heads on, and the objective of logistic regression, summed independently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import logsumexp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Floats = npt.NDArray[np.floating[Any]]
    Ints = npt.NDArray[np.int64]


@pytest.fixture(scope="session")
def draw_embeddings() -> Callable[..., tuple[npt.NDArray[np.float32], Ints]]:
    """Draw rows that look like embeddings after a ReLU: few directions, skewed, correlated."""

    def draw(
        n: int, d: int, k: int, *, seed: int = 0, shares: Sequence[float] | None = None
    ) -> tuple[npt.NDArray[np.float32], Ints]:
        rng = np.random.default_rng(seed)
        share = None if shares is None else np.array(shares) / np.sum(shares)
        y = rng.choice(k, n, p=share)
        y[: 4 * k] = np.tile(np.arange(k), 4)
        latent = 0.7 * rng.normal(size=(k, 16))[y] + rng.normal(size=(n, 16))
        units = latent @ rng.normal(size=(16, d)) / 4 + 0.7 * rng.normal(size=(n, d))
        return np.log1p(np.maximum(units - 0.3, 0)).astype(np.float32), y.astype(np.int64)

    return draw


@pytest.fixture(scope="session")
def sum_objective() -> Callable[..., float]:
    """Sum up in float64 what scikit-learn's `LogisticRegression` minimises, times C."""

    def objective(  # noqa: PLR0917
        coef: Floats, intercept: Floats, X: Floats, y: Ints, C: float, weight: Floats | None = None
    ) -> float:
        logits = X.astype(np.float64) @ coef.T + intercept
        if logits.shape[1] == 1:
            logits = np.column_stack([np.zeros(len(y)), logits])
        loss = logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]
        total = loss.sum() if weight is None else loss @ weight
        return float(total + (coef**2).sum() / (2 * C))

    return objective
