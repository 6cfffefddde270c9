"""What arms of freely named heads are called in text and in tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from featurebench.comparison.model import ArmSummary, Estimate
from featurebench.comparison.naming import METHODS, name_arms
from featurebench.heads import HEADS
from featurebench.reporting.summary import arm_names
from featurebench.results import Cost

EMBEDDING = "resnet50.a1_in1k@2f4e8333"


def arm(name: str, head: str, kind: Any = "probe", embedding: str | None = EMBEDDING) -> ArmSummary:
    estimate = {"accuracy": Estimate(0.5, 0.4, 0.6)}
    confusion = np.zeros((2, 2), dtype=np.int64)
    return ArmSummary(
        name, kind, embedding, head, None, estimate, {}, {}, confusion, Cost(), Cost(), 1
    )


ARMS = [
    arm("resnet50.a1_in1k+logistic", "logistic"),
    arm("resnet50.a1_in1k+logistic_l2", "logistic"),
    arm("resnet50.a1_in1k+lightgbm", "lightgbm"),
    arm("guess", "dummy", "baseline", None),
]


def test_every_head_has_a_name_in_words() -> None:
    assert set(METHODS) == set(HEADS) - {"dummy"}


def test_a_name_of_ones_own_stands_beside_the_heads() -> None:
    assert list(name_arms(ARMS).values()) == [
        "logistic regression on resnet50",
        "logistic regression (logistic_l2) on resnet50",
        "LightGBM on resnet50",
        "guess",
    ]


def test_tables_call_arms_by_their_entries() -> None:
    assert [name["label"] for name in arm_names(ARMS).values()] == [
        "logistic · resnet50",
        "logistic_l2 · resnet50",
        "lightgbm · resnet50",
        "guess · dummy",
    ]
    layer = arm("resnet50.a1_in1k.layer3+mine", "knn")
    assert arm_names([layer])[layer.arm]["method"] == "mine"
