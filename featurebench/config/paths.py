"""Paths and weights in the experiment file: relative to it, wherever the work is started."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer, SerializationInfo, ValidationInfo

FOREIGN = "foreign"
WEIGHT_SOURCES = ("hub", "package", "random", FOREIGN)


def relative_weights(weights: str, info: SerializationInfo) -> str:
    """Write a weight file's path as it is from where the file will lie; other words as they are."""
    return weights if weights in WEIGHT_SOURCES else _relative(Path(weights), info)


def _anchor(path: Path, info: ValidationInfo) -> Path:
    """Relative paths are relative to the experiment file."""
    base: Path = (info.context or {}).get("base", Path())
    return Path(os.path.normpath(base / path.expanduser()))


def _relative(path: Path, info: SerializationInfo) -> str:
    base = (info.context or {}).get("base")
    return path.as_posix() if base is None else Path(os.path.relpath(path, base)).as_posix()


def _anchor_weights(weights: str, info: ValidationInfo) -> str:
    return weights if weights in WEIGHT_SOURCES else str(_anchor(Path(weights), info))


FilePath = Annotated[Path, AfterValidator(_anchor), PlainSerializer(_relative)]
Weights = Annotated[str, AfterValidator(_anchor_weights), PlainSerializer(relative_weights)]
ModelName = Annotated[str, Field(min_length=1)]
