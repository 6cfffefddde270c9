"""The report over data sets: its files, its charts, and that it shows what it was given."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from html import unescape
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from across_cases import DUMMY, KNN, PROBE, TUNED, comparison, evidence, many, summary
from across_report_cases import summarized, three

from featurebench.comparison.model import Selection
from featurebench.reporting.across import (
    across_html,
    across_markdown,
    write_across,
)
from featurebench.reporting.across_chart import across_forest, effect_scale
from featurebench.reporting.critical_difference import (
    RankedArm,
    bar_levels,
    critical_difference,
    ranked,
)

if TYPE_CHECKING:
    from pathlib import Path


PERCENT = re.compile(r"([-\d.]+)%")


def parsed(markup: object) -> ElementTree.Element:
    return ElementTree.fromstring(str(markup))


def marks(root: ElementTree.Element, tag: str, class_: str) -> list[ElementTree.Element]:
    return [each for each in root.iter(tag) if class_ in each.get("class", "").split()]


def percent(text: str | None) -> float:
    found = PERCENT.fullmatch(text or "")
    assert found is not None
    return float(found[1])


def test_files_hold_the_same_numbers(tmp_path: Path) -> None:
    made = summarized(three())
    page = write_across(made, tmp_path / "over")
    assert page == tmp_path / "over/across.html"
    names = {file.name for file in page.parent.iterdir()}
    assert names == {"across.html", "across.md", "across.json", "across.csv"}
    assert json.loads((page.parent / "across.json").read_text(encoding="utf-8")) == made
    table = io.StringIO((page.parent / "across.csv").read_text(encoding="utf-8"))
    rows = list(csv.DictReader(table))
    assert [row["row"] for row in rows[:4]] == ["effect", "effect", "effect", "mean"]
    assert float(rows[3]["value"]) == made["mean"]["mean"]
    assert float(rows[2]["weight"]) == pytest.approx(made["mean"]["weights"][2])
    scores = {(row["data_set"], row["arm"]): row["value"] for row in rows if row["row"] == "score"}
    assert float(scores["breast", TUNED]) == pytest.approx(0.804)
    markdown = (page.parent / "across.md").read_text(encoding="utf-8")
    assert "[glas](<../glas/report.html>)" in markdown
    assert "| **Mean** |" in markdown


def test_page_says_all_of_it_and_loads_nothing() -> None:
    made = summarized(three())
    html = across_html(made)
    assert 'href="../glas/report.html"' in html
    assert not re.search(r'(?:src|href)="(?:https?:)?//', html)
    assert "default-src 'none'" in unescape(html)
    text = unescape(re.sub(r"<[^>]+>", " ", html))
    assert all(note in text for note in made["notes"])
    weights = [f"{100 * effect['weight']:.0f} %" for effect in made["effects"]]
    assert all(weight in text for weight in weights)
    assert "fine-tune, full · resnet18 minus logistic · resnet18" in text
    assert 'id="ranks"' not in html
    assert "480 tiles, 40 patients, 2 classes" in text


def test_without_a_margin_there_is_no_band_of_it() -> None:
    bare = {name: replace(each, margin=0.0) for name, each in three().items()}
    for named, has_band in ((three(), True), (bare, False)):
        html = across_html(summarized(named))
        assert ('class="band"' in html) == has_band
        assert ("the band is the margin of ±1 pp" in html) == has_band
        assert "±0" not in html


def test_text_from_outside_is_escaped() -> None:
    bad = '<script>alert("x")</script>'
    named = {bad: comparison(0.02, verdict=bad), "b": comparison(0.03)}
    made = summarized(named, page="over/report.html")
    html = across_html(made)
    assert bad not in html
    assert "&lt;script&gt;" in html
    assert "<script>" not in across_markdown(made).replace("\\<", "")


def test_contrasts_that_differ_are_named_in_their_rows() -> None:
    named = three()
    other = "resnet50.a1_in1k+full"
    named["glas"] = replace(
        named["glas"],
        arms=(*named["glas"].arms, summary(other, 0.9, kind="finetune", strategy="full")),
        contrasts=(replace(named["glas"].contrasts[0], arm_a=other),),
    )
    html = across_html(summarized(named))
    assert "the first arm minus the second" in html
    assert re.sub(r"<[^>]+>", "", html).count("fine-tune, full · resnet50 against logistic") == 1


def test_gaps_and_undefined_scores_are_told_apart() -> None:
    named = {
        "a": comparison(scores={PROBE: 0.8, TUNED: float("nan")}),
        "b": comparison(scores={PROBE: 0.7, TUNED: 0.7, KNN: 0.6}),
    }
    made = summarized(named, n_patients=None)
    rows = {arm["id"]: arm["scores"] for arm in made["arms"]}
    assert rows[KNN][0] is None
    assert rows[TUNED][0]["value"] is None
    html = across_html(made)
    assert ">not run<" in html
    assert ">undefined<" in html
    assert "480 tiles, 2 classes" in html


def test_signed_ranks_are_in_every_form_and_absent_with_two_data_sets() -> None:
    made = summarized(three())
    assert set(made["signed_ranks"]) == {"left", "rope", "right", "n"}
    for text in (across_html(made), across_markdown(made)):
        assert "Bayesian signed-rank test over 3 data sets" in re.sub(r"<[^>]+>|\\\\", "", text)
    assert json.loads(json.dumps(made))["signed_ranks"] == made["signed_ranks"]
    two = summarized(dict(list(three().items())[:2]))
    assert two["signed_ranks"] is None


def test_choice_is_called_by_what_it_is() -> None:
    named = three()
    made_of_both = summary("best probe", 0.82, chosen={PROBE: 4, KNN: 6})
    named["glas"] = replace(
        named["glas"],
        arms=(made_of_both, *named["glas"].arms),
        selections=(Selection("probe", "best probe", {PROBE: 4, KNN: 6}),),
        contrasts=(replace(named["glas"].contrasts[0], arm_b="best probe"),),
    )
    made = summarized(named)
    assert made["arms"][0]["label"] == "best probe"
    assert made["arms"][0]["source"] == "chosen on inner folds"
    assert made["labels"]["best probe"] == "best probe"
    assert "against best probe" in re.sub(r"<[^>]+>", "", across_html(made))


def test_forest_places_estimates_weights_and_the_mean() -> None:
    made = summarized(three())
    forest = across_forest(made)
    assert forest is not None
    known = [effect["evidence"] for effect in made["effects"]]
    scale = effect_scale(known, made["mean"], 0.01)
    assert scale is not None
    areas = []
    for row, each in zip(forest.rows, known, strict=True):
        root = parsed(row.plot)
        (square,) = marks(root, "rect", "square")
        (holder,) = [e for e in root.iter("svg") if square in list(e)]
        assert percent(holder.get("x")) == pytest.approx(scale(each["difference"]), abs=0.01)
        areas.append(float(square.get("width", "0")) ** 2)
        (whisker,) = marks(root, "line", "whisker")
        assert percent(whisker.get("x1")) == pytest.approx(scale(each["ci_low"]), abs=0.01)
    weights = [effect["weight"] for effect in made["effects"]]
    assert areas[0] / areas[1] == pytest.approx(weights[0] / weights[1], rel=0.02)
    (diamond,) = marks(parsed(forest.mean), "path", "diamond")
    low, middle, high = (
        100 * (made["mean"][key] - scale.low) / (scale.high - scale.low)
        for key in ("ci_low", "mean", "ci_high")
    )
    assert diamond.get("d", "").startswith(f"M{low:.2f} 50L{middle:.2f} 0L{high:.2f} 50")


def test_what_is_left_out_of_the_mean_is_a_ring_and_what_is_off_the_scale_an_arrow() -> None:
    named = {
        **three(),
        "barred": comparison(0.02, barred=("Patients are in two folds.",)),
        "wide": comparison(0.02, of_contrast={"by_folds": evidence("folds", 0.02, 5.0)}),
        "none": comparison(contrasts=()),
    }
    forest = across_forest(summarized(named))
    assert forest is not None
    rows = {row.effect["data_set"]: parsed(row.plot) for row in forest.rows}
    assert marks(rows["barred"], "circle", "point")
    assert not marks(rows["barred"], "rect", "square")
    assert len(marks(rows["wide"], "path", "arrow")) == 2
    assert not marks(rows["glas"], "path", "arrow")
    assert not marks(rows["none"], "line", "whisker")


def test_no_forest_without_any_contrast() -> None:
    made = summarized({name: comparison(contrasts=()) for name in "ab"})
    assert across_forest(made) is None
    assert made["mean"] is None
    html = across_html(made)
    assert 'id="effects"' not in html
    assert "There is no mean over the 2 data sets" in html


def test_wide_mean_is_cut_off_with_arrows() -> None:
    made = summarized({"a": comparison(0.02), "b": comparison(0.03)})
    forest = across_forest(made)
    assert forest is not None
    assert len(marks(parsed(forest.mean), "path", "arrow")) == 2
    assert forest.prediction is None


def test_eight_data_sets_have_a_diagram_of_ranks() -> None:
    made = summarized(many(8, n_arms=5))
    figure = critical_difference(made)
    assert figure is not None
    root = parsed(figure)
    arms = ranked(made["ranks"], made["labels"])
    assert [arm.rank for arm in arms] == sorted(arm.rank for arm in arms)
    assert arms[0].arm == TUNED
    texts = ["".join(each.itertext()) for each in marks(root, "text", "label")]
    assert len(texts) == 5
    assert all(any(f"{arm.rank:.2f}" in text for text in texts) for arm in arms)
    assert len(marks(root, "line", "clique")) == len(made["ranks"]["cliques"]) > 0
    n_members = sum(map(len, made["ranks"]["cliques"]))
    assert len(marks(root, "circle", "member")) == n_members
    told = root.get("aria-label", "")
    assert f"{arms[0].label} {arms[0].rank:.2f}" in told
    html = across_html(made)
    assert 'id="ranks"' in html
    assert "Iman-Davenport" in html
    assert made["arms"][-1]["id"] == DUMMY
    assert made["arms"][-1]["average_rank"] is None


def test_leaders_of_ranks_do_not_cross() -> None:
    root = parsed(critical_difference(summarized(many(9, n_arms=6))))
    leaders = [
        tuple(
            percent(line.get(key)) if key[0] == "x" else float(line.get(key, "0"))
            for key in ("x1", "x2", "y1", "y2")
        )
        for line in marks(root, "line", "leader")
    ]
    upright = [(x1, y2) for x1, x2, _, y2 in leaders if x1 == x2]
    level = [(x1, x2, y1) for x1, x2, y1, y2 in leaders if y1 == y2]
    for edge, x, y in level:
        crossed = [u for u, bottom in upright if min(edge, x) < u < max(edge, x) and bottom > y]
        assert not crossed


def test_bars_that_overlap_stand_one_above_the_other() -> None:
    a, b, c, d = (
        RankedArm(name, name, rank) for name, rank in zip("abcd", (1, 2, 3, 4), strict=True)
    )
    assert bar_levels([[a, b], [c, d]]) == [0, 0]
    assert bar_levels([[a, b], [b, c], [c, d]]) == [0, 1, 0]
    assert bar_levels([[a, d], [b, c]]) == [0, 1]
    assert bar_levels([]) == []


def test_no_diagram_below_eight_data_sets() -> None:
    made = summarized(many(7))
    assert made["ranks"] is None
    assert critical_difference(made) is None
