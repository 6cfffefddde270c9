"""What colour a tile's pixels have: brightness, contrast and saturation, and the amounts of stain.

References
----------
Tellez, D. et al. (2018). Whole-slide mitosis detection in H&E breast histology using PHH3 as a
reference to train distilled stain-invariant convolutional networks. IEEE Transactions on Medical
Imaging 37(9), 2126-2136, doi:10.1109/TMI.2018.2820199 (stain augmentation).
"""

from __future__ import annotations

import math
from typing import Final

import torch

from featurebench.tiles.staining import restaining

# ITU-R BT.601 luma, the weights with which pillow turns RGB into grey.
_LUMA: Final = (0.299, 0.587, 0.114)


def jitter(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Scale brightness, contrast and saturation, in this order.

    Parameters
    ----------
    images
        Shape (n, 3, height, width), values 0 to 1.
    factors
        Shape (3, n): of brightness, contrast about the image's mean grey, and saturation; a
        factor of 1 changes nothing.

    Returns
    -------
    torch.Tensor
        Of the same shape; what left the range 0 to 1 is clipped, once, at the end.
    """
    brightness, contrast, saturation = factors.to(images)[:, :, None, None]
    luma = torch.tensor(_LUMA, dtype=images.dtype, device=images.device)
    # Grey is a fixed point of the saturation, so the three are one affine map of a pixel.
    unit = torch.eye(3, dtype=images.dtype, device=images.device)
    mixing = brightness * contrast * (saturation * unit + (1 - saturation) * luma)
    mean_grey = (images.mean(dim=(-2, -1)) * luma).sum(dim=1, keepdim=True)
    shift = (1 - contrast[..., 0]) * brightness[..., 0] * mean_grey
    return _map_pixels(images, mixing, shift.expand(-1, 3)).clamp_(0, 1)


def restain(images: torch.Tensor, factors: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Show tiles as another laboratory would stain them.

    The decadic optical density of a pixel is separated into the amounts c of haematoxylin, eosin
    and the rest, and each becomes ``factor * c + offset`` (Tellez et al. 2018, where the factor is
    drawn from 1 - sigma to 1 + sigma and the offset from -sigma to sigma for each image and
    stain). An amount of 1 has the stain's unit vector as density. As for the views of a tile, one
    grey level is added to the 255, so that black has a density.

    Parameters
    ----------
    images
        Shape (n, 3, height, width), values 0 to 1.
    factors, offsets
        Shape (n, 3), on the CPU: of haematoxylin, eosin, the rest. A factor of 1 with an offset
        of 0 changes nothing.

    Returns
    -------
    torch.Tensor
        Of the same shape, clipped to 0 to 1.
    """
    mixing, shift = restaining(factors.numpy(), offsets.numpy())
    # Pixels are columns here and rows there. The natural logarithm of light is density times
    # -ln 10, which the linear part of the map does not see.
    columns = torch.from_numpy(mixing).to(images).transpose(-1, -2)
    light = torch.log1p(255 * images).sub_(math.log(256))
    light = _map_pixels(light, columns, torch.from_numpy(-math.log(10) * shift).to(images))
    return light.exp_().mul_(256).sub_(1).div_(255).clamp_(0, 1)


def _map_pixels(images: torch.Tensor, mixing: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Return ``mixing @ pixel + shift`` for every pixel; shapes (n, 3, h, w), (n, 3, 3), (n, 3)."""
    # No matrix product: autocast or TF32 would round the colours, on some devices only.
    images = images.contiguous()
    columns = mixing[..., None, None]
    mapped = torch.addcmul(shift[..., None, None], columns[:, :, 0], images[:, :1])
    for channel in (1, 2):
        mapped.addcmul_(columns[:, :, channel], images[:, channel : channel + 1])
    return mapped
