"""Boosted trees and the forest give what their libraries give, by the parameters of these."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.utils.class_weight import compute_sample_weight
from xgboost import XGBClassifier

from featurebench.heads.boosting import LightGBMProbe, XGBoostProbe
from featurebench.heads.forest import ForestProbe

Data = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
boosted = pytest.mark.parametrize("probe", [LightGBMProbe, XGBoostProbe])


@pytest.fixture(scope="module", params=[2, 3])
def data(request: pytest.FixtureRequest) -> Data:
    rng = np.random.default_rng(0)
    y = rng.integers(0, request.param, 200)
    X = rng.normal(size=(200, 160)).astype(np.float32)
    X[:, :3] += np.eye(3, dtype=np.float32)[y]
    return X, y


def test_lightgbm_equals_its_estimator(data: Data) -> None:
    X, y = data
    params: dict[str, Any] = {"subsample": 0.7, "subsample_freq": 1, "reg_lambda": 2.0}
    probe = LightGBMProbe(
        n_estimators=20, early_stopping_rounds=None, class_weight="balanced", **params
    )
    reference = lightgbm.LGBMClassifier(
        n_estimators=20,
        num_leaves=15,
        min_child_samples=10,
        colsample_bytree=0.4,
        random_state=0,
        n_jobs=1,
        verbosity=-1,
        deterministic=True,
        force_row_wise=True,
        **params,
    )
    expected = reference.fit(X, y, sample_weight=compute_sample_weight("balanced", y))
    np.testing.assert_allclose(
        probe.fit(X, y).predict_proba(X), np.asarray(expected.predict_proba(X)), atol=1e-12
    )


def test_xgboost_equals_its_estimator(data: Data) -> None:
    X, y = data
    probe = XGBoostProbe(
        n_estimators=20, early_stopping_rounds=None, class_weight="balanced", gamma=0.2
    )
    reference = XGBClassifier(
        n_estimators=20,
        learning_rate=0.1,
        max_depth=4,
        max_bin=64,
        subsample=0.8,
        colsample_bytree=0.4,
        gamma=0.2,
        tree_method="hist",
        random_state=0,
        n_jobs=1,
    )
    reference.fit(X, y, sample_weight=compute_sample_weight("balanced", y))
    expected = reference.predict_proba(X)
    np.testing.assert_array_equal(probe.fit(X, y).predict_proba(X), expected)


def test_forest_equals_its_estimator(data: Data) -> None:
    X, y = data
    probe = ForestProbe(n_estimators=20, max_depth=4, class_weight="balanced").fit(X, y)
    reference = RandomForestClassifier(
        n_estimators=20, max_depth=4, min_samples_leaf=2, random_state=0, class_weight="balanced"
    )
    np.testing.assert_allclose(
        probe.predict_proba(X), reference.fit(X, y).predict_proba(X), atol=1e-12
    )


@boosted
def test_threads_do_not_change_the_result(
    probe: type[LightGBMProbe | XGBoostProbe], data: Data
) -> None:
    X, y = data
    cv = [(np.arange(0, 120), np.arange(120, 200))]
    one, two = (probe(n_estimators=2, max_depth=2, cv=cv, n_jobs=n).fit(X, y) for n in (1, 2))
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))
    assert one.choices_ == two.choices_


@boosted
def test_nothing_is_printed(
    probe: type[LightGBMProbe | XGBoostProbe], data: Data, capfd: pytest.CaptureFixture[str]
) -> None:
    X, y = data
    cv = [(np.arange(0, 120), np.arange(120, 200))]
    probe(n_estimators=5, cv=cv).fit(X, y).predict(X)
    probe(n_estimators=5, early_stopping_rounds=None).fit(np.ones((8, 2)), [0, 1] * 4)
    assert capfd.readouterr() == ("", "")


def test_parameters_of_the_library_are_parameters() -> None:
    probe = XGBoostProbe(max_leaves=7, colsample_bylevel=0.5)
    assert clone(probe).get_params()["max_leaves"] == 7
    assert probe.set_params(max_leaves=9, reg_alpha=1.0).get_params()["reg_alpha"] == 1.0
    assert LightGBMProbe(max_bin=63, path_smooth=1.0).get_params()["max_bin"] == 63
    assert ForestProbe(max_features=0.1).get_params()["max_features"] == 0.1
    for cls, reference in (
        (LightGBMProbe, lightgbm.LGBMClassifier()),
        (XGBoostProbe, XGBClassifier()),
        (ForestProbe, RandomForestClassifier()),
    ):
        probe = cls()
        assert set(reference.get_params()) <= set(probe.get_params()) | probe._withheld


def test_lightgbm_bins_by_its_own_parameter(data: Data) -> None:
    X, y = data
    probe = LightGBMProbe(n_estimators=30, early_stopping_rounds=None, max_bin=2).fit(X, y)
    table = probe.fitted_.model.booster.trees_to_dataframe()  # type: ignore[attr-defined]
    thresholds = table.dropna(subset="threshold").groupby("split_feature")["threshold"].nunique()
    assert thresholds.max() == 1


@pytest.mark.parametrize(
    ("probe", "typo", "meant"),
    [
        (LightGBMProbe, "num_leafs", "num_leaves"),
        (LightGBMProbe, "min_split_gains", "min_split_gain"),
        (XGBoostProbe, "max_leavs", "max_leaves"),
        (ForestProbe, "max_dept", "max_depth"),
    ],
)
def test_a_typo_is_answered_with_what_was_meant(probe: type, typo: str, meant: str) -> None:
    with pytest.raises(TypeError, match=f"no parameter {typo!r}: did you mean {meant!r}"):
        probe(**{typo: 3})


@boosted
def test_few_columns_to_a_tree(probe: type[LightGBMProbe | XGBoostProbe]) -> None:
    head = probe()
    assert [head._column_share(n) for n in (12, 64, 128, 1280, 20_000)] == [1, 1, 0.5, 0.1, 0.1]
    assert probe(colsample_bytree=0.3)._column_share(12) == 0.3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@boosted
def test_a_device_that_is_not_there(probe: type[LightGBMProbe | XGBoostProbe], data: Data) -> None:
    X, y = data
    with pytest.raises(ValueError, match=r"device 'cuda'.*[uU]se cpu"):
        probe(n_estimators=2, early_stopping_rounds=None, device="cuda").fit(X, y)
