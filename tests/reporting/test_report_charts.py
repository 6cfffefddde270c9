"""Geometry of the charts: marks stand where the numbers say, text is escaped."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from featurebench.reporting import charts, counts, curves, scatter
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


def difference_row(
    label: str, value: float | None, half: float = 0.02, *, baseline: bool = False
) -> charts.DifferenceRow:
    low, high = (None, None) if value is None else (value - half, value + half)
    return charts.DifferenceRow(label, value, low, high, 0.2, "not resolved", baseline)


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


class TestForest:
    rows = (difference_row("a", 0.03), difference_row("b", -0.05), difference_row("c", 0.0))

    def test_points_and_intervals_stand_at_their_values(self) -> None:
        root = parse(charts.forest(self.rows, metric="accuracy", margin=0.01, better=1))
        scale = charts.forest_scale(self.rows, 0.01)
        points = [percent(p, "cx") for p in with_class(root, "point")]
        assert points == pytest.approx([scale(0.03), scale(-0.05), scale(0.0)], abs=0.01)
        whiskers = [(percent(w, "x1"), percent(w, "x2")) for w in with_class(root, "whisker")]
        assert whiskers[0] == pytest.approx((scale(0.01), scale(0.05)), abs=0.01)
        assert all(0 <= x <= 100 for pair in whiskers for x in pair)

    def test_band_spans_the_margin_around_zero(self) -> None:
        root = parse(charts.forest(self.rows, metric="accuracy", margin=0.01, better=1))
        scale = charts.forest_scale(self.rows, 0.01)
        (band,) = with_class(root, "band")
        (zero,) = with_class(root, "zero")
        left, width = percent(band, "x"), percent(band, "width")
        assert left == pytest.approx(scale(-0.01), abs=0.01)
        assert left + width / 2 == pytest.approx(percent(zero, "x1"), abs=0.02)

    def test_margin_stays_visible_where_all_differences_are_tiny(self) -> None:
        scale = charts.forest_scale([difference_row("a", 0.0001, 0.0001)], 0.05)
        assert scale.low < -0.05
        assert scale.high > 0.05

    def test_ticks_are_percentage_points_with_sign(self) -> None:
        root = parse(charts.forest(self.rows, metric="accuracy", margin=0.01, better=1))
        ticks = [t.text for t in with_class(root, "tick")]
        assert "0" in ticks
        assert "−5" in ticks
        assert "+5" in ticks

    def test_baseline_does_not_squeeze_the_others_and_is_pointed_to(self) -> None:
        rows = (*self.rows, difference_row("dummy", -0.4, baseline=True))
        assert charts.forest_scale(rows, 0.01) == charts.forest_scale(self.rows, 0.01)
        root = parse(charts.forest(rows, metric="accuracy", margin=0.01, better=1))
        assert len(with_class(root, "point")) == 3
        assert len(with_class(root, "arrow")) == 1
        assert any("−40.0" in text for text in texts(root))

    def test_only_a_baseline_sets_its_own_scale(self) -> None:
        root = parse(
            charts.forest(
                [difference_row("dummy", -0.4, baseline=True)],
                metric="accuracy",
                margin=0.01,
                better=1,
            )
        )
        assert len(with_class(root, "point")) == 1

    def test_missing_difference_is_said_in_words(self) -> None:
        rows = (*self.rows, difference_row("d", None))
        root = parse(charts.forest(rows, metric="accuracy", margin=0.01, better=1))
        assert any(text.startswith("not estimable") for text in texts(root))
        assert len(with_class(root, "point")) == 3

    @pytest.mark.parametrize(("better", "right"), [(1, "better →"), (-1, "worse →")])
    def test_directions_follow_the_metric(self, better: int, right: str) -> None:
        root = parse(charts.forest(self.rows, metric="log_loss", margin=0.01, better=better))
        assert with_class(root, "direction")[-1].text == right

    def test_labels_are_escaped_and_outcomes_are_classes(self) -> None:
        row = charts.DifferenceRow(HOSTILE, 0.1, 0.05, 0.15, 0.001, "better")
        chart = charts.forest([row], metric="accuracy", margin=0.01, better=1)
        assert "<script" not in chart
        assert with_class(parse(chart), "better")

    def test_figure_has_a_name_for_those_who_do_not_see_it(self) -> None:
        root = parse(charts.forest(self.rows, metric="accuracy", margin=0.01, better=1))
        assert root.get("role") == "img"
        assert "Accuracy" in root.get("aria-label", "")


class TestFoldScores:
    rows = (
        charts.DotRow("a", (0.8, 0.9, 0.85), 0.85),
        charts.DotRow("b", (0.7, 0.75), 0.72),
        charts.DotRow("dummy", (0.5, 0.5), 0.5, is_baseline=True),
    )

    def test_dots_are_ordered_as_their_values(self) -> None:
        root = parse(charts.fold_scores(self.rows, metric="accuracy"))
        first = [percent(d, "cx") for d in with_class(root, "dot")[:3]]
        assert first[0] < first[2] < first[1]

    def test_bar_stands_at_the_value(self) -> None:
        root = parse(charts.fold_scores(self.rows, metric="accuracy"))
        means = [percent(m, "x1") for m in with_class(root, "mean")]
        dots = [percent(d, "cx") for d in with_class(root, "dot")]
        assert means[0] == pytest.approx(dots[2], abs=0.01)
        assert len(means) == 2

    def test_baseline_off_the_scale_gets_one_arrow_and_its_number(self) -> None:
        root = parse(charts.fold_scores(self.rows, metric="accuracy"))
        assert len(with_class(root, "arrow")) == 1
        assert "0.500" in texts(root)

    def test_arm_without_any_score_keeps_its_line(self) -> None:
        root = parse(charts.fold_scores([charts.DotRow("a", (), None)], metric="roc_auc"))
        assert "a" in texts(root)
        assert not with_class(root, "dot")


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


class TestScatter:
    points = (
        scatter.CostPoint("cheap", "probe", 10, 0.80, 0.75, 0.85),
        scatter.CostPoint("dear", "finetune", 1000, 0.90, 0.85, 0.95),
        scatter.CostPoint("beaten", "probe", 100, 0.78),
    )

    def test_front_has_the_arms_that_none_beats(self) -> None:
        assert [p.label for p in scatter.undominated(self.points, 1)] == ["cheap", "dear"]

    def test_front_where_less_is_better(self) -> None:
        assert [p.label for p in scatter.undominated(self.points, -1)] == ["cheap", "beaten"]

    def test_only_the_front_is_named(self) -> None:
        root = parse(scatter.cost_scatter(self.points, metric="accuracy", better=1))
        labels = {label.text for label in with_class(root, "label")}
        assert labels == {"cheap", "dear"}
        assert len(with_class(root, "front")) == 2

    def test_time_is_logarithmic_and_score_points_up(self) -> None:
        root = parse(scatter.cost_scatter(self.points, metric="accuracy", better=1))
        circles = list(root.iter("circle"))
        diamond = next(e for e in root.iter("svg") if e is not root)
        cheap, beaten, dear = (
            percent(circles[0], "cx"),
            percent(circles[1], "cx"),
            percent(diamond, "x"),
        )
        assert beaten - cheap == pytest.approx(dear - beaten, abs=0.1)
        assert float(diamond.attrib["y"]) < float(circles[0].attrib["cy"])

    def test_names_of_equal_arms_do_not_overlap(self) -> None:
        points = [scatter.CostPoint(f"arm {i}", "probe", 10 + i, 0.8 + i / 1e4) for i in range(4)]
        root = parse(scatter.cost_scatter(points, metric="accuracy", better=1))
        heights = sorted(float(label.attrib["y"]) for label in with_class(root, "label"))
        assert all(b - a >= 14 for a, b in pairwise(heights))

    @pytest.mark.parametrize(
        ("low", "high", "ticks"),
        [
            (8, 70, [10, 20, 30, 60]),
            (50, 400, [60, 120, 300]),
            (3000, 8000, [3600, 7200]),
        ],
    )
    def test_time_ticks_are_round(self, low: float, high: float, ticks: list[float]) -> None:
        assert scatter.time_ticks(low, high) == ticks

    def test_time_ticks_are_few(self) -> None:
        assert len(scatter.time_ticks(0.01, 1e6)) <= 6


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

    def test_confusion_shades_by_share_of_the_row(self) -> None:
        root = parse(curves.confusion([[90, 10], [30, 30]], ["b", "m"], label="c"))
        cells = with_class(root, "cell")
        shades = [float(c.attrib["fill-opacity"]) for c in cells]
        assert shades == pytest.approx([0.68, 0.08, 0.38, 0.38], abs=0.01)
        assert [c.text for c in with_class(root, "count")] == ["90", "10", "30", "30"]
        assert float(cells[1].attrib["x"]) > float(cells[0].attrib["x"])
        assert float(cells[2].attrib["y"]) > float(cells[0].attrib["y"])

    def test_confusion_of_many_classes_stays_small(self) -> None:
        names = [f"class {i}" for i in range(12)]
        root = parse(curves.confusion([[1] * 12] * 12, names, label="c"))
        assert float(root.attrib["width"]) < 420
        assert not with_class(root, "count")

    def test_empty_class_has_no_shade(self) -> None:
        root = parse(curves.confusion([[0, 0], [1, 1]], ["b", "m"], label="c"))
        assert with_class(root, "cell")[0].attrib["fill-opacity"] == "0"
