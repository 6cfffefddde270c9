"""Extraction is shared out over the arms that read it: nothing is lost, nothing counted twice."""

from __future__ import annotations

import numpy as np
import pytest

from featurebench.results import Cost, RunResult, extraction_shares

CLEAN, VIEW, OTHER = "net@00000000", "net@00000001.rot90", "other@00000002"
OF_CLEAN = Cost(12.0, 24.0, 0.0, 500.0, 0.0, 1200, 600, 60.0)
OF_VIEW = Cost(10.0, 20.0, 0.0, 700.0, 0.0, 1000, 600, 50.0)
OF_OTHER = Cost(7.0, 14.0, 0.0, 300.0)


def reader(arm: str, costs: dict[str, Cost], *, recorded: bool = True) -> RunResult:
    first = next(iter(costs), None)
    return RunResult(
        arm=arm,
        kind="probe" if costs else "baseline",
        embedding=first,
        head="logistic",
        strategy=None,
        params={},
        fingerprint="",
        plan_id="0" * 16,
        seed=0,
        classes=("a", "b"),
        y_prob=np.full((1, 2, 2), 0.5, dtype=np.float32),
        scores=(),
        cost=Cost(1.0),
        extraction_cost=sum(costs.values(), Cost()),
        embedding_costs=costs if recorded else {},
    )


def test_each_embedding_is_shared_by_its_own_readers() -> None:
    shares = extraction_shares(
        [
            reader("a", {CLEAN: OF_CLEAN}),
            reader("b", {CLEAN: OF_CLEAN}),
            reader("views", {CLEAN: OF_CLEAN, VIEW: OF_VIEW}),
            reader("c", {OTHER: OF_OTHER}),
            reader("dummy", {}),
        ]
    )
    third = Cost(4.0, 8.0, 0.0, 500.0, 0.0, 400, 200, 20.0)
    assert shares["a"] == shares["b"] == third
    assert shares["views"] == Cost(14.0, 28.0, 0.0, 700.0, 0.0, 1400, 800, 70.0)
    assert shares["c"] == OF_OTHER
    assert shares["dummy"] == Cost()
    assert sum(share.wall_s for share in shares.values()) == pytest.approx(12 + 10 + 7)


def test_runs_that_did_not_record_it_share_by_their_embedding() -> None:
    shares = extraction_shares(
        [reader("old", {CLEAN: OF_CLEAN}, recorded=False), reader("new", {CLEAN: OF_CLEAN})]
    )
    assert shares["old"] == shares["new"]
    assert shares["old"].wall_s == 6.0
