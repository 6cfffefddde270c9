"""write_report(): complete, self-contained, escaped and safe to open in a spreadsheet."""

from __future__ import annotations

import base64
import copy
import csv
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from report_cases import draw_case

from featurebench.reporting import write_report
from featurebench.reporting.answer import split_verdict
from featurebench.reporting.formats import minus_signs
from featurebench.reporting.markdown import markdown, plain
from featurebench.reporting.render import flatten, render_html
from featurebench.reporting.tables import inert, to_csv
from featurebench.results import Failure

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "<script>alert(1)</script>"
FILES = {
    "report.html", "report.md", "report.json", "arms.csv", "comparisons.csv", "scores.csv",
    "subgroups.csv", "checklist.csv", "arms.tex", "differences.tex", "figures", "report.sha256",
}  # fmt: skip


class Page(HTMLParser):
    """Collects elements, their attributes and the text that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in {"style", "script"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            self.open.remove(tag)

    def handle_data(self, data: str) -> None:
        if not self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return draw_case(tmp_path_factory.mktemp("two")).summary()


@pytest.fixture(scope="module")
def html(summary: dict[str, Any]) -> str:
    return render_html(summary)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def arms_column(html: str) -> list[float]:
    """Return the declared metric of the arms in the order in which the page lists them."""
    (table,) = re.findall(r'<table id="arms".*?</table>', html, re.DOTALL)
    cells = [td for td in Page(table).of("td") if "data-value" in td]
    return [float(str(td["data-value"])) for td in cells[::3]]


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


class TestFiles:
    def test_all_are_there_and_nothing_else(self, summary: dict[str, Any], tmp_path: Path) -> None:
        path = write_report(summary, tmp_path / "new" / "folder")
        assert path == tmp_path / "new" / "folder" / "report.html"
        assert {file.name for file in path.parent.iterdir()} == FILES
        assert path.stat().st_size < 5e6

    def test_writing_again_replaces(self, summary: dict[str, Any], tmp_path: Path) -> None:
        write_report(summary | {"experiment": "old name"}, tmp_path)
        write_report(summary, tmp_path)
        assert "old name" not in (tmp_path / "report.html").read_text(encoding="utf-8")
        assert {file.name for file in tmp_path.iterdir()} == FILES

    def test_json_is_the_summary(self, summary: dict[str, Any], tmp_path: Path) -> None:
        write_report(summary, tmp_path)
        assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == summary

    def test_nan_is_refused_before_anything_is_written(
        self, summary: dict[str, Any], tmp_path: Path
    ) -> None:
        with pytest.raises(ValueError, match="JSON"):
            write_report(summary | {"caveats": [float("nan")]}, tmp_path)
        assert not list(tmp_path.iterdir())


class TestTables:
    def test_arms_have_scores_intervals_and_cost(
        self, summary: dict[str, Any], tmp_path: Path
    ) -> None:
        write_report(summary, tmp_path)
        rows = rows_of(tmp_path / "arms.csv")
        assert [row["id"] for row in rows] == [arm["id"] for arm in summary["arms"]]
        expected = summary["arms"][0]["metrics"]["balanced_accuracy"]
        assert float(rows[0]["balanced_accuracy"]) == expected["value"]
        assert float(rows[0]["balanced_accuracy_ci_low"]) == expected["ci_low"]
        assert float(rows[0]["wall_s"]) == pytest.approx(23.2)
        assert rows[-1]["embedding"] == ""

    def test_scores_and_comparisons_are_complete(
        self, summary: dict[str, Any], tmp_path: Path
    ) -> None:
        write_report(summary, tmp_path)
        assert len(rows_of(tmp_path / "scores.csv")) == 10 * 2 * 5 * 12
        comparisons = rows_of(tmp_path / "comparisons.csv")
        assert len(comparisons) == 9
        assert float(comparisons[0]["difference"]) == summary["comparisons"][0]["difference"]
        assert next(c for c in comparisons if c["arm_a"] == "dummy")["p_value"] == ""

    @pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
    def test_text_is_never_a_formula(self, start: str) -> None:
        hostile = f"{start}HYPERLINK(1)"
        (row,) = csv.DictReader(io.StringIO(to_csv([{"arm": hostile, hostile: 1}]), newline=""))
        assert row["arm"] == f"'{hostile}"
        assert f"'{hostile}" in row

    def test_numbers_keep_their_sign(self) -> None:
        assert to_csv([{"difference": -0.25, "n": -3}]) == "difference,n\n-0.25,-3\n"
        assert inert("3-1") == "3-1"

    def test_text_stays_on_its_line(self) -> None:
        assert to_csv([{"error": "a\r\nb\rc\nd"}]) == "error\na b c d\n"
        assert inert("\r\n =1+1") == "'=1+1"

    def test_rows_with_other_keys_share_a_header(self) -> None:
        assert to_csv([{"a": 1}, {"b": None, "a": 2}]) == "a,b\n1,\n2,\n"


class TestHtml:
    def test_loads_nothing_from_elsewhere(self, html: str, page: Page) -> None:
        assert not page.of("iframe")
        assert not page.of("object")
        for tag, attributes in page.elements:
            for name in ("src", "href", "srcset", "action", "data", "poster"):
                value = attributes.get(name)
                if value is not None:
                    assert value.startswith(("data:", "#")), (tag, name, value[:40])
        assert "@import" not in html
        assert "url(" not in html
        assert not re.search(r"https?://", html)

    def test_policy_allows_our_style_and_script_by_hash_only(self, html: str, page: Page) -> None:
        (policy,) = (
            meta["content"]
            for meta in page.of("meta")
            if meta.get("http-equiv") == "Content-Security-Policy"
        )
        assert policy is not None
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        for tag in ("style", "script"):
            (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy

    def test_no_inline_styles_or_handlers_that_the_policy_would_block(self, page: Page) -> None:
        for _, attributes in page.elements:
            assert not [name for name in attributes if name == "style" or name.startswith("on")]

    def test_ids_are_unique_and_links_lead_somewhere(self, page: Page) -> None:
        ids = [a["id"] for _, a in page.elements if "id" in a]
        assert len(ids) == len(set(ids))
        targets = {str(a["href"])[1:] for a in page.of("a")}
        labels = {str(a["aria-labelledby"]) for _, a in page.elements if "aria-labelledby" in a}
        assert targets | labels <= set(ids)

    def test_negative_numbers_have_a_minus_sign_in_text_only(
        self, summary: dict[str, Any], page: Page, tmp_path: Path
    ) -> None:
        assert "CI −0.8 to +3.1" in page.text
        assert not re.findall(r"(?<![^\s(])-[\d.]", page.text)
        write_report(summary, tmp_path)
        assert "CI -0.8 to +3.1" in (tmp_path / "report.json").read_text(encoding="utf-8")
        for name in ("arms.csv", "comparisons.csv", "scores.csv", "subgroups.csv"):
            assert "−" not in (tmp_path / name).read_text(encoding="utf-8")
        values = [row["calibration_intercept_ci_low"] for row in rows_of(tmp_path / "arms.csv")]
        assert min(map(float, values)) < 0

    def test_sections_on_what_was_declared(self, summary: dict[str, Any], tmp_path: Path) -> None:
        assert 'id="operating-point"' not in render_html(summary)
        case = draw_case(tmp_path / "tiles")
        case.settings["compare"] |= {"operating_point": {"threshold": 0.35}, "prevalence": 0.1}
        made = case.summary()
        text = Page(render_html(made)).text
        assert "a tile is called malignant where its probability reaches 0.35." in text
        assert text.count("at the declared prevalence of malignant, 10 %.") == 2
        write_report(made, tmp_path / "report")
        first = rows_of(tmp_path / "report" / "arms.csv")[0]
        expected = made["operating_point"]["arms"][0]["sensitivity"]
        assert float(first["operating_sensitivity_ci_low"]) == expected["ci_low"]

    def test_prevalence_of_the_cohort_is_said_to_be_that(
        self, summary: dict[str, Any], page: Page
    ) -> None:
        share = 100 * summary["decision"]["cohort_prevalence"]
        assert f"at the prevalence of malignant in these tiles, {share:.3g} %." in page.text

    def test_landmarks_language_and_alternatives(self, page: Page) -> None:
        assert page.of("html") == [{"lang": "en"}]
        for tag in ("header", "nav", "main", "footer", "h1"):
            assert len(page.of(tag)) == 1
        assert all(image.get("alt") for image in page.of("img"))
        charts = [svg for svg in page.of("svg") if "chart" in str(svg.get("class"))]
        assert len(charts) > 8
        assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in charts)
        rows = [svg for svg in page.of("svg") if "rowplot" in str(svg.get("class"))]
        assert len(rows) > 20
        assert all(svg.get("aria-hidden") == "true" for svg in rows)

    def test_says_what_was_found(self, summary: dict[str, Any], page: Page) -> None:
        headline, rest = split_verdict(summary["verdict"])
        said = (headline, rest, *summary["others"], *summary["caveats"], *summary["limits"])
        for sentence in said:
            assert minus_signs(sentence) in page.text
        assert (
            f"{summary['data']['n_tiles']} tiles · 40 patients · 2 classes · 5 folds × 2 repeats"
            in page.text
        )
        assert "3 min 12 s" in page.text
        assert summary["plan"]["id"] in page.text
        assert "9c1f9c1f" in page.text
        assert "epochs: 3" in page.text

    def test_arms_are_ranked_by_the_declared_metric(
        self, summary: dict[str, Any], html: str
    ) -> None:
        values = [arm["metrics"]["balanced_accuracy"]["value"] for arm in summary["arms"]]
        assert arms_column(html) == sorted(values, reverse=True)

    def test_where_less_is_better_the_least_comes_first(self, summary: dict[str, Any]) -> None:
        metric = summary["metric"] | {"name": "log_loss", "greater_is_better": False, "unit": ""}
        shown = arms_column(render_html(summary | {"metric": metric}))
        assert shown == sorted(shown)
        assert len(shown) == 10

    @pytest.mark.parametrize(
        "place",
        [
            ("experiment",),
            ("verdict",),
            ("caveats", 0),
            ("data", "warnings"),
            ("data", "bad_tiles", 0, "reason"),
            ("data", "example_tiles", 0, "tile_id"),
            ("data", "example_tiles", 0, "site"),
            ("data", "sites", 0, "site"),
            ("arms", 0, "label"),
            ("arms", 0, "method"),
            ("arms", 0, "id"),
            ("failures", 0, "error"),
            ("settings", "name"),
            ("provenance", "commit"),
            ("limits", 0),
            ("plan", "group"),
        ],
    )
    def test_text_from_outside_is_escaped(
        self, summary: dict[str, Any], place: tuple[str | int, ...]
    ) -> None:
        made = copy.deepcopy(summary)
        made["data"]["bad_tiles"] = [{"tile_id": "t", "reason": "r"}]
        made["failures"] = [{"arm": "a", "kind": "probe", "error": "e"}]
        target: Any = made
        for key in place[:-1]:
            target = target[key]
        target[place[-1]] = [HOSTILE] if place[-1] == "warnings" else HOSTILE
        html = render_html(made)
        assert HOSTILE not in html
        assert len(Page(html).of("script")) == 1
        assert "&lt;script&gt;alert(1)" in html

    def test_a_class_may_be_called_anything(self, tmp_path: Path) -> None:
        case = draw_case(tmp_path / "tiles", classes=("benign", "=1+1<b>"), repeats=1)
        summary = case.summary()
        renamed = json.loads(json.dumps(summary).replace("=1+1<b>", HOSTILE))
        page = Page(render_html(renamed))
        assert len(page.of("script")) == 1
        assert not page.of("b")
        assert HOSTILE in page.text

    def test_failed_arms_and_tiles_left_out_are_shown(self, tmp_path: Path) -> None:
        bad = tuple({"tile_id": f"bad-{i}", "reason": "truncated"} for i in range(25))
        failure = Failure("net+full", "finetune", "out of memory: lower batch_size")
        case = draw_case(
            tmp_path, classes=("a", "b", "c", "d"), repeats=1, failures=(failure,), bad_tiles=bad
        )
        text = Page(render_html(case.summary())).text
        assert "failed: out of memory: lower batch_size" in text
        assert "25 tiles left out" in text
        assert "bad-19" in text
        assert "bad-20" not in text
        assert "one-versus-rest" in text

    def test_without_patients_nothing_is_said_of_them(self, tmp_path: Path) -> None:
        case = draw_case(tmp_path, patients=False, sites=0, repeats=1)
        page = Page(render_html(case.summary()))
        assert "Patient level" not in page.text
        assert "Tiles per site" not in page.text
        assert "patients resampled; p:" not in page.text

    def test_a_single_arm_is_shown_without_differences(self, summary: dict[str, Any]) -> None:
        made = summary | {"arms": summary["arms"][:1], "comparisons": [], "caveats": []}
        page = Page(render_html(made))
        assert "Nothing to compare" in page.text
        assert not [each for each in page.of("aside") if each.get("class") == "caveats"]

    def test_undefined_scores_are_said_to_be(self, summary: dict[str, Any]) -> None:
        made = copy.deepcopy(summary)
        nothing = {"value": None, "ci_low": None, "ci_high": None}
        for arm in made["arms"]:
            arm["metrics"] = dict.fromkeys(arm["metrics"], nothing)
            arm["cost"] |= {"wall_s": 0.0, "peak_memory_mb": None}
            arm["curves"] = {"roc": None, "calibration": None}
            arm["fold_scores"] = []
        text = Page(render_html(made)).text
        assert "undefined" in text
        assert "None" not in text

    def test_a_score_without_interval_stands_alone(self, summary: dict[str, Any]) -> None:
        made = copy.deepcopy(summary)
        alone = {"value": 0.4321, "ci_low": None, "ci_high": None}
        made["arms"][0]["metrics"]["balanced_accuracy"] = alone
        html = render_html(made)
        assert '<span class="value">0.432</span></td>' in html
        assert "(–)" not in html


class TestMarkdown:
    def test_has_verdict_tables_and_limits(self, summary: dict[str, Any]) -> None:
        text = markdown(summary)
        assert text.startswith("# glas\n")
        assert "| logistic · tf\\_efficientnet\\_lite0 (reference) | 0." in text
        assert "3 min 12 s" in text
        assert "| Difference from logistic" in text
        assert "no external cohort" in text
        assert summary["plan"]["id"] in text
        report, _, glossary = text.partition("\n## Glossary\n")
        assert len(report.splitlines()) < 75
        assert len(glossary.splitlines()) < 30

    def test_tables_have_as_many_cells_in_every_line(self, summary: dict[str, Any]) -> None:
        made = copy.deepcopy(summary)
        made["arms"][0]["label"] = "a | b"
        tables = re.findall(r"(?:^\|.*\n)+", markdown(made), re.MULTILINE)
        assert len(tables) == 4
        for table in tables:
            found = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(found) == 1
            assert min(found) >= 4

    def test_failures_are_named(self, summary: dict[str, Any]) -> None:
        failure = {"arm": "net+full", "kind": "finetune", "error": "out of memory"}
        text = markdown(summary | {"failures": [failure]})
        assert "- net+full failed: out of memory" in text

    def test_text_is_neither_markup_nor_html(self) -> None:
        assert plain("<b>|*x*\n# y_z") == "\\<b\\>\\|\\*x\\* \\# y\\_z"

    def test_single_arm_has_no_table_of_differences(self, summary: dict[str, Any]) -> None:
        assert "Difference from" not in markdown(summary | {"comparisons": []})


class TestPieces:
    @pytest.mark.parametrize(
        ("verdict", "parts"),
        [
            ("It is. The score is 0.9 (95 % CI 0.8 to 1.0).", ("It is.", "The score is 0.9 (95 %")),
            ("Only one sentence of 0.5 pp", ("Only one sentence of 0.5 pp", "")),
            ("", ("", "")),
        ],
    )
    def test_verdict_is_split_after_its_first_sentence(
        self, verdict: str, parts: tuple[str, str]
    ) -> None:
        first, rest = split_verdict(verdict)
        assert first == parts[0]
        assert rest.startswith(parts[1])

    def test_flatten_names_the_leaves(self) -> None:
        value = {"a": {"b": 1, "c": None, "d": {}}, "e": [{"f": 2}], "g": [3, 4]}
        assert list(flatten(value)) == [("a.b", 1), ("e.0.f", 2), ("g", "3, 4")]
