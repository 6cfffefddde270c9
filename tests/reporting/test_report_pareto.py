"""The front of cost against score: who is on it, and that its numbers touch nothing."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np
import pytest

from featurebench.reporting import pareto as module
from featurebench.reporting.pareto import Arm, number_places, pareto, time_ticks, undominated

ARMS = (
    Arm("cheap", "probe", 10, 0.80, 0.75, 0.85),
    Arm("dear", "finetune", 1000, 0.90, 0.85, 0.95),
    Arm("beaten", "probe", 100, 0.78),
)


def test_front_has_the_arms_that_none_beats() -> None:
    assert [arm.label for arm in undominated(ARMS, 1)] == ["cheap", "dear"]


def test_front_where_less_is_better() -> None:
    assert [arm.label for arm in undominated(ARMS, -1)] == ["cheap", "beaten"]


def test_front_is_that_of_comparing_all_pairs() -> None:
    rng = np.random.default_rng(1)
    arms = [Arm(str(i), "probe", float(s), float(v)) for i, (s, v) in
            enumerate(rng.random((60, 2)) + 0.1)]  # fmt: skip
    expected = {
        a.label
        for a in arms
        if not any(b.seconds <= a.seconds and b.value >= a.value and b != a for b in arms)
    }
    assert {arm.label for arm in undominated(arms, 1)} == expected


def test_numbers_follow_the_front_from_the_cheapest() -> None:
    found = pareto(ARMS, metric="accuracy", better=1, axis="wall-clock time")
    assert found is not None
    assert [(number, arm.label) for number, arm in found.front] == [(1, "cheap"), (2, "dear")]
    root = ET.fromstring(found.chart)
    labels = [e.text for e in root.iter("text") if e.get("class") == "label"]
    assert labels == ["1", "2"]
    marks = [e for e in root.iter("g") if "mark" in e.get("class", "").split()]
    assert [("front" in m.get("class", "")) for m in marks] == [True, True, False]
    assert root.attrib["aria-label"] == "Wall-clock time against accuracy, one mark per arm"


def test_steps_run_from_arm_to_arm_and_to_the_edge() -> None:
    found = pareto(ARMS, metric="accuracy", better=1, axis="wall-clock time")
    assert found is not None
    root = ET.fromstring(found.chart)
    steps = [e for e in root.iter("line") if e.get("class") == "step"]
    flat = [s for s in steps if s.attrib["y1"] == s.attrib["y2"]]
    assert len(steps) == 3
    assert flat[-1].attrib["x2"] == "100%"
    assert flat[0].attrib["x2"] == flat[1].attrib["x1"]


def test_time_is_logarithmic() -> None:
    found = pareto(ARMS, metric="accuracy", better=1, axis="wall-clock time")
    assert found is not None
    root = ET.fromstring(found.chart)
    circles = [float(e.attrib["cx"][:-1]) for e in root.iter("circle")]
    diamond = next(e for e in root.iter("svg") if e is not root)
    dear = float(diamond.attrib["x"][:-1])
    assert circles[1] - circles[0] == pytest.approx(dear - circles[1], abs=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_never_touch_each_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = [(float(x), float(y)) for x, y in rng.uniform(20, 80, (9, 2)) * [1, 2.5]]
    places = number_places(points, points)
    for width in module.WIDTHS:
        boxes = [(x * width / 100 + dx, y + dy) for (x, y), (dx, dy) in
                 zip(points, places, strict=True)]  # fmt: skip
        for i, (x, y) in enumerate(boxes):
            assert all(abs(x - u) >= 14 or abs(y - v) >= 12 for u, v in boxes[:i])


def test_no_arm_no_chart() -> None:
    assert pareto([], metric="accuracy", better=1, axis="wall-clock time") is None


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(8, 70, [10, 20, 30, 60]), (50, 400, [60, 120, 300]), (3000, 8000, [3600, 7200])],
)
def test_time_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert time_ticks(low, high) == ticks
    assert len(time_ticks(0.01, 1e6)) <= 6
