"""How far fine-tuning moved the network, in the report: the numbers, the chart and the table."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from report_cases import ReportCase, draw_case

from featurebench.reporting.drift import drift_section
from featurebench.reporting.drift_chart import DriftLine, drift, stage_ticks
from featurebench.reporting.figures import drift_panels
from featurebench.reporting.render import render_html
from featurebench.reporting.svg import Scale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featurebench.results import RunResult

    Fold = Mapping[str, float | None]

STAGES = ("stem", "blocks.0", "blocks.1", "blocks.2", "final")
FOLDS: list[Fold] = [
    {"stem": 1.0, "blocks.0": 0.99, "blocks.1": 0.9, "blocks.2": 0.5, "final": 0.25},
    {"stem": 1.0, "blocks.0": 0.97, "blocks.1": None, "blocks.2": 0.3, "final": -0.05},
]
TUNED = "tf_efficientnet_lite0.package+full"


def with_cka(run: RunResult, folds: Sequence[Fold]) -> RunResult:
    return replace(run, details={"folds": [{"best_epoch": 2, "cka": fold} for fold in folds]})


def moved(case: ReportCase, folds: Mapping[str, Sequence[Fold]]) -> Any:
    """The case's summary, as if these arms had been measured."""
    runs = tuple(
        with_cka(run, folds[run.arm]) if run.arm in folds else run for run in case.results.runs
    )
    return replace(case, results=replace(case.results, runs=runs)).summary()


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    return draw_case(tmp_path_factory.mktemp("drift"))


@pytest.fixture(scope="module")
def summary(case: ReportCase) -> Any:
    return moved(case, {TUNED: FOLDS})


@pytest.fixture(scope="module")
def html(summary: dict[str, Any]) -> str:
    return render_html(summary)


def section_of(html: str) -> str:
    part = html[html.index('<section id="drift"') :]
    return part[: part.index("</section>")]


class TestNumbers:
    def test_mean_and_range_over_folds_by_stage(self, summary: dict[str, Any]) -> None:
        (panel,) = summary["drift"]["panels"]
        assert panel["stages"] == list(STAGES)
        (arm,) = panel["arms"]
        assert (arm["id"], arm["n_folds"]) == (TUNED, 2)
        points = {point["stage"]: point for point in arm["points"]}
        assert list(points) == list(STAGES)
        assert points["blocks.2"]["value"] == pytest.approx(0.4)
        assert (points["blocks.2"]["low"], points["blocks.2"]["high"]) == (0.3, 0.5)
        assert points["blocks.1"]["value"] == points["blocks.1"]["low"] == 0.9
        assert json.loads(json.dumps(summary, allow_nan=False)) == summary

    def test_stage_that_is_nowhere_defined_stays_in_its_place(self, case: ReportCase) -> None:
        section = moved(case, {TUNED: [{"a": 1.0, "b": None, "final": 0.5}]})["drift"]
        points = section["panels"][0]["arms"][0]["points"]
        assert [point["value"] for point in points] == [1.0, None, 0.5]
        assert (points[1]["low"], points[1]["high"]) == (None, None)

    def test_arms_of_the_same_stages_share_a_panel(self, case: ReportCase) -> None:
        arms = [run.arm for run in case.results.runs[:3]]
        other: list[Fold] = [{"layer1": 1.0, "final": 0.5}]
        section = moved(case, {arms[0]: FOLDS, arms[1]: other, arms[2]: FOLDS[:1]})["drift"]
        shown = [[arm["id"] for arm in panel["arms"]] for panel in section["panels"]]
        assert shown == [[arms[0], arms[2]], [arms[1]]]

    def test_nothing_without_cka(self, case: ReportCase) -> None:
        summary = case.summary()
        assert summary["drift"] is None
        arms, runs = summary["arms"], case.results.runs
        assert drift_section([], arms=arms) is None
        folds = [{"best_epoch": 1}, {"best_epoch": 2, "cka": None}, {"cka": {}}]
        assert drift_section([replace(runs[0], details={"folds": folds})], arms=arms) is None
        assert drift_section([replace(with_cka(runs[0], FOLDS), arm="stray")], arms=arms) is None
        html = render_html(summary)
        assert 'id="drift' not in html
        assert "#drift" not in html
        assert drift_panels(None, arms) == []


