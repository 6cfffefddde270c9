"""The best arm of a kind is chosen by inner folds, and no test score can change the choice."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from featurebench.comparison.model import Selection
from featurebench.comparison.selection import (
    describe_choice,
    inner_scores,
    select,
    with_regret,
)
from featurebench.errors import ResultsError
from featurebench.metrics import METRICS, score_folds
from featurebench.results import Cost, FoldScore, ResultsTable, RunResult

N_TILES, N_FOLDS = 12, 3
Y = np.arange(N_TILES) % 2
Inner = list[list[float | None]]


def table(n_repeats: int = 2) -> npt.NDArray[np.int16]:
    """Every repeat tests the tiles in another order."""
    folds = np.arange(N_TILES) // (N_TILES // N_FOLDS)
    return np.stack([np.roll(folds, r) for r in range(n_repeats)]).astype(np.int16)


def entries(inner: Inner, metric: str = "accuracy") -> list[dict[str, Any]]:
    """Entries of ``details["inner"]``, one list of folds for each repeat."""
    return [
        {"repeat": r, "fold": f, "n": 4, "scores": dict.fromkeys(METRICS) | {metric: value}}
        for r, of_repeat in enumerate(inner)
        for f, value in enumerate(of_repeat)
    ]


def arm(
    name: str,
    inner: Inner | None,
    *,
    right: float = 0.7,
    n_repeats: int = 2,
    metric: str = "accuracy",
    **changed: Any,
) -> RunResult:
    """Draw a run that gives the true class the probability ``right``, so that arms differ."""
    y_prob = np.full((n_repeats, N_TILES, 2), 1 - right, dtype=np.float32)
    y_prob[:, np.arange(N_TILES), Y] = right
    scores = score_folds(Y, y_prob, table(n_repeats))
    described: dict[str, Any] = {
        "arm": name,
        "kind": "probe",
        "embedding": f"{name}@00000000",
        "head": "logistic",
        "strategy": None,
        "params": {},
        "fingerprint": "f",
        "plan_id": "p",
        "seed": 4,
        "classes": ("a", "b"),
        "y_prob": y_prob,
        "scores": tuple(FoldScore(*row) for row in scores),
        "cost": Cost(wall_s=10.0, cpu_s=20.0, peak_memory_mb=100.0),
        "details": {} if inner is None else {"inner": entries(inner, metric)},
    }
    return RunResult(**described | changed)


def chosen_rows(run: RunResult, runs: dict[str, RunResult], picks: list[list[str]]) -> None:
    """Hold every tested row against that of the arm picked for its fold."""
    for repeat, of_repeat in enumerate(picks):
        for fold, name in enumerate(of_repeat):
            rows = table()[repeat] == fold
            np.testing.assert_array_equal(
                run.y_prob[repeat, rows], runs[name].y_prob[repeat, rows], err_msg=name
            )


class TestChoice:
    def test_follows_inner_scores_though_test_scores_say_otherwise(self) -> None:
        good_inside = arm("a", [[0.9, 0.9, 0.9]] * 2, right=0.2)
        good_outside = arm("b", [[0.8, 0.8, 0.8]] * 2, right=0.99)
        run, selection = select(
            [good_outside, good_inside], "probe", metric="accuracy", test_fold=table()
        )
        assert run is good_inside
        assert (selection.kind, selection.arm, selection.not_chosen) == ("probe", "a", "")
        assert selection.chosen == {"a": 6}

    def test_is_made_fold_by_fold(self) -> None:
        a = arm("a", [[0.9, 0.5, 0.7], [0.6, 0.6, 0.9]], right=0.6)
        b = arm("b", [[0.8, 0.6, 0.6], [0.7, 0.5, 0.8]], right=0.8)
        run, selection = select([a, b], "probe", metric="accuracy", test_fold=table())
        picks = [["a", "b", "a"], ["b", "a", "a"]]
        chosen_rows(run, {"a": a, "b": b}, picks)
        assert selection.arm == run.arm == "best probe"
        assert selection.chosen == {"a": 4, "b": 2}
        told = [[f["arm"] for f in run.details["folds"] if f["repeat"] == r] for r in range(2)]
        assert told == picks
        expected = [FoldScore(*row) for row in score_folds(Y, run.y_prob, table())]
        assert sorted(map(repr, run.scores)) == sorted(map(repr, expected))
        np.testing.assert_array_equal(
            inner_scores(run, "accuracy"), [[0.9, 0.6, 0.7], [0.7, 0.6, 0.9]]
        )

    def test_no_test_score_and_no_label_can_change_it(self) -> None:
        inner: list[Inner] = [[[0.9, 0.5, 0.7]] * 2, [[0.8, 0.6, 0.6]] * 2]
        runs = [arm(name, own) for name, own in zip("ab", inner, strict=True)]
        _, honest = select(runs, "probe", metric="accuracy", test_fold=table())
        rng = np.random.default_rng(0)
        for _ in range(5):
            poisoned = [
                dataclasses.replace(
                    run,
                    y_prob=rng.random(run.y_prob.shape, dtype=np.float32),
                    scores=tuple(dataclasses.replace(s, value=rng.random()) for s in run.scores),
                )
                for run in runs
            ]
            _, found = select(poisoned, "probe", metric="accuracy", test_fold=table())
            assert found == honest

    @pytest.mark.parametrize(("metric", "best"), [("log_loss", "low"), ("roc_auc", "high")])
    def test_goes_in_the_metrics_direction(self, metric: str, best: str) -> None:
        low = arm("low", [[0.1] * 3] * 2, metric=metric)
        high = arm("high", [[0.4] * 3] * 2, metric=metric)
        run, _ = select([low, high], "probe", metric=metric, test_fold=table())
        assert run.arm == best

    def test_of_equals_the_first_declared_is_taken(self) -> None:
        first, second = arm("z", [[0.8] * 3] * 2), arm("a", [[0.8] * 3] * 2)
        run, selection = select([first, second], "probe", metric="accuracy", test_fold=table())
        assert run is first
        assert selection.chosen == {"z": 6}

    def test_an_undefined_score_loses_even_to_the_worst(self) -> None:
        holes = arm("a", [[None, 0.9, None], [0.9, 0.9, None]])
        poor = arm("b", [[0.1, 0.1, None], [0.1, 0.1, 0.1]])
        run, selection = select([holes, poor], "probe", metric="accuracy", test_fold=table())
        chosen_rows(run, {"a": holes, "b": poor}, [["b", "a", "a"], ["a", "a", "b"]])
        assert selection.chosen == {"a": 4, "b": 2}

    def test_for_a_loss_the_undefined_loses_too(self) -> None:
        holes = arm("a", [[None, 0.2, 0.2]] * 2, metric="brier")
        poor = arm("b", [[9.0, 9.0, 9.0]] * 2, metric="brier")
        _, selection = select([holes, poor], "probe", metric="brier", test_fold=table())
        assert selection.chosen == {"a": 4, "b": 2}

    def test_looks_at_one_kind_only(self) -> None:
        probe = arm("p", [[0.5] * 3] * 2)
        tuned = arm("t", [[0.9] * 3] * 2, kind="finetune")
        base = arm("d", None, kind="baseline")
        runs = [base, tuned, probe]
        assert select(runs, "probe", metric="accuracy", test_fold=table())[0] is probe
        run, selection = select(runs, "finetune", metric="accuracy", test_fold=table())
        assert run is tuned
        assert (selection.kind, selection.chosen) == ("finetune", {"t": 6})


class TestWithoutChoice:
    def test_a_single_candidate_needs_no_inner_scores(self) -> None:
        only = arm("a", None)
        run, selection = select([only], "probe", metric="accuracy", test_fold=table())
        assert run is only
        assert (selection.arm, selection.chosen, selection.not_chosen) == ("a", {"a": 6}, "")

    @pytest.mark.parametrize(
        ("inner", "remedy"),
        [
            (None, "b has no scores on inner folds .*: delete the folder of its run"),
            ([{"n": 0, "reason": ""}], "set validation_fraction above 0"),
            ([{"n": 0, "reason": "3 patients are too few; add patients"}], "too few; add patients"),
            ([{"n": 4, "reason": ""}], "accuracy was not kept or is undefined"),
        ],
    )
    def test_a_candidate_without_scores_ends_it_with_a_reason(
        self, inner: list[dict[str, Any]] | None, remedy: str
    ) -> None:
        details = {}
        if inner is not None:
            scores = dict.fromkeys(METRICS)
            details = {"inner": [{"repeat": 0, "fold": 0, "scores": scores, **e} for e in inner]}
        a, c = arm("a", [[0.1] * 3] * 2), arm("c", [[0.9] * 3] * 2)
        b = arm("b", None, details=details)
        run, selection = select([a, b, c], "probe", metric="accuracy", test_fold=table())
        assert run is a
        assert (selection.arm, dict(selection.chosen)) == ("a", {})
        assert selection.not_chosen.startswith("b has no scores on inner folds (")
        assert selection.not_chosen.endswith(").")
        assert "\n" not in selection.not_chosen
        assert re.search(remedy, selection.not_chosen)

    def test_scores_in_another_metric_do_not_count(self) -> None:
        runs = [arm(name, [[0.5] * 3] * 2, metric="brier") for name in "ab"]
        _, selection = select(runs, "probe", metric="accuracy", test_fold=table())
        assert "choose another metric" in selection.not_chosen

    def test_nothing_to_choose_from_is_refused(self) -> None:
        runs = [arm("a", None)]
        with pytest.raises(ResultsError, match="no run is a finetune"):
            select(runs, "finetune", metric="accuracy", test_fold=table())
        with pytest.raises(ResultsError, match="metric 'acuracy' is unknown"):
            select(runs, "probe", metric="acuracy", test_fold=table())


class TestRepeats:
    def test_are_those_that_all_candidates_have(self) -> None:
        long = arm("long", [[0.9, 0.5, 0.5], [0.9, 0.9, 0.9]])
        short = arm("short", [[0.5, 0.6, 0.6]], n_repeats=1, cost=Cost(wall_s=7.0))
        run, selection = select([long, short], "probe", metric="accuracy", test_fold=table())
        assert run.y_prob.shape == (1, N_TILES, 2)
        assert selection.chosen == {"long": 1, "short": 2}
        assert {each.repeat for each in run.scores} == {0}
        assert run.cost.wall_s == pytest.approx(10.0 / 2 + 7.0)

    def test_an_arm_chosen_everywhere_keeps_its_own(self) -> None:
        long = arm("long", [[0.9] * 3, [0.1] * 3])
        short = arm("short", [[0.5] * 3], n_repeats=1)
        run, selection = select([short, long], "probe", metric="accuracy", test_fold=table())
        assert run is long
        assert run.n_repeats == 2
        assert selection.chosen == {"long": 3}

    def test_scores_of_later_repeats_alone_are_none(self) -> None:
        long = arm("long", [[None] * 3, [0.9] * 3])
        short = arm("short", [[0.5] * 3], n_repeats=1)
        _, selection = select([short, long], "probe", metric="accuracy", test_fold=table())
        assert selection.not_chosen.startswith("long has no scores")


class TestHoldOut:
    def test_has_one_choice_and_leaves_untested_rows_alone(self) -> None:
        folds = np.full((1, N_TILES), -1, dtype=np.int16)
        folds[0, :4], folds[0, 4:8] = 0, -2
        runs = []
        for name, score in (("a", 0.4), ("b", 0.6)):
            run = arm(name, [[score]], n_repeats=1)
            run.y_prob[0, 4:] = np.nan
            runs.append(run)
        run, selection = select(runs, "probe", metric="accuracy", test_fold=folds)
        assert run is runs[1]
        assert selection.chosen == {"b": 1}

    def test_rows_that_are_not_tested_stay_nan_in_what_is_put_together(self) -> None:
        folds = table()
        folds[:, :2] = -1
        a = arm("a", [[0.9, 0.1, 0.1]] * 2)
        b = arm("b", [[0.5, 0.5, 0.5]] * 2)
        run, _ = select([a, b], "probe", metric="accuracy", test_fold=folds)
        assert np.isnan(run.y_prob[:, :2]).all()
        assert np.isfinite(run.y_prob[:, 2:]).all()


class TestPutTogether:
    def test_costs_all_that_was_tried_and_shared_embeddings_once(self) -> None:
        shared, own = Cost(wall_s=100.0, peak_memory_mb=9.0), Cost(wall_s=30.0)
        old = Cost(wall_s=5.0)
        a = arm("a", [[0.9, 0.1, 0.1]] * 2, embedding_costs={"e": shared}, extraction_cost=shared)
        b = arm(
            "b",
            [[0.5, 0.5, 0.5]] * 2,
            embedding_costs={"e": shared, "flip": own},
            extraction_cost=shared + own,
            cost=Cost(wall_s=1.0, peak_memory_mb=500.0, trials=8),
            device="cuda",
        )
        never = arm("never", [[0.0] * 3] * 2, embedding="before", extraction_cost=old)
        run, selection = select([a, b, never], "probe", metric="accuracy", test_fold=table())
        assert selection.chosen == {"a": 2, "b": 4}
        assert (run.cost.wall_s, run.cost.peak_memory_mb, run.cost.trials) == (21.0, 500.0, 8)
        assert run.extraction_cost.wall_s == 135.0
        assert set(run.embedding_costs) == {"e", "flip", "before"}
        assert run.params == {"candidates": ["a", "b", "never"], "chosen_by": "accuracy"}
        assert run.device == "cpu, cuda"

    def test_says_what_it_is(self) -> None:
        runs = [
            arm("a", [[0.9, 0.1, 0.1]] * 2, kind="finetune", strategy="full"),
            arm("b", [[0.5, 0.5, 0.5]] * 2, kind="finetune", strategy="scratch"),
        ]
        run, _ = select(runs, "finetune", metric="accuracy", test_fold=table())
        assert (run.arm, run.kind) == ("best fine-tune", "finetune")
        assert (run.embedding, run.head, run.strategy, run.features) == (None,) * 4
        assert (run.plan_id, run.classes, run.seed) == ("p", ("a", "b"), 4)

    def test_takes_no_name_that_an_arm_has(self) -> None:
        runs = [
            arm("best probe", [[0.9, 0.1, 0.1]] * 2),
            arm("b", [[0.5, 0.5, 0.5]] * 2),
            arm("best probe (chosen)", None, kind="baseline"),
        ]
        run, selection = select(runs, "probe", metric="accuracy", test_fold=table())
        assert run.arm == selection.arm == "best probe (chosen) (chosen)"


class TestInnerScores:
    def test_have_the_runs_shape_and_nan_where_absent(self) -> None:
        run = arm("a", [[0.9, None, 0.7]])
        np.testing.assert_array_equal(
            inner_scores(run, "accuracy"), [[0.9, np.nan, 0.7], [np.nan] * 3]
        )
        assert np.isnan(inner_scores(run, "brier")).all()
        assert inner_scores(arm("a", None), "accuracy").shape == (2, 3)

    def test_repeats_that_the_run_lacks_are_left_out(self) -> None:
        run = arm("a", [[0.1] * 3, [0.2] * 3], n_repeats=1)
        np.testing.assert_array_equal(inner_scores(run, "accuracy"), [[0.1] * 3])


class TestOlderRuns:
    def test_probes_scored_on_other_tiles_are_not_chosen_between(self) -> None:
        old, new = arm("old", [[0.9] * 3] * 2), arm("new", [[0.5] * 3] * 2)
        for entry in new.details["inner"]:
            entry["n"] = 8
        run, selection = select([new, old], "probe", metric="accuracy", test_fold=table())
        assert run is new
        assert selection.not_chosen.startswith("old was scored on fewer inner folds")
        assert "delete the folder of its run" in selection.not_chosen

    def test_runs_that_are_all_older_are_chosen_between_as_before(self) -> None:
        runs = [arm("a", [[0.5] * 3] * 2), arm("b", [[0.9] * 3] * 2)]
        assert select(runs, "probe", metric="accuracy", test_fold=table())[0] is runs[1]

    def test_fine_tunes_may_hold_back_as_many_tiles_as_their_recipe_says(self) -> None:
        runs = [arm(name, [[0.5] * 3] * 2, kind="finetune") for name in "ab"]
        runs[0].details["inner"][0]["n"] = 8
        _, selection = select(runs, "finetune", metric="accuracy", test_fold=table())
        assert selection.not_chosen == ""


class TestRegret:
    def results(self, *runs: RunResult) -> ResultsTable:
        return ResultsTable(
            runs=runs,
            failures=(),
            y_true=Y,
            classes=("a", "b"),
            tile_ids=np.arange(N_TILES).astype(str),
            patients=np.arange(N_TILES),
            test_fold=table(),
            plan_id="p",
        )

    def found(self, *runs: RunResult, metric: str = "accuracy") -> Selection:
        run, selection = select(runs, "probe", metric=metric, test_fold=table())
        return with_regret(selection, run, self.results(*runs), metric)

    def test_is_what_the_best_in_hindsight_scores_more(self) -> None:
        """The chosen arm calls four of twelve tiles right, the other all of them."""
        chosen, best = arm("a", [[0.9] * 3] * 2), arm("b", [[0.5] * 3] * 2)
        chosen.y_prob[:, :8] = chosen.y_prob[:, :8, ::-1]
        found = self.found(chosen, best)
        assert (found.arm, found.hindsight) == ("a", "b")
        assert found.regret == pytest.approx(8 / 12)

    def test_is_positive_for_losses_too(self) -> None:
        chosen = arm("a", [[0.1] * 3] * 2, right=0.6, metric="log_loss")
        best = arm("b", [[0.9] * 3] * 2, right=0.8, metric="log_loss")
        found = self.found(chosen, best, metric="log_loss")
        assert (found.arm, found.hindsight) == ("a", "b")
        assert found.regret == pytest.approx(np.log(0.8) - np.log(0.6), abs=1e-6)

    def test_is_negative_where_folds_chose_better_than_any_one_arm(self) -> None:
        a = arm("a", [[0.9, 0.1, 0.1]] * 2)
        b = arm("b", [[0.1, 0.9, 0.9]] * 2)
        for r in range(2):
            first = table()[r] == 0
            a.y_prob[r, ~first] = a.y_prob[r, ~first, ::-1]
            b.y_prob[r, first] = b.y_prob[r, first, ::-1]
        found = self.found(a, b)
        assert (found.arm, found.hindsight) == ("best probe", "b")
        assert found.regret == pytest.approx(8 / 12 - 1)

    def test_counts_only_the_repeats_that_all_candidates_have(self) -> None:
        long, short = arm("a", [[0.9] * 3] * 2), arm("b", [[0.5] * 3], n_repeats=1)
        long.y_prob[1] = long.y_prob[1, :, ::-1]
        found = self.found(long, short)
        assert (found.arm, found.hindsight, found.regret) == ("a", "a", 0.0)

    def test_is_none_without_a_choice(self) -> None:
        assert self.found(arm("a", None)).hindsight == ""
        unscored = self.found(arm("a", None), arm("b", None))
        assert (unscored.hindsight, np.isnan(unscored.regret)) == ("", True)

    @pytest.mark.parametrize(
        ("regret", "metric", "told"),
        [
            (
                0.023,
                "balanced_accuracy",
                "Of the 3 probes, B would have been best on the tiles tested: it scores 2.3 pp "
                "more balanced accuracy than what inner folds chose. Nobody could know that "
                "beforehand, and the best of several test scores is too good by chance.",
            ),
            (0.0, "f1", "Of the 3 probes, B scores best on the tiles tested, which is what inner"),
            (
                -0.1,
                "log_loss",
                "Of the 3 probes, B scores best on the tiles tested; what inner folds chose, fold "
                "by fold, scores 0.100 less log loss than it.",
            ),
        ],
    )
    def test_is_told_in_words(self, regret: float, metric: str, told: str) -> None:
        selection = Selection("probe", "a", {"a": 6}, hindsight="b", regret=regret)
        assert describe_choice(selection, {"b": "B"}, metric, 3).startswith(told)

    def test_nothing_is_told_without_it(self) -> None:
        assert describe_choice(Selection("probe", "a", {"a": 6}), {}, "f1", 1) == ""
