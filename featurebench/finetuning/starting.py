"""The network that training on a fold starts from: weights, classifier, adapters, the probe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurebench.backbones import create_network
from featurebench.errors import ConfigError
from featurebench.finetuning.adapters import pre_logits, replace_classifier
from featurebench.finetuning.feed import predict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from torch import nn

    from featurebench.finetuning.feed import Feed, Rows
    from featurebench.finetuning.recipe import Recipe

Floats = npt.NDArray[np.float64]


def create(
    recipe: Recipe, num_classes: int, *, base_dir: Path | None, seed: int
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network to start from, for the image size asked for, and its preprocessing.

    Parameters
    ----------
    num_classes
        0 leaves the features.
    seed
        Of what the weights do not fix; of all of it where the strategy starts from random weights.

    Raises
    ------
    ConfigError, WeightsError
        If the recipe and the network do not fit.
    """
    preprocessing = dict(recipe.preprocessing)
    if recipe.image_size is not None:
        preprocessing["input_size"] = recipe.image_size
    model_args = dict(recipe.model_args)
    if recipe.drop_rate is not None:
        model_args["drop_rate"] = recipe.drop_rate
    network, resolved = create_network(
        recipe.model,
        num_classes=num_classes,
        weights=weights_of(recipe),
        model_args=model_args,
        preprocessing=preprocessing,
        base_dir=base_dir,
        seed=seed,
    )
    height, width = resolved["input_size"][-2:]
    if height != width:
        raise ConfigError(f"input size {height} x {width} is not square: give image_size")
    if num_classes and recipe.head != "linear":
        replace_classifier(
            network,
            num_classes,
            head=recipe.head,
            hidden=recipe.hidden,
            dropout=recipe.dropout,
            seed=seed,
        )
    return network, resolved


def weights_of(recipe: Recipe) -> str:
    """Return which weights are loaded: from ``scratch`` it is none, whatever the recipe says."""
    return "random" if recipe.parsed_strategy.random_start else recipe.weights


def frozen_features(network: nn.Module, feed: Feed, rows: Rows) -> torch.Tensor:
    """Compute what the classifier sees of tiles as they are; float32, shape (n_rows, dim)."""
    network.eval()
    return predict(lambda images: pre_logits(network, images), feed, rows, lambda _: None)


def solve_probe(
    features: Floats | npt.NDArray[np.float32],
    codes: npt.NDArray[np.int64],
    n_classes: int,
    *,
    C: float | str | None,
    class_weight: object = None,
    cv: Sequence[tuple[Rows, Rows]] | None = None,
) -> tuple[Floats, Floats, float]:
    """Solve the logistic probe of features and write it for features as they are.

    Parameters
    ----------
    features, codes
        Shapes (n_rows, dim) and (n_rows,).
    C, class_weight, cv
        As of `LogisticProbe`.

    Returns
    -------
    coef, intercept, C
        Shapes (n_classes, dim) and (n_classes,), whose softmax is the probe's `predict_proba`; and
        the inverse penalty taken. A class without rows is nearly impossible.
    """
    from featurebench.heads import LogisticProbe

    probe = LogisticProbe(C, class_weight=class_weight, cv=cv)  # type: ignore[arg-type]
    probe.fit(features, codes)
    # Standardising is affine, so its values at the origin and the unit vectors tell all of it.
    points = np.vstack([np.zeros(features.shape[1]), np.eye(features.shape[1])])
    values = probe.decision_function(points)
    if values.ndim == 1:
        values = np.stack([-values, values], axis=1) / 2
    present = probe.classes_
    coef = np.zeros((n_classes, features.shape[1]))
    intercept = np.full(n_classes, values[0].min() - np.log(len(codes)))
    coef[present] = (values[1:] - values[0]).T
    intercept[present] = values[0]
    return coef, intercept, float(probe.C_)