class TestChart:
    LINE = DriftLine("A", 0, (1.0, 0.5, 0.0), (1.0, 0.4, 0.0), (1.0, 0.6, 0.1))

    def test_places_values_between_zero_and_one(self) -> None:
        svg = str(drift([self.LINE], ["stem", "middle", "final"]))
        dots = [
            (float(x), float(y))
            for x, y in re.findall(r'<circle class="dot s0" cx="([\d.]+)" cy="([\d.]+)"', svg)
        ]
        (x0, y0), (x1, y1), (x2, y2) = dots
        assert x1 - x0 == pytest.approx(x2 - x1)
        assert y1 == pytest.approx((y0 + y2) / 2)
        ticks = dict(re.findall(r'y="([\d.]+)" text-anchor="end">([\d.]+)<', svg))
        heights = {text: float(y) - 4 for y, text in ticks.items()}
        assert [heights["1"], heights["0"]] == pytest.approx([y0, y2])
        assert svg.count('class="spread s0"') == 3

    def test_line_breaks_where_a_value_is_undefined(self) -> None:
        line = DriftLine("A", 0, (1.0, None, 0.5, 0.4), (1.0, None, 0.5, 0.4), (1, None, 0.5, 0.4))
        svg = str(drift([line], ["a", "b", "c", "d"]))
        assert len(re.findall(r'<path class="line s0 d0"', svg)) == 2
        assert svg.count("<circle") == 3
        nothing = DriftLine("A", 0, (None,), (None,), (None,))
        assert "<path" not in str(drift([nothing], ["final"]))

    def test_negative_values_widen_the_axis(self) -> None:
        line = DriftLine("A", 0, (1.0, -0.1), (1.0, -0.3), (1.0, 0.2))
        svg = str(drift([line], ["a", "final"]))
        lowest = max(float(y) for y in re.findall(r'class="spread s0"[^>]* y1="([\d.]+)"', svg))
        assert lowest <= 200

    def test_ticks_keep_the_last_and_never_meet(self) -> None:
        many = [f"blocks.{i}" for i in range(24)] + ["final"]
        kept = stage_ticks(many, Scale(0, 24, 50, 380))
        assert kept[-1] == (24, "final")
        places = [50 + 330 * i / 24 for i, _ in kept]
        widths = [6 * len(text) for _, text in kept]
        gaps = [b - a for a, b in pairwise(places)]
        needs = [(a + b) / 2 for a, b in pairwise(widths)]
        assert all(gap > need for gap, need in zip(gaps, needs, strict=True))
        assert len(kept) > 3

    def test_ticks_say_the_end_of_a_dotted_name(self) -> None:
        stages = ["features.norm0", "block2.rep.0", "layer1", "a_very_long_name_of_a_stage"]
        texts = [text for _, text in stage_ticks(stages, Scale(0, 3, 0, 1000))]
        assert texts[:3] == ["norm0", "block2.rep.0", "layer1"]
        assert len(texts[3]) == 14


class TestReport:
    def test_says_how_to_read_it_and_shows_every_number(
        self, summary: dict[str, Any], html: str
    ) -> None:
        part = section_of(html)
        text = " ".join(re.sub(r"<[^>]+>", " ", part).split())
        assert "How far fine-tuning moved the network" in text
        assert "1 means that a stage arranges the tiles as the frozen network does" in text
        for number in ("1.000", "0.980", "0.970–0.990", "0.900", "0.300–0.500", "−0.050 to 0.250"):
            assert number in text
        assert re.findall(r'<th scope="col" class="n">(.+?)</th>', part) == [
            stage.replace(".", ".<wbr>") for stage in STAGES
        ]
        assert part.count("<table") == part.count('role="img"') == 1
        assert 'href="#drift"' in html
        (arm,) = summary["drift"]["panels"][0]["arms"]
        assert arm["label"] in text

    def test_one_fold_has_no_range_and_undefined_is_said(self, case: ReportCase) -> None:
        part = section_of(render_html(moved(case, {TUNED: [{"a": 0.75, "final": None}]})))
        cells = [
            re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r'<td class="n">(.+?)</td>', part)
        ]
        assert cells == ["0.750", "undefined"]

    def test_many_arms_are_drawn_in_part_and_listed_whole(self, case: ReportCase) -> None:
        summary = moved(case, {run.arm: FOLDS for run in case.results.runs[:7]})
        part = section_of(render_html(summary))
        assert part.count('<th scope="row"') == 7
        assert part.count("<li>") == 5
        assert "The 5 arms with the best balanced accuracy; the table has all." in part

    def test_ids_are_unique_and_labels_lead_somewhere(self, case: ReportCase) -> None:
        other: list[Fold] = [{"layer1": 1.0, "final": 0.5}]
        html = render_html(moved(case, {TUNED: FOLDS, case.results.runs[0].arm: other}))
        ids = re.findall(r'\sid="([^"]+)"', html)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'aria-labelledby="([^"]+)"', html)) <= set(ids)

    def test_names_are_escaped(self, case: ReportCase) -> None:
        attack = "<script>alert(1)</script>"
        hostile = moved(case, {TUNED: [{attack: 0.5, "final": 0.4}]})
        hostile["drift"]["panels"][0]["arms"][0] |= {"label": attack, "source": attack}
        assert "<script>alert" not in render_html(hostile)
