"""Augmentation: how far training may turn, zoom, tint, restain and mix its tiles."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from featurebench.errors import ConfigError

_SWITCHES: Final = ("flips", "quarter_turns")
_INHERITING: Final = ("brightness", "contrast", "saturation")
_FRACTIONS: Final = ("color_jitter", *_INHERITING, "stain")
_ALPHAS: Final = ("mixup", "cutmix")


@dataclass(frozen=True)
class Augmentation:
    """What is done to the tiles of a training batch; checked when it is made.

    Numbers are drawn for each tile on its own. 0 switches a transform off, which leaves the draws
    of all others in the batch as they were.

    Parameters
    ----------
    flips
        Mirror left to right and top to bottom, each for half of the tiles.
    quarter_turns
        Turn by 0, 90, 180 or 270 degrees; with `flips` all eight symmetries of the square are
        equally likely. Neither computes a pixel anew.
    rotation
        Largest free rotation in degrees, either way, 0 to 180.
    zoom
        Largest relative change of scale, 0 to 1: the scale is drawn from 1 / (1 + zoom) to
        1 + zoom, uniform in its logarithm.
    color_jitter
        Largest relative change of brightness, contrast and saturation, below 1.
    brightness, contrast, saturation
        The same for one of them alone; None takes `color_jitter`.
    stain
        Largest change of the amounts of haematoxylin, eosin and the rest in optical density,
        relative and absolute, below 1. 0.05 is the light variant of Tellez et al. (2019),
        doi:10.1016/j.media.2019.101544.
    mixup, cutmix
        Parameter alpha of the Beta(alpha, alpha) distribution of the mixing share; see `mix`.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    flips: bool = True
    quarter_turns: bool = True
    rotation: float = 0.0
    zoom: float = 0.0
    color_jitter: float = 0.1
    brightness: float | None = None
    contrast: float | None = None
    saturation: float | None = None
    stain: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name in _SWITCHES:
            value = getattr(self, name)
            _require(name, value, isinstance(value, bool), "true or false")
        self._check_number("rotation", 180.0, "from 0 to 180 degrees")
        self._check_number("zoom", 1.0, "from 0 to 1")
        below_one = math.nextafter(1.0, 0.0)
        for name in _FRACTIONS:
            if name not in _INHERITING or getattr(self, name) is not None:
                self._check_number(name, below_one, "at least 0 and below 1")
        largest = math.nextafter(math.inf, 0.0)
        for name in _ALPHAS:
            self._check_number(name, largest, "0 or more")

    def _check_number(self, name: str, top: float, demand: str) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        _require(name, value, is_number and 0 <= value <= top, demand)
        # 15 and 15.0 are one setting, and must not become two runs.
        object.__setattr__(self, name, float(value))

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Augmentation:
        """Make settings from a mapping such as the experiment file's; what it lacks is default.

        Raises
        ------
        ConfigError
            If a key is unknown or a value is out of range.

        Examples
        --------
        >>> Augmentation.of({"rotation": 15}).rotation
        15.0
        """
        if not isinstance(settings, Mapping):
            raise ConfigError(
                f"augmentation {settings!r} is not a mapping: give one such as {{rotation: 15}}"
            )
        known = [field.name for field in fields(cls)]
        unknown = [key for key in settings if key not in known]
        if unknown:
            nearest = difflib.get_close_matches(str(unknown[0]), known, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"use {', '.join(known)}"
            raise ConfigError(f"augmentation: unknown key {unknown[0]!r}: {hint}")
        return cls(**settings)

    @classmethod
    def none(cls) -> Augmentation:
        """Return the settings that leave every tile as it is."""
        return cls(flips=False, quarter_turns=False, color_jitter=0.0)

    @property
    def color_limits(self) -> dict[str, float]:
        """Largest relative change of brightness, contrast and saturation, in this order."""
        own = {name: getattr(self, name) for name in _INHERITING}
        return {name: self.color_jitter if own[name] is None else own[name] for name in own}

    @property
    def mixes(self) -> bool:
        """Whether tiles are mixed with each other, so that targets are shares of classes."""
        return bool(self.mixup or self.cutmix)


def _require(name: str, value: object, fulfilled: bool, demand: str) -> None:
    if not fulfilled:
        raise ConfigError(f"{name} {value!r} cannot be used: it must be {demand}")
