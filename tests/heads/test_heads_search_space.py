"""Spaces and plans are taken as a file writes them, or refused in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from sklearn.model_selection import KFold
from sklearn.naive_bayes import GaussianNB

from featurebench.errors import ConfigError
from featurebench.heads.boosting import LightGBMProbe, XGBoostProbe
from featurebench.heads.discriminant import LdaProbe
from featurebench.heads.forest import ForestProbe
from featurebench.heads.mlp import MlpProbe
from featurebench.heads.neighbours import KnnProbe
from featurebench.heads.ridge import RidgeProbe
from featurebench.heads.search import DEFAULT_SPACES, Range, SearchedHead, SearchPlan, parse_space
from featurebench.heads.search.space import check_space
from featurebench.heads.svm import LinearSvmProbe, RbfSvmProbe


@pytest.mark.parametrize(
    ("space", "method", "message"),
    [
        ({"prior": [1]}, "tpe", "GaussianNB has no 'prior': did you mean 'priors'"),
        ({"unheard": [1]}, "tpe", "it has priors, var_smoothing"),
        ({"random_state": [0, 1]}, "tpe", "'random_state' is set by featurebench"),
        ({"priors": {"low": 0.1, "high": 1}}, "grid", "'priors' is a range; a grid needs"),
        ({}, "tpe", "the space is empty"),
        ({"priors": []}, "tpe", r"priors: \[\] is no list of values"),
        ({"priors": 3}, "tpe", "priors: 3 is no list of values"),
        ({"priors": {"low": 1}}, "tpe", "priors: high is None: use a number"),
        ({"priors": {"low": "1e-3", "high": 1}}, "tpe", "low is '1e-3': use a number"),
        ({"priors": {"low": 1, "hihg": 2}}, "tpe", "unknown key 'hihg': did you mean 'high'"),
        ({"priors": {"low": 2, "high": 1}}, "tpe", "low 2 is above high 1"),
        ({"priors": {"low": 0, "high": 1, "log": True}}, "tpe", "low 0 has no logarithm"),
        ({"priors": {"low": 1, "high": 9, "log": True, "step": 2}}, "tpe", "log and step 2"),
        ({"priors": {"low": 1, "high": 9, "step": 0}}, "tpe", "step 0 goes nowhere"),
        ({"priors": {"low": 1.5, "high": 9, "int": True}}, "tpe", "needs whole numbers"),
        ({"priors": {"low": 1, "high": 9, "log": "yes"}}, "tpe", "log is 'yes': use true or"),
        ({"features": [["standardize"]]}, "tpe", "did you mean 'standardise'"),
    ],
)
def test_a_space_that_cannot_be_used(space: dict[str, Any], method: Any, message: str) -> None:
    X, y = np.arange(12.0)[:, None], np.tile([0, 1], 6)
    cv = list(KFold(2).split(X))
    with pytest.raises(ConfigError, match=message):
        SearchedHead(GaussianNB(), space, method=method, cv=cv).fit(X, y)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"low": 1, "high": 9}, Range(1, 9, is_int=True)),
        ({"low": 1, "high": 9, "int": False}, Range(1, 9)),
        ({"low": 1.0, "high": 9}, Range(1.0, 9)),
        ({"low": 1, "high": 9, "step": 3}, Range(1, 7, step=3, is_int=True)),
        ({"low": 0.0, "high": 1.0, "step": 0.4}, Range(0.0, 0.8, step=0.4)),
        ({"low": 1, "high": 64, "log": True}, Range(1, 64, log=True, is_int=True)),
    ],
)
def test_ranges_as_a_file_writes_them(written: dict[str, Any], expected: Range) -> None:
    (found,) = parse_space({"x": written}).values()
    assert found == expected
    sampled = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    values: list[Any] = [expected.suggest(sampled.ask(), "x") for _ in range(20)]
    for value in values:
        assert isinstance(value, int if expected.is_int else float)
        assert expected.encode(value) == value
    if expected.log:
        # Half of the numbers lie below the geometric mean of the ends.
        assert 6 <= sum(value < np.sqrt(expected.low * expected.high) for value in values) <= 14


def test_what_lies_outside_a_space_is_known() -> None:
    space = parse_space({"x": {"low": 1, "high": 9, "step": 2}, "y": [None, True, (1, 2), "sqrt"]})
    assert [space["x"].encode(v) for v in (3, 3.0, 4, 11, None, True)] == [3, 3, None, None] + [
        None
    ] * 2
    assert [space["y"].encode(v) for v in (None, True, 1, [1, 2])] == [0, 1, None, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "bayes"}, "method 'bayes' is unknown: use one of tpe, random, grid"),
        ({"rule": "bets"}, "rule 'bets' is unknown: use one of best, one_se"),
        ({"trials": 0}, "trials is 0: use a whole number from 1"),
        ({"trials": 2.5}, r"trials is 2\.5"),
        ({"seconds": 0}, "seconds is 0: use a number above 0"),
        ({"seconds": float("inf")}, "seconds is inf"),
        ({"seconds": True}, "seconds is True"),
        ({"trials": None}, "tpe ends by trials or by seconds: give one"),
    ],
)
def test_a_plan_that_cannot_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SearchPlan(**settings)


@pytest.mark.parametrize("name", DEFAULT_SPACES)
def test_default_spaces_can_be_searched(name: str) -> None:
    space = parse_space(DEFAULT_SPACES[name])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    params = {key: parameter.suggest(study.ask(), key) for key, parameter in space.items()}
    for key, value in params.items():
        assert space[key].encode(value) is not None


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("ridge", RidgeProbe()),
        ("lda", LdaProbe()),
        ("knn", KnnProbe()),
        ("linear_svm", LinearSvmProbe()),
        ("rbf_svm", RbfSvmProbe()),
        ("mlp", MlpProbe()),
        ("random_forest", ForestProbe()),
        ("xgboost", XGBoostProbe()),
        ("lightgbm", LightGBMProbe()),
    ],
)
def test_default_spaces_fit_their_heads(name: str, head: Any) -> None:
    check_space(parse_space(DEFAULT_SPACES[name]), head, "tpe")
