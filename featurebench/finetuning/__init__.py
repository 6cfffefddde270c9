"""Fine-tuning: a network trained on pixels, on the same folds and with the same result type."""

from featurebench.finetuning.recipe import STRATEGIES, Recipe
from featurebench.finetuning.run import Start, count_passes, fine_tune, identify

__all__ = ["STRATEGIES", "Recipe", "Start", "count_passes", "fine_tune", "identify"]
