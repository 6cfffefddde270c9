"""All tests that are offered by name, together in one report."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from report_cases import ReportCase, draw_case

from featurebench.comparison import OFFERED, compare
from featurebench.reporting.markdown import markdown
from featurebench.reporting.render import render_html

if TYPE_CHECKING:
    from pathlib import Path

TABLES = {
    "Folds taken as independent": ["paired_t", "wilcoxon"],
    "Tiles taken as independent": ["mcnemar", "stuart_maxwell"],
    "Patients taken as independent": ["clustered_mcnemar"],
}


def section_of(html: str) -> str:
    part = html[html.index('<section id="offered"') :]
    return part[: part.index("</section>")]


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    classes = ("benign", "malignant", "other")
    drawn = draw_case(tmp_path_factory.mktemp("offered"), classes=classes)
    return replace(drawn, comparison=compare(drawn.results, n_boot=50, tests=list(OFFERED)))


@pytest.fixture(scope="module")
def summary(case: ReportCase) -> dict[str, Any]:
    return json.loads(json.dumps(case.summary(), allow_nan=False))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def html(summary: dict[str, Any]) -> str:
    return render_html(summary)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    drawn = draw_case(tmp_path_factory.mktemp("binary"))
    results = replace(drawn.results, runs=drawn.results.runs[:3])
    comparison = compare(results, n_boot=50, tests=["delong", "obuchowski"])
    return replace(drawn, results=results, comparison=comparison).summary()


def test_tests_are_grouped_by_what_they_take_as_independent(
    summary: dict[str, Any], html: str
) -> None:
    tables = summary["offered"]["tables"]
    found = {table["title"]: [each["name"] for each in table["columns"]] for table in tables}
    assert found == TABLES
    titles = [words(text) for text in re.findall(r"<h3.*?</h3>", section_of(html), re.DOTALL)]
    assert titles == [*TABLES, "Over all arms", "Each arm by itself", "Why not to rely on them"]


def test_each_p_value_says_what_it_was_made_from(summary: dict[str, Any]) -> None:
    patterns = {
        "paired_t": [r"t\(\d+\) = −?\d+\.\d\d"],
        "wilcoxon": [r"ranks [\d.]+ : [\d.]+"],
        "mcnemar": [r"\d+ : \d+ tiles", r"exact [<>]?\d\.\d{3}"],
        "clustered_mcnemar": [
            r"\d+ : \d+ tiles",
            r"Durkalski [<>]?\d\.\d{3}",
            r"Yang [<>]?\d\.\d{3}",
        ],
        "stuart_maxwell": [
            r"at most [+−]\d+\.\d+ pp",
            r"χ²\(2\) = \d+\.\d\d",
            r"Bowker [<>]?\d\.\d{3}",
        ],
    }
    for row in summary["offered"]["rows"]:
        for name, expected in patterns.items():
            lines = row["tests"][name]["lines"]
            assert len(lines) == len(expected)
            for line, pattern in zip(lines, expected, strict=True):
                assert re.fullmatch(pattern, line.replace("\u202f", "")), (name, line)


def test_areas_stand_below_delong_and_obuchowski(binary: dict[str, Any]) -> None:
    for row in binary["offered"]["rows"]:
        tile, patient = row["tests"]["delong"], row["tests"]["obuchowski"]
        areas = f"{tile['further']['auc_a']:.3f} : {tile['further']['auc_b']:.3f}"
        assert tile["lines"][0] == patient["lines"][0] == areas
        assert re.fullmatch(r"z = −?\d+\.\d\d", tile["lines"][1])
        assert re.fullmatch(r"t\(\d+\) = −?\d+\.\d\d", patient["lines"][1])
    part = words(section_of(render_html(binary)))
    assert "DeLong and Obuchowski: ROC AUC of the arm and of the reference" in part


def test_every_note_is_there_for_the_tests_that_are_shown(
    html: str, binary: dict[str, Any]
) -> None:
    part = words(section_of(html))
    for start in (
        "Wilcoxon: sums",
        "McNemar: mid-p",
        "Clustered McNemar: by",
        "Stuart-Maxwell: on",
    ):
        assert start in part
    assert "DeLong and Obuchowski: ROC AUC" not in part
    assert "5x2cv: on" not in part
    assert "McNemar: mid-p" not in words(section_of(render_html(binary)))


def test_measures_of_single_arms_have_a_row_for_each(summary: dict[str, Any], html: str) -> None:
    offered = summary["offered"]
    assert [each["name"] for each in offered["measures"]] == ["kappa", "hand_till"]
    assert {row["arm"] for row in offered["each_arm"]} == {arm["id"] for arm in summary["arms"]}
    by_name = {test["name"]: test for test in offered["tests"]}
    part = words(section_of(html))
    for row, kappa in zip(offered["each_arm"], by_name["kappa"]["each_arm"], strict=True):
        assert row["arm"] == kappa["arm"]
        value = f"{kappa['value']:.3f}".replace("-", "−")
        assert row["cells"][0]["value"].startswith(value)
        assert re.search(r"tiles$", row["cells"][0]["line"])
        assert re.search(r"folds$", row["cells"][1]["line"])
        assert row["cells"][1]["line"] in part


def test_stuart_maxwell_is_not_counted_against_the_corrected_test(summary: dict[str, Any]) -> None:
    counted = " ".join(summary["offered"]["sentences"])
    assert "Stuart-Maxwell" not in counted
    assert "Clustered McNemar: p below 0.05 in" in counted


def test_every_warning_and_every_reason_is_shown(summary: dict[str, Any], html: str) -> None:
    text, part = markdown(summary).replace("\\", ""), words(section_of(html))
    reasons = {test["name"]: test["not_run"] for test in summary["offered"]["tests"]}
    assert {name for name, reason in reasons.items() if reason} == {
        "five_by_two_t",
        "five_by_two_f",
        "delong",
        "obuchowski",
    }
    for test in summary["offered"]["tests"]:
        assert test["warning"] in part
        assert test["warning"] in text
        assert test["not_run"] in part
    assert "Cohen's kappa with asymptotic error | ROC AUC of Hand and Till |" in text


@pytest.mark.browser
def test_wide_tables_scroll_within_themselves(html: str, tmp_path: Path) -> None:
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
            assert page.locator("#offered table").count() == 4
        browser.close()
