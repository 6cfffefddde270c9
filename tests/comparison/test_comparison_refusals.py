"""What compare() refuses, and in what words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from comparison_cases import Cohort, arm, draw_results

from featurebench.comparison import compare
from featurebench.errors import ConfigError, ResultsError

RESULTS = draw_results([arm("a+logistic"), arm("a+knn")], Cohort(n_patients=8, n_folds=2))


def _with_second(**changes: Any) -> Any:
    return replace(RESULTS, runs=(RESULTS.runs[0], replace(RESULTS.runs[1], **changes)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plan_id": "feed" * 4}, r"'a\+knn' was run on plan feed.*not on 0123456789abcdef"),
        ({"classes": ("a", "z")}, r"'a\+knn' has classes 'a', 'z'.*'a', 'b'"),
        ({"y_prob": RESULTS.runs[1].y_prob[:, 1:]}, r"'a\+knn' has predictions of shape"),
        ({"y_prob": RESULTS.runs[1].y_prob[:0]}, r"'a\+knn' has predictions of shape"),
        ({"arm": "a+logistic"}, r"'a\+logistic' occur more than once"),
    ],
)
def test_runs_that_do_not_belong_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ResultsError, match=message):
        compare(_with_second(**changes))


def test_tested_tiles_without_a_prediction_are_counted() -> None:
    y_prob = RESULTS.runs[1].y_prob.copy()
    y_prob[1, 3:5] = np.nan
    with pytest.raises(ResultsError, match=r"'a\+knn' lacks predictions for 2 .*in repeat 1"):
        compare(_with_second(y_prob=y_prob))


def test_no_runs_and_no_test_tiles() -> None:
    with pytest.raises(ResultsError, match="no runs to compare"):
        compare(replace(RESULTS, runs=()))
    untested = replace(RESULTS, test_fold=np.full_like(RESULTS.test_fold, -1))
    with pytest.raises(ResultsError, match="tests no tile"):
        compare(untested)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"metric": "balanced_acuracy"}, ResultsError, "did you mean 'balanced_accuracy'"),
        ({"metric": "zzz"}, ResultsError, "choose from 'accuracy', "),
        ({"reference": "a+logistics"}, ResultsError, r"did you mean 'a\+logistic'"),
        ({"margin": -0.1}, ConfigError, "margin is -0.1"),
        ({"margin": float("nan")}, ConfigError, "margin is nan"),
        (
            {"floor": 80},
            ConfigError,
            "floor is 80: give a value of balanced_accuracy between 0 and 1",
        ),
        ({"floor": 1.0}, ConfigError, "floor is 1.0"),
        ({"metric": "log_loss", "floor": 0}, ConfigError, "floor is 0: .* log_loss above 0"),
        ({"alpha": 5.0}, ConfigError, "alpha is 5.0"),
        ({"n_boot": 0}, ConfigError, "n_boot is 0"),
    ],
)
def test_settings_that_cannot_be_used(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        compare(RESULTS, **settings)


def test_the_reference_is_the_first_probe_in_order_whatever_the_scores() -> None:
    arms = [arm("dummy", "baseline"), arm("weak", signal=0.1), arm("strong", signal=3.0)]
    assert compare(draw_results(arms), n_boot=10).reference == "weak"
    tuned = [arm("one", "finetune"), arm("two", "finetune")]
    assert compare(draw_results(tuned), n_boot=10).reference == "one"
    assert compare(draw_results(arms), n_boot=10, reference="dummy").reference == "dummy"
