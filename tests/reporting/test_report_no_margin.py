"""Where no margin was declared nothing in the report reads as a margin of 0."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from report_cases import draw_case

from featurebench.reporting import write_report
from featurebench.reporting.answer import posterior
from featurebench.reporting.glossary import read_text
from featurebench.reporting.limits import limits_of

if TYPE_CHECKING:
    from pathlib import Path


def _texts(folder: Path, *, margin: float) -> dict[str, str]:
    """Write a report, all outcomes open, and read what it wrote."""
    case = draw_case(folder / "tiles")
    contrasts = tuple(
        replace(each, relevance="open", n_needed_high=120 if margin else None, p_practical=0.0)
        for each in case.comparison.contrasts
    )
    comparison = replace(
        case.comparison, margin=margin, contrasts=contrasts, verdict="Nothing is said."
    )
    write_report(replace(case, comparison=comparison).summary(), folder)
    names = ("report.html", "report.md", "differences.tex", "figures/differences.svg")
    return {name: (folder / name).read_text(encoding="utf-8") for name in names}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return _texts(tmp_path_factory.mktemp("bare"), margin=0.0)


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return _texts(tmp_path_factory.mktemp("declared"), margin=0.01)


@pytest.mark.parametrize("name", ["report.html", "report.md", "differences.tex"])
def test_no_size_of_zero_is_written(bare: dict[str, str], name: str) -> None:
    assert not re.search(r"(?<![\d.])0 pp", bare[name])


def test_the_page_has_neither_band_nor_columns_of_a_margin(
    bare: dict[str, str], declared: dict[str, str]
) -> None:
    page, other = bare["report.html"], declared["report.html"]
    for text in ('class="band"', "±1 pp", "P(equal)", "Patients needed", "practically equal"):
        assert text not in page
        assert text in other
    assert "No margin was declared, so nothing is said of equivalence." in read_text(page)


def test_rows_of_the_table_of_numbers_are_as_long_as_its_head(bare: dict[str, str]) -> None:
    (table,) = re.findall(r"Every number of the tests.*?</table>", bare["report.html"], re.S)
    heads = len(re.findall(r"<th scope=\"col\"", table))
    rows = re.findall(r"<tr><th scope=\"row\".*?</tr>", table, re.S)
    assert rows
    assert {len(re.findall(r"<t[hd]", row)) for row in rows} == {heads}


def test_the_other_files_say_that_there_is_none(
    bare: dict[str, str], declared: dict[str, str]
) -> None:
    assert "balanced accuracy, no margin. p:" in bare["report.md"]
    assert "balanced accuracy, margin 1 pp. p:" in declared["report.md"]
    assert "No margin. $p$ (claim)" in bare["differences.tex"]
    assert "Margin 1 pp. $p$ (claim)" in declared["differences.tex"]
    assert "band" not in bare["figures/differences.svg"].rpartition("</style>")[2]
    assert "band: the margin" in declared["figures/differences.svg"]


def test_probabilities_are_those_of_worse_and_better_alone() -> None:
    found = posterior({"p_worse": 0.3, "p_practical": 0.0, "p_better": 0.7}, better=1, margin=0.0)
    assert found is not None
    assert [each["name"] for each in found["shares"]] == ["worse", "better"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "is a declaration, without a reason; whether"),
        (
            {"margin_rationale": "as in trial X"},
            'is a declaration, with the reason "as in trial X"',
        ),
    ],
)
def test_the_reason_for_a_margin_is_told(
    tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    summary = draw_case(tmp_path).summary()
    changed = summary | {"settings": {"compare": settings}}
    assert any(told in limit for limit in limits_of(changed))
