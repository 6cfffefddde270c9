"""The report in a real browser: no errors, accessibility, sorting, links, dark mode, print."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from across_cases import many
from across_report_cases import summarized, three
from report_cases import draw_case, with_full_ledger, with_sites

from featurebench.reporting import write_report
from featurebench.reporting.across import write_across
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
        "sites": with_sites(draw_case(folder / "e", sites=8, repeats=3)),
    }
    return {
        name: write_report(case.summary(), folder / f"report-{name}")
        for name, case in cases.items()
    }


@pytest.fixture(scope="module")
def over_data_sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("over data sets")
    named = {"three": three(), "many": many(10)}
    return {name: write_across(summarized(each), folder / name) for name, each in named.items()}


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


def broken_rules(page: Any) -> list[tuple[str, list[Any]]]:
    """Rules of accessibility that axe-core finds broken, each with its first places."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    broken = axe.Axe().run(page).response["violations"]
    return [(rule["id"], [node["target"] for node in rule["nodes"][:3]]) for rule in broken]


def overflow(page: Any) -> int:
    root = "document.documentElement"
    return int(page.evaluate(f"{root}.scrollWidth - {root}.clientWidth"))


@pytest.mark.parametrize("name", ["two", "four", "anonymous", "full", "sites"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_page_never_scrolls_sideways(
    name: str, viewport: dict[str, int], visit: Any, reports: dict[str, Path]
) -> None:
    page = visit(reports[name], viewport=viewport)
    assert overflow(page) == 0
    assert page.locator("svg.chart, svg.rowplot").count() > 25


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("two", "light"),
        ("anonymous", "light"),
        ("sites", "light"),
        *((name, scheme) for name in ("four", "full") for scheme in ("light", "dark")),
    ],
)
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_rule_of_accessibility_is_broken(
    name: str, scheme: str, viewport: dict[str, int], visit: Any, reports: dict[str, Path]
) -> None:
    page = visit(reports[name], viewport=viewport, color_scheme=scheme)
    page.locator("#expand").click()
    assert broken_rules(page) == []


@pytest.mark.parametrize(("name", "scheme"), [("three", "light"), ("many", "dark")])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_report_over_data_sets_breaks_no_rule(
    name: str, scheme: str, viewport: dict[str, int], visit: Any, over_data_sets: dict[str, Path]
) -> None:
    page = visit(over_data_sets[name], viewport=viewport, color_scheme=scheme)
    assert overflow(page) == 0
    assert broken_rules(page) == []


def test_first_screen_has_the_answer_and_its_figure(visit: Any, reports: dict[str, Path]) -> None:
    page = visit(reports["two"])
    for selector in (".answer", ".primary"):
        box = page.locator(selector).bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= DESKTOP["height"], selector


def test_arms_names_never_meet_their_marks(visit: Any, reports: dict[str, Path]) -> None:
    for viewport in (DESKTOP, PHONE):
        page = visit(reports["four"], viewport=viewport)
        overlaps = page.eval_on_selector_all(
            ".rows tbody tr",
            """rows => rows.filter(row => {
                const name = row.cells[0].querySelector('.arm');
                if (!name || !row.cells[1].offsetHeight) return false;
                const a = name.getBoundingClientRect();
                return [...row.cells[1].querySelectorAll('line.whisker, circle')].some(mark => {
                    const b = mark.getBoundingClientRect();
                    return a.right > b.left && b.right > a.left && a.bottom > b.top
                        && b.bottom > a.top;
                });
            }).length""",
        )
        assert overlaps == 0
        assert page.locator(".forest circle").count() > 10


def test_text_of_marks_is_not_smaller_on_a_phone(visit: Any, reports: dict[str, Path]) -> None:
    page = visit(reports["two"], viewport=PHONE)
    sizes = page.eval_on_selector_all(
        "main *",
        """all => all.filter(e => e.checkVisibility() && [...e.childNodes].some(
            n => n.nodeType === 3 && n.data.trim())).map(e => {
            const svg = e.closest('svg[viewBox]');
            const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
            return parseFloat(getComputedStyle(e).fontSize) * scale;
        })""",
    )
    assert len(sizes) > 200
    assert min(sizes) >= 11


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


def test_dark_is_kept(visit: Any, reports: dict[str, Path]) -> None:
    page = visit(reports["two"], color_scheme="light")
    page.locator("#theme").press("Enter")
    dark = background(page)
    page.reload()
    assert background(page) == dark
    assert page.locator("#theme").text_content() == "Light"


