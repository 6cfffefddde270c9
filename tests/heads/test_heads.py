"""make_head(): heads by name, with parameters that are checked."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import featurebench.heads
from featurebench.errors import ConfigError
from featurebench.heads import HEADS, make_head


def test_names_and_parameters_are_checked() -> None:
    with pytest.raises(ConfigError, match="unknown head 'logisitc': did you mean 'logistic'"):
        make_head("logisitc")
    with pytest.raises(ConfigError, match="unknown head 'q': use one of logistic, ridge, lda"):
        make_head("q")
    with pytest.raises(ConfigError, match="head 'knn' has no parameter 'q': it has class_weight"):
        make_head("knn", q=3)


@pytest.mark.parametrize(
    ("name", "typo", "meant"),
    [
        ("logistic", "max_itr", "max_iter"),
        ("ridge", "alpha", "alphas"),
        ("lda", "shrinkages", "shrinkage"),
        ("centroid", "temprature", "temperature"),
        ("mlp", "droput", "dropout"),
        ("xgboost", "max_dept", "max_depth"),
        ("lightgbm", "num_leafs", "num_leaves"),
        ("random_forest", "n_estimator", "n_estimators"),
        ("linear_svm", "feature", "features"),
        ("dummy", "stratgy", "strategy"),
    ],
)
def test_a_typo_is_answered_with_what_was_meant(name: str, typo: str, meant: str) -> None:
    message = f"head {name!r} has no parameter {typo!r}: did you mean {meant!r}"
    params: dict[str, Any] = {typo: 1}
    with pytest.raises(ConfigError) as error:
        make_head(name, **params)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "given"),
    [("xgboost", "n_jobs"), ("knn", "n_jobs"), ("mlp", "random_state"), ("logistic", "cv")],
)
def test_what_featurebench_sets_is_not_to_be_set(name: str, given: str) -> None:
    params: dict[str, Any] = {given: 8}
    with pytest.raises(ConfigError, match=f"{given!r} is set by featurebench; leave it out"):
        make_head(name, **params)


def test_seed_threads_and_device_reach_the_heads_that_take_them() -> None:
    head = make_head("xgboost", seed=5, threads=2, device="cuda")
    params = head.get_params()
    assert (params["random_state"], params["n_jobs"], params["device"]) == (5, 2, "cuda")
    assert "random_state" not in make_head("lda", seed=5).get_params()


def test_parameters_override_defaults() -> None:
    assert make_head("xgboost", max_depth=2).get_params()["max_depth"] == 2
    assert make_head("knn").metric == "cosine"
    assert make_head("knn", metric="euclidean").metric == "euclidean"
    assert make_head("dummy").strategy == "prior"
    assert make_head("dummy", strategy="uniform").strategy == "uniform"


@pytest.mark.parametrize("name", [name for name in HEADS if name != "dummy"])
def test_feature_steps_come_in_their_one_written_form(name: str) -> None:
    assert make_head(name, features=["l2", {"pca": 8}]).features == ("l2", "pca:8")
    assert make_head(name, features="none").features == ()
    with pytest.raises(ConfigError, match="did you mean 'standardise'"):
        make_head(name, features="standardize")


def test_dummy_gives_the_class_shares() -> None:
    X, y = np.zeros((60, 2)), np.repeat([0, 1], [40, 20])
    np.testing.assert_allclose(
        make_head("dummy").fit(X, y).predict_proba(X[:2]), [[2 / 3, 1 / 3]] * 2
    )


@pytest.mark.parametrize("name", HEADS)
def test_a_head_shows_its_parameters(name: str) -> None:
    assert type(make_head(name)).__name__ in repr(make_head(name))


def test_public_names_are_there() -> None:
    assert set(dir(featurebench.heads)) == set(featurebench.heads.__all__)
    for name in featurebench.heads.__all__:
        assert getattr(featurebench.heads, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'KnnHead'"):
        _ = featurebench.heads.KnnHead


def test_linear_heads_load_no_heavy_library() -> None:
    code = (
        "import sys; from featurebench.heads import make_head; "
        "[make_head(name) for name in ('logistic', 'ridge', 'lda', 'knn', 'centroid', 'mlp')]; "
        "heavy = {'torch', 'xgboost', 'lightgbm', 'optuna'} & set(sys.modules); "
        "print(*sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
