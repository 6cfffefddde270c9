"""Draws one H&E-like tile: glands, stroma and nuclei as maps of stain concentration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from featurebench.tiles.staining import Stain, expose

if TYPE_CHECKING:
    from collections.abc import Sequence

Image = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]

# Half-width in pixels of the square that one nucleus is drawn in.
STAMP = 13


@dataclass(frozen=True)
class Morphology:
    """What distinguishes tissues, in standard deviations from the average tissue.

    The first three are the factors that the class may shift; the others are nuisance that differs
    between patients.
    """

    size: float = 0.0
    density: float = 0.0
    pleomorphism: float = 0.0
    glands: float = 0.0
    collagen: float = 0.0


@dataclass(frozen=True)
class _Glands:
    """Glands of a tile: radial position (0 centre, 1 outline) and angle of every pixel."""

    radius: Image
    lumen: float
    centers: Vector
    outline: tuple[tuple[float, list[float], list[float]], ...]


def draw_tile(
    morphology: Morphology,
    stain: Stain,
    size: int,
    rng: np.random.Generator,
    *,
    relief: Image | None = None,
) -> npt.NDArray[np.uint8]:
    """Draw a tile of glands in stroma, at about 0.7 micrometres per pixel.

    Parameters
    ----------
    morphology
        What the tissue is like.
    stain
        How it is stained and scanned.
    size
        Width and height in pixels; a larger tile shows more tissue, not larger nuclei.
    rng
        The tile's own generator.
    relief
        Factor on the amounts of both stains, shape (size, size).

    Returns
    -------
    numpy.ndarray
        RGB, shape (size, size, 3).
    """
    glands = _place_glands(morphology, size, rng)
    angle = float(rng.uniform(0.0, np.pi))
    eosin, haematoxylin = _tissue(morphology, glands, angle, size, rng)
    nuclei = np.concatenate(
        [_gland_nuclei(morphology, glands, rng), _stroma_nuclei(morphology, glands, angle, rng)]
    )
    stained = _draw_nuclei(nuclei, morphology, size, rng)
    haematoxylin = np.maximum(haematoxylin, stained)
    solid = np.minimum(stained, 1.0)
    eosin = np.asarray(eosin * (1.0 - 0.5 * solid) + 0.1 * solid, dtype=np.float32)
    return expose(haematoxylin, eosin, stain, rng, relief=relief)


def _noise(size: int, length: float, width: float, angle: float, rng: np.random.Generator) -> Image:
    """Smooth Gaussian noise of unit variance, correlated over ``length`` along ``angle``."""
    fy = fft.fftfreq(size).astype(np.float32)[:, None]
    fx = fft.rfftfreq(size).astype(np.float32)[None, :]
    along = fx * math.cos(angle) + fy * math.sin(angle)
    across = fy * math.cos(angle) - fx * math.sin(angle)
    kernel = np.exp(-2.0 * math.pi**2 * ((length * along) ** 2 + (width * across) ** 2))
    white = rng.standard_normal((size, size), dtype=np.float32)
    smooth = fft.irfft2(fft.rfft2(white) * kernel, s=(size, size))
    return np.asarray(smooth / smooth.std(), dtype=np.float32)


def _place_glands(morphology: Morphology, size: int, rng: np.random.Generator) -> _Glands:
    """Place glands with wavy outlines; a tile has about one per 70 x 70 pixels."""
    expected = (size / 70.0) ** 2 * np.exp(0.25 * morphology.glands)
    count = int(rng.poisson(expected))
    centers = rng.uniform(0.0, size, (count, 2))
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    radius = np.full((size, size), 9.0, dtype=np.float32)
    outline = []
    for cy, cx in centers.tolist():
        mean = float(rng.uniform(18.0, 30.0))
        wave = rng.normal(0.0, [0.16, 0.06, 0.04]).tolist()
        phase = rng.uniform(0.0, 2.0 * np.pi, 3).tolist()
        reach = mean * _waves(np.arctan2(y - cy, x - cx), wave, phase)
        radius = np.minimum(radius, np.hypot(y - cy, x - cx) / reach)
        outline.append((mean, wave, phase))
    return _Glands(radius, float(rng.uniform(0.3, 0.6)), centers, tuple(outline))


def _waves(theta: npt.NDArray[Any], wave: Sequence[float], phase: Sequence[float]) -> Vector:
    """Distance of an outline from its centre at the angles theta, on average 1."""
    total = np.ones_like(theta)
    for k, (amplitude, shift) in enumerate(zip(wave, phase, strict=True), 2):
        total += amplitude * np.cos(k * theta + shift)
    return np.asarray(np.clip(total, 0.5, 1.6))


def _tissue(
    morphology: Morphology, glands: _Glands, angle: float, size: int, rng: np.random.Generator
) -> tuple[Image, Image]:
    """Concentrations of eosin and haematoxylin in everything but nuclei."""
    fibres = _noise(size, 9.0, 1.0, angle, rng) + 0.7 * _noise(size, 6.0, 0.8, angle + 0.5, rng)
    clefts = _noise(size, 12.0, 3.0, angle + 0.2, rng)
    stroma = (0.3 + 0.03 * morphology.collagen) * (1.0 + 0.24 * fibres)
    stroma *= _step(clefts + 1.25, 0.15)
    cell = 0.22 + 0.025 * _noise(size, 2.5, 2.5, 0.0, rng)
    inside = _step(1.0 - glands.radius, 0.03)
    lumen = _step(glands.lumen - glands.radius + 0.04 * clefts, 0.03)
    eosin = stroma * (1.0 - inside) + cell * inside
    eosin += 0.12 * np.exp(-(((glands.radius - 1.04) / 0.04) ** 2))
    haematoxylin = 0.02 + 0.1 * inside
    empty = 1.0 - 0.96 * lumen
    return np.clip(eosin * empty, 0.0, None).astype(np.float32), (haematoxylin * empty).astype(
        np.float32
    )


def _step(value: Image, softness: float) -> Image:
    """Go from 0 to 1 where the value goes from below 0 to above."""
    return np.asarray(0.5 + 0.5 * np.tanh(value / softness), dtype=np.float32)


def _gland_nuclei(morphology: Morphology, glands: _Glands, rng: np.random.Generator) -> Vector:
    """Nuclei in a ring near each gland's outline, turned to its centre: y, x, angle, length."""
    rows = [np.empty((0, 4))]
    for (cy, cx), (mean, wave, phase) in zip(glands.centers.tolist(), glands.outline, strict=True):
        spacing = 9.5 * np.exp(-0.14 * morphology.density)
        count = max(6, round(2.0 * np.pi * 0.8 * mean / spacing))
        theta = 2.0 * np.pi * (np.arange(count) + rng.uniform(-0.3, 0.3, count)) / count
        depth = 0.8 + 0.04 * (1.0 + 0.4 * morphology.pleomorphism) * rng.standard_normal(count)
        reach = np.clip(depth, 0.62, 0.93) * mean * _waves(theta, wave, phase)
        turn = theta + 0.15 * rng.standard_normal(count)
        y, x = cy + reach * np.sin(theta), cx + reach * np.cos(theta)
        rows.append(np.stack([y, x, turn, np.full(count, 1.35)], axis=1))
    nuclei = np.concatenate(rows)
    return nuclei[_radius_at(glands, nuclei) > glands.lumen + 0.12]


