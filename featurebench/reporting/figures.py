"""From the summary to its charts by name, as the templates show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featurebench.reporting import ablation_chart
from featurebench.reporting.answer import primary_of
from featurebench.reporting.arm_charts import panels
from featurebench.reporting.cohort_charts import (
    classes_chart,
    example_tiles,
    patients_chart,
    plan_chart,
    sites_chart,
)
from featurebench.reporting.confusion import matrices
from featurebench.reporting.forest import forest_of
from featurebench.reporting.legend import class_key
from featurebench.reporting.line_charts import drift_panels, learning_panels
from featurebench.reporting.ranking import ranked_arms
from featurebench.reporting.strips import fold_scores_of, seeds_strips

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["drift_panels", "figures", "learning_panels", "ranked_arms"]


def figures(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return every chart of the report by name."""
    arms, data = ranked_arms(summary), summary["data"]
    return {
        "primary": primary_of(summary),
        "forest": forest_of(summary, arms),
        "folds": fold_scores_of(summary, arms),
        "classes": classes_chart(data),
        "sites": sites_chart(data),
        "patients": patients_chart(data),
        "plan": plan_chart(summary),
        "confusion": matrices(summary, arms),
        "panels": panels(summary),
        "gallery": example_tiles(data),
        "few_labels": learning_panels(summary["few_labels"]),
        "ablations": ablation_chart.sweeps(summary["ablations"]),
        "seeds": seeds_strips(summary["seeds"]),
        "drift": drift_panels(summary["drift"], arms),
        "class_key": class_key(data["classes"]),
    }
