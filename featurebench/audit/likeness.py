"""How alike two tiles are to the eye, whichever way round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import numpy.typing as npt

SIDE = 32
# See docs/adr/0010 for what this was measured on.
ALIKE = 0.9


def likeness(a: Image.Image, b: Image.Image) -> float:
    """Correlate two pictures of 32 x 32 grey pixels over the eight symmetries of the square.

    Parameters
    ----------
    a, b
        Of any size.

    Returns
    -------
    float
        The largest of eight correlation coefficients, -1 to 1; 0 where a picture has one grey.

    Examples
    --------
    >>> picture = Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64))
    >>> round(likeness(picture, picture.transpose(Image.Transpose.ROTATE_90)), 3)
    1.0
    """
    first, second = _standardised(a), _standardised(b)
    turned = (np.rot90(side, k) for side in (second, second.T) for k in range(4))
    return max(float(np.mean(first * each)) for each in turned)


def _standardised(image: Image.Image) -> npt.NDArray[np.float64]:
    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.float64)
    centred: npt.NDArray[np.float64] = grey - grey.mean()
    return centred / (float(centred.std()) or 1.0)
