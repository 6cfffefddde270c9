"""Differences and fold scores in a table's rows: marks stand where the numbers say."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from featurebench.reporting.forest import Forest, forest_of, forest_scale, tone
from featurebench.reporting.strips import fold_scores_of, seeds_strips, strip_scale

HALF, WIDE = 0.02, 0.04


def parse(chart: str) -> ET.Element:
    return ET.fromstring(chart)


def with_class(root: ET.Element, *names: str) -> list[ET.Element]:
    return [e for e in root.iter() if set(names) <= set(e.get("class", "").split())]


def percent(mark: ET.Element, attribute: str) -> float:
    text = mark.attrib[attribute]
    assert text.endswith("%")
    return float(text[:-1])


def evidence(value: float | None, half: float) -> dict[str, float | None]:
    low, high = (None, None) if value is None else (value - half, value + half)
    return {"difference": value, "ci_low": low, "ci_high": high}


def contrast(
    name: str, value: float | None, outcome: str = "not resolved", *, wide: float = WIDE
) -> dict[str, Any]:
    return {
        "arm_a": name,
        "arm_b": "ref",
        "outcome": outcome,
        "rule": "both tests",
        "by_folds": evidence(value, wide),
        "by_patients": evidence(value, HALF) | {"unit": "patients"},
        **evidence(value, max(HALF, wide)),
    }


def arm(name: str, kind: str = "probe") -> dict[str, Any]:
    return {"id": name, "kind": kind, "metrics": {}, "fold_scores": []}


def summary(*contrasts: dict[str, Any], metric: str = "accuracy") -> dict[str, Any]:
    greater = metric != "log_loss"
    return {
        "comparisons": list(contrasts),
        "reference": "ref",
        "metric": {"name": metric, "margin": 0.01, "greater_is_better": greater},
    }


def drawn(*contrasts: dict[str, Any], kinds: dict[str, str] | None = None) -> Forest:
    arms = [arm(c["arm_a"], (kinds or {}).get(c["arm_a"], "probe")) for c in contrasts]
    found = forest_of(summary(*contrasts), [*arms, arm("ref")])
    assert found is not None
    return found


CONTRASTS = (contrast("a", 0.03), contrast("b", -0.05), contrast("c", 0.0))


class TestForest:
    def test_rows_follow_the_arms_and_hold_the_reference(self) -> None:
        rows = drawn(*CONTRASTS).rows
        assert [row.arm["id"] for row in rows] == ["a", "b", "c", "ref"]
        assert rows[-1].contrast is None
        assert not with_class(parse(rows[-1].plot), "point")

    def test_points_and_both_intervals_stand_at_their_values(self) -> None:
        root = parse(drawn(*CONTRASTS).rows[0].plot)
        scale = forest_scale(CONTRASTS, 0.01)
        for class_, half in (("by-patients", HALF), ("by-folds", WIDE)):
            (point,) = with_class(root, "point", class_)
            assert percent(point, "cx") == pytest.approx(scale(0.03), abs=0.01)
            (line,) = with_class(root, "whisker", class_)
            ends = percent(line, "x1"), percent(line, "x2")
            assert ends == pytest.approx((scale(0.03 - half), scale(0.03 + half)), abs=0.01)

    def test_the_two_tests_do_not_hide_each_other(self) -> None:
        root = parse(drawn(*CONTRASTS).rows[0].plot)
        shifts = {g.attrib["transform"] for g in root.iter("g") if "transform" in g.attrib}
        assert len(shifts) == 2

    def test_sites_are_drawn_where_a_claim_asks_for_them(self) -> None:
        asked = contrast("a", 0.03) | {"by_sites": evidence(0.03, 0.03)}
        assert not with_class(parse(drawn(asked).rows[0].plot), "by-sites")
        asked["rule"] = "folds, patients and sites"
        found = drawn(asked)
        assert found.tests == {"by_patients": "patients", "by_folds": "folds", "by_sites": "sites"}
        root, scale = parse(found.rows[0].plot), forest_scale([asked], 0.01)
        (line,) = with_class(root, "whisker", "by-sites")
        ends = percent(line, "x1"), percent(line, "x2")
        assert ends == pytest.approx((scale(0.0), scale(0.06)), abs=0.01)
        shifts = {g.attrib["transform"] for g in root.iter("g") if "transform" in g.attrib}
        assert len(shifts) == 3

    def test_band_spans_the_margin_around_zero_in_every_row(self) -> None:
        scale = forest_scale(CONTRASTS, 0.01)
        for row in drawn(*CONTRASTS).rows:
            root = parse(row.plot)
            (band,) = with_class(root, "band")
            (zero,) = with_class(root, "zero")
            left, width = percent(band, "x"), percent(band, "width")
            assert left == pytest.approx(scale(-0.01), abs=0.01)
            assert left + width / 2 == pytest.approx(percent(zero, "x1"), abs=0.02)

    def test_margin_stays_visible_where_all_differences_are_tiny(self) -> None:
        scale = forest_scale([contrast("a", 0.0001, wide=0.0002)], 0.05)
        assert scale.low < -0.05
        assert scale.high > 0.05

    def test_wide_intervals_over_folds_are_cut_off_and_do_not_squeeze_the_rest(self) -> None:
        wide = contrast("a", 0.0, wide=0.9)
        scale = forest_scale([wide], 0.01)
        assert scale.high < 4 * HALF
        root = parse(drawn(wide).rows[0].plot)
        assert len(with_class(root, "arrow")) == 2
        (line,) = with_class(root, "whisker", "by-folds")
        assert percent(line, "x1") >= 0
        assert percent(line, "x2") <= 100

    def test_ticks_are_percentage_points_with_sign(self) -> None:
        ticks = [t.text for t in with_class(parse(drawn(*CONTRASTS).axis), "tick")]
        assert "0" in ticks
        assert "−5" in ticks
        assert "+5" in ticks

    def test_baseline_does_not_squeeze_the_others_and_is_pointed_to(self) -> None:
        found = drawn(*CONTRASTS, contrast("dummy", -0.4), kinds={"dummy": "baseline"})
        axis = [t.text for t in with_class(parse(found.axis), "tick")]
        assert "−40" not in axis
        root = parse(found.rows[3].plot)
        assert not with_class(root, "point")
        assert len(with_class(root, "arrow")) == 2

    def test_only_a_baseline_sets_its_own_scale(self) -> None:
        found = drawn(contrast("dummy", -0.4), kinds={"dummy": "baseline"})
        assert len(with_class(parse(found.rows[0].plot), "point")) == 2

    def test_missing_difference_draws_the_ground_only(self) -> None:
        root = parse(drawn(*CONTRASTS, contrast("d", None)).rows[3].plot)
        assert with_class(root, "band")
        assert not with_class(root, "point")
        assert not with_class(root, "whisker")

    @pytest.mark.parametrize(
        ("metric", "right"), [("accuracy", "better →"), ("log_loss", "worse →")]
    )
    def test_directions_follow_the_metric(self, metric: str, right: str) -> None:
        found = forest_of(summary(CONTRASTS[0], metric=metric), [arm("a"), arm("ref")])
        assert found is not None
        assert with_class(parse(found.axis), "direction")[-1].text == right

    @pytest.mark.parametrize(
        ("outcome", "expected"),
        [
            ("better", "better"),
            ("worse", "worse"),
            ("equivalent", "shown"),
            ("non-inferior", "shown"),
            ("not superior", "shown"),
            ("not resolved", "open"),
            ("not claimed", "open"),
        ],
    )
    def test_only_what_was_shown_is_filled(self, outcome: str, expected: str) -> None:
        assert tone(outcome) == expected
        root = parse(drawn(contrast("a", 0.03, outcome)).rows[0].plot)
        assert expected in root.attrib["class"].split()

    def test_without_contrasts_there_is_none(self) -> None:
        assert forest_of(summary(), [arm("ref")]) is None


def scored(name: str, values: tuple[float, ...], value: float | None, kind: str) -> dict[str, Any]:
    scores = [{"metric": "accuracy", "value": v} for v in values]
    return arm(name, kind) | {"fold_scores": scores, "metrics": {"accuracy": {"value": value}}}


class TestStrips:
    arms = (
        scored("a", (0.8, 0.9, 0.85), 0.85, "probe"),
        scored("b", (0.7, 0.75), 0.72, "finetune"),
        scored("dummy", (0.5, 0.5), 0.5, "baseline"),
    )

    def plots(self) -> list[ET.Element]:
        return [parse(row.plot) for row in fold_scores_of(summary(), self.arms).rows]

    def test_dots_and_bar_stand_at_their_values(self) -> None:
        scale = strip_scale([(None, (0.8, 0.9, 0.85), 0.85), (None, (0.7, 0.75), 0.72)])
        first = self.plots()[0]
        dots = [percent(dot, "cx") for dot in with_class(first, "dot")]
        assert dots == pytest.approx([scale(v) for v in (0.8, 0.9, 0.85)], abs=0.01)
        (mean,) = with_class(first, "mean")
        assert percent(mean, "x1") == pytest.approx(scale(0.85), abs=0.01)

    def test_baseline_off_the_scale_gets_one_arrow(self) -> None:
        baseline = self.plots()[2]
        assert len(with_class(baseline, "arrow")) == 1
        assert not with_class(baseline, "dot")
        assert not with_class(baseline, "mean")

    def test_arm_without_any_score_keeps_its_line(self) -> None:
        (row,) = fold_scores_of(summary(), [scored("a", (), None, "probe")]).rows
        assert row.value is None
        assert not with_class(parse(row.plot), "dot")

    def test_undefined_folds_and_other_metrics_are_left_out(self) -> None:
        made = scored("a", (0.8,), 0.8, "probe")
        made["fold_scores"] += [
            {"metric": "accuracy", "value": None},
            {"metric": "roc_auc", "value": 0.9},
        ]
        (row,) = fold_scores_of(summary(), [made]).rows
        assert row.values == (0.8,)

    def test_seeds_have_a_dot_each_and_their_mean(self) -> None:
        section = {"arms": [{"id": "a", "seeds": [{"value": 0.8}, {"value": None}], "mean": 0.8}]}
        found = seeds_strips(section)
        assert found is not None
        assert found.rows[0].values == (0.8,)
        assert found.rows[0].value == 0.8
        assert seeds_strips(None) is None
