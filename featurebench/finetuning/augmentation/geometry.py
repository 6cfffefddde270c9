"""Where a tile's pixels go: symmetries of the square, free rotation and zoom."""

from __future__ import annotations

import torch
from torch.nn import functional


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


def warp(images: torch.Tensor, degrees: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Rotate and magnify each image about its centre in one bilinear resampling.

    What lies outside an image is reflected at its border.

    Parameters
    ----------
    images
        Shape (n, channels, size, size), values 0 to 1.
    degrees
        Shape (n,): rotation, counter-clockwise as the image is looked at, rows running downwards.
    scales
        Shape (n,): magnification; above 1 structures become larger.

    Returns
    -------
    torch.Tensor
        Of the same shape, values 0 to 1.
    """
    radians = torch.deg2rad(degrees)
    cosine = (torch.cos(radians) / scales).to(images)[:, None, None]
    sine = (torch.sin(radians) / scales).to(images)[:, None, None]
    size = images.shape[-1]
    # Written out: affine_grid multiplies matrices, which a GPU may do with ten bits of mantissa.
    centres = (2 * torch.arange(size, dtype=images.dtype, device=images.device) + 1) / size - 1
    down = centres[:, None]
    grid = torch.stack((cosine * centres - sine * down, sine * centres + cosine * down), dim=-1)
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    ).clamp_(0, 1)
