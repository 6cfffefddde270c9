"""Few labels in the report: the numbers, the sentences, the charts and the tables."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from report_cases import ReportCase, draw_case

from featurebench.reporting import summarize
from featurebench.reporting.figures import learning_panels
from featurebench.reporting.learning import full_value, learning_section, reached_from
from featurebench.reporting.learning_chart import LearningLine, learning, spaced
from featurebench.reporting.markdown import markdown
from featurebench.reporting.render import render_html
from featurebench.reporting.svg import Scale
from featurebench.results import Cost, CurvePoint, LearningCurve, LeftOut, SizeSummary

if TYPE_CHECKING:
    from pathlib import Path

SIZES = {"patients": (4, 8, 16, 24), "shots": (1, 2, 4, 8, 16)}
LEFT_OUT = LeftOut("patients", 64, "the smallest training side has 31 patients")


def draw_curve(arm: str, full: float, *, seed: int = 0, **changes: Any) -> LearningCurve:
    """Balanced accuracy that nears the full-data value by halves, log loss likewise."""
    rng = np.random.default_rng(seed)
    points = []
    for kind, sizes in SIZES.items():
        for i, size in enumerate(sizes):
            for draw in range(4):
                for fold in range(5):
                    value = full - 0.16 / 2**i + rng.normal(0, 0.004)
                    values = {"balanced_accuracy": value, "log_loss": 1.2 - value}
                    n_patients = size if kind == "patients" else 2 * size
                    inner = "fixed" if size == 1 else "groups"
                    point = CurvePoint(
                        kind, size, draw, 0, fold, 12 * size, n_patients, inner, values
                    )
                    points.append(point)
    curve = LearningCurve(
        arm=arm,
        embedding=None,
        head=None,
        params={},
        fingerprint="",
        plan_id="p",
        seed=0,
        classes=("benign", "malignant"),
        settings={"draws": 4},
        metrics=("balanced_accuracy", "log_loss"),
        points=tuple(points),
        left_out=(LEFT_OUT,),
        full_tiles=370.4,
        full_patients=32.0,
        cost=Cost(1.0),
    )
    return replace(curve, **changes)


def with_curves(case: ReportCase, n_arms: int = 3) -> dict[str, Any]:
    probes = [arm for arm in case.summary()["arms"] if arm["kind"] == "probe"][:n_arms]
    curves = [
        draw_curve(arm["id"], full_value(arm["fold_scores"], "balanced_accuracy") or 0.0, seed=i)
        for i, arm in enumerate(probes)
    ]
    return summarize(**vars(case), curves=curves)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    return draw_case(tmp_path_factory.mktemp("few"))


@pytest.fixture(scope="module")
def summary(case: ReportCase) -> dict[str, Any]:
    return with_curves(case)


@pytest.fixture(scope="module")
def html(summary: dict[str, Any]) -> str:
    return render_html(summary)


def points_of(*values: float) -> list[SizeSummary]:
    return [
        SizeSummary("tiles", 2**i, value, value, value, 1, 1.0, None, 0, 1)
        for i, value in enumerate(values)
    ]


class TestNumbers:
    def test_full_value_is_averaged_as_the_points_are(self) -> None:
        scores = [
            {"repeat": r, "fold": f, "metric": "roc_auc", "value": v}
            for r, f, v in ((0, 0, 0.8), (0, 1, 0.6), (1, 0, 0.9), (1, 1, None), (2, 0, np.nan))
        ]
        assert full_value(scores, "roc_auc") == pytest.approx((0.7 + 0.9) / 2)
        assert full_value(scores, "accuracy") is None

    @pytest.mark.parametrize(
        ("values", "full", "sign", "expected"),
        [
            ((0.70, 0.80, 0.895, 0.90), 0.90, 1, 4),
            ((0.70, 0.80, 0.89, 0.90), 0.90, 1, 4),
            ((0.70, 0.93, 0.80, 0.90), 0.90, 1, 8),
            ((0.70, 0.80, 0.85, 0.88), 0.90, 1, None),
            ((0.90, 0.90, 0.90, 0.95), 0.90, 1, 1),
            ((0.70, 0.50, 0.41, 0.30), 0.40, -1, 4),
            ((0.90, 0.90, 0.90, float("nan")), 0.90, 1, None),
        ],
    )
    def test_reached_only_if_all_larger_sizes_are_near(
        self, values: tuple[float, ...], full: float, sign: int, expected: int | None
    ) -> None:
        assert reached_from(points_of(*values), full, margin=0.01, sign=sign) == expected
        assert reached_from(points_of(*values), None, margin=0.01, sign=sign) is None

    def test_section_is_plain_ranked_and_complete(self, summary: dict[str, Any]) -> None:
        few = json.loads(json.dumps(summary, allow_nan=False))["few_labels"]
        assert few == summary["few_labels"]
        assert [panel["kind"] for panel in few["panels"]] == ["patients", "shots"]
        assert [panel["sizes"] for panel in few["panels"]] == [list(s) for s in SIZES.values()]
        for panel in few["panels"]:
            full = [arm["full"] for arm in panel["arms"]]
            assert len(full) == 3
            assert full == sorted(full, reverse=True)
            assert panel["arms"][0]["points"][0]["n_draws"] == 4
        assert (few["full_tiles"], few["full_patients"], few["draws"]) == (370.4, 32.0, 4)
        assert few["left_out"][0]["size"] == 64

    def test_sentences_say_from_how_many(self, summary: dict[str, Any]) -> None:
        few = summary["few_labels"]
        best = few["panels"][0]["arms"][0]
        assert best["reached"] is None
        assert few["sentences"] == [
            f"{best['label']} is not yet within 1 pp of its full-data balanced accuracy with 24 "
            "patients.",
            f"{best['label']} reaches within 1 pp of its full-data balanced accuracy with 16 "
            "tiles per class.",
        ]
        assert few["panels"][1]["arms"][0]["reached"] == 16

    def test_without_a_margin_the_full_data_value_itself_is_to_be_reached(
        self, summary: dict[str, Any]
    ) -> None:
        arm = summary["arms"][0]
        for level, told in ((0.1, "is not yet at its"), (2.0, "reaches its")):
            few = learning_section(
                [draw_curve(arm["id"], level)],
                arms=summary["arms"],
                metric="balanced_accuracy",
                margin=0.0,
            )
            assert few is not None
            assert all(
                f"{told} full-data balanced accuracy with" in text for text in few["sentences"]
            )

    def test_other_metric_stands_in_where_the_declared_one_is_missing(
        self, summary: dict[str, Any]
    ) -> None:
        arm = summary["arms"][0]
        few = learning_section(
            [draw_curve(arm["id"], 0.8)], arms=summary["arms"], metric="roc_auc", margin=0.01
        )
        assert few is not None
        # the margin was declared in units of the other metric
        assert (few["metric"], few["margin"]) == ("balanced_accuracy", 0.0)
        few = learning_section(
            [draw_curve(arm["id"], 0.8)], arms=summary["arms"], metric="log_loss", margin=0.01
        )
        assert few is not None
        assert few["metric"] == "log_loss"

    def test_nothing_without_curves_of_the_arms_shown(self, summary: dict[str, Any]) -> None:
        arms = summary["arms"]
        assert learning_section([], arms=arms, metric="accuracy", margin=0.01) is None
        stray = draw_curve("another+arm", 0.8)
        assert learning_section([stray], arms=arms, metric="accuracy", margin=0.01) is None
        empty = draw_curve(arms[0]["id"], 0.8, points=())
        few = learning_section([empty], arms=arms, metric="accuracy", margin=0.01)
        assert few is not None
        assert (few["panels"], few["sentences"], len(few["left_out"])) == ([], [], 1)


class TestChart:
    LINES = (
        LearningLine("A", 0, (4, 8), (0.6, 0.8), (0.5, 0.7), (0.65, 0.9), 0.85),
        LearningLine("B", 1, (8, 16), (0.7, 0.75), (0.7, 0.7), (0.7, 0.8), None),
    )

    def test_draws_a_line_per_arm_and_the_full_value_dashed(self) -> None:
        svg = str(learning(self.LINES, metric="balanced_accuracy", unit="patients"))
        assert svg.count('class="line ') == 2
        assert svg.count('class="full s0"') == svg.count('class="full s') == 1
        assert svg.count('class="dot s') == 4
        assert "A, all labels: 0.850" in svg
        assert 'aria-label="Balanced accuracy against the number of patients trained on"' in svg
        texts = re.findall(r"<text[^>]*>([^<]+)</text>", svg)
        assert {"4", "8", "16", "patients", "Balanced accuracy"} <= set(texts)

    def test_sizes_are_at_equal_ratios(self) -> None:
        svg = str(learning(self.LINES, metric="balanced_accuracy", unit="patients"))
        x = {
            text: float(place)
            for place, text in re.findall(r'x="([\d.]+)" y="276"[^>]*>(\d+)</text>', svg)
        }
        assert x["8"] - x["4"] == pytest.approx(x["16"] - x["8"], abs=0.02)

    def test_one_size_stands_in_the_middle(self) -> None:
        line = LearningLine("A", 0, (8,), (0.6,), (0.6,), (0.6,), 0.6)
        assert "nan" not in str(learning([line], metric="roc_auc", unit="tiles")).lower()

    def test_crowded_ticks_are_thinned_from_the_largest(self) -> None:
        scale = Scale(1, 100, 0, 100, log=True)
        assert spaced([1, 2, 50, 90, 100], scale, room=20) == [2, 100]
        assert spaced([1, 10, 100], scale, room=50) == [1, 10, 100]


class TestReport:
    def test_section_stands_only_where_there_are_curves(self, case: ReportCase, html: str) -> None:
        assert 'id="few-labels"' in html
        assert 'href="#few-labels"' in html
        without = case.summary()
        assert without["few_labels"] is None
        assert "few-labels" not in render_html(without)
        assert learning_panels(None) == []

    def test_says_and_shows_what_the_summary_holds(
        self, summary: dict[str, Any], html: str
    ) -> None:
        part = html[html.index('<section id="few-labels"') :]
        part = part[: part.index("</section>")]
        text = " ".join(re.sub(r"<[^>]+>", " ", part).split())
        for sentence in summary["few_labels"]["sentences"]:
            assert sentence in text
        assert part.count("<table") == part.count('role="img"') == 2
        assert part.count('<th scope="row"') == 6
        assert "no confidence interval" in text
        assert "370 tiles of 32 patients on average" in text
        assert "64 patients : the smallest training side has 31 patients." in text.replace(
            "patients:", "patients :"
        )
        assert part.count("not tuned") == 3

    def test_markdown_has_the_sentences(self, summary: dict[str, Any]) -> None:
        assert summary["few_labels"]["sentences"][0] in markdown(summary).replace("\\", "")

    def test_ids_are_unique_and_labels_lead_somewhere(self, html: str) -> None:
        ids = re.findall(r'\sid="([^"]+)"', html)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'aria-labelledby="([^"]+)"', html)) <= set(ids)

    def test_many_arms_are_drawn_in_part_and_listed_whole(self, case: ReportCase) -> None:
        html = render_html(with_curves(case, n_arms=8))
        part = html[html.index('<section id="few-labels"') :]
        part = part[: part.index("</section>")]
        assert part.count('<path class="line s') == 2 * 2 * 5
        assert part.count('<th scope="row"') == 2 * 8
        assert "The 5 arms with the best full-data values" in part

    def test_names_are_escaped(self, summary: dict[str, Any]) -> None:
        hostile = json.loads(json.dumps(summary))
        hostile["few_labels"]["sentences"] = ["<script>alert(1)</script>"]
        for panel in hostile["few_labels"]["panels"]:
            panel["arms"][0]["label"] = "<script>alert(1)</script>"
        hostile["few_labels"]["left_out"][0]["reason"] = "<script>alert(1)</script>"
        assert "<script>alert" not in render_html(hostile)


@pytest.mark.browser
def test_page_with_curves_never_scrolls_sideways(case: ReportCase, tmp_path: Path) -> None:
    import shutil

    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on this machine: install the package chromium")
    file = tmp_path / "report.html"
    file.write_text(render_html(with_curves(case, n_arms=8)), "utf-8")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=flags)
        for width in (1280, 390):
            page = browser.new_page(viewport={"width": width, "height": 800})
            page.goto(file.as_uri())
            root = "document.documentElement"
            assert page.evaluate(f"{root}.scrollWidth - {root}.clientWidth") == 0
            assert page.locator("svg.learning").count() == 2
        browser.close()
