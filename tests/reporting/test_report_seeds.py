"""Seeds in the report: spread of seeds against that of folds, and against the best probe."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html import unescape
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from report_cases import ReportCase, draw_case

from featurebench.reporting import summarize
from featurebench.reporting.markdown import markdown
from featurebench.reporting.render import render_html
from featurebench.reporting.seeds import repeat_wins, seeds_section
from featurebench.results import FoldScore, RunResult

if TYPE_CHECKING:
    from collections.abc import Sequence

METRIC = "balanced_accuracy"
TUNED = "tf_efficientnet_lite0.package+full"
# Two repeats of three folds; a seed moves single folds by 0.02 and leaves their mean as it is.
FOLDS = np.array([0.8, 0.7, 0.9, 0.6, 0.8, 0.7])
MOVES = np.array([[0, 0, 0, 0, 0, 0], [2, -2, 2, -2, 2, -2], [-2, 2, -2, 2, -2, 2]]) / 100


def fold_scores(values: Sequence[float], metric: str = METRIC) -> tuple[FoldScore, ...]:
    return tuple(
        FoldScore(i // 3, i % 3, metric, float(value), 10) for i, value in enumerate(values)
    )


def arm(name: str, values: Sequence[float], kind: str = "finetune", **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "label": name,
        "method": name,
        "source": "",
        "kind": kind,
        "embedding": None,
        "params": {"model": "resnet18"},
        "n_repeats": 2,
        "training_cost": {"wall_s": 60.0},
        "fold_scores": [vars(score) for score in fold_scores(values)],
        **more,
    }


def probe(name: str, values: Sequence[float], embedding: str) -> dict[str, Any]:
    return arm(name, values, "probe", embedding=embedding)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    return draw_case(tmp_path_factory.mktemp("seeds"))


@pytest.fixture(scope="module")
def run(case: ReportCase) -> RunResult:
    return case.results.runs[-1]


def section(
    run: RunResult, scores: Any, probes: Sequence[dict[str, Any]] = (), metric: str = METRIC
) -> dict[str, Any]:
    """The only row of an arm whose first seed has the first scores, and its replicas the others."""
    others = [
        replace(run, arm=f"a, seed {i + 2}", scores=fold_scores(row))
        for i, row in enumerate(scores[1:])
    ]
    found = seeds_section([*probes, arm("a", scores[0])], {"a": others}, metric)
    assert found is not None
    (row,) = found["arms"]
    assert isinstance(row, dict)
    return row


class TestNumbers:
    def test_means_and_components(self, run: RunResult) -> None:
        row = section(run, FOLDS + MOVES)
        assert [seed["value"] for seed in row["seeds"]] == pytest.approx([0.75] * 3)
        assert [seed["number"] for seed in row["seeds"]] == [1, 2, 3]
        assert row["mean"] == pytest.approx(0.75)
        assert row["sd"] == pytest.approx(0, abs=1e-12)
        parts = row["components"]
        residual = np.square(MOVES).sum() / 10
        assert parts["residual"] == pytest.approx(math.sqrt(residual))
        assert parts["seeds"] == 0
        of_folds = FOLDS.var(ddof=1) - residual / 3
        assert parts["folds"] == pytest.approx(math.sqrt(of_folds))
        assert parts["share"] == pytest.approx(residual / (residual + of_folds))
        assert parts["by_seed"] == pytest.approx(math.sqrt(residual))
        assert (parts["n_folds"], parts["n_left_out"]) == (6, 0)

    def test_means_are_over_folds_and_then_over_repeats(self, run: RunResult) -> None:
        scores = [[0.9, math.nan, 0.7, 0.5, 0.5, 0.5], [0.8, 0.8, 0.8, 0.6, 0.6, 0.6]]
        row = section(run, scores)
        assert [seed["value"] for seed in row["seeds"]] == pytest.approx([0.65, 0.7])
        assert row["sd"] == pytest.approx(0.05 / math.sqrt(2))
        assert (row["components"]["n_folds"], row["components"]["n_left_out"]) == (5, 1)

    def test_only_common_repeats_count(self, run: RunResult) -> None:
        other = replace(run, scores=fold_scores([0.7] * 3), y_prob=run.y_prob[:1])
        first = arm("a", [0.8] * 3 + [0.2] * 3)
        p = probe("p", [0.6] * 3 + [0.9] * 3, "resnet18.tag@0f3a2b1c")
        found = seeds_section([p, first], {"a": [other]}, METRIC)
        assert found is not None
        (row,) = found["arms"]
        assert row["n_repeats"] == 1
        assert [seed["value"] for seed in row["seeds"]] == pytest.approx([0.8, 0.7])
        assert row["probe"]["difference"] == pytest.approx(0.15)

    def test_one_fold_has_no_components(self, run: RunResult) -> None:
        row = section(run, [[0.8], [0.9]])
        assert row["components"] is None
        (sentence,) = row["sentences"]
        assert sentence == (
            "a: over 2 seeds the balanced accuracy has an SD of 7.1 pp; with one fold it cannot be "
            "held against the spread between folds."
        )

    def test_absent_without_a_replica_that_has_scores(self, run: RunResult) -> None:
        arms = [arm("a", [0.8, 0.9, 0.7])]
        assert seeds_section(arms, {}, METRIC) is None
        assert seeds_section(arms, {"a": []}, METRIC) is None
        assert seeds_section(arms, {"stray": [run]}, METRIC) is None
        undefined = replace(run, scores=fold_scores([math.nan] * 3))
        assert seeds_section(arms, {"a": [undefined]}, METRIC) is None


class TestWords:
    def test_share_of_seed_and_fold(self, run: RunResult) -> None:
        row = section(run, FOLDS + MOVES)
        share = row["components"]["share"]
        (sentence,) = row["sentences"]
        assert sentence == (
            f"a: of the variance of a single fold's balanced accuracy an estimated "
            f"{100 * share:.0f} % comes from the seed (SD 2.2 pp) and "
            f"{100 - 100 * share:.0f} % from the fold (SD 10.4 pp); the mean over "
            "folds has an SD of 0.0 pp over 3 seeds."
        )

    def test_same_scores_with_every_seed(self, run: RunResult) -> None:
        row = section(run, [[0.75] * 6, [0.75] * 6])
        assert row["sentences"] == ["a: every seed gave the same balanced accuracy in every fold."]
        row = section(run, [FOLDS, FOLDS])
        assert "0 % comes from the seed" in row["sentences"][0]

    @pytest.mark.parametrize(
        ("level", "told"),
        [
            (0.70, "is +10.0 pp on average over seeds (+6.0 to +14.0), which exceeds the SD"),
            (0.79, "is +1.0 pp on average over seeds (−3.0 to +5.0), which does not exceed the SD"),
            (0.90, "is −10.0 pp on average over seeds (−14.0 to −6.0), which exceeds the SD"),
        ],
    )
    def test_difference_against_the_spread_over_seeds(
        self, run: RunResult, level: float, told: str
    ) -> None:
        scores = [[0.76] * 6, [0.84] * 6, [0.80] * 6]
        row = section(run, scores, [probe("p", [level] * 6, "resnet18.tag@0f3a2b1c")])
        assert row["sd"] == pytest.approx(0.04)
        assert row["sentences"][1] == (
            f"Its difference to the best probe of the same network, p, {told} over seeds."
        )

    def test_best_probe_is_of_the_same_network_if_there_is_one(self, run: RunResult) -> None:
        same = [probe("p", [0.6] * 6, "resnet18.a@0f3a2b1c"), probe("q", [0.7] * 6, "resnet18")]
        other = probe("o", [0.99] * 6, "resnet50.a@0f3a2b1c")
        scores = [[0.8] * 6, [0.81] * 6]
        assert section(run, scores, [*same, other])["probe"]["label"] == "q"
        alone = section(run, scores, [other])
        assert (alone["probe"]["label"], alone["probe"]["same_network"]) == ("o", False)
        assert "to the best probe, o, is" in alone["sentences"][1]

    def test_of_a_loss_the_lowest_probe_is_best(self, run: RunResult) -> None:
        def as_loss(each: dict[str, Any]) -> dict[str, Any]:
            scores = [score | {"metric": "log_loss"} for score in each["fold_scores"]]
            return each | {"fold_scores": scores}

        arms = [
            as_loss(probe("p", [0.4] * 6, "resnet18")),
            as_loss(probe("q", [0.5] * 6, "resnet18")),
            as_loss(arm("a", [0.3] * 6)),
        ]
        other = replace(run, scores=fold_scores([0.32] * 6, "log_loss"))
        found = seeds_section(arms, {"a": [other]}, "log_loss")
        assert found is not None
        assert found["arms"][0]["probe"]["label"] == "p"
        assert "−0.090 on average" in found["arms"][0]["sentences"][1]


def with_seeds(case: ReportCase) -> dict[str, Any]:
    """A summary whose fine-tune was trained with three seeds."""
    (first,) = (run for run in case.results.runs if run.arm == TUNED)
    rng = np.random.default_rng(4)
    others = tuple(
        replace(
            first,
            arm=f"{TUNED}, seed {number}",
            scores=tuple(
                replace(score, value=score.value + rng.normal(0, 0.02)) for score in first.scores
            ),
        )
        for number in (2, 3)
    )
    return summarize(**vars(case), replicas={TUNED: others})


@pytest.fixture(scope="module")
def summary(case: ReportCase) -> dict[str, Any]:
    return with_seeds(case)


def section_of(html: str) -> str:
    part = html[html.index('<section id="seeds"') :]
    return part[: part.index("</section>")]


class TestReport:
    def test_replicas_are_shown_and_not_compared(self, summary: dict[str, Any]) -> None:
        html = render_html(summary)
        part = section_of(html)
        text = " ".join(unescape(re.sub(r"<[^>]+>", " ", part)).split())
        (row,) = summary["seeds"]["arms"]
        for sentence in row["sentences"]:
            assert sentence in text
        cells = re.findall(r'<span class="value">([^<]+)</span>', part)
        parts = row["components"]
        numbers = [*(seed["value"] for seed in row["seeds"]), row["mean"], row["sd"]]
        numbers += [parts[key] for key in ("folds", "seeds", "residual")]
        assert cells == [f"{number:.3f}" for number in numbers]
        assert part.count('class="dot"') == 3
        assert 'href="#seeds"' in html
        assert not [each["id"] for each in summary["arms"] if "seed" in each["id"]]
        assert not [c for c in summary["comparisons"] if "seed" in c["arm_a"]]
        ids = re.findall(r'\sid="([^"]+)"', html)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'aria-labelledby="([^"]+)"', html)) <= set(ids)

    def test_markdown_and_json(self, summary: dict[str, Any]) -> None:
        text = markdown(summary)
        (row,) = summary["seeds"]["arms"]
        assert "| Seeds | Each | Mean |" in text
        assert f"| {row['mean']:.3f} | {row['sd']:.3f} |" in text
        assert "of the variance of a single fold's balanced accuracy" in text
        assert json.loads(json.dumps(summary, allow_nan=False)) == summary

    def test_arms_with_fewer_seeds_keep_their_columns(self, case: ReportCase) -> None:
        summary = with_seeds(case)
        (row,) = summary["seeds"]["arms"]
        fewer = row | {"id": "other", "seeds": row["seeds"][:2], "components": None}
        summary["seeds"]["arms"].append(fewer)
        part = section_of(render_html(summary))
        table = part[part.index('<table class="stacked">') :]
        rows = re.findall(r"<tr><th scope=\"row\".*?</tr>", table, re.DOTALL)
        assert [line.count("<td") for line in rows] == [8, 8]
        assert "| – | – | – |" in markdown(summary)

    def test_absent_without_replicas_and_names_are_escaped(self, case: ReportCase) -> None:
        plain = case.summary()
        assert plain["seeds"] is None
        html = render_html(plain)
        assert 'id="seeds' not in html
        assert 'href="#seeds' not in html
        hostile = with_seeds(case)
        attack = "<script>alert(1)</script>"
        row = hostile["seeds"]["arms"][0]
        row |= {"label": attack, "method": attack, "sentences": [attack]}
        assert "<script>alert" not in render_html(hostile)
        assert "<script>alert" not in markdown(hostile)


N_TILES = 12
Y = np.arange(N_TILES) % 2


def repeats(case: ReportCase, right: Sequence[int], **changed: Any) -> RunResult:
    """A run that calls so many of twelve tiles right in each repeat."""
    y_prob = np.zeros((len(right), N_TILES, 2), dtype=np.float32)
    for row, n in zip(y_prob, right, strict=True):
        called = np.where(np.arange(N_TILES) < n, Y, 1 - Y)
        row[np.arange(N_TILES), called] = 1
    return replace(case.results.runs[0], y_prob=y_prob, **changed)


def wins(case: ReportCase, first: RunResult, second: RunResult, **changed: Any) -> Any:
    n = first.n_repeats
    folds = np.tile(np.arange(N_TILES) // 4, (n, 1)).astype(np.int16)
    results = replace(
        case.results, y_true=Y, test_fold=folds, patients=np.arange(N_TILES), runs=(first, second)
    )
    contrast = case.comparison.contrasts[0]
    made = replace(contrast, arm_a=first.arm, arm_b=second.arm, primary=True, n_repeats=n)
    comparison = replace(case.comparison, metric="accuracy", contrasts=(made,), **changed)
    runs = {run.arm: run for run in (first, second)}
    return repeat_wins(comparison, runs, results, {first.arm: "A", second.arm: "B"})


class TestRepeatWins:
    def test_count_repeats_in_which_the_first_arm_does_better(self, case: ReportCase) -> None:
        """Nine of ten repeats are won, one is lost."""
        tuned = repeats(case, [9] * 9 + [5], arm="tuned", kind="finetune")
        found = wins(case, tuned, repeats(case, [8] * 10, arm="probe"))
        assert (found["arm_a"], found["arm_b"], found["p"], found["n"]) == (
            "tuned",
            "probe",
            0.9,
            10,
        )
        assert (found["ci_low"], found["ci_high"], found["meaningful"]) == (0.7, 1.0, True)
        assert " ".join(found["sentences"]) == (
            "How often A does better than B in the accuracy of one repeat: P(A > B) = 0.90 (95 % "
            "CI 0.70 to 1.00; 10 repeats). From repeat to repeat vary the division of the patients "
            "into folds, and with it training sets and inner folds, and the seed of every "
            "fine-tuning; a head's own random draws keep their seed, and the patients stay the "
            "same, so that this says nothing of others. It does reach what counts as meaningful, a "
            "share of 0.75 with an interval above one half (Bouthillier et al. 2021). No claim "
            "rests on it."
        )

    def test_ties_count_half_and_are_told(self, case: ReportCase) -> None:
        first = repeats(case, [9] * 4 + [8] * 2 + [7] * 4, arm="a")
        found = wins(case, first, repeats(case, [8] * 10, arm="b"))
        assert (found["p"], found["n_tied"], found["meaningful"]) == (0.5, 2, False)
        assert "10 repeats, 2 tied" in found["sentences"][0]
        assert "fine-tuning" not in " ".join(found["sentences"])
        assert found["sentences"][2].startswith("It does not reach")

    def test_few_repeats_give_no_share(self, case: ReportCase) -> None:
        found = wins(case, repeats(case, [9] * 3, arm="a"), repeats(case, [8] * 3, arm="b"))
        assert np.isnan(found["p"])
        assert found["sentences"] == [
            "How often A does better than B in the accuracy of one repeat, P(A > B), is not given: "
            "3 common repeats of the 10 that it takes (Bouthillier et al. 2021)."
        ]

    def test_none_where_nothing_may_be_claimed(self, case: ReportCase) -> None:
        pair = repeats(case, [9] * 10, arm="a"), repeats(case, [8] * 10, arm="b")
        assert wins(case, *pair, barred=("Patients are in two folds.",)) is None

    def test_the_report_shows_them_in_every_form(self, case: ReportCase) -> None:
        summary = case.summary()
        told = " ".join(summary["repeat_wins"]["sentences"])
        assert "2 common repeats of the 10" in told
        html = unescape(re.sub(r"<[^>]+>", "", render_html(summary)))
        assert told in html
        assert "is not given: 2 common repeats" in markdown(summary)
        assert json.loads(json.dumps(summary, allow_nan=False))["repeat_wins"]["p"] is None
        alone = replace(case.comparison, contrasts=())
        assert summarize(**vars(replace(case, comparison=alone)))["repeat_wins"] is None


def test_what_choosing_cost_is_shown_in_every_form(case: ReportCase) -> None:
    probe, tuned = case.comparison.selections
    best = next(arm for arm in case.comparison.arms if arm.kind == "probe" and arm.arm != probe.arm)
    chosen = (replace(probe, hindsight=best.arm, regret=0.012), tuned)
    summary = summarize(
        **vars(replace(case, comparison=replace(case.comparison, selections=chosen)))
    )
    (told,) = summary["choices"]
    label = next(arm["label"] for arm in summary["arms"] if arm["id"] == best.arm)
    n_probes = sum(arm["kind"] == "probe" for arm in summary["arms"])
    assert told.startswith(f"Of the {n_probes} probes, {label} would have been best")
    assert "scores 1.2 pp more balanced accuracy than what inner folds chose" in told
    assert told in unescape(re.sub(r"<[^>]+>", "", render_html(summary)))
    assert "scores 1.2 pp more balanced accuracy" in markdown(summary)
    assert summary["selections"][0]["regret"] == 0.012
    assert summary["selections"][1]["regret"] is None
    assert case.summary()["choices"] == []
