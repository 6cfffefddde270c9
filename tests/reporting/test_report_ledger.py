"""The ledger: costs alone and shared, columns that are known, and whether budgets match."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from report_cases import LITE, draw_case, with_full_ledger

from featurebench.reporting.ledger import budget_sentences, cost_columns, costs_of_arms
from featurebench.reporting.markdown import markdown
from featurebench.reporting.render import render_html
from featurebench.reporting.tables import arms_csv
from featurebench.results import Cost

if TYPE_CHECKING:
    from report_cases import ReportCase


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    return draw_case(tmp_path_factory.mktemp("ledger"))


@pytest.fixture(scope="module")
def full(case: ReportCase) -> dict[str, Any]:
    return with_full_ledger(case).summary()


def titles(summary: dict[str, Any]) -> list[str]:
    return [column.title for column in cost_columns(summary["arms"])]


def arm(label: str, search: dict[str, Any] | None, kind: str = "probe") -> dict[str, Any]:
    return {"label": label, "kind": kind, "search": search}


def searched(trials: int | None = 20, seconds: float | None = None, spent: Any = None) -> Any:
    return {"method": "tpe", "trials": trials, "seconds": seconds, "spent": spent}


def test_an_embedding_is_paid_whole_alone_and_in_parts_when_shared(full: dict[str, Any]) -> None:
    first, tuned = full["arms"][0], full["arms"][-1]
    assert first["cost"]["wall_s"] == pytest.approx(1.9 + 21.3)
    assert first["amortised_cost"]["wall_s"] == pytest.approx(1.9 + 21.3 / 4)
    assert first["amortised_cost"]["peak_memory_mb"] == first["cost"]["peak_memory_mb"] == 655
    assert first["cost"]["bytes_read"] == 86_000_000 + 340_000_000
    assert first["amortised_cost"]["bytes_read"] == 86_000_000 + 85_000_000
    assert first["stored"] == {"bytes": 15_000 + 1_400_000, "amortised_bytes": 15_000 + 350_000}
    assert tuned["cost"] == tuned["amortised_cost"] == tuned["training_cost"]
    of_lite = [a["extraction_share"]["wall_s"] for a in full["arms"] if a["embedding"] == LITE]
    assert sum(of_lite) == pytest.approx(21.3)


def test_columns_of_which_nothing_is_known_are_left_out(
    case: ReportCase, full: dict[str, Any]
) -> None:
    assert titles(case.summary()) == ["Time", "of which embedding", "CPU", "Peak memory"]
    assert titles(full) == [
        "Time", "of which embedding", "CPU", "GPU", "Peak memory", "GPU memory", "Read", "Stored",
        "GPU energy", "Trials",
    ]  # fmt: skip
    tuned_only = [full["arms"][-1]]
    assert "of which embedding" not in [column.title for column in cost_columns(tuned_only)]


def test_cells_have_a_second_line_only_where_sharing_changes_them(full: dict[str, Any]) -> None:
    columns = {column.key: column.cells for column in cost_columns(full["arms"])}
    assert columns["time"][0] == ("23 s", "7.2 s")
    assert columns["time"][-1] == ("3 min 12 s", "")
    assert columns["embedding"][-1] == ("–", "")
    assert columns["memory"][0] == ("655 MiB", "")
    assert columns["energy"][0] == ("–", "")
    assert columns["energy"][-1] == ("17 Wh", "")
    assert columns["trials"][0] == ("200", "")


def test_what_is_not_known_of_the_embedding_is_not_known_of_the_arm(case: ReportCase) -> None:
    runs = case.results.runs[:1]
    runs = (replace(runs[0], cost=Cost(1.0, energy_j=5.0)),)
    costs = costs_of_arms(runs, {runs[0].arm: 10})[runs[0].arm]
    assert costs["cost"]["energy_j"] is None
    assert costs["stored"] == {"bytes": None, "amortised_bytes": None}
    assert costs_of_arms(runs, {})[runs[0].arm]["stored"]["bytes"] is None


def test_the_report_shows_both_ways(full: dict[str, Any]) -> None:
    html = render_html(full)
    assert '23 s <span class="interval">(7.2 s)</span>' in html
    assert '<span class="value">23 s</span><span class="interval">7.2 s</span>' in html
    assert "Budget-matched: every searched arm had 20 trials in each fold." in html
    assert "shared out in equal parts over the arms that read it" in html
    assert "GPU energy: as the device counts it" in html
    text = markdown(full)
    assert "| 23 s (7.2 s) |" in text
    assert "- Budget-matched: every searched arm had 20 trials in each fold." in text


def test_the_report_says_nothing_of_what_is_not_there(case: ReportCase) -> None:
    html = render_html(case.summary())
    for word in ("GPU energy", "Budget", "Trials:", "Stored:"):
        assert word not in html


def test_the_table_of_arms_has_both_ways(full: dict[str, Any]) -> None:
    row = next(csv.DictReader(io.StringIO(arms_csv(full))))
    assert float(row["wall_s"]) == pytest.approx(23.2)
    assert float(row["amortised_wall_s"]) == pytest.approx(1.9 + 21.3 / 4)
    assert (row["energy_j"], row["trials"]) == ("", "200")
    assert row["stored_bytes"] == "1415000"


@pytest.mark.parametrize(
    "folds",
    [[{"trials": 4}, {"trials": 9}], [{"search": {"trials": 9}}, {"search": {"trials": 4}}]],
)
def test_trials_are_read_from_probes_and_fine_tunes(
    case: ReportCase, folds: list[dict[str, Any]]
) -> None:
    plan = {"method": "random", "trials": 9, "seconds": 60.0, "rule": "best", "space": {}}
    run = replace(case.results.runs[0], params={"search": plan}, details={"folds": folds})
    assert costs_of_arms([run], {})[run.arm]["search"] == {
        "method": "random", "trials": 9, "seconds": 60.0, "spent": [4, 9],
    }  # fmt: skip


class TestBudget:
    def test_without_searches_nothing_is_said(self) -> None:
        assert budget_sentences([arm("a", None), arm("tuned", None, "finetune")]) == []

    def test_one_budget_for_all(self) -> None:
        arms = [arm("a", searched(spent=[20, 20])), arm("b", searched(spent=[20, 20]))]
        dummy = arm("dummy", None, "baseline")
        assert budget_sentences([*arms, dummy]) == [
            "Budget-matched: every searched arm had 20 trials in each fold."
        ]

    @pytest.mark.parametrize(
        ("budget", "words"),
        [
            (searched(1), "had 1 trial in each fold"),
            (searched(None, 600.0), "had 10 min in each fold"),
            (searched(30, 90.0), "had 30 trials or 1 min 30 s, whichever ended first, in each"),
            (searched(None), "had its whole grid in each fold"),
        ],
    )
    def test_budgets_in_words(self, budget: dict[str, Any], words: str) -> None:
        (sentence,) = budget_sentences([arm("a", budget)])
        assert words in sentence

    def test_other_budgets_and_arms_without_are_named(self) -> None:
        arms = [arm("a", searched(20)), arm("b", searched(50)), arm("c", searched(20))]
        arms.append(arm("tuned", None, "finetune"))
        assert budget_sentences(arms) == [
            "Not budget-matched: in each fold a and c had 20 trials; b had 50 trials.",
            "Not searched, and so without that budget: tuned.",
        ]

    def test_arms_that_spent_less_are_named(self) -> None:
        arms = [arm("a", searched(spent=[20, 20])), arm("k", searched(spent=[6, 12]))]
        sentences = budget_sentences(arms)
        assert sentences[0].startswith("Budget-matched")
        assert sentences[1] == "Fewer trials were made by k (6 to 12): the space held no more."
        timed = [arm("k", searched(20, 60.0, [6, 6]))]
        assert "k (6): the time was up, or the space held no more" in budget_sentences(timed)[1]
