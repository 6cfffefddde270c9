"""How far fine-tuning moved a network: linear CKA to its start by stage, on held-out tiles."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from featurebench.backbones import stage_names
from featurebench.backbones.network import reset_classifier
from featurebench.backbones.taps import FINAL, TappedNetwork, resolve_tap
from featurebench.errors import WeightsError
from featurebench.stats import linear_cka

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featurebench.finetuning.feed import Feed

Rows = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float32]
# The debiased estimator is undefined for fewer.
_LEAST_TILES = 4


@dataclass(frozen=True)
class Drift:
    """A fine-tuned network's features, and how like those that it started from they still are.

    Parameters
    ----------
    cka
        Debiased linear CKA of each stage's features, averaged over positions, first stage to last,
        then ``final``: what the classifier sees. 1 is as at the start. Stages that cannot be
        averaged so are left out. None where it is undefined: features that do not vary or are not
        finite, or fewer than 4 tiles.
    features
        Float16, shape (n_rows, dim): what the fine-tuned network's classifier sees of every row.
    n_tiles
        Tiles that ``cka`` was computed on.
    """

    cka: Mapping[str, float | None]
    features: npt.NDArray[np.float16]
    n_tiles: int


def measure_drift(
    start: torch.nn.Module,
    tuned: torch.nn.Module,
    feed: Feed,
    rows: Rows,
    *,
    max_tiles: int = 2000,
    seed: int,
) -> Drift:
    """Compare a network before and after fine-tuning on tiles that it was not trained on.

    Both are left as they are, modes and classifiers included: copies of them do the work.

    Parameters
    ----------
    start, tuned
        timm networks of one architecture, each with a classifier of any kind or none.
    feed
        Gives the tiles; the work is done on its device, in float32 and evaluation mode.
    rows
        Held-out tiles.
    max_tiles
        CKA takes at most so many of them, drawn from ``seed``: its work grows with the tiles and
        the square of the features' widths.

    Returns
    -------
    Drift
        A feature beyond the range of float16 (65,504) is kept as infinite.
    """
    chosen = _draw(len(rows), max_tiles, seed)
    before, after = _without_classifier(start, feed), _without_classifier(tuned, feed)
    stages = [*_readable_stages(before, feed, rows), FINAL]
    # Side by side on the same batches: equal weights then give equal bits.
    old, new = _features([before, after], stages, feed, rows[chosen])
    features = np.empty((len(rows), new[-1].shape[1]), dtype=np.float16)
    others = np.setdiff1d(np.arange(len(rows)), chosen)
    with np.errstate(over="ignore"):
        features[chosen] = new[-1]
        if len(others):
            features[others] = _features([after], [FINAL], feed, rows[others])[0][0]
    cka = {name: _cka(x, y) for name, x, y in zip(stages, old, new, strict=True)}
    return Drift(cka, features, len(chosen))


def _draw(n_rows: int, max_tiles: int, seed: int) -> Rows:
    if n_rows <= max_tiles:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, max_tiles, replace=False))


def _without_classifier(network: torch.nn.Module, feed: Feed) -> torch.nn.Module:
    bare = copy.deepcopy(network).to(feed.device).eval()
    reset_classifier(bare, 0)
    # As the feed's images are: faster, and both networks compute in the same way.
    return bare.to(memory_format=torch.channels_last)


@torch.inference_mode()
def _readable_stages(network: torch.nn.Module, feed: Feed, rows: Rows) -> list[str]:
    """List the stages that one tile shows to work: timm names some that cannot be tapped."""
    readable = []
    (images,) = feed.batches([rows[:1]])
    for name in stage_names(network):
        try:
            _tapped(network, [name])(images)
        except WeightsError:
            continue
        readable.append(name)
    return readable


def _tapped(network: torch.nn.Module, layers: Sequence[str]) -> TappedNetwork:
    return TappedNetwork(network, [resolve_tap(network, layer, None) for layer in layers])


def _features(
    networks: Sequence[torch.nn.Module], layers: Sequence[str], feed: Feed, rows: Rows
) -> list[list[Floats]]:
    """Run networks side by side; features by network and layer, each of shape (n_rows, dim)."""
    tapped = [_tapped(network, layers) for network in networks]
    batches = np.array_split(rows, max(1, -(-len(rows) // feed.batch_size)))
    parts: list[list[list[Floats]]] = [[[] for _ in layers] for _ in networks]
    with torch.inference_mode():
        for images in feed.batches(batches):
            for network, of_network in zip(tapped, parts, strict=True):
                for output, of_layer in zip(network(images), of_network, strict=True):
                    of_layer.append(output.float().cpu().numpy())
    return [[np.concatenate(of_layer) for of_layer in of_network] for of_network in parts]


def _cka(x: Floats, y: Floats) -> float | None:
    if len(x) < _LEAST_TILES or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    cka = linear_cka(x, y, debiased=True)
    return None if math.isnan(cka) else cka
