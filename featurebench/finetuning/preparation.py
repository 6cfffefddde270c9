"""What comes before training: the identity of an arm, and all that its folds have in common."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from featurebench.backbones import state_sha256
from featurebench.backbones.network import reset_classifier
from featurebench.errors import ConfigError
from featurebench.finetuning.dataset import TilePixels
from featurebench.finetuning.feed import Feed
from featurebench.finetuning.folds import fold_key
from featurebench.finetuning.learner import FoldLearner
from featurebench.finetuning.starting import create, weights_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    import numpy.typing as npt

    from featurebench.finetuning.recipe import Recipe
    from featurebench.tiles import TileManifest


@dataclass(frozen=True)
class Start:
    """Where fine-tuning starts; with the seed and the plan it is the identity of the arm.

    Parameters
    ----------
    params
        Everything else that changes the numbers, resolved and JSON-ready.
    fingerprint
        Hash of the starting weights without the classification layer.
    """

    params: Mapping[str, Any]
    fingerprint: str


def identify(
    recipe: Recipe, *, repeats: int, grouped: bool, base_dir: Path | None = None, seed: int = 0
) -> Start:
    """Load the network and resolve the recipe, without training.

    Parameters
    ----------
    repeats
        Repeats of the plan that will be run.
    grouped
        Whether the inner validation split is grouped by patient.
    base_dir
        Folder that a relative path of a weight file is relative to.
    seed
        As given to `fine_tune`.

    Returns
    -------
    Start
        With the ``params`` and ``fingerprint`` that `fine_tune` will put into its `RunResult`.

    Raises
    ------
    ConfigError
        If the strategy does not apply to the network, or a setting cannot be used.
    WeightsError
        If the network or its weights cannot be had.
    """
    if seed < 0:
        raise ConfigError(f"seed {seed} cannot be used: it must be 0 or more")
    network, preprocessing = create(recipe, 0, base_dir=base_dir, seed=seed)
    fingerprint = state_sha256(network)
    reset_classifier(network, 2)
    recipe.parsed_strategy.check(network)
    params = recipe.to_dict() | {
        # The fingerprint stands for a file's content, wherever it lies.
        "weights": Path(weights_of(recipe)).name,
        "preprocessing": preprocessing,
        "image_size": preprocessing["input_size"][-1],
        "repeats": repeats,
        "grouped": grouped,
    }
    return Start(params, fingerprint)


def prepare(
    manifest: TileManifest,
    recipe: Recipe,
    start: Start,
    *,
    plan_id: str,
    groups: npt.NDArray[np.int64] | None,
    seed: int,
    device: torch.device,
    workers: int,
    **further: Any,  # noqa: ANN401
) -> FoldLearner:
    """Make what learns the folds of an arm.

    Parameters
    ----------
    start
        From `identify`.
    plan_id
        Of the plan that the folds are of.
    further
        Other fields of `FoldLearner`.
    """
    wanted = start.params["preprocessing"]
    pixels = TilePixels(
        manifest, start.params["image_size"], wanted["interpolation"], workers=workers
    )
    # how many repeats are run does not change a fold's numbers
    params = {name: value for name, value in start.params.items() if name != "repeats"}
    return FoldLearner(
        recipe=recipe,
        feed=Feed(pixels, wanted["mean"], wanted["std"], device, recipe.batch_size),
        labels=manifest.labels,
        groups=groups,
        classes=manifest.classes,
        seed=seed,
        key=fold_key(
            params,
            start.fingerprint,
            plan_id,
            seed,
            manifest.classes,
            manifest.sha256,
            manifest.labels,
            groups,
        ),
        **further,
    )


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Set the processor threads of torch for a while; None leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
