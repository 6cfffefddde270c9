"""Light augmentation of whole batches on any device: flips, quarter turns, mild colour jitter."""

from __future__ import annotations

import torch

# ITU-R BT.601 luma, the weights with which pillow turns RGB into grey.
_LUMA = (0.299, 0.587, 0.114)


def augment(
    images: torch.Tensor, generator: torch.Generator, *, color_jitter: float = 0.1
) -> torch.Tensor:
    """Turn, mirror and tint every image on its own.

    Parameters
    ----------
    images
        Float, shape (n, 3, size, size), values 0 to 1.
    generator
        On the CPU, whichever device holds the images, so that the draws do not depend on it.
    color_jitter
        Largest relative change of brightness, contrast and saturation; 0 leaves colours alone.

    Returns
    -------
    torch.Tensor
        New images of the same shape, values 0 to 1.
    """
    turned = turn(images, torch.randint(0, 2, (3, len(images)), generator=generator).bool())
    factors = 1 + color_jitter * (2 * torch.rand((3, len(images)), generator=generator) - 1)
    return jitter(turned, factors) if color_jitter else turned


def turn(images: torch.Tensor, switches: torch.Tensor) -> torch.Tensor:
    """Apply one of the eight symmetries of the square to each image.

    Parameters
    ----------
    images
        Shape (n, channels, size, size).
    switches
        Bool, shape (3, n): mirror left-right, mirror top-bottom, transpose. Each of the eight
        combinations is one symmetry, so three fair coins draw them uniformly.
    """
    mirror, flip, transpose = switches.to(images.device)[:, :, None, None, None]
    images = torch.where(mirror, images.flip(-1), images)
    images = torch.where(flip, images.flip(-2), images)
    return torch.where(transpose, images.transpose(-1, -2), images)


def jitter(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Scale brightness, contrast and saturation.

    Parameters
    ----------
    images
        Shape (n, 3, height, width), values 0 to 1.
    factors
        Shape (3, n): of brightness, contrast about the image's mean grey, and saturation; a
        factor of 1 changes nothing.
    """
    brightness, contrast, saturation = factors.to(images)[:, :, None, None, None]
    images = images * brightness
    mean_grey = _grey(images).mean(dim=(-2, -1), keepdim=True)
    images = mean_grey + contrast * (images - mean_grey)
    grey = _grey(images)
    return torch.clamp(grey + saturation * (images - grey), 0, 1)


def _grey(images: torch.Tensor) -> torch.Tensor:
    luma = torch.tensor(_LUMA, dtype=images.dtype, device=images.device)
    return (images * luma[:, None, None]).sum(dim=1, keepdim=True)
