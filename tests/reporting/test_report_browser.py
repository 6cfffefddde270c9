"""The report in a real browser: no errors, sorting, dark mode, phone width, print."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from report_cases import draw_case, with_full_ledger

from featurebench.reporting import write_report
from featurebench.results import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install the package chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    failure = Failure("mobilenetv2_100.file+full", "finetune", "out of memory: lower batch_size")
    bad = ({"tile_id": "a/very/long/path/" * 8 + "t.png", "reason": "truncated"},)
    grades = tuple(f"a rather long name of class {i}" for i in range(4))
    cases = {
        "two": draw_case(folder / "a"),
        "full": with_full_ledger(draw_case(folder / "d")),
        "four": draw_case(
            folder / "b", classes=grades, repeats=1, failures=(failure,), bad_tiles=bad
        ),
        "anonymous": draw_case(folder / "c", patients=False, sites=0, repeats=1),
    }
    return {
        name: write_report(case.summary(), folder / f"report-{name}")
        for name, case in cases.items()
    }


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    contexts, complaints = [], []

    def open_page(path: Path, **options: Any) -> Any:
        context = browser.new_context(**({"viewport": DESKTOP} | options))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url[:80]))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def background(page: Any) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def overflow(page: Any) -> int:
    root = "document.documentElement"
    return int(page.evaluate(f"{root}.scrollWidth - {root}.clientWidth"))


@pytest.mark.parametrize("name", ["two", "four", "anonymous", "full"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_page_never_scrolls_sideways(
    name: str, viewport: dict[str, int], visit: Any, reports: dict[str, Path]
) -> None:
    page = visit(reports[name], viewport=viewport)
    assert overflow(page) == 0
    assert page.locator("svg.chart").count() > 15


def test_first_screen_has_verdict_arms_and_differences(
    visit: Any, reports: dict[str, Path]
) -> None:
    page = visit(reports["two"])
    for selector in (".verdict", "#arms", "svg.forest"):
        box = page.locator(selector).bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= DESKTOP["height"], selector


def test_arms_sort_on_click_and_by_key(visit: Any, reports: dict[str, Path]) -> None:
    page = visit(reports["two"])
    time = page.locator("#arms thead th").nth(2)

    def column() -> list[float]:
        values = page.eval_on_selector_all(
            "#arms tbody tr", "rows => rows.map(row => row.cells[2].dataset.value)"
        )
        return [float(value) for value in values]

    time.locator("button").click()
    assert time.get_attribute("aria-sort") == "descending"
    assert column() == sorted(column(), reverse=True)
    time.locator("button").press("Enter")
    assert time.get_attribute("aria-sort") == "ascending"
    assert column() == sorted(column())
    assert page.locator("#arms th[aria-sort]").count() == 1


def test_failed_arms_stay_below(visit: Any, reports: dict[str, Path]) -> None:
    page = visit(reports["four"])
    for _ in range(2):
        page.locator("#arms thead button").nth(1).click()
        assert "failed" in str(page.locator("#arms tbody tr").last.get_attribute("class"))


def test_dark_follows_the_system_and_the_button(visit: Any, reports: dict[str, Path]) -> None:
    page = visit(reports["two"], color_scheme="light")
    light = background(page)
    page.locator("#theme").click()
    dark = background(page)
    assert dark != light
    page.locator("#theme").click()
    assert background(page) == light
    assert background(visit(reports["two"], color_scheme="dark")) == dark


def test_print_is_light_complete_and_without_controls(visit: Any, reports: dict[str, Path]) -> None:
    page = visit(reports["two"], color_scheme="dark", viewport={"width": 688, "height": 1000})
    page.locator("#theme").click()
    page.locator("#theme").click()
    page.emulate_media(media="print", color_scheme="dark")
    assert background(page) == "rgb(255, 255, 255)"
    assert not page.locator("#theme").is_visible()
    assert not page.locator("nav").is_visible()
    assert overflow(page) == 0
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_reads_without_scripts(visit: Any, reports: dict[str, Path]) -> None:
    page = visit(reports["two"], java_script_enabled=False)
    assert not page.locator("#theme").is_visible()
    assert page.locator("#arms tbody tr").count() == 10
    assert page.locator("svg.forest circle").count() > 0


def test_injected_script_does_not_run(
    browser: Any, tmp_path: Path, reports: dict[str, Path]
) -> None:
    html = reports["two"].read_text(encoding="utf-8")
    hostile = tmp_path / "hostile.html"
    hostile.write_text(html.replace("</main>", "<script>window.ran = 1</script></main>"), "utf-8")
    page = browser.new_page()
    page.goto(hostile.as_uri())
    assert page.evaluate("window.ran") is None
    page.close()


def test_text_is_readable_against_its_background(visit: Any, reports: dict[str, Path]) -> None:
    for scheme in ("light", "dark"):
        page = visit(reports["two"], color_scheme=scheme)
        for selector in ("body", ".facts", ".caveats h3", ".note", "nav a", ".interval"):
            assert contrast(page, selector) >= 4.5, (scheme, selector)


def contrast(page: Any, selector: str) -> float:
    text = page.eval_on_selector(selector, "e => getComputedStyle(e).color")
    lighter, darker = sorted((luminance(text), luminance(background(page))), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    shares = [int(x) / 255 for x in colour.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
