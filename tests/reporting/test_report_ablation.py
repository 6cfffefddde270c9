"""Sweeps of fine-tunes in the report: the combinations, their means, the chart and the words."""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import replace
from html import unescape
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from report_cases import ArmCase, ReportCase, compare_drawn, draw_case, draw_run

from featurebench.reporting.ablation import ablation_section, epochs_run, value_text
from featurebench.reporting.ablation_chart import Axes, Series, sweep, sweep_legend, sweep_panels
from featurebench.reporting.markdown import markdown
from featurebench.reporting.render import render_html
from featurebench.results import Cost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

METRIC = "balanced_accuracy"
GRID: dict[str, list[Any]] = {
    "model": ["resnet18", "vgg16"],
    "strategy": ["head", "last:1", "full", "scratch"],
    "learning_rate": [1e-3, 1e-4],
}


def combinations(grid: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """Names of arms with their values, as an experiment declares them."""
    chosen = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    return {"+".join(map(str, values.values())): values for values in chosen}


def arm(name: str, values: Mapping[str, Any], score: float | None, **params: Any) -> dict[str, Any]:
    """What a summary holds of an arm, as far as sweeps are concerned."""
    estimate = {"value": score, "ci_low": None, "ci_high": None}
    if score is not None:
        estimate |= {"ci_low": score - 0.04, "ci_high": score + 0.03}
    return {
        "id": name,
        "params": {"model": "resnet18", "batch_size": 32, **params, **values},
        "metrics": {METRIC: estimate, "log_loss": estimate},
        "training_cost": {"wall_s": 90.0},
        "epochs": 7.5,
    }


def swept(
    grid: Mapping[str, Sequence[Any]], scores: Sequence[float | None]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    varied = combinations(grid)
    pairs = zip(varied.items(), scores, strict=True)
    return [arm(name, values, score) for (name, values), score in pairs], varied


def one_design(
    arms: Sequence[Mapping[str, Any]],
    varied: Mapping[str, Mapping[str, Any]],
    metric: str = METRIC,
) -> dict[str, Any]:
    section = ablation_section(arms, varied, metric)
    assert section is not None
    (design,) = section["designs"]
    assert isinstance(design, dict)
    return design


TWO_KEYS: dict[str, list[Any]] = {"strategy": ["head", "full"], "learning_rate": [1e-3, 1e-4, 1e-5]}


class TestNumbers:
    def test_rows_are_the_combinations_as_declared(self) -> None:
        scores = (0.7, 0.8, 0.75, 0.6, 0.9, 0.65)
        arms, varied = swept(TWO_KEYS, scores)
        design = one_design(arms[::-1], varied)
        assert [row["value"] for row in design["rows"]] == list(scores)
        assert design["rows"][1] == {
            "id": "head+0.0001",
            "values": {"strategy": "head", "learning_rate": "0.0001"},
            "value": 0.8,
            "ci_low": pytest.approx(0.76),
            "ci_high": pytest.approx(0.83),
            "wall_s": 90.0,
            "epochs": 7.5,
            "is_best": False,
        }
        assert [row["is_best"] for row in design["rows"]] == [False] * 4 + [True, False]
        assert design["keys"][1] == {
            "name": "learning_rate",
            "label": "learning rate",
            "values": ["0.001", "0.0001", "1e-05"],
        }

    def test_means_over_the_other_keys(self) -> None:
        scores = np.random.default_rng(0).uniform(0.5, 0.9, 16)
        design = one_design(*swept(GRID, scores.tolist()))
        cube = scores.reshape(2, 4, 2)
        expected = {
            "model": cube.mean(axis=(1, 2)),
            "strategy": cube.mean(axis=(0, 2)),
            "learning_rate": cube.mean(axis=(0, 1)),
        }
        found = {
            effect["key"]: [each["mean"] for each in effect["means"]]
            for effect in design["effects"]
        }
        assert list(found) == list(GRID)
        for key, means in expected.items():
            assert found[key] == pytest.approx(means)
        assert [each["n"] for each in design["effects"][1]["means"]] == [4] * 4

    @pytest.mark.parametrize("gap", ["unfinished", "undefined"])
    def test_no_means_where_a_combination_is_missing(self, gap: str) -> None:
        arms, varied = swept(TWO_KEYS, (0.7, 0.8, 0.75, 0.6, 0.9, None))
        design = one_design(arms[:-1] if gap == "unfinished" else arms, varied)
        assert design["effects"] == []
        assert len(design["rows"]) == (5 if gap == "unfinished" else 6)
        assert design["n_declared"] == 6
        assert design["keys"][1]["values"] == ["0.001", "0.0001", "1e-05"]
        assert design["sentences"][1] == (
            "1 further combination has no score. Means over the other keys are not shown for that."
        )

    def test_one_key_has_no_means(self) -> None:
        design = one_design(*swept({"epochs": [5, 10, 20]}, (0.7, 0.8, 0.75)))
        assert design["effects"] == []
        assert design["axes"] == {"x": "epochs", "series": None, "panels": []}
        assert len(design["sentences"]) == 1

    def test_best_and_worst_in_words(self) -> None:
        design = one_design(*swept(TWO_KEYS, (0.7, 0.8, 0.75, 0.6, 0.9123, 0.65)))
        assert design["sentences"] == [
            "Of 6 combinations the best balanced accuracy, 91.2 %, is that of strategy full, "
            "learning rate 0.0001, the worst, 60.0 %, that of strategy full, learning rate 0.001: "
            "31.2 pp apart."
        ]

    def test_less_is_better_of_a_loss(self) -> None:
        arms, varied = swept(TWO_KEYS, (0.7, 0.8, 0.75, 0.6, 0.9, 0.65))
        design = one_design(arms, varied, metric="log_loss")
        assert [row["id"] for row in design["rows"] if row["is_best"]] == ["full+0.001"]
        (sentence,) = design["sentences"]
        assert "best log loss, 0.600" in sentence
        assert sentence.endswith("0.300 apart.")

    def test_ties_are_told(self) -> None:
        design = one_design(*swept(TWO_KEYS, (0.9, 0.9, 0.75, 0.9, 0.6, 0.6)))
        assert sum(row["is_best"] for row in design["rows"]) == 3
        assert (
            "strategy head, learning rate 0.001 (and 2 others), the worst"
            in (design["sentences"][0])
        )
        same = one_design(*swept(TWO_KEYS, [0.5] * 6))
        assert same["sentences"] == ["All 6 combinations have the same balanced accuracy, 50.0 %."]

    def test_key_with_one_value_is_no_column(self) -> None:
        design = one_design(*swept({"strategy": ["full"], "epochs": [5, 10]}, (0.7, 0.8)))
        assert design["fixed"] == {"strategy": "full"}
        assert [key["name"] for key in design["keys"]] == ["epochs"]

    def test_nothing_where_nothing_is_varied(self) -> None:
        arms, varied = swept(TWO_KEYS, (0.7, None, None, None, None, None))
        assert ablation_section(arms, {}, METRIC) is None
        assert ablation_section([], varied, METRIC) is None
        assert ablation_section(arms, varied, METRIC) is None

    def test_values_are_written_as_in_the_file(self) -> None:
        values = [None, True, 0.001, 5, "last:2", {"mixup": 0.2, "flips": False}]
        expected = ["none", "true", "0.001", "5", "last:2", "mixup 0.2, flips false"]
        assert list(map(value_text, values)) == expected


class TestSweepsApart:
    def test_other_keys_make_another_sweep(self) -> None:
        first = swept({"epochs": [5, 10]}, (0.7, 0.8))
        second = swept({"batch_size": [16, 64]}, (0.6, 0.9))
        section = ablation_section(first[0] + second[0], first[1] | second[1], METRIC)
        assert section is not None
        assert [[key["name"] for key in d["keys"]] for d in section["designs"]] == [
            ["epochs"],
            ["batch_size"],
        ]

    def test_a_combination_that_comes_again_begins_another(self) -> None:
        varied = {"a5": {"epochs": 5}, "a10": {"epochs": 10}}
        again = {"b5": {"epochs": 5}, "b10": {"epochs": 10}}
        arms = [arm(name, values, 0.5) for name, values in (varied | again).items()]
        section = ablation_section(arms, varied | again, METRIC)
        assert section is not None
        assert [[row["id"] for row in d["rows"]] for d in section["designs"]] == [
            ["a5", "a10"],
            ["b5", "b10"],
        ]

    def test_other_settings_begin_another_but_not_what_loading_found(self) -> None:
        values = {str(n): {"epochs": n} for n in (5, 10, 20, 40)}
        batch = [32, 32, 64, 64]
        arms = [
            arm(name, each, 0.5, batch_size=size)
            for (name, each), size in zip(values.items(), batch, strict=True)
        ]
        section = ablation_section(arms, values, METRIC)
        assert section is not None
        assert [len(design["rows"]) for design in section["designs"]] == [2, 2]
        models = {name: {"model": name} for name in ("resnet18", "xception")}
        arms = [
            arm("resnet18", models["resnet18"], 0.5, image_size=224, preprocessing={"mean": 0}),
            arm("xception", models["xception"], 0.6, image_size=299, preprocessing={"mean": 1}),
        ]
        assert len(one_design(arms, models)["rows"]) == 2


class TestChart:
    @pytest.mark.parametrize(
        ("grid", "x", "series", "panels"),
        [
            (GRID, "strategy", "learning_rate", ["model"]),
            ({"model": ["a", "b"], "strategy": ["head", "full"]}, "strategy", "model", []),
            ({"epochs": [5, 10], "rank": [2, 4, 8]}, "rank", "epochs", []),
            (
                {"epochs": [1, 2], "rank": [2, 4], "model": ["a", "b"], "strategy": ["head", "x"]},
                "strategy",
                "epochs",
                ["rank", "model"],
            ),
        ],
    )
    def test_which_key_is_drawn_where(
        self, grid: dict[str, list[Any]], x: str, series: str, panels: list[str]
    ) -> None:
        n = math.prod(map(len, grid.values()))
        design = one_design(*swept(grid, np.linspace(0.5, 0.9, n).tolist()))
        assert design["axes"] == {"x": x, "series": series, "panels": panels}
        drawn = sweep_panels(design, METRIC)
        rest = [len(grid[key]) for key in panels]
        assert len(drawn) == math.prod(rest)
        assert [name for _, name in sweep_legend(design)] == [value_text(v) for v in grid[series]]
        marks = sum(str(panel["chart"]).count('class="dot') for panel in drawn)
        assert marks == n

    AXES = Axes(METRIC, "strategy", ("head", "last:1", "full", "scratch"), (0.5, 0.9), best=0.85)

    def test_places_marks_and_whiskers(self) -> None:
        line = Series(
            "0.001", 0, (0.6, 0.7, 0.85, None), (0.5, 0.6, 0.8, None), (0.7, 0.8, 0.9, None)
        )
        svg = str(sweep([line], self.AXES, "model vgg16"))
        marks = [
            (float(x), float(y))
            for x, y in re.findall(r'<circle class="dot s0" cx="([\d.]+)" cy="([\d.]+)"', svg)
        ]
        (x0, y0), (x1, y1), (x2, y2) = marks
        assert x1 - x0 == pytest.approx(x2 - x1)
        assert (y0 - y1) / (y1 - y2) == pytest.approx(0.1 / 0.15, rel=1e-3)
        assert svg.count('class="spread s0"') == 3
        ((ring_x, ring_y),) = re.findall(r'class="ring" cx="([\d.]+)" cy="([\d.]+)"', svg)
        assert (float(ring_x), float(ring_y)) == (x2, y2)
        assert "model vgg16" in svg

    def test_joins_depths_and_numbers_and_nothing_else(self) -> None:
        line = Series("", 0, (0.6, 0.7, 0.8, 0.5), (None,) * 4, (None,) * 4)
        (path,) = re.findall(
            r'<path class="line s0" d="([^"]+)"', str(sweep([line], self.AXES, ""))
        )
        assert path.count("L") == 2
        numbers = Axes(METRIC, "epochs", ("5", "10", "20", "40"), (0.5, 0.9), best=0.9)
        gap = Series("", 0, (0.6, None, 0.8, 0.5), (None,) * 4, (None,) * 4)
        (path,) = re.findall(r'<path class="line s0" d="([^"]+)"', str(sweep([gap], numbers, "")))
        assert path.count("L") == 1
        names = Axes(METRIC, "optimizer", ("adam", "sgd"), (0.5, 0.9), best=0.9)
        pair = Series("", 0, (0.6, 0.7), (None,) * 2, (None,) * 2)
        assert "<path" not in str(sweep([pair], names, ""))

    def test_marks_of_one_place_stand_apart_within_it(self) -> None:
        lines = [Series(str(i), i, (0.6,) * 4, (None,) * 4, (None,) * 4) for i in range(9)]
        svg = str(sweep(lines, self.AXES, ""))
        centres = sorted(
            float(x) for x in re.findall(r'<circle class="dot s\d" cx="([\d.]+)"', svg)
        )
        slot = (400 - 46) / 4
        assert len(set(centres)) == len(centres)
        assert all(40 < x < 400 for x in centres)
        first = [x for x in centres if x < 40 + slot]
        assert len(first) == len(centres) / 4

    def test_long_names_take_turns_and_never_meet(self) -> None:
        names = tuple(f"from:features.denseblock{i}.norm" for i in range(8))
        axes = Axes(METRIC, "strategy", names, (0.5, 0.9), best=0.9)
        svg = str(sweep([Series("", 0, (0.6,) * 8, (None,) * 8, (None,) * 8)], axes, ""))
        texts = re.findall(
            r'x="([\d.]+)" y="([\d.]+)" text-anchor="middle"><title>[^<]+</title>([^<]+)<', svg
        )
        assert len(texts) == 8
        assert {y for _, y, _ in texts} == {"224", "238"}
        for level in ("224", "238"):
            row = [(float(x), len(text) * 6.3) for x, y, text in texts if y == level]
            for (a, wide_a), (b, wide_b) in itertools.pairwise(row):
                assert a + wide_a / 2 <= b - wide_b / 2 + 1e-6


def with_sweep(case: ReportCase, *, attack: str = "") -> dict[str, Any]:
    """A summary with a sweep of 16 fine-tunes, two of them not finished."""
    rng = np.random.default_rng(7)
    skills = {"head": 1.2, "last:1": 1.5, "full": 1.8, "scratch": 0.4}
    varied, runs = combinations(GRID), list(case.results.runs)
    for name, values in list(varied.items())[:-2]:
        skill = skills[values["strategy"]] - 0.3 * (values["learning_rate"] < 5e-4)
        drawn = ArmCase(name, "finetune", None, values["strategy"], skill, Cost(200, 400, 0, 900))
        run = draw_run(drawn, case.manifest, case.plan, rng)
        folds = [{"epochs": 5 + i % 3} for i in range(10)]
        runs.append(replace(run, params={"model": "", **values}, details={"folds": folds}))
    if attack:
        varied["vgg16+scratch+0.0001"] = {"model": "vgg16", "strategy": attack, "learning_rate": 1}
    results = replace(case.results, runs=tuple(runs))
    comparison = compare_drawn(tuple(runs), results)
    changed = replace(case, results=results, comparison=comparison)
    from featurebench.reporting import summarize

    return summarize(**vars(changed), varied=varied)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    return draw_case(tmp_path_factory.mktemp("ablation"))


@pytest.fixture(scope="module")
def summary(case: ReportCase) -> dict[str, Any]:
    return with_sweep(case)


@pytest.fixture(scope="module")
def html(summary: dict[str, Any]) -> str:
    return render_html(summary)


def section_of(html: str) -> str:
    part = html[html.index('<section id="ablations"') :]
    return part[: part.index("</section>")]


class TestReport:
    def test_shows_every_combination_and_the_chart(
        self, summary: dict[str, Any], html: str
    ) -> None:
        (design,) = summary["ablations"]["designs"]
        assert len(design["rows"]) == 14
        part = section_of(html)
        text = " ".join(unescape(re.sub(r"<[^>]+>", " ", part)).split())
        assert design["sentences"][0] in text
        assert "2 further combinations have no score." in text
        assert part.count('<th scope="row"') == 14
        assert part.count('role="img"') == 2
        assert part.count(">best<") == 1
        assert "3 min 20 s" in text
        assert "5.9" in text
        assert 'href="#ablations"' in html
        scores = {arm["id"]: arm["metrics"][METRIC] for arm in summary["arms"]}
        for row in design["rows"]:
            assert row["value"] == scores[row["id"]]["value"]
            assert f"{row['value']:.3f}" in part

    def test_markdown_has_the_table_and_the_sentence(self, summary: dict[str, Any]) -> None:
        text = markdown(summary)
        assert "**Ablation: model × strategy × learning rate**" in text
        assert text.count("(best)") == 1
        assert len(re.findall(r"^\| (resnet18|vgg16) \| ", text, re.MULTILINE)) == 14
        assert "Of 14 combinations the best balanced accuracy" in text

    def test_means_are_shown_where_the_design_is_complete(self, case: ReportCase) -> None:
        summary = case.summary()
        names = [each["id"] for each in summary["arms"][:4]]
        varied = dict(zip(names, combinations({"a": [1, 2], "b": [1, 2]}).values(), strict=True))
        for each in summary["arms"]:
            each["params"] = {}
        summary["ablations"] = ablation_section(summary["arms"], varied, METRIC)
        part = section_of(render_html(summary))
        assert "Means over the other keys" in part
        values = [each["metrics"][METRIC]["value"] for each in summary["arms"][:4]]
        assert f"{(values[0] + values[1]) / 2:.3f}" in part
        assert f"Mean by b: 1 {(values[0] + values[2]) / 2:.3f}" in markdown(summary)

    def test_absent_where_nothing_is_varied(self, case: ReportCase) -> None:
        summary = case.summary()
        assert summary["ablations"] is None
        html = render_html(summary)
        assert 'id="ablation' not in html
        assert 'href="#ablations' not in html
        assert "Ablation" not in markdown(summary)

    def test_json_ids_and_escapes(
        self, case: ReportCase, summary: dict[str, Any], html: str
    ) -> None:
        assert json.loads(json.dumps(summary, allow_nan=False)) == summary
        ids = re.findall(r'\sid="([^"]+)"', html)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'aria-labelledby="([^"]+)"', html)) <= set(ids)
        attack = "<script>alert(1)</script>"
        hostile = with_sweep(case, attack=attack)
        design = hostile["ablations"]["designs"][0]
        assert attack in design["keys"][1]["values"]
        design["rows"][0]["values"]["strategy"] = attack
        assert "<script>alert" not in render_html(hostile)
        assert "<script>alert" not in markdown(hostile)

    def test_epochs_are_those_run(self, case: ReportCase) -> None:
        run = case.results.runs[-1]
        assert epochs_run(run) is None
        assert epochs_run(replace(run, details={"folds": [{"epochs": 3}, {"epochs": 6}]})) == 4.5
        assert epochs_run(replace(run, details={"folds": [{"epochs": 3}, {}]})) is None
