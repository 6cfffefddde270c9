"""The LaTeX tables: columns and brackets match, text is escaped, the caption says what it is."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from report_cases import draw_case, with_sites

from featurebench.reporting.latex import escape, latex_arms, latex_differences, latex_files

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = r"50 % of a_b & {c} \input{x} $1 #2 ~^ <d> | e"


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return draw_case(tmp_path_factory.mktemp("latex"), repeats=2).summary()


def rows_of(table: str) -> list[list[str]]:
    """Cells of every line of the table, the head first."""
    inside = (
        table.split(r"\toprule")[1].split(r"\bottomrule", maxsplit=1)[0].replace(r"\midrule", "")
    )
    lines = [line.strip() for line in inside.splitlines() if line.strip()]
    assert all(line.endswith(r"\\") for line in lines)
    return [re.split(r"(?<!\\)&", line.removesuffix(r"\\")) for line in lines]


def check(table: str) -> None:
    """Assert what LaTeX needs: as many cells as columns, every bracket and formula closed."""
    spec = re.search(r"\\begin\{tabular\}\{([lr]+)\}", table)
    assert spec is not None
    assert {len(row) for row in rows_of(table)} == {len(spec[1])}
    bare = re.sub(r"\\[{}$&#%_\\]", "", table)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert all(line.count("$") % 2 == 0 for line in bare.splitlines())
    for name in ("table", "tabular"):
        assert table.count(rf"\begin{{{name}}}") == table.count(rf"\end{{{name}}}") == 1
    # Nothing but the first line is a comment, and nothing is an index or a power by accident.
    assert "%" not in "".join(bare.splitlines()[1:])
    assert "_" not in bare
    assert "^" not in bare


def test_arms_have_scores_by_tile_and_patient(summary: dict[str, Any]) -> None:
    table = latex_arms(summary)
    check(table)
    rows = rows_of(table)
    assert [cell.strip() for cell in rows[0]] == ["Arm", "Per tile", "Per patient", "Time"]
    assert len(rows) == 1 + len(summary["arms"])
    best = max(summary["arms"], key=lambda arm: arm["metrics"]["balanced_accuracy"]["value"])
    assert f"{best['metrics']['balanced_accuracy']['value']:.3f}" in rows[1][1]
    assert sum("(reference)" in row[0] for row in rows) == 1


def test_differences_have_both_tests(summary: dict[str, Any]) -> None:
    table = latex_differences(summary)
    check(table)
    rows = rows_of(table)
    assert len(rows) == 1 + len(summary["comparisons"])
    first = summary["comparisons"][0]
    assert first["primary"]
    assert "(primary)" in rows[1][0]
    over_patients, over_folds = rows[1][1], rows[1][3]
    for cell, test in ((over_patients, "by_patients"), (over_folds, "by_folds")):
        for key in ("ci_low", "ci_high"):
            assert f"{abs(100 * first[test][key]):.1f}" in cell
    assert over_patients != over_folds
    assert first["outcome"] in rows[1][-1]


def test_sites_have_columns_where_claims_ask_for_them(tmp_path: Path) -> None:
    made = with_sites(draw_case(tmp_path, sites=8)).summary()
    for table in latex_files(made).values():
        check(table)
    rows = rows_of(latex_differences(made))
    assert [cell.strip() for cell in rows[0]][5:7] == ["Over sites", "$p$"]
    sites = made["comparisons"][0]["by_sites"]
    assert f"{abs(100 * sites['ci_low']):.1f}" in rows[1][5]
    assert "over patients and over sites (per patient: over patients)" in latex_arms(made)


def test_caption_tells_metric_folds_and_patients(summary: dict[str, Any]) -> None:
    for table in latex_files(summary).values():
        (caption,) = re.findall(r"\\caption\{(.*)\}", table)
        assert "alanced accuracy" in caption
        assert r"5 folds $\times$ 2 repeats, grouped by patient\_id" in caption
        assert "40 patients" in caption
        assert r"95 \%" in caption
    assert r"\label{tab:glas-arms}" in latex_arms(summary)
    assert "Margin 1 pp" in latex_differences(summary)


def test_without_patients_nothing_is_said_of_them(tmp_path: Path) -> None:
    made = draw_case(tmp_path, patients=False, sites=0, repeats=1).summary()
    for table in latex_files(made).values():
        check(table)
        assert "atients" not in table
        assert "not grouped by patient" in table.replace("patients", "")
    assert len(rows_of(latex_arms(made))[0]) == 3


def test_text_from_outside_is_no_command(summary: dict[str, Any]) -> None:
    made = copy.deepcopy(summary)
    for arm in made["arms"]:
        arm["label"] = HOSTILE
    made["experiment"] = HOSTILE
    made["barred"] = [f"Class {HOSTILE} was tested on 1 patient only."]
    for table in latex_files(made).values():
        check(table)
        assert r"\input" not in table
    assert "Nothing is claimed" in latex_differences(made)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b", r"a\_b"),
        ("50 %", r"50 \%"),
        ("\\{", r"\textbackslash{}\{"),
        ("a\nb\x00", "a b "),
        ("\u22121.2 \u2013 \u00d7 \u00b7", r"$-$1.2 -- $\times$ $\cdot$"),
    ],
)
def test_escape(text: str, escaped: str) -> None:
    assert escape(text) == escaped


def test_undefined_scores_leave_a_dash(summary: dict[str, Any]) -> None:
    made = copy.deepcopy(summary)
    nothing = {"value": None, "ci_low": None, "ci_high": None}
    made["arms"][0]["metrics"]["balanced_accuracy"] = nothing
    made["comparisons"][0] |= {"difference": None, "p_adjusted": None}
    for table in latex_files(made).values():
        check(table)
        assert "None" not in table


def test_single_arm_has_no_table_of_differences(summary: dict[str, Any]) -> None:
    assert set(latex_files(summary | {"comparisons": []})) == {"arms.tex"}


def test_compiles_where_latex_is_there(summary: dict[str, Any], tmp_path: Path) -> None:
    pdflatex = shutil.which("pdflatex")
    if pdflatex is None:
        pytest.skip("no pdflatex on this machine")
    body = "\n".join(latex_files(summary).values())
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
        f"{body}\n\\end{{document}}\n",
        encoding="utf-8",
    )
    command = [pdflatex, "-halt-on-error", "-interaction=nonstopmode", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
