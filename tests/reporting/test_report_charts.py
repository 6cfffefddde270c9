"""Geometry of the charts: marks stand where the numbers say, text is escaped."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from featurebench.reporting import counts, curves
from featurebench.reporting.svg import Scale, element, padded, polyline, round_ticks

HOSTILE = '<script>alert("1")</script>'


def parse(chart: str) -> ET.Element:
    return ET.fromstring(chart)


def with_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [e for e in root.iter() if name in e.get("class", "").split()]


def percent(mark: ET.Element, attribute: str) -> float:
    text = mark.attrib[attribute]
    assert text.endswith("%")
    return float(text[:-1])


def texts(root: ET.Element) -> list[str]:
    return ["".join(e.itertext()) for e in root.iter("text")]


class TestPieces:
    def test_element_escapes_text_and_attributes(self) -> None:
        made = element("text", HOSTILE, aria_label='"><b>')
        assert "<script>" not in made
        assert parse(made).text == HOSTILE
        assert parse(made).get("aria-label") == '"><b>'

    def test_element_leaves_out_attributes_that_are_none_and_rounds(self) -> None:
        root = parse(element("rect", class_="a", x=1 / 3, y=2.0, transform=None))
        assert root.attrib == {"class": "a", "x": "0.33", "y": "2"}

    def test_elements_nest(self) -> None:
        root = parse(element("g", element("circle", r=2), "a < b"))
        assert root.find("circle") is not None
        assert "".join(root.itertext()) == "a < b"

    @pytest.mark.parametrize(
        ("low", "high", "about", "ticks"),
        [
            (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
            (-0.3, 0.26, 5, [-0.2, 0, 0.2]),
            (0.83, 0.97, 6, [0.85, 0.9, 0.95]),
            (12, 87, 4, [20, 40, 60, 80]),
            (3, 3, 5, [3]),
        ],
    )
    def test_round_ticks(self, low: float, high: float, about: int, ticks: list[float]) -> None:
        assert round_ticks(low, high, about) == pytest.approx(ticks)

    def test_linear_and_logarithmic_scales(self) -> None:
        assert Scale(0, 4, 10, 90)(1) == pytest.approx(30)
        assert Scale(1, 100, 0, 100, log=True)(10) == pytest.approx(50)
        assert Scale(2, 2, 0, 10)(2) == 5

    def test_padded_range_is_never_empty(self) -> None:
        low, high = padded([0.5, 0.5])
        assert low < 0.5 < high

    def test_polyline(self) -> None:
        assert polyline([(0, 1), (2.5, 3)]) == "M0 1L2.5 3"
        assert polyline([]) == ""


class TestCounts:
    def test_segments_follow_each_other_and_scale_to_the_longest(self) -> None:
        rows = [counts.BarRow("x", (30, 10)), counts.BarRow("y", (0, 20), "(2 patients)")]
        root = parse(counts.bars(rows, label="tiles", series=(0, 1)))
        fills = with_class(root, "fill")
        shapes = [(percent(f, "x"), percent(f, "width")) for f in fills]
        assert shapes == [(0, 75), (75, 25), (0, 50)]
        assert "s1" in fills[2].get("class", "")
        assert "20  (2 patients)" in texts(root)

    def test_no_tiles_draw_no_bar(self) -> None:
        root = parse(counts.bars([counts.BarRow("x", (0,))], label="tiles"))
        assert not with_class(root, "fill")

    def test_histogram_heights_are_proportional(self) -> None:
        root = parse(counts.histogram([0, 5, 10, 15], [2, 0, 4], label="h", axis="tiles"))
        bars = with_class(root, "fill")
        heights = [float(b.attrib["height"]) for b in bars]
        assert heights[1] == pytest.approx(2 * heights[0])
        assert percent(bars[1], "x") > percent(bars[0], "x") + percent(bars[0], "width")
        bottoms = {float(b.attrib["y"]) + float(b.attrib["height"]) for b in bars}
        assert len(bottoms) == 1


class TestCurves:
    def test_roc_runs_from_corner_to_corner(self) -> None:
        series = curves.Series("a", 2, (0, 0, 1), (0, 1, 1))
        root = parse(curves.roc([series], label="ROC"))
        x, y = curves.unit_scales()
        (line,) = with_class(root, "line")
        expected = polyline([(x(0), y(0)), (x(0), y(1)), (x(1), y(1))])
        assert line.attrib["d"] == expected
        assert "s2" in line.attrib["class"]
        assert y(1) < y(0)

    def test_calibration_dots_grow_with_their_weight(self) -> None:
        series = curves.Series("a", 0, (0.2, 0.8), (0.1, 0.9), (10, 90))
        root = parse(curves.calibration([series], label="c", x_axis="x", y_axis="y"))
        small, large = with_class(root, "dot")
        assert float(small.attrib["r"]) < float(large.attrib["r"])
        x, y = curves.unit_scales()
        place = float(large.attrib["cx"]), float(large.attrib["cy"])
        assert place == pytest.approx((x(0.8), y(0.9)), abs=0.01)
