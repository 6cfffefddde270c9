"""The literature's tests in the report: beside the corrected ones, with the warnings."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from report_cases import ReportCase, draw_case

from featurebench.comparison import compare
from featurebench.reporting.markdown import markdown
from featurebench.reporting.render import render_html

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ALL = ("paired_t", "anova", "mcnemar", "cochran_q")


def summary_of(case: ReportCase, tests: Sequence[str] = ALL, **settings: Any) -> dict[str, Any]:
    comparison = compare(case.results, n_boot=50, tests=tests, **settings)
    return replace(case, comparison=comparison).summary()


def section_of(html: str) -> str:
    part = html[html.index('<section id="offered"') :]
    return part[: part.index("</section>")]


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    return draw_case(tmp_path_factory.mktemp("offered"))


@pytest.fixture(scope="module")
def summary(case: ReportCase) -> dict[str, Any]:
    return summary_of(case)


@pytest.fixture(scope="module")
def html(summary: dict[str, Any]) -> str:
    return render_html(summary)


def test_absent_if_none_was_asked_for(case: ReportCase) -> None:
    without = case.summary()
    assert without["offered"] is None
    html = render_html(without)
    assert 'id="offered' not in html
    assert 'href="#offered' not in html
    assert "literature" not in markdown(without)


def test_naive_p_values_stand_beside_the_corrected_ones(summary: dict[str, Any], html: str) -> None:
    offered = json.loads(json.dumps(summary, allow_nan=False))["offered"]
    contrasts = {c["arm_a"]: c for c in summary["comparisons"]}
    assert [row["arm"] for row in offered["rows"]] == list(contrasts)
    for row in offered["rows"]:
        contrast = contrasts[row["arm"]]
        for key in ("difference", "ci_low", "ci_high"):
            assert row[key] == contrast[key]
        assert row["p_corrected"] == contrast["by_folds"]["p_value"]
        assert row["p_patients"] == contrast["by_patients"]["p_value"]
        assert row["p_adjusted"] == contrast["p_adjusted"]
        assert row["tests"]["paired_t"]["p_value"] < row["p_corrected"]
    part = section_of(html)
    assert part.count('<th scope="row"') == 2 * len(contrasts)
    assert 'href="#offered"' in html
    heads = [words(text) for text in re.findall(r"<thead>(.*?)</thead>", part, re.DOTALL)]
    assert heads == [
        "Arm Difference (95 % CI) Corrected t, p Paired t over folds, p",
        "Arm Difference (95 % CI) Corrected t, p McNemar on tiles, p",
    ]
    titles = [words(text) for text in re.findall(r"<h3.*?</h3>", part, re.DOTALL)]
    assert titles[:2] == ["Folds taken as independent", "Tiles taken as independent"]


def test_every_p_value_has_its_difference_and_interval_in_the_row(html: str) -> None:
    body = section_of(html)
    body = body[body.index("<tbody>") : body.index("</tbody>")]
    for row in body.split("</tr>")[:-1]:
        assert re.search(r"[+−]?\d+\.\d+ pp \([+−]?\d+\.\d+ to [+−]?\d+\.\d+\)", words(row))
    assert "significan" not in section_of(html)


def test_disagreement_is_counted(summary: dict[str, Any], html: str) -> None:
    rows = summary["offered"]["rows"]
    naive = sum(row["tests"]["paired_t"]["p_value"] < 0.05 for row in rows)
    corrected = sum(row["p_corrected"] < 0.05 for row in rows)
    assert naive > corrected
    sentence = (
        f"Paired t over folds: p below 0.05 in {naive} of {len(rows)} differences; corrected t, "
        f"before Holm: in {corrected}."
    )
    assert sentence in summary["offered"]["sentences"]
    assert sentence in words(section_of(html))


def test_tests_over_all_arms_are_told_with_the_range(summary: dict[str, Any], html: str) -> None:
    anova, cochran = summary["offered"]["over_arms"]
    found = {test["name"]: test["over_arms"] for test in summary["offered"]["tests"]}
    f, q = found["anova"], found["cochran_q"]
    assert anova.startswith(
        "Repeated-measures ANOVA over folds, 9 arms on 10 folds (no baselines): "
        f"F(8, 72) = {f['statistic']:.2f}, p <0.001; Greenhouse-Geisser epsilon "
    )
    low, high = 100 * f["lowest"], 100 * f["highest"]
    assert f"mean balanced accuracy over folds spans {low:.1f} to {high:.1f} %." in anova
    assert (
        f"Q(8) = {q['statistic']:.2f}, p <0.001. The arms' share of tiles called right" in cochran
    )
    for sentence in (anova, cochran):
        assert sentence in words(section_of(html))


def test_every_warning_is_shown(summary: dict[str, Any], html: str) -> None:
    assert [test["name"] for test in summary["offered"]["tests"]] == list(ALL)
    text = markdown(summary).replace("\\", "")
    for test in summary["offered"]["tests"]:
        assert f"{test['label']}. {test['warning']}" in words(section_of(html))
        assert test["warning"] in text


def test_markdown_has_the_table(summary: dict[str, Any]) -> None:
    text = markdown(summary)
    start = text.index("**Tests the literature uses**")
    table = text[start : text.index("**Why not to rely on them**")]
    assert table.count("\n| ") == 2 + len(summary["offered"]["rows"])
    assert (
        "| Arm | Balanced accuracy | Corrected t, p | Paired t over folds, p | McNemar on" in table
    )


def test_what_was_not_computed_is_said_in_a_line(case: ReportCase) -> None:
    first = np.where(case.results.test_fold[:1] == 0, 0, -1).astype(np.int16)
    runs = tuple(replace(run, y_prob=run.y_prob[:1]) for run in case.results.runs)
    results = replace(case.results, test_fold=first, runs=runs)
    comparison = compare(results, n_boot=50, tests=["paired_t", "anova"])
    summary = replace(case, comparison=comparison).summary()
    part = section_of(render_html(summary))
    assert "<table" not in part
    for name in ("Paired t over folds", "Repeated-measures ANOVA over folds"):
        line = f"{name}. Not computed: the plan has one test set, and it needs several folds. It"
        assert line in words(part)
        assert line in markdown(summary)


def test_undefined_numbers_are_dashes(case: ReportCase) -> None:
    twin = replace(case.results.runs[0], arm="twin", embedding=None, head=None)
    results = replace(case.results, runs=(case.results.runs[0], twin))
    comparison = compare(results, n_boot=50, tests=ALL)
    section = replace(case, results=results, comparison=comparison).summary()
    row = section["offered"]["rows"][0]
    assert row["tests"]["paired_t"]["p_value"] is None
    assert row["tests"]["paired_t"]["lines"] == []
    assert row["tests"]["mcnemar"]["lines"] == ["0 : 0 tiles"]
    assert (
        "ANOVA over folds, 2 arms on 10 folds (no baselines): not estimable."
        in (section["offered"]["over_arms"][0])
    )
    part = section_of(render_html(section))
    assert words(part[part.index("<tbody>") : part.index("</tbody>")]).count("–") >= 4


def test_names_are_escaped(summary: dict[str, Any]) -> None:
    hostile = json.loads(json.dumps(summary))
    hostile["offered"]["sentences"] = ["<script>alert(1)</script>"]
    hostile["offered"]["over_arms"] = ["<script>alert(1)</script>"]
    hostile["offered"]["columns"][0]["label"] = "<script>alert(1)</script>"
    assert "<script>alert" not in render_html(hostile)


@pytest.mark.browser
def test_page_with_the_section_never_scrolls_sideways(html: str, tmp_path: Path) -> None:
    import shutil

    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on this machine: install the package chromium")
    file = tmp_path / "report.html"
    file.write_text(html, "utf-8")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=flags)
        for width in (1280, 390):
            page = browser.new_page(viewport={"width": width, "height": 800})
            page.goto(file.as_uri())
            root = "document.documentElement"
            assert page.evaluate(f"{root}.scrollWidth - {root}.clientWidth") == 0
            assert page.locator("#offered table").count() == 2
        browser.close()
