"""What is said of each arm's network follows from the record of its run."""

from __future__ import annotations

from typing import Any

import numpy as np

from featurebench.audit import frozen_proofs
from featurebench.results import Cost, RunResult

EMBEDDINGS = [
    {"name": "net.package@12345678", "fingerprint": "12345678" * 8, "weights_sha256": "ab" * 32},
    {"name": "uni.foreign@12345678", "fingerprint": "f" * 64, "weights_sha256": "cd" * 32},
    {"name": "handcrafted.v1@12345678", "fingerprint": "e" * 64, "weights_sha256": "ef" * 32},
]


def _run(arm: str, kind: Any, **fields: Any) -> RunResult:
    base: dict[str, Any] = {
        "embedding": None,
        "head": None,
        "strategy": None,
        "params": {},
        "fingerprint": "99" * 32,
    }
    return RunResult(
        arm=arm,
        kind=kind,
        plan_id="p",
        seed=0,
        classes=("a", "b"),
        y_prob=np.zeros((1, 2, 2), dtype=np.float32),
        scores=(),
        cost=Cost(),
        **(base | fields),
    )


def test_each_kind_of_arm() -> None:
    folds = [{"n_learning": [2562, 2562], "n_parameters": 3_373_570}] * 2
    runs = [
        _run("dummy", "baseline"),
        _run("net+knn", "probe", embedding="net.package@12345678"),
        _run("uni+knn", "probe", embedding="uni.foreign@12345678"),
        _run("handcrafted+knn", "probe", embedding="handcrafted.v1@12345678"),
        _run("lost+knn", "probe", embedding="lost.package@00000000"),
        _run("net+head", "finetune", strategy="head", details={"folds": folds}),
        _run("old+head", "finetune", strategy="head"),
        _run("net+full", "finetune", strategy="full", params={"model": "net"}),
        _run("net+scratch", "finetune", strategy="scratch", params={"weights": "random"}),
    ]
    proofs = {proof.arm: proof for proof in frozen_proofs(runs, EMBEDDINGS)}
    assert {arm: proof.state for arm, proof in proofs.items()} == {
        "net+knn": "frozen",
        "uni+knn": "not shown",
        "handcrafted+knn": "frozen",
        "lost+knn": "not shown",
        "net+head": "frozen",
        "old+head": "not shown",
        "net+full": "trained",
        "net+scratch": "trained",
    }
    assert proofs["net+knn"].sha256 == "ab" * 32
    assert "again before" in proofs["net+knn"].shown
    assert "imported" in proofs["uni+knn"].shown
    assert "2,562 of 3,373,570" in proofs["net+head"].shown
    assert proofs["net+full"].sha256 == "99" * 32
    assert "random weights" in proofs["net+scratch"].shown
