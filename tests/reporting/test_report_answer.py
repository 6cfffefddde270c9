"""The first figure says what the primary contrast says: its tests, the posterior, the price."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from featurebench.reporting.answer import facts, posterior, primary_of, probability
from featurebench.reporting.confusion import matrix_of, tiles_shown


def contrast(**changes: Any) -> dict[str, Any]:
    test = {
        "test": "t", "unit": "patients", "difference": 0.02, "ci_low": 0.01, "ci_high": 0.03,
        "p_value": 0.004, "n": 40,
    }  # fmt: skip
    made = {
        "arm_a": "net+full", "arm_b": "net+logistic", "metric": "accuracy", "primary": True,
        "difference": 0.02, "ci_low": -0.01, "ci_high": 0.03, "outcome": "better",
        "by_patients": test, "by_folds": test | {"unit": "folds", "ci_low": -0.01},
        "p_worse": 0.02, "p_practical": 0.18, "p_better": 0.8, "rule": "both tests",
        "cost_ratio": 41.3, "detectable": 0.0234, "n_needed_low": 620, "n_needed_high": 5_300,
        "p_patient_better": 0.625, "n_repeats": 3,
    }  # fmt: skip
    return made | changes


def summary(*contrasts: dict[str, Any], greater: bool = True) -> dict[str, Any]:
    return {
        "comparisons": list(contrasts),
        "metric": {"name": "accuracy", "margin": 0.01, "greater_is_better": greater},
        "data": {"n_patients": 40},
        "arms": [
            {"id": "net+full", "chosen": {}, "image_size": 64},
            {"id": "net+logistic", "chosen": {}, "image_size": None},
        ],
    }


def test_no_primary_contrast_no_figure() -> None:
    assert primary_of(summary()) is None
    assert primary_of(summary(contrast(primary=False))) is None


def test_tests_have_a_row_with_their_own_numbers() -> None:
    found = primary_of(summary(contrast()))
    assert found is not None
    patients, folds = found["tests"]
    assert (patients["unit"], folds["unit"]) == ("patients", "folds")
    assert patients["evidence"]["ci_low"] == 0.01
    assert folds["evidence"]["ci_low"] == -0.01


def test_sites_have_a_row_where_a_claim_asks_for_them() -> None:
    sites = contrast()["by_patients"] | {"unit": "sites", "ci_low": -0.02}
    for rule, units in (
        ("folds, patients and sites", ["patients", "folds", "sites"]),
        ("both tests", ["patients", "folds"]),
    ):
        found = primary_of(summary(contrast(by_sites=sites, rule=rule)))
        assert found is not None
        assert [test["unit"] for test in found["tests"]] == units
        assert (found["tests"][-1]["evidence"]["ci_low"] == -0.02) == ("sites" in units)


def test_posterior_follows_the_axis_and_fills_the_bar() -> None:
    found = posterior(contrast(), better=1, margin=0.01)
    assert found is not None
    assert [each["name"] for each in found["shares"]] == ["worse", "practically equal", "better"]
    assert [each["share"] for each in found["shares"]] == ["2 %", "18 %", "80 %"]
    shapes = [
        (float(r.attrib["x"][:-1]), float(r.attrib["width"][:-1]))
        for r in ET.fromstring(found["bar"]).iter("rect")
    ]
    assert shapes == [(0, 2), (2, 18), (20, 80)]


def test_posterior_turns_round_where_less_is_better() -> None:
    found = posterior(contrast(), better=-1, margin=0.01)
    assert found is not None
    assert [each["name"] for each in found["shares"]] == ["better", "practically equal", "worse"]


def test_no_posterior_where_it_could_not_be_estimated() -> None:
    assert posterior(contrast(p_better=None), better=1, margin=0.01) is None


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (0.001, "<1 %"), (0.5, "50 %"), (0.999, ">99 %"), (1.0, "100 %")],
)
def test_probabilities_are_certain_only_where_they_are(share: float, text: str) -> None:
    assert probability(share) == text


def test_facts_are_cost_power_and_patients() -> None:
    made = {fact["term"]: fact for fact in facts(contrast(), summary())}
    assert made["Cost"]["value"] == "41×"
    assert "for 3 common repeats, embedding included" in made["Cost"]["note"]
    assert made["Could be found"]["value"] == "2.3 pp"
    assert made["Patients needed"]["value"] == "600 to 5\u202f000"
    assert "difference of 1 pp" in made["Patients needed"]["note"]
    assert made["Patients needed"]["note"].endswith("here 40")
    assert made["Better for"]["value"] == "62 %"


@pytest.mark.parametrize(
    ("size", "told"), [(224, "; at 64 px against 224 px"), (64, "included"), (None, "included")]
)
def test_cost_says_where_input_sizes_differ(size: int | None, told: str) -> None:
    made = summary()
    made["arms"][1]["image_size"] = size
    made["arms"].append({"id": "best", "chosen": {"net+logistic": 5}, "image_size": None})
    for reference in ("net+logistic", "best"):
        cost, *_ = facts(contrast(arm_b=reference), made)
        assert cost["note"].endswith(told)


def test_what_is_not_known_is_not_shown() -> None:
    nothing = contrast(
        cost_ratio=None,
        detectable=None,
        n_needed_low=None,
        n_needed_high=None,
        p_patient_better=None,
    )
    assert facts(nothing, summary()) == []


def test_number_of_patients_is_left_out_where_it_is_unknown() -> None:
    made = summary() | {"data": {"n_patients": None}}
    notes = " ".join(fact["note"] for fact in facts(contrast(), made))
    assert "here" not in notes


ARM = {"id": "a", "confusion": [[90, 10], [30, 30]]}


class TestConfusion:
    def test_cells_have_counts_shares_of_the_row_and_shade(self) -> None:
        matrix = matrix_of(ARM, ["b", "m"], place=3)
        assert matrix.heads == ("b", "m")
        (_, first), (name, second) = matrix.rows
        assert name == "m"
        assert [(c.count, c.share, c.shade) for c in first] == [(90, "90 %", 9), (10, "10 %", 1)]
        assert [c.is_right for c in second] == [False, True]
        assert first[1].says == "b called m"

    def test_anchor_names_arm_true_and_called(self) -> None:
        matrix = matrix_of(ARM, ["b", "m"], place=3)
        assert matrix.rows[0][1][1].anchor == "tiles-3-0-1"

    def test_many_classes_are_numbered(self) -> None:
        names = [f"class {i}" for i in range(6)]
        matrix = matrix_of({"id": "a", "confusion": [[1] * 6] * 6}, names, place=0)
        assert matrix.heads == ("1", "2", "3", "4", "5", "6")
        assert matrix.rows[5][0] == "6 class 5"

    def test_empty_class_has_no_shade(self) -> None:
        matrix = matrix_of({"id": "a", "confusion": [[0, 0], [1, 1]]}, ["b", "m"], place=0)
        assert [c.shade for c in matrix.rows[0][1]] == [0, 0]

    def test_links_lead_to_the_tiles_that_are_shown(self) -> None:
        cells = [{"true": 1, "called": 0}, {"true": 0, "called": 2}]
        gallery = {"arms": [{"place": 4, "cells": cells}]}
        assert tiles_shown(gallery) == {"tiles-4-1-0", "tiles-4-0-2"}
        assert tiles_shown(None) == frozenset()