def _radius_at(glands: _Glands, nuclei: Vector) -> Image:
    """Radial position of points, those outside the tile taken at its border."""
    row, column = np.clip(nuclei[:, :2], 0, len(glands.radius) - 1).astype(np.intp).T
    return np.asarray(glands.radius[row, column])


def _stroma_nuclei(
    morphology: Morphology, glands: _Glands, angle: float, rng: np.random.Generator
) -> Vector:
    """Nuclei scattered between glands, many along the fibres: y, x, angle, length."""
    size = len(glands.radius)
    pitch = 13.5 * np.exp(-0.14 * morphology.density)
    ticks = np.arange(-0.5, size / pitch + 1.0)
    y, x = (grid.ravel() * pitch for grid in np.meshgrid(ticks, ticks, indexing="ij"))
    y, x = (v + pitch * rng.uniform(-0.42, 0.42, v.size) for v in (y, x))
    turn = angle + 0.35 * rng.standard_normal(y.size)
    long = np.where(rng.uniform(size=y.size) < 0.55, 1.75, 1.1)
    nuclei = np.stack([y, x, turn, long], axis=1)
    kept = (_radius_at(glands, nuclei) > 1.12) & (rng.uniform(size=y.size) < 0.72)
    return np.asarray(nuclei[kept])


