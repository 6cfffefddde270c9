"""The reporting checklists: every item once, answers that follow from the record, none invented."""

from __future__ import annotations

import copy
import csv
import io
import re
from typing import TYPE_CHECKING, Any

import pytest
from report_cases import draw_case

from featurebench.reporting.checklist import (
    ANSWERS,
    checklist_section,
    checklist_sentence,
)
from featurebench.reporting.checklist_items import CLAIM, ITEMS, SOURCES, TRIPOD
from featurebench.reporting.render import render_html
from featurebench.reporting.tables import checklist_csv

if TYPE_CHECKING:
    from pathlib import Path

# Letters of the 27 numbers of TRIPOD+AI that have parts.
PARTS = {3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc"}
PARTS |= {23: "ab", 27: "abc"}
# Only people know these, whatever an experiment records.
AUTHORS = {
    TRIPOD: {"1", "2", "3a", "3b", "3c", "5b", "6b", "8b", "8c", "17", "18a", "18b", "18c", "19"},
    CLAIM: {"1", "2", "3", "5", "8", "11", "13", "15", "16", "17", "18", "34", "44"},
}


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    bad = ({"tile_id": "x", "reason": "truncated"},)
    return draw_case(tmp_path_factory.mktemp("list"), repeats=2, bad_tiles=bad).summary()


def row_of(section: dict[str, Any], checklist: str, item: str) -> dict[str, Any]:
    (row,) = (
        row for row in section["rows"] if (row["checklist"], row["item"]) == (checklist, item)
    )
    return dict(row)


def test_input_sizes_are_where_the_checklist_says(summary: dict[str, Any]) -> None:
    row = row_of(summary["checklist"], CLAIM, "9")
    assert row["answer"].endswith("Input sizes and preprocessing of networks are under Settings.")
    settings = render_html(summary).partition('<section id="settings"')[2]
    for text in ("128 × 128", "margins of the longer side", "bicubic", "0.5, 0.5, 0.5"):
        assert text in settings
    without = checklist_section(summary | {"inputs": []})
    assert "Settings" not in row_of(without, CLAIM, "9")["answer"]


def test_only_what_the_audit_tested_is_named(summary: dict[str, Any]) -> None:
    def said(*findings: str) -> str:
        rows = [{"finding": finding} for finding in findings]
        audit = {"separations": [], "duplicates": None, "shortcuts": rows, "frozen": []}
        return str(row_of(checklist_section(summary | {"audit": audit}), CLAIM, "30")["answer"])

    assert "shortcuts" in said("none").lower()
    assert "shortcuts" not in said("not tested", "cannot be told apart").lower()
    assert "leakage" not in said("none")


def test_lists_are_complete_and_in_order() -> None:
    tripod = [item.number for item in ITEMS if item.checklist == TRIPOD]
    expected = [f"{n}{letter}" for n in range(1, 28) for letter in PARTS.get(n, [""])]
    assert tripod == expected
    assert len(tripod) == 52
    assert [item.number for item in ITEMS if item.checklist == CLAIM] == [
        str(number) for number in range(1, 45)
    ]


def test_every_answer_has_an_item_and_every_item_its_answer() -> None:
    named = {item.answer for item in ITEMS if item.answer}
    assert named == set(ANSWERS)
    assert all(item.topic for item in ITEMS)


def test_what_only_people_know_is_open(summary: dict[str, Any]) -> None:
    for row in summary["checklist"]["rows"]:
        if row["item"] in AUTHORS[row["checklist"]]:
            assert (row["state"], row["answer"]) == ("open", "")


def test_open_items_have_no_answer_and_others_have_one(summary: dict[str, Any]) -> None:
    states = {"answered", "in part", "open"}
    for row in summary["checklist"]["rows"]:
        assert row["state"] in states
        assert bool(row["answer"]) == (row["state"] != "open")
        if row["answer"]:
            assert row["answer"][-1] == "."
            assert "None" not in row["answer"]


def test_counts_add_up(summary: dict[str, Any]) -> None:
    section = summary["checklist"]
    assert {name: sum(found.values()) for name, found in section["counts"].items()} == {
        TRIPOD: 52,
        CLAIM: 44,
    }
    for name, found in section["counts"].items():
        rows = [row["state"] for row in section["rows"] if row["checklist"] == name]
        assert all(rows.count(state) == number for state, number in found.items())
    sentence = checklist_sentence(section)
    found = section["counts"][CLAIM]
    assert f"CLAIM 2024: {found['answered']} answered, {found['in part']} in part" in sentence


def test_answers_hold_the_numbers_of_the_record(summary: dict[str, Any]) -> None:
    section = summary["checklist"]
    reference = next(arm for arm in summary["arms"] if arm["id"] == summary["reference"])
    score = reference["metrics"]["balanced_accuracy"]["value"]
    expected = {
        (TRIPOD, "5a"): f"{summary['data']['n_tiles']} tiles, 40 patients, 3 sites",
        (TRIPOD, "10"): "takes 200 to 1\u202f000 patients",
        (TRIPOD, "11"): "1 tile left out: truncated.",
        (TRIPOD, "12a"): summary["plan"]["id"],
        (TRIPOD, "23a"): f"{score:.3f}",
        (CLAIM, "19"): "5 folds × 2 repeats, grouped by patient_id",
        (CLAIM, "20"): "Folds are disjoint in patient_id",
        (CLAIM, "23"): "torch 2.15.0",
        (CLAIM, "26"): "never by a test score",
        (CLAIM, "29"): "corrected resampled t-test over folds",
        (CLAIM, "33"): "Not done",
    }
    for (checklist, item), text in expected.items():
        assert text in row_of(section, checklist, item)["answer"]


def test_leak_is_not_called_disjoint(summary: dict[str, Any]) -> None:
    made = copy.deepcopy(summary)
    torn = {"column": "patient_id", "leaks": True, "n_torn": 3, "n_values": 40}
    made["audit"] = {"separations": [torn], "frozen": []}
    answer = row_of(checklist_section(made), CLAIM, "20")["answer"]
    assert answer == "NOT disjoint: on both sides of a fold are 3 of 40 (patient_id)."
    made["audit"]["separations"][0]["n_torn"] = 0
    answer = row_of(checklist_section(made), CLAIM, "20")["answer"]
    assert (
        answer == "Folds are disjoint in patient_id; none of patient_id is on both sides of a fold."
    )


def test_weights_are_named_by_their_hash(summary: dict[str, Any]) -> None:
    made = copy.deepcopy(summary)
    assert row_of(checklist_section(made), CLAIM, "22")["state"] == "open"
    made["audit"] = {"separations": [], "frozen": [{"network": "net", "sha256": "ab" * 32}]}
    assert (
        "net (SHA-256 abababababababab)" in row_of(checklist_section(made), CLAIM, "22")["answer"]
    )


def test_choice_by_the_first_declared_is_not_called_a_selection(summary: dict[str, Any]) -> None:
    made = copy.deepcopy(summary)
    made["selections"][0]["not_chosen"] = "a has no scores on inner folds."
    row = row_of(checklist_section(made), CLAIM, "26")
    assert row["state"] == "in part"
    assert row["answer"].endswith("a has no scores on inner folds.")


def test_fine_tune_from_scratch_starts_from_random_weights(summary: dict[str, Any]) -> None:
    made = copy.deepcopy(summary)
    made["settings"]["finetune"] = [{"strategy": "scratch", "weights": "package"}]
    answer = row_of(checklist_section(made), CLAIM, "24")["answer"]
    assert answer == "Fine-tuning starts from weights: random."


def test_without_patients_and_sites_nothing_is_said_of_them(tmp_path: Path) -> None:
    section = draw_case(tmp_path, patients=False, sites=0, repeats=1).summary()["checklist"]
    assert row_of(section, TRIPOD, "6a")["state"] == "open"
    assert row_of(section, TRIPOD, "12d")["state"] == "open"
    assert "no patient is known" in row_of(section, CLAIM, "20")["answer"]
    assert "patient" not in row_of(section, TRIPOD, "5a")["answer"]


def test_page_shows_both_lists_and_their_sources(summary: dict[str, Any]) -> None:
    html = render_html(summary)
    section = re.search(r'<section id="checklist".*?</section>', html, re.DOTALL)
    assert section is not None
    assert section[0].count("<details>") == 2
    assert section[0].count("<tr>") == 2 + len(ITEMS)
    for source in SOURCES.values():
        assert source in section[0]
    assert '<a href="#checklist">' in html


def test_csv_has_a_line_for_each_item(summary: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(checklist_csv(summary))))
    assert len(rows) == len(ITEMS)
    assert list(rows[0]) == ["checklist", "item", "topic", "state", "answer"]
