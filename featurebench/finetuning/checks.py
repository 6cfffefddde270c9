"""What `fine_tune` refuses before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from featurebench.errors import ConfigError, SplitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from featurebench.finetuning.recipe import Recipe
    from featurebench.splits import SplitPlan
    from featurebench.tiles import TileManifest


def check_tiles(
    manifest: TileManifest, plan: SplitPlan, groups: npt.NDArray[np.int64] | None
) -> None:
    """Make sure that tiles, plan and groups are of the same tiles."""
    if manifest.table["tile_id"].astype(str).to_list() != plan.tile_ids.tolist():
        raise SplitError(
            f"the plan of {plan.n_tiles} tiles is not of these {len(manifest)} tiles in this order:"
            " draw the folds again"
        )
    if groups is not None and len(groups) != len(manifest):
        raise SplitError(f"{len(groups)} groups for {len(manifest)} tiles: give one per tile")


def check_class_weight(recipe: Recipe, classes: Sequence[str]) -> None:
    """Refuse a weight of a class that there is not."""
    named = [] if isinstance(recipe.class_weight, str) else list(recipe.class_weight or {})
    for name in named:
        if name not in classes:
            raise ConfigError(f"class_weight names {name!r}: the classes are {', '.join(classes)}")


def check_processes(data_parallel: int, devices: Sequence[torch.device], recipe: Recipe) -> None:
    """Refuse more processes than can share a batch, or than there are devices."""
    most = recipe.batch_size // 2
    if not 1 <= data_parallel <= most:
        raise ConfigError(
            f"data_parallel {data_parallel} cannot be used: give 1 to {most}, each process needs 2 "
            f"of the batch_size {recipe.batch_size}"
        )
    if data_parallel > 1 and len(devices) > 1:
        raise ConfigError(
            f"data_parallel {data_parallel} cannot be used with {len(devices)} devices: folds are "
            "trained side by side or shared out, not both"
        )
    if devices[0].type == "cuda" and data_parallel > torch.cuda.device_count():
        raise ConfigError(
            f"data_parallel {data_parallel} cannot be used: torch finds "
            f"{torch.cuda.device_count()} GPUs here, give no more"
        )


def checked_device(name: str) -> torch.device:
    """Read the name of a device that is there."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is unknown to torch: use cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} cannot be used: torch finds no CUDA here, use cpu")
    return device
