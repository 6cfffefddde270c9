"""What pixels a network wants: timm's own configuration, with explicit overrides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

from featurebench.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    import PIL.Image

    from featurebench.backbones.names import Architecture

OVERRIDES = ("mean", "std", "input_size", "interpolation", "crop_pct", "reduced_decoding")
INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos", "box", "hamming")


def resolve_preprocessing(
    architecture: Architecture, overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Preprocessing of a network, JSON-ready.

    Parameters
    ----------
    architecture
        Whose pretrained configuration is the default.
    overrides
        Any of ``mean`` and ``std`` (a number or three), ``input_size`` (pixels: a number,
        ``[height, width]`` or ``[3, height, width]``), ``interpolation``, ``crop_pct`` and
        ``reduced_decoding`` (true: large JPEGs are decoded at a half, a quarter or an eighth of
        their size where that is still enough, which is faster and changes the pixels a little).

    Returns
    -------
    dict
        ``input_size`` [3, height, width], ``interpolation``, ``mean``, ``std``, ``crop_pct`` and
        ``crop_mode``, as `timm.data.resolve_data_config` names them; ``reduced_decoding`` only
        where it is true.

    Raises
    ------
    WeightsError
        If a key is unknown or a value cannot be meant.
    """
    given = dict(overrides or {})
    unknown = sorted(set(given) - set(OVERRIDES))
    if unknown:
        raise WeightsError(
            f"unknown preprocessing key {unknown[0]!r}; known: {', '.join(OVERRIDES)}"
        )
    arguments = {key: _checked(key, value) for key, value in given.items()}
    reduced = arguments.pop("reduced_decoding", False)
    config = resolve_data_config(arguments, pretrained_cfg=architecture.pretrained_cfg)
    return {
        "input_size": [int(side) for side in config["input_size"]],
        "interpolation": str(config["interpolation"]),
        "mean": [float(value) for value in config["mean"]],
        "std": [float(value) for value in config["std"]],
        "crop_pct": float(config["crop_pct"]),
        "crop_mode": str(config["crop_mode"]),
        **({"reduced_decoding": True} if reduced else {}),
    }


@dataclass(frozen=True)
class Prepare:
    """Resize and crop an image to a network's input, as timm does for evaluation.

    Equal for networks that want the same pixels, whatever their mean and standard deviation; can
    be sent to other processes.

    Parameters
    ----------
    input_size
        Height and width of the result, pixels.
    interpolation, crop_pct, crop_mode
        As in `resolve_preprocessing`.
    reduced_decoding
        Whether the image may come decoded at reduced size.

    Examples
    --------
    >>> import PIL.Image
    >>> Prepare((64, 64), "bicubic", 0.875, "center")(PIL.Image.new("RGB", (90, 80))).shape
    (64, 64, 3)
    """

    input_size: tuple[int, int]
    interpolation: str
    crop_pct: float
    crop_mode: str
    reduced_decoding: bool = False

    @classmethod
    def of(cls, preprocessing: Mapping[str, Any]) -> Prepare:
        """Take what concerns the geometry from what `resolve_preprocessing` returns."""
        height, width = preprocessing["input_size"][1:]
        return cls(
            (height, width),
            preprocessing["interpolation"],
            preprocessing["crop_pct"],
            preprocessing["crop_mode"],
            preprocessing.get("reduced_decoding", False),
        )

    @property
    def min_side(self) -> int | None:
        """Shorter side, in pixels, below which an image must not be decoded; None: full size."""
        if not self.reduced_decoding:
            return None
        return math.ceil(max(self.input_size) / self.crop_pct)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result: (height, width, 3)."""
        return (*self.input_size, 3)

    @property
    def dtype(self) -> str:
        """Type of the result's elements."""
        return "uint8"

    def __call__(self, image: PIL.Image.Image) -> npt.NDArray[np.uint8]:
        """Give the RGB pixels, shape (height, width, 3)."""
        pixels: npt.NDArray[np.uint8] = _geometry(self)(image).permute(1, 2, 0).numpy()
        return pixels


def normalise(pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Turn prepared pixels into what a network takes; the same numbers as timm's transform.

    Parameters
    ----------
    pixels
        Uint8, shape (n, height, width, 3).
    mean, std
        One value per channel, for pixels from 0 to 1.

    Returns
    -------
    torch.Tensor
        Float32, shape (n, 3, height, width), in channels-last memory.
    """
    channels_first = pixels.permute(0, 3, 1, 2)
    # turned pixels come in another order in memory, in which convolutions are slower
    values = channels_first.to(torch.float32, memory_format=torch.channels_last).div_(255)
    shape = (1, 3, 1, 1)
    centre = torch.tensor(mean, device=values.device).view(shape)
    return values.sub_(centre).div_(torch.tensor(std, device=values.device).view(shape))


@lru_cache(maxsize=32)
def _geometry(prepare: Prepare) -> Callable[[PIL.Image.Image], torch.Tensor]:
    transform: Callable[[PIL.Image.Image], torch.Tensor] = create_transform(
        input_size=(3, *prepare.input_size),
        is_training=False,
        interpolation=prepare.interpolation,
        crop_pct=prepare.crop_pct,
        crop_mode=prepare.crop_mode,
        normalize=False,
    )
    return transform


def _checked(key: str, value: object) -> object:
    checked = _CHECKS[key](value)
    if checked is None:
        raise WeightsError(f"preprocessing {key} {value!r} cannot be used; {_WANTED[key]}")
    return checked


def _three_numbers(value: object) -> tuple[float, ...] | None:
    given = value if isinstance(value, list | tuple) else [value] * 3
    numbers = [number for number in map(_number, given) if number is not None]
    return tuple(numbers) if len(numbers) == len(given) == 3 else None


def _three_positive(value: object) -> tuple[float, ...] | None:
    numbers = _three_numbers(value)
    return numbers if numbers is not None and min(numbers) > 0 else None


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if math.isfinite(value) else None


def _input_size(value: object) -> tuple[int, ...] | None:
    sides = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(sides) == 3 and sides[0] == 3:
        sides = sides[1:]
    whole = [side for side in sides if isinstance(side, int) and side > 0]
    return (3, *whole) if len(whole) == len(sides) == 2 else None


def _interpolation(value: object) -> str | None:
    return value if isinstance(value, str) and value in INTERPOLATIONS else None


def _crop_pct(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and 0 < number <= 1 else None


_CHECKS: dict[str, Callable[[object], object]] = {
    "mean": _three_numbers,
    "std": _three_positive,
    "input_size": _input_size,
    "interpolation": _interpolation,
    "crop_pct": _crop_pct,
    "reduced_decoding": lambda value: value if isinstance(value, bool) else None,
}
_WANTED = {
    "mean": "give a number or three numbers, for pixels from 0 to 1",
    "std": "give a positive number or three, for pixels from 0 to 1",
    "input_size": "give pixels: a whole number, [height, width] or [3, height, width]",
    "interpolation": f"give one of {', '.join(INTERPOLATIONS)}",
    "crop_pct": "give a number above 0 and up to 1",
    "reduced_decoding": "give true or false",
}
