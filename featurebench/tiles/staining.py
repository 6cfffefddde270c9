"""How stained tissue becomes colour: stain vectors, sites that differ, the Beer-Lambert law.

Optical density adds up over stains, so a pixel is ``white * 10 ** -(c_H * v_H + c_E * v_E)``
with the concentrations c and the unit stain vectors v of haematoxylin and eosin.

References
----------
Ruifrok, A. C. and Johnston, D. A. (2001). Quantification of histochemical staining by color
deconvolution. Analytical and Quantitative Cytology and Histology 23(4), 291-299.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

# Red, green and blue optical density of the two stains, measured by the paper's method; these are
# the "H&E" vectors of the ImageJ plugin Colour Deconvolution (G. Landini). The eosin of the matrix
# printed in the paper, (0.07, 0.99, 0.11), gives magenta stroma.
HAEMATOXYLIN = (0.644211, 0.716556, 0.266844)
EOSIN = (0.092789, 0.954111, 0.283111)
CAMERA_NOISE = 1.8


@dataclass(frozen=True)
class Stain:
    """How one site's laboratory and scanner turn concentrations into colour.

    Parameters
    ----------
    vectors
        Unit optical density vectors, rows haematoxylin and eosin; shape (2, 3).
    strength
        Factor on the concentration of each stain; shape (2,).
    white
        Grey level of empty glass in red, green and blue; shape (3,).
    blur
        Standard deviation of the optical blur in pixels.
    """

    vectors: npt.NDArray[np.float64]
    strength: npt.NDArray[np.float64]
    white: npt.NDArray[np.float64]
    blur: float


def site_stain(rng: np.random.Generator, site_effect: float) -> Stain:
    """Draw a site's stain; ``site_effect`` scales its distance from the reference laboratory.

    Parameters
    ----------
    rng
        The site's own generator.
    site_effect
        0 for the reference laboratory everywhere, 1 for differences as between laboratories.

    Returns
    -------
    Stain
        Vectors are turned by about 5 degrees, strengths vary by about 20 %, white by about 3 %.
    """
    reference = np.array([HAEMATOXYLIN, EOSIN])
    vectors = np.clip(reference + 0.06 * site_effect * rng.standard_normal((2, 3)), 0.02, None)
    strength = np.exp(0.18 * site_effect * rng.standard_normal(2))
    white = 242.0 - np.abs(5.0 * site_effect * rng.standard_normal(3))
    blur = 0.55 + 0.12 * site_effect * min(abs(float(rng.standard_normal())), 2.0)
    return Stain(
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        strength,
        np.clip(white, 200.0, 250.0),
        blur,
    )


def tinted(stain: Stain, amount: float) -> Stain:
    """Turn the hue of both stains: less green and more blue light is absorbed, or the reverse.

    Parameters
    ----------
    stain
        What is changed; strength and white stay.
    amount
        0 for no change; a vector's density in green is multiplied by ``exp(-amount)``, that in blue
        by ``exp(2 * amount)``, before its length is made 1 again.
    """
    vectors = stain.vectors * np.exp(amount * np.array([0.0, -1.0, 2.0]))
    return replace(stain, vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def restaining(
    factor: npt.NDArray[np.float64], offset: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Turn changes of the amounts of stain into an affine map of optical density.

    The map separates a density into haematoxylin, eosin and the rest (perpendicular to both),
    makes ``factor * c + offset`` of each amount c, and mixes them again.

    Parameters
    ----------
    factor, offset
        Of the three amounts, shape (..., 3).

    Returns
    -------
    mixing, shift : numpy.ndarray
        Shapes (..., 3, 3) and (..., 3): a pixel's decadic density, as a row, becomes
        ``density @ mixing + shift``.
    """
    stained = np.array([HAEMATOXYLIN, EOSIN])
    rest = np.cross(*stained)
    vectors = np.vstack([stained, rest / np.linalg.norm(rest)])
    mixing = np.linalg.inv(vectors) * factor[..., None, :] @ vectors
    return mixing, offset @ vectors


def expose(
    haematoxylin: npt.NDArray[np.float32],
    eosin: npt.NDArray[np.float32],
    stain: Stain,
    rng: np.random.Generator,
    *,
    relief: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.uint8]:
    """Turn concentrations into colour: optical blur, Beer-Lambert law, camera noise.

    Parameters
    ----------
    haematoxylin, eosin
        Concentrations, in units that give the stain's vector as optical density; shape (h, w).
    stain
        The site's stain.
    rng
        Generator of the camera's noise, whose standard deviation is 1.8 grey levels.
    relief
        Factor on the amounts of both stains after the blur, shape (h, w).

    Returns
    -------
    numpy.ndarray
        RGB, shape (h, w, 3).
    """
    blurred = [ndimage.gaussian_filter(c, stain.blur) for c in (haematoxylin, eosin)]
    amounts = np.stack(blurred, axis=-1) * stain.strength.astype(np.float32)
    if relief is not None:
        amounts *= relief[..., None]
    density = amounts @ stain.vectors.astype(np.float32)
    light = stain.white.astype(np.float32) * np.exp(-math.log(10.0) * density)
    light += CAMERA_NOISE * rng.standard_normal(light.shape, dtype=np.float32)
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)
