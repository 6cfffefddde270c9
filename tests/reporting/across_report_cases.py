"""What a report over data sets is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from across_cases import comparison

from featurebench.comparison.across import compare_across
from featurebench.reporting.across import summarize_across

if TYPE_CHECKING:
    from featurebench.comparison.model import Comparison


def summarized(named: dict[str, Comparison], **facts: Any) -> dict[str, Any]:
    described = {
        name: {
            "page": f"../{name}/report.html",
            "n_tiles": 480,
            "n_patients": 40,
            "n_classes": 2,
            **facts,
        }
        for name in named
    }
    provenance = {"inputs_sha256": "0" * 64}
    return summarize_across(compare_across(named), named, facts=described, provenance=provenance)


def three() -> dict[str, Comparison]:
    return {
        "glas": comparison(0.031, (0.015, 0.01), of_contrast={"outcome": "better"}),
        "breast": comparison(0.004, (0.008, 0.01)),
        "colon": comparison(0.06, (0.02, 0.01)),
    }
