"""The figures as files of their own: whole documents, in light colours, that need nothing else."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from report_cases import draw_case

from featurebench.reporting.legend import swatch
from featurebench.reporting.render import render_html
from featurebench.reporting.svg_files import alone, slug, svg_files
from featurebench.reporting.svg_style import style_of

if TYPE_CHECKING:
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return draw_case(tmp_path_factory.mktemp("svg"), repeats=2).summary()


@pytest.fixture(scope="module")
def files(summary: dict[str, Any]) -> dict[str, str]:
    return svg_files(summary)


def texts(document: str) -> list[str]:
    root = ElementTree.fromstring(document)
    return [each.text or "" for each in root.iter(f"{SVG}text")]


def test_every_figure_of_the_report_has_a_file(files: dict[str, str]) -> None:
    names = {name.removeprefix("figures/").removesuffix(".svg") for name in files}
    assert {"differences", "folds", "cost", "roc", "precision-recall", "calibration"} <= names
    assert {"decision", "patients", "folds-plan"} <= names
    # Nothing of the kind was run, so that there is nothing to draw.
    assert not names & {"seeds", "drift-1", "few-labels-patients", "map-class"}


def test_files_are_whole_documents_with_a_size_and_a_title(files: dict[str, str]) -> None:
    for name, document in files.items():
        root = ElementTree.fromstring(document)
        assert root.tag == f"{SVG}svg", name
        width, height = float(root.get("width", 0)), float(root.get("height", 0))
        assert width > 100
        assert height > 60
        assert root.get("viewBox") == f"0 0 {width:g} {height:g}"
        title = root.find(f"{SVG}title")
        assert title is not None
        assert title.text in texts(document)


def test_files_need_nothing_from_elsewhere(files: dict[str, str]) -> None:
    for document in files.values():
        style = document.split("<style>")[1].split("</style>")[0]
        assert not re.search(r"var\(|light-dark|rem\b|@|url\(|prefers-", style)
        assert "href" not in document
        assert "<script" not in document
        assert "style=" not in document
        assert document.isprintable() or "\n" in document


def test_colours_are_those_of_the_light_theme(files: dict[str, str]) -> None:
    style = files["figures/roc.svg"].split("<style>")[1].split("</style>")[0]
    assert re.search(r"\.line\.s0\{[^}]*stroke:#0072b2", style)
    assert re.search(r"\.line\.s1\{[^}]*stroke:#d55e00", style)
    assert "stroke-dasharray" in style
    assert "#4ba3dd" not in style


def test_style_has_only_what_the_figure_uses() -> None:
    style = style_of('<svg class="chart"><path class="line s3 d3"/></svg>')
    assert re.search(r"\.line\.s3\{", style)
    assert ".d3{" in style
    for absent in (".s4", ".d1", ".whisker", ".heat", "table", "td", ".toc", ":root"):
        assert absent not in style


def test_rules_of_a_numbered_ancestor_are_kept() -> None:
    style = style_of('<svg class="groups"><g class="s1"><circle class="point"/></g></svg>')
    assert re.search(r"\.groups \.s1 \.point\{[^}]*fill:#d55e00", style)
    assert re.search(r"\.groups \.s1 \.point\{[^}]*stroke:#d55e00", style)


def test_differences_name_every_arm_with_its_numbers(
    files: dict[str, str], summary: dict[str, Any]
) -> None:
    found = texts(files["figures/differences.svg"])
    first = summary["comparisons"][0]
    assert any(f"{abs(100 * first['ci_high']):.1f}" in text for text in found)
    assert any("minus logistic" in text for text in found)
    marks = files["figures/differences.svg"]
    for test in ("by-patients", "by-folds"):
        assert marks.count(f'class="whisker {test}"') >= len(summary["comparisons"]) - 2


def test_legends_name_what_is_drawn(files: dict[str, str], summary: dict[str, Any]) -> None:
    labels = {arm["label"] for arm in summary["arms"]}
    drawn = [text for text in texts(files["figures/roc.svg"]) if text in labels]
    assert len(drawn) == len(summary["bands"]["panels"][0]["arms"])
    leads = [text for text in texts(files["figures/calibration.svg"]) if text in labels]
    assert len(leads) == len(summary["bands"]["calibration"])


def test_classes_of_several_have_a_file_each(tmp_path: Path) -> None:
    made = draw_case(tmp_path, classes=("a&b", "C d", "é"), repeats=1).summary()
    names = set(svg_files(made))
    assert {"figures/roc-a-b.svg", "figures/roc-c-d.svg", "figures/roc-other.svg"} <= names
    assert "figures/decision.svg" not in names


def test_text_from_outside_is_no_markup(summary: dict[str, Any]) -> None:
    made = copy.deepcopy(summary)
    hostile = '</text><script>alert(1)</script>&<b "'
    for arm in made["arms"]:
        arm["label"] = hostile
    for document in svg_files(made).values():
        ElementTree.fromstring(document)
        assert "<script" not in document


def test_single_arm_has_no_differences(summary: dict[str, Any]) -> None:
    made = summary | {"arms": summary["arms"][:1], "comparisons": []}
    assert "figures/differences.svg" not in svg_files(made)


@pytest.mark.parametrize(("text", "name"), [("Site A", "site-a"), ("../x", "x"), ("é", "other")])
def test_slug_is_safe_in_a_path(text: str, name: str) -> None:
    assert slug(text) == name


def test_page_has_the_same_chart(files: dict[str, str], summary: dict[str, Any]) -> None:
    paths = re.findall(r' d="(M[^"]{200,})"', files["figures/roc.svg"])
    html = render_html(summary)
    assert paths
    assert all(path in html for path in paths)


def test_shows_its_colours_in_a_browser(tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install the package chromium")
    (tmp_path / "one.svg").write_text(alone("One", swatch(1)), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--window-size=200,120", f"--screenshot={tmp_path / 'one.png'}"]
    command += ["--force-dark-mode", (tmp_path / "one.svg").as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    pixels = np.asarray(Image.open(tmp_path / "one.png").convert("RGB")).reshape(-1, 3)
    assert (pixels == [0xD5, 0x5E, 0x00]).all(axis=1).sum() >= 100
    assert tuple(pixels[0]) == (255, 255, 255)