def _draw_nuclei(
    nuclei: Vector, morphology: Morphology, size: int, rng: np.random.Generator
) -> Image:
    """Haematoxylin of all nuclei; overlapping ones are merged by the larger concentration.

    Each nucleus is an ellipse with a wavy outline, a dark membrane, clumped chromatin and, where
    cells are pleomorphic, a nucleolus. Areas are log-normal; their spread grows with pleomorphism.
    """
    n = len(nuclei)
    spread = 0.13 * np.exp(0.38 * morphology.pleomorphism)
    scale = np.exp(0.13 * morphology.size + spread * rng.standard_normal(n))
    axis = np.clip(3.6 * scale, 1.6, 9.0)
    long = nuclei[:, 3] * np.exp(0.6 * spread * rng.standard_normal(n))
    a, b = (_column(v) for v in (axis * np.sqrt(long), axis / np.sqrt(long)))
    grid = np.arange(-STAMP, STAMP + 1, dtype=np.float32)
    corner = np.floor(nuclei[:, :2])
    dy = grid[None, :, None] - _column(nuclei[:, 0] - corner[:, 0])
    dx = grid[None, None, :] - _column(nuclei[:, 1] - corner[:, 1])
    cos, sin = _column(np.cos(nuclei[:, 2])), _column(np.sin(nuclei[:, 2]))
    u, v = (dx * cos + dy * sin) / a, (dy * cos - dx * sin) / b
    bumps = rng.normal(0.0, 0.4 * spread, (2, n))
    radius = _wavy_radius(u, v, _column(bumps[0]), _column(bumps[1]))
    body = _step((1.0 - radius) * b, 0.8)
    dark = _column(np.exp(0.5 * spread * rng.standard_normal(n)))
    profile = 0.6 + 0.26 * np.exp(-(((radius - 0.82) / 0.16) ** 2))
    nucleolus = np.exp(-((u - 0.2) ** 2 + v**2) * (a * b) / 2.2)
    profile += _column(np.clip(rng.normal(1.6 * spread - 0.1, 0.15, n), 0.0, 0.8)) * nucleolus
    chromatin = 1.0 + 0.2 * _noise(size, 1.1, 1.1, 0.0, rng)
    return _paste(body * profile * dark, corner.astype(np.intp), size) * chromatin


def _wavy_radius(u: npt.NDArray[Any], v: npt.NDArray[Any], cosine: Image, sine: Image) -> Image:
    """Radius relative to an outline with three bumps, by cos and sin of three times the angle."""
    square = u * u + v * v
    radius = np.sqrt(square) + np.float32(1e-6)
    waves = cosine * u * (square - 4.0 * v * v) + sine * v * (4.0 * u * u - square)
    return np.asarray(radius / np.maximum(1.0 + waves / radius**3, 0.4))


def _column(values: Vector) -> Image:
    return values.astype(np.float32)[:, None, None]


def _paste(stamps: Image, corner: npt.NDArray[np.intp], size: int) -> Image:
    """Lay stamps on a canvas with a margin, keeping the maximum, and cut the margin off."""
    margin = 2 * STAMP + 1
    side = size + 2 * margin
    canvas = np.zeros((side, side), dtype=np.float32)
    width = 2 * STAMP + 1
    top = np.clip(corner + margin - STAMP, 0, side - width)
    for stamp, (y, x) in zip(stamps, top, strict=True):
        window = canvas[y : y + width, x : x + width]
        np.maximum(window, stamp, out=window)
    return canvas[margin:-margin, margin:-margin]
