"""Preparations that end, hang or slow down the process that they run in; quick to import."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

SIDE = 40


@dataclass(frozen=True)
class Pixels:
    """The tile as it is."""

    shape: tuple[int, ...] = (SIDE, SIDE, 3)
    dtype: str = "uint8"
    min_side: None = None

    def __call__(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        return np.asarray(image)


@dataclass(frozen=True)
class Poisoned(Pixels):
    """The tile as it is, if it is not one that `write_poison` wrote."""

    marks: str = ""

    def __call__(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        pixels = super().__call__(image)
        if (pixels == pixels[0, 0, 0]).all():
            list(POISONS.values())[pixels[0, 0, 0]](Path(self.marks))
        return pixels


@dataclass(frozen=True)
class Slow(Pixels):
    """Takes its time over tiles that are dark in a corner."""

    def __call__(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        pixels = super().__call__(image)
        time.sleep(0.02 * int(pixels[0, 0, 0] < 64))
        return pixels


@dataclass(frozen=True)
class Lost(Pixels):
    """Cannot be unpickled where it arrives."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _stay_away, ()


def write_poison(path: Path, kind: str) -> None:
    """Write a tile of one colour that stands for what happens when it is prepared."""
    Image.new("RGB", (SIDE, SIDE), (list(POISONS).index(kind),) * 3).save(path)


def _stay_away() -> None:
    raise RuntimeError("not here")


def _kill(_marks: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _exit(_marks: Path) -> None:
    os._exit(3)


def _hang(marks: Path) -> None:
    (marks / f"hanging-{os.getpid()}").touch()
    time.sleep(1e6)


def _die_once(marks: Path) -> None:
    if not (marks / "died").exists():
        (marks / "died").touch()
        _kill(marks)


def _run_out_of_memory(_marks: Path) -> None:
    raise MemoryError


def _fail(_marks: Path) -> None:
    raise ZeroDivisionError("a mistake in the preparation")


POISONS: dict[str, Callable[[Path], None]] = {
    "kill": _kill,
    "exit": _exit,
    "hang": _hang,
    "once": _die_once,
    "memory": _run_out_of_memory,
    "bug": _fail,
}