def test_a_number_leads_to_its_tiles(visit: Any, reports: dict[str, Path]) -> None:
    page = visit(reports["two"])
    links = page.locator(".matrix a")
    assert links.count() > 4
    targets = [str(link.get_attribute("href")) for link in links.all()]
    hidden = [not page.locator(target).is_visible() for target in targets]
    assert True in hidden
    assert False in hidden
    for is_hidden in (True, False):
        place = hidden.index(is_hidden)
        links.nth(place).click()
        target = page.locator(targets[place])
        target.wait_for(state="visible")
        page.wait_for_function(
            "id => { const box = document.querySelector(id).getBoundingClientRect();"
            " return box.top >= 0 && box.top < innerHeight; }",
            arg=targets[place],
        )


def test_an_address_with_a_place_opens_it(visit: Any, reports: dict[str, Path]) -> None:
    page = visit(reports["two"])
    target = page.locator("details dt[id^=tiles]").first.get_attribute("id")
    page.goto(f"{reports['two'].as_uri()}#{target}")
    page.reload()
    assert page.locator(f"#{target}").is_visible()


def test_one_arm_can_be_highlighted_throughout(visit: Any, reports: dict[str, Path]) -> None:
    page = visit(reports["two"])
    arm = page.locator("#lit option").nth(2).get_attribute("value")
    page.locator("#lit").select_option(arm)
    assert page.locator("#differences tr.lit").count() == 2
    assert page.locator("#scores tr.lit").count() >= 3
    assert page.locator(".matrices figure.lit").count() == 1
    page.locator("#lit").select_option("")
    assert page.locator(".lit").count() == 0


def test_everything_expands_and_collapses(visit: Any, reports: dict[str, Path]) -> None:
    page = visit(reports["two"])
    button = page.locator("#expand")
    total = page.locator("main details").count()
    assert total > 2
    button.click()
    assert page.locator("main details[open]").count() == total
    assert button.text_content() == "Collapse all"
    button.click()
    assert page.locator("main details[open]").count() == 0


def test_contents_lead_to_every_section_and_follow_the_reading(
    visit: Any, reports: dict[str, Path]
) -> None:
    for viewport in (DESKTOP, PHONE):
        page = visit(reports["two"], viewport=viewport, reduced_motion="reduce")
        sections = [section.get_attribute("id") for section in page.locator("main section").all()]
        links = [str(link.get_attribute("href"))[1:] for link in page.locator("nav a").all()]
        assert links == sections
        page.locator("nav a", has_text="Subgroups").click()
        page.wait_for_selector('nav a[href="#subgroups"][aria-current]')
        assert page.locator("nav [aria-current]").count() == 1
        box = page.locator("#subgroups-title").bounding_box()
        assert 0 <= box["y"] < viewport["height"] / 2
        assert page.locator("nav a", has_text="Subgroups").is_visible()


def test_only_what_scrolls_is_a_stop_of_the_tab_key(visit: Any, reports: dict[str, Path]) -> None:
    page = visit(reports["two"], viewport=PHONE)
    page.wait_for_function("document.querySelector('.matrix').parentElement.tabIndex < 0")
    wrong = page.eval_on_selector_all(
        ".scroll",
        "all => all.filter(e => e.checkVisibility()"
        " && (e.scrollWidth > e.clientWidth) !== (e.tabIndex === 0)).length",
    )
    assert wrong == 0


def test_first_column_stays_in_sight_on_a_phone(visit: Any, reports: dict[str, Path]) -> None:
    page = visit(reports["two"], viewport=PHONE)
    table = page.locator(".metrics").first
    head = table.locator("tbody th").first
    before = head.bounding_box()
    table.evaluate("table => { table.parentElement.scrollLeft = 200; }")
    assert head.bounding_box()["x"] == pytest.approx(before["x"], abs=1)
    assert table.locator("tbody td").first.bounding_box()["x"] < before["x"] + before["width"]


def test_print_is_light_complete_and_without_controls(visit: Any, reports: dict[str, Path]) -> None:
    page = visit(reports["two"], color_scheme="dark", viewport={"width": 688, "height": 1000})
    page.locator("#theme").click()
    page.locator("#theme").click()
    page.emulate_media(media="print", color_scheme="dark")
    assert background(page) == "rgb(255, 255, 255)"
    assert not page.locator("#theme").is_visible()
    assert not page.locator("nav").is_visible()
    assert overflow(page) == 0
    closed = page.locator("main details:not([open])")
    assert closed.count() > 2
    heights = closed.evaluate_all("all => all.map(each => each.getBoundingClientRect().height)")
    assert min(heights) > 60
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_reads_without_scripts(visit: Any, reports: dict[str, Path]) -> None:
    page = visit(reports["two"], java_script_enabled=False)
    assert not page.locator("#theme").is_visible()
    assert not page.locator(".tools").is_visible()
    assert page.locator("#arms tbody tr").count() == 10
    assert page.locator(".forest circle").count() > 10
    page.locator("summary").first.click()
    assert page.locator("details[open]").count() == 1


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
