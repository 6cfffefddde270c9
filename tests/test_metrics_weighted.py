"""Weighted metrics are the plain ones of tiles repeated as often as their cluster counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurebench.metrics import (
    METRICS,
    RANKED,
    costs,
    fold_values,
    ranking,
    weighted,
    weighted_metric,
    weighted_metrics,
)
from featurebench.metrics.replicates import Replicates
from featurebench.metrics.tested import number

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]


def draw(
    seed: int, n: int, n_clusters: int, n_classes: int, *, grid: int = 0
) -> tuple[Ints, Floats, Ints, Ints]:
    """Labels, probabilities, clusters and folds; folds cut across clusters."""
    rng = np.random.default_rng(seed)
    y_true = rng.integers(n_classes, size=n)
    y_prob = rng.dirichlet(np.ones(n_classes), size=n) + 0.3 * np.eye(n_classes)[y_true]
    if grid:
        y_prob = np.round(y_prob * grid) + 1e-3
    y_prob /= y_prob.sum(axis=1, keepdims=True)
    return y_true, y_prob, rng.integers(n_clusters, size=n), rng.integers(3, size=n)


def by_repeating(
    name: str, data: tuple[Ints, Floats, Ints, Ints], weights: npt.NDArray[np.integer[Any]]
) -> float:
    """The plain metric with every tile there as many times as its cluster counts."""
    y_true, y_prob, clusters, fold = data
    rows = np.repeat(np.arange(len(y_true)), weights[clusters])
    rows = rows[fold[rows] >= 0]
    parts = [rows[fold[rows] == one] for one in np.unique(fold[rows])] if name in RANKED else [rows]
    values = np.array([METRICS[name](y_true[part], y_prob[part]) for part in parts])
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


@pytest.mark.parametrize("name", METRICS)
class TestEqualsRepeatedTiles:
    @pytest.mark.parametrize("n_classes", [2, 5])
    @pytest.mark.parametrize("grid", [0, 3])
    @pytest.mark.parametrize("n_clusters", [8, 150])
    def test_bootstrap_and_jackknife(
        self, name: str, n_classes: int, grid: int, n_clusters: int
    ) -> None:
        data = draw(n_clusters + grid, 300, n_clusters, n_classes, grid=grid)
        rng = np.random.default_rng(0)
        boot = rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=6)
        jackknife = 1 - np.eye(n_clusters, dtype=np.int64)[:3]
        weights = np.vstack([boot, jackknife, np.ones((1, n_clusters), dtype=np.int64)])
        expected = [by_repeating(name, data, row) for row in weights]
        values = weighted_metric(name, *data)(weights)
        assert values == pytest.approx(np.array(expected), abs=1e-9, nan_ok=True)

    @settings(max_examples=25, deadline=None)
    @given(
        seed=st.integers(0, 10_000),
        n=st.integers(1, 14),
        n_classes=st.integers(2, 3),
        grid=st.integers(0, 2),
    )
    @pytest.mark.parametrize("tables", [False, True])
    def test_degenerate_replicates(
        self, name: str, *, tables: bool, seed: int, n: int, n_classes: int, grid: int
    ) -> None:
        data = draw(seed, n, 4, n_classes, grid=grid)
        weights = np.random.default_rng(seed).integers(3, size=(5, 4))
        weights[0] = 0
        expected = [by_repeating(name, data, row) for row in weights]
        if name in {"balanced_accuracy", "precision", "recall", "f1"}:
            y_true, _, clusters, fold = data
            occurring = set(y_true[fold >= 0])
            for place, row in enumerate(weights):
                if set(y_true[(fold >= 0) & (row[clusters] > 0)]) < occurring:
                    expected[place] = np.nan
        with pytest.MonkeyPatch.context() as patch:
            if tables:
                prefer_tables(patch)
            values = weighted_metric(name, *data)(weights)
        assert np.isnan(values[0])
        assert values == pytest.approx(np.array(expected), abs=1e-9, nan_ok=True)

    def test_tiles_that_were_not_tested_are_left_out(self, name: str) -> None:
        y_true, y_prob, clusters, fold = draw(5, 120, 10, 2)
        fold -= 1
        y_prob[fold < 0] = np.nan
        weights = np.random.default_rng(1).integers(3, size=(4, 10))
        data = (y_true, y_prob, clusters, fold)
        expected = [by_repeating(name, data, row) for row in weights]
        assert weighted_metric(name, *data)(weights) == pytest.approx(np.array(expected))

    def test_clusters_without_tested_tiles_have_columns_too(self, name: str) -> None:
        y_true, y_prob, clusters, fold = draw(6, 80, 5, 2)
        statistic = weighted_metric(name, y_true, y_prob, clusters * 3 + 1, fold)
        weights = np.random.default_rng(1).integers(3, size=(4, 20))
        dense = weighted_metric(name, y_true, y_prob, clusters, fold)(weights[:, 1:14:3])
        assert statistic(weights) == pytest.approx(dense)

    def test_chunks_do_not_matter(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        data = draw(7, 200, 12, 3)
        weights = np.random.default_rng(2).integers(4, size=(50, 12))
        whole = weighted_metric(name, *data)(weights)
        monkeypatch.setattr(weighted, "_CHUNK", 1)
        monkeypatch.setattr(ranking, "_CHUNK", 1)
        monkeypatch.setattr(ranking, "BLOCK_ROWS", 2)
        assert weighted_metric(name, *data)(weights) == pytest.approx(whole, abs=1e-12)

    def test_weights_of_another_width_are_refused(self, name: str) -> None:
        statistic = weighted_metric(name, *draw(0, 50, 6, 2))
        for weights in (np.ones((2, 5)), np.ones(6)):
            with pytest.raises(ValueError, match=r"need \(B, 6\) or wider"):
                statistic(weights)
        assert statistic(np.ones((0, 6))).shape == (0,)

    def test_fractional_weights_scale_freely(self, name: str) -> None:
        data = draw(3, 150, 9, 2)
        weights = np.random.default_rng(0).integers(1, 4, size=(3, 9))
        statistic = weighted_metric(name, *data)
        assert statistic(weights / 7) == pytest.approx(statistic(weights))


def prefer_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make passes over the tiles the way that is never chosen where tables fit."""
    for constant in ("_WIN", "_REACH", "_PRECISION"):
        monkeypatch.setattr(costs, constant, 1e9)


