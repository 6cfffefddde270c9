"""Fine-tuning: a network trained on pixels, on the same folds and with the same result type."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurebench.finetuning.preparation import Start, identify
    from featurebench.finetuning.recipe import PRESETS, Recipe, check_keys, with_preset
    from featurebench.finetuning.run import count_passes, fine_tune
    from featurebench.finetuning.spaces import DEFAULT_SPACE, RecipeSearch
    from featurebench.finetuning.strategies import FORMS, Strategy
    from featurebench.finetuning.subsets import fine_tune_subsets

# torch and timm take seconds to import, and a recipe's presets need neither
_HOMES = {
    "FORMS": "strategies",
    "DEFAULT_SPACE": "spaces",
    "PRESETS": "recipe",
    "Recipe": "recipe",
    "RecipeSearch": "spaces",
    "Start": "preparation",
    "Strategy": "strategies",
    "check_keys": "recipe",
    "count_passes": "run",
    "fine_tune": "run",
    "fine_tune_subsets": "subsets",
    "identify": "preparation",
    "with_preset": "recipe",
}

__all__ = [
    "DEFAULT_SPACE",
    "FORMS",
    "PRESETS",
    "Recipe",
    "RecipeSearch",
    "Start",
    "Strategy",
    "check_keys",
    "count_passes",
    "fine_tune",
    "fine_tune_subsets",
    "identify",
    "with_preset",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the module that holds ``name`` when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return __all__
