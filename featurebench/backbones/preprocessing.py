"""What pixels a network wants: timm's own configuration, with explicit overrides."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

from featurebench.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import PIL.Image
    import torch

    from featurebench.backbones.names import Architecture

OVERRIDES = ("mean", "std", "input_size", "interpolation", "crop_pct")
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
        ``[height, width]`` or ``[3, height, width]``), ``interpolation`` and ``crop_pct``.

    Returns
    -------
    dict
        ``input_size`` [3, height, width], ``interpolation``, ``mean``, ``std``, ``crop_pct`` and
        ``crop_mode``, as `timm.data.resolve_data_config` names them.

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
    config = resolve_data_config(  # type: ignore[no-untyped-call]
        arguments, pretrained_cfg=architecture.pretrained_cfg
    )
    return {
        "input_size": [int(side) for side in config["input_size"]],
        "interpolation": str(config["interpolation"]),
        "mean": [float(value) for value in config["mean"]],
        "std": [float(value) for value in config["std"]],
        "crop_pct": float(config["crop_pct"]),
        "crop_mode": str(config["crop_mode"]),
    }


def make_transform(
    preprocessing: Mapping[str, Any],
) -> Callable[[PIL.Image.Image], torch.Tensor]:
    """Build timm's evaluation transform: an RGB image becomes a float tensor (3, height, width).

    Parameters
    ----------
    preprocessing
        As `resolve_preprocessing` returns it.
    """
    transform: Callable[[PIL.Image.Image], torch.Tensor] = create_transform(
        input_size=tuple(preprocessing["input_size"]),
        is_training=False,
        interpolation=preprocessing["interpolation"],
        mean=tuple(preprocessing["mean"]),
        std=tuple(preprocessing["std"]),
        crop_pct=preprocessing["crop_pct"],
        crop_mode=preprocessing["crop_mode"],
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
}
_WANTED = {
    "mean": "give a number or three numbers, for pixels from 0 to 1",
    "std": "give a positive number or three, for pixels from 0 to 1",
    "input_size": "give pixels: a whole number, [height, width] or [3, height, width]",
    "interpolation": f"give one of {', '.join(INTERPOLATIONS)}",
    "crop_pct": "give a number above 0 and up to 1",
}
