"""RecipeSearch: how and where a recipe is searched, with the same budget as the heads."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from featurebench.errors import ConfigError
from featurebench.finetuning.recipe import check_keys
from featurebench.heads.search import Range, SearchPlan, parse_space
from featurebench.heads.search.space import as_json

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_SPACE: dict[str, Any] = {
    "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
    "weight_decay": {"low": 1e-5, "high": 0.3, "log": True},
}
"""Where a recipe is searched when the experiment does not say."""

# What fixes the start, the data or the loss rather than how they are learnt from, and a preset,
# which is no key of a recipe.
_NOT_SEARCHED = (
    "model",
    "weights",
    "model_args",
    "preprocessing",
    "image_size",
    "monitor",
    "validation_fraction",
    "class_weight",
    "preset",
)


@dataclass(frozen=True)
class RecipeSearch:
    """How and where the recipe of every fold is searched.

    The least monitored loss that a configuration reaches on the fold's inner validation tiles
    counts; with pruning, a trial is given up after an epoch when its least loss so far is above
    the median of the complete trials' at that epoch. The first trial is the recipe as it is.

    Parameters
    ----------
    plan
        Method and budget, as for the heads.
    space
        By key of `Recipe`, as `featurebench.heads.search.parse_space` reads it.

    Raises
    ------
    ConfigError
        If the space or its keys cannot be used.
    """

    plan: SearchPlan
    space: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_keys(self.space)
        for key in self.space:
            if key in _NOT_SEARCHED:
                raise ConfigError(
                    f"search: {key!r} cannot be searched: give entries of their own, as a list"
                )
        for key, parameter in parse_space(self.space).items():
            if self.plan.method == "grid" and isinstance(parameter, Range):
                raise ConfigError(
                    f"search: {key!r} is a range; a grid needs its values, such as "
                    f"[{parameter.low:g}, {parameter.high:g}], or use method: tpe"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {**asdict(self.plan), "space": as_json(self.space)}