@pytest.mark.parametrize("scale", [1, 2**21, 0.37])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("grid", [0, 2, 9])
@pytest.mark.parametrize("name", sorted(RANKED))
def test_tables_and_passes_over_the_tiles_agree(
    name: str, grid: int, n_classes: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = draw(11, 700, 10, n_classes, grid=grid)
    weights = np.random.default_rng(0).integers(4, size=(40, 10)) * scale
    weights[0], weights[1, :9] = 0, 0
    prefer_tables(monkeypatch)
    by_table = weighted_metric(name, *data)(weights)
    monkeypatch.setattr(ranking, "_LARGEST_TABLE", 0)
    in_order = weighted_metric(name, *data)(weights)
    assert np.isnan(in_order[0])
    np.testing.assert_allclose(by_table, in_order, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", sorted(RANKED))
def test_tables_and_passes_agree_where_few_patients_have_the_class(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, y_prob, clusters, _ = draw(3, 900, 12, 3)
    fold, y_true = clusters % 2, clusters // 2 % 3
    weights = np.random.default_rng(1).multinomial(12, np.full(12, 1 / 12), size=60)
    data = (y_true, y_prob.astype(np.float32), clusters, fold)
    prefer_tables(monkeypatch)
    by_table = weighted_metric(name, *data)(weights)
    monkeypatch.setattr(ranking, "_LARGEST_TABLE", 0)
    in_order = weighted_metric(name, *data)(weights)
    assert 0 < np.isnan(in_order).sum() < 60
    np.testing.assert_allclose(by_table, in_order, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float64])
def test_all_at_once_or_one_by_one(kind: Any) -> None:
    data = draw(4, 250, 9, 3)
    weights = np.random.default_rng(5).integers(3, size=(30, 9)).astype(kind)
    together = weighted_metrics(tuple(METRICS), *data)(weights)
    assert list(together) == list(METRICS)
    for name, values in together.items():
        assert np.array_equal(values, weighted_metric(name, *data)(weights), equal_nan=True)


def test_a_certain_arm_has_precision_one_for_any_weights() -> None:
    y_true, _, clusters, fold = draw(8, 300, 6, 2)
    weights = np.random.default_rng(0).integers(1, 4, size=(10, 6))
    y_prob = np.eye(2)[y_true]
    values = weighted_metric("average_precision", y_true, y_prob, clusters, fold)(weights)
    assert values.tolist() == [1.0] * 10


def test_values_of_every_fold() -> None:
    y_true, y_prob, _, fold = draw(9, 150, 5, 3)
    fold = np.array([-2, 0, 4])[fold]
    y_true[fold == 4] = 1
    found = fold_values(tuple(METRICS), y_true, y_prob, fold)
    for name, values in found.items():
        expected = [METRICS[name](y_true[fold == one], y_prob[fold == one]) for one in (0, 4)]
        assert values == pytest.approx(np.array(expected), nan_ok=True)
        assert np.isnan(values[1]) == (name in RANKED)


def test_replicates_without_change_are_kept_once() -> None:
    weights = np.array([[1, 1], [2, 0], [1, 1], [0, 2], [1, 1]], dtype=np.float64)
    kept, places = Replicates.distinct(weights)
    assert kept.weights.T.tolist() == [[1, 1], [2, 0], [0, 2]]
    assert places.tolist() == [0, 1, 0, 2, 0]
    kept, places = Replicates.distinct(2 * weights)
    assert np.array_equal(kept.weights.T[places], 2 * weights)


@pytest.mark.parametrize("codes", [[3, 0, 3, 7], [10**9, 5, 10**9], []])
def test_numbers_without_gaps(codes: list[int]) -> None:
    found, places = number(np.array(codes, dtype=np.int64))
    expected = np.unique(np.array(codes, dtype=np.int64), return_inverse=True)
    assert found.tolist() == expected[0].tolist()
    assert places.tolist() == expected[1].tolist()


def test_negative_clusters_are_refused() -> None:
    y_true, y_prob, clusters, fold = draw(0, 10, 2, 2)
    with pytest.raises(ValueError, match="clusters include -1"):
        weighted_metric("accuracy", y_true, y_prob, clusters - 1, fold)


def test_auc_over_clusters_by_hand() -> None:
    y_true, clusters, fold = np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1]), np.zeros(4, int)
    score = np.array([0.4, 0.3, 0.2, 0.2])
    y_prob = np.stack([1 - score, score], axis=1)
    values = weighted_metric("roc_auc", y_true, y_prob, clusters, fold)([[1, 1], [2, 1], [0, 1]])
    # Wins by cluster pair: K = [[1, 1], [0, 0.5]].
    assert values.tolist() == [2.5 / 4, (4 * 1 + 2 * 1 + 0.5) / 9, 0.5]


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="unknown metric 'auc'"):
        weighted_metric("auc", *draw(0, 10, 2, 2))


def test_lengths_that_differ() -> None:
    y_true, y_prob, clusters, fold = draw(0, 10, 2, 2)
    with pytest.raises(ValueError, match="one entry per tile"):
        weighted_metric("accuracy", y_true, y_prob, clusters[:-1], fold)


def test_two_thousand_replicates_of_all_metrics_at_once() -> None:
    y_true, y_prob, clusters, _ = draw(0, 1000, 40, 2)
    fold = clusters % 5
    weights = np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), size=2000)
    values = [weighted_metric(name, y_true, y_prob, clusters, fold)(weights) for name in METRICS]
    assert np.shape(values) == (len(METRICS), 2000)
    assert np.isfinite(values).all()
