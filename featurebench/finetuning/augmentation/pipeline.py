"""`augment`: every tile of a batch turned, zoomed, restained and tinted on its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from featurebench.finetuning.augmentation.colour import jitter, restain
from featurebench.finetuning.augmentation.draws import Draws
from featurebench.finetuning.augmentation.geometry import turn, warp

if TYPE_CHECKING:
    from featurebench.finetuning.augmentation.settings import Augmentation


def augment(
    images: torch.Tensor, generator: torch.Generator, settings: Augmentation
) -> torch.Tensor:
    """Turn, rotate and zoom, restain and tint every image on its own, in this order.

    Parameters
    ----------
    images
        Float, shape (n, 3, size, size), values 0 to 1.
    generator
        On the CPU, whichever device holds the images, so that the draws do not depend on it.
        Gives one number, the seed of the batch, whatever the settings; see `Draws`.
    settings
        `mixup` and `cutmix` are left to `mix`.

    Returns
    -------
    torch.Tensor
        Of the same shape, values 0 to 1; the images themselves, not a copy, where the settings
        change nothing.
    """
    draws = Draws.of(generator)
    n_images = len(images)
    if settings.flips or settings.quarter_turns:
        images = turn(images, _switches(draws, settings, n_images))
    if settings.rotation or settings.zoom:
        degrees = draws.uniform("rotation", settings.rotation, n_images)
        scales = draws.uniform("zoom", math.log1p(settings.zoom), n_images).exp()
        images = warp(images, degrees, scales)
    if settings.stain:
        factors, offsets = draws.uniform("stain", settings.stain, 2, n_images, 3)
        images = restain(images, 1 + factors, offsets)
    limits = settings.color_limits
    if any(limits.values()):
        changes = [draws.uniform(name, limits[name], n_images) for name in limits]
        images = jitter(images, 1 + torch.stack(changes))
    return images


def _switches(draws: Draws, settings: Augmentation, n_images: int) -> torch.Tensor:
    """Combine quarter turns, and the mirrorings after them, into the switches of `turn`."""
    switches = torch.zeros(3, n_images, dtype=torch.bool)
    if settings.quarter_turns:
        # The four rotations are the switches of which none or two are on.
        switches[:2] = draws.coins("quarter_turns", 2, n_images)
        switches[2] = switches[0] ^ switches[1]
    if settings.flips:
        # Behind a transposition the two mirrorings change places: still two fair coins.
        switches[:2] ^= draws.coins("flips", 2, n_images)
    return switches
