"""`mix`: MixUp and CutMix of timm, drawn from a generator of torch.

References
----------
Zhang, H. et al. (2018). mixup: Beyond empirical risk minimization. International Conference on
Learning Representations, arXiv:1710.09412.
Yun, S. et al. (2019). CutMix: Regularization strategy to train strong classifiers with localizable
features. International Conference on Computer Vision, arXiv:1905.04899.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from timm.data.mixup import Mixup
from torch.nn import functional

from featurebench.finetuning.augmentation.draws import Draws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from featurebench.finetuning.augmentation.settings import Augmentation


def mix(
    images: torch.Tensor,
    targets: torch.Tensor,
    n_classes: int,
    generator: torch.Generator,
    settings: Augmentation,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix every image with another of its batch, by MixUp or CutMix.

    Image i of n has the one at n - 1 - i as its partner, so the batch should be in random order.
    It keeps the share lambda of itself, drawn for it alone from Beta(alpha, alpha): as a weight
    (MixUp), or as an area, the rest being a square cut from the partner at the same place
    (CutMix; the square may be clipped at the border, then lambda follows its area). Where both
    are on, each is chosen for half of the images.

    Parameters
    ----------
    images
        Float, shape (n, 3, size, size); left as they are. Values may be normalised.
    targets
        Class codes, shape (n,), or shares of the classes, shape (n, n_classes).
    n_classes
        Number of classes.
    generator
        On the CPU. Gives one number, the seed of the batch, whatever the settings: called for
        every batch, `mix` leaves to `augment` the same draws whether it mixes or not.
    settings
        `mixup` and `cutmix` are the alphas; where both are 0 images and targets stay unmixed.

    Returns
    -------
    images : torch.Tensor
        Of the same shape.
    targets : torch.Tensor
        Float, shape (n, n_classes), rows with sum 1; without label smoothing, which the loss has.

    Notes
    -----
    timm draws from numpy's global state. For as long as that takes the state is another, seeded
    by the generator; no other thread should draw from it meanwhile.
    """
    draws = Draws.of(generator)
    shares = targets if targets.ndim == 2 else functional.one_hot(targets, n_classes).float()
    if not settings.mixes:
        return images, shares
    n_images = len(images)
    # timm wants an even number: a second copy of another tile is the first one's partner then.
    order = torch.tensor([*range(n_images), *[1 % n_images] * (n_images % 2)], device=images.device)
    shares = shares[order]
    mixup = Mixup(
        mixup_alpha=settings.mixup,
        cutmix_alpha=settings.cutmix,
        switch_prob=0.5,
        mode="elem",
        label_smoothing=0.0,
        num_classes=len(order),
    )
    with _numpy_seeded(draws.sequence("mix")):
        # Places as classes: what comes back says how much of each image is in each.
        mixed, weights = mixup(images[order], torch.arange(len(order), device=images.device))
    own = weights.diagonal()[:, None].to(shares)
    return mixed[:n_images], (own * shares + (1 - own) * shares.flip(0))[:n_images]


@contextmanager
def _numpy_seeded(sequence: np.random.SeedSequence) -> Iterator[None]:
    """Give numpy's global generator another state for a while."""
    # timm knows no other source of random numbers.
    kept = np.random.get_state(legacy=False)  # noqa: NPY002
    np.random.set_state(dict(np.random.MT19937(sequence).state))  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(kept)  # noqa: NPY002
