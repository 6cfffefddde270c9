"""report.md as a pull request shows it: the answer first, all tests, what limits it, the files."""

from __future__ import annotations

import copy
import html
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from report_cases import ReportCase, draw_case

from featurebench.reporting.markdown import markdown
from featurebench.reporting.ranking import repeats_note, weights_note
from featurebench.reporting.render import write_report

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    return draw_case(tmp_path_factory.mktemp("markdown"), repeats=2)


@pytest.fixture(scope="module")
def summary(case: ReportCase) -> dict[str, Any]:
    return case.summary()


def with_audit(summary: dict[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(summary)
    made["audit"] = {
        "findings": ["2 pairs of near-identical tiles lie on both sides of folds."],
        "cleared": ["No patient stands on both sides of a fold."],
        "absent": [],
        "separations": [],
        "duplicates": None,
        "shortcuts": [],
        "frozen": [],
    }
    points = [{"stage": "final", "value": 0.4321, "low": 0.4, "high": 0.5}]
    made["drift"] = {
        "panels": [{"stages": ["final"], "arms": [{"label": "net", "points": points}]}]
    }
    return made


def test_answer_comes_first_and_in_bold(summary: dict[str, Any]) -> None:
    lines = markdown(summary).splitlines()
    assert lines[0] == "# glas"
    assert lines[2].startswith("**On this cohort fine-tuning is not shown to be better than the")
    assert lines[2].partition("**")[2].partition("**")[0].endswith("best frozen probe.")


def test_parts_stand_in_their_order(summary: dict[str, Any]) -> None:
    text = markdown(with_audit(summary))
    parts = [
        "# glas",
        "| Arm |",
        "| Difference from",
        "**Read with care**",
        "**Audit**",
        "**Not shown**",
        "| Cost (",
        "Similarity of the last stage",
        "| Calibration, malignant",
        "Files: ",
        "Plan ",
        "## Glossary",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_differences_have_both_intervals(summary: dict[str, Any]) -> None:
    (line,) = (line for line in markdown(summary).splitlines() if "(primary)" in line)
    first = summary["comparisons"][0]
    cells = [cell.strip() for cell in line.split(" | ")]
    assert f"{100 * first['by_patients']['ci_high']:+.1f}".replace("-", "−") in cells[1]
    assert f"{100 * first['by_folds']['ci_high']:+.1f}".replace("-", "−") in cells[2]
    assert cells[1] != cells[2]
    assert cells[-1].rstrip(" |") == first["outcome"]


def test_scores_say_what_counts_the_same(summary: dict[str, Any]) -> None:
    assert "\n\nEvery tile counts the same.\n\n" in markdown(summary)
    weighed = summary | {"weights": "patients", "n_effective": 12.4}
    assert weights_note(weighed) == (
        "Every patient counts the same, with any number of tiles; by their tiles, patients are "
        "worth 12 of equal size (Kish)."
    )
    assert weights_note(weighed) in html.unescape(markdown(weighed).replace("\\", ""))


def test_scores_of_unequal_repeats_say_of_how_many(summary: dict[str, Any]) -> None:
    assert repeats_note(summary) == ""
    made = copy.deepcopy(summary)
    tuned = next(arm for arm in made["arms"] if arm["kind"] == "finetune")
    tuned["n_repeats"] = 1
    note = repeats_note(made)
    assert note.startswith(
        f"Scores and times are of all repeats that an arm has: 1 of {tuned['label']}, 2 of the"
    )
    assert "differences and the verdict are of common repeats." in markdown(made)
    for arm in [each for each in made["arms"] if each is not tuned][:5]:
        arm["n_repeats"] = 1
    assert ": 1 of 6 arms, 2 of the others" in repeats_note(made)


def test_audit_and_drift_are_said_where_there_are_any(summary: dict[str, Any]) -> None:
    text = markdown(with_audit(summary))
    assert "- 2 pairs of near-identical tiles lie on both sides of folds." in text
    assert "- No patient stands on both sides of a fold." in text
    assert "net 0.43" in text
    without = markdown(summary)
    assert "**Audit**" not in without
    assert "CKA" not in without


def test_undefined_drift_is_left_out(summary: dict[str, Any]) -> None:
    made = with_audit(summary)
    made["drift"]["panels"][0]["arms"][0]["points"][-1]["value"] = None
    assert "CKA" not in markdown(made)


def test_links_lead_to_files_that_are_written(summary: dict[str, Any], tmp_path: Path) -> None:
    write_report(summary, tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert len(links) >= 8
    assert all((tmp_path / link).exists() for link in links)
    assert "answered" in text


def test_single_arm_links_to_no_table_of_differences(
    summary: dict[str, Any], tmp_path: Path
) -> None:
    made = summary | {"arms": summary["arms"][:1], "comparisons": [], "subgroups": None}
    write_report(made, tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert all((tmp_path / link).exists() for link in re.findall(r"\]\(([^)#]+)\)", text))


def test_barred_comparison_says_so_first(summary: dict[str, Any]) -> None:
    verdict = "Nothing is claimed from this comparison: only 5 patients were tested. As measured."
    text = markdown(summary | {"verdict": verdict})
    assert text.splitlines()[2].startswith("**Nothing is claimed from this comparison")


def test_hostile_verdict_stays_text(summary: dict[str, Any]) -> None:
    text = markdown(summary | {"verdict": "**It** <b>is</b> so. [x](javascript:y) Too."})
    assert "<b>" not in text
    assert "](javascript" not in text.replace("\\]", "")


def test_calibration_is_of_the_arms_that_the_verdict_is_about(summary: dict[str, Any]) -> None:
    text = markdown(summary)
    rows = text.partition("| Calibration, malignant")[2].partition("\n\n")[0].splitlines()[2:]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [
        "fine-tune, full · tf\\_efficientnet\\_lite0",
        "logistic · tf\\_efficientnet\\_lite0",
    ]
    for row in rows:
        assert re.fullmatch(r"(−?\d\.\d{3} \([^)]+\)( \| )?){2} ?\|?", row.split(" | ", 1)[1])


def test_operating_point_is_there_where_one_was_declared(
    case: ReportCase, summary: dict[str, Any]
) -> None:
    assert "Sensitivity" not in markdown(summary)
    declared = {"operating_point": {"threshold": 0.35}, "prevalence": 0.1}
    settings = case.settings | {"compare": case.settings["compare"] | declared}
    found = replace(case, settings=settings).summary()
    text = markdown(found)
    head = "| At the declared threshold of 0.35 on malignant (95 % CI) | Sensitivity | Specificity"
    assert head in text
    assert "PPV and NPV hold at the declared prevalence of malignant, 10 %." in text
    assert "No operating point" in markdown(summary)
    assert "No operating point" not in text


def test_words_are_explained_and_linked_to(summary: dict[str, Any]) -> None:
    text = markdown(summary)
    assert "([Glossary](#glossary))" in text
    words = re.findall(r"^- \*\*(.+?)\*\*: ", text.partition("## Glossary")[2], re.MULTILINE)
    assert {"arm", "pp", "probe", "dummy", "Holm", "primary contrast"} <= set(words)
    assert "net benefit" not in words
    assert words == sorted(words, key=str.lower)


def test_negative_numbers_have_a_minus_sign(summary: dict[str, Any]) -> None:
    assert "CI -0.8 to +3.1" in summary["verdict"]
    text = markdown(summary)
    assert "CI −0.8 to +3.1" in text
    assert "2026-11-23T01:03:49Z" in text
