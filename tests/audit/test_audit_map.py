"""The map of an embedding: exact components, a sample with the classes' shares."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from featurebench.audit import map_embedding
from featurebench.audit.embedding_map import has_umap, sample_rows


def test_coordinates_are_those_of_pca() -> None:
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(300, 40)) * np.geomspace(5, 0.1, 40)) @ rng.normal(size=(40, 40)) + 7
    found = map_embedding(X, np.arange(300) % 2)
    reference = PCA(2, svd_solver="full").fit(X)
    wanted = reference.transform(X)
    for axis in (0, 1):
        sign = np.sign(np.dot(found.xy[:, axis], wanted[:, axis]))
        np.testing.assert_allclose(sign * found.xy[:, axis], wanted[:, axis], rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(found.explained, reference.explained_variance_ratio_, rtol=1e-4)
    assert found.rows.tolist() == list(range(300))


def test_sample_has_the_classes_shares_and_is_the_same_every_time() -> None:
    labels = np.repeat([0, 1, 2], [9000, 900, 3])
    rows = sample_rows(labels, 3000, seed=4)
    assert len(rows) <= 3000
    assert np.unique(labels[rows], return_counts=True)[1].tolist() == [2726, 272, 1]
    assert (np.diff(rows) > 0).all()
    assert sample_rows(labels, 3000, seed=4).tolist() == rows.tolist()
    assert sample_rows(labels, 3000, seed=5).tolist() != rows.tolist()


def test_rows_of_the_sample_are_mapped() -> None:
    X = np.random.default_rng(0).normal(size=(5000, 6)).astype(np.float16)
    found = map_embedding(X, np.arange(5000) % 2, most=100)
    again = map_embedding(X[found.rows], np.arange(len(found.rows)) % 2)
    np.testing.assert_allclose(found.xy, again.xy)


def test_one_column_leaves_the_second_axis_empty() -> None:
    found = map_embedding(np.arange(10.0)[:, None], np.zeros(10, dtype=np.int64))
    np.testing.assert_allclose(found.explained, (1.0, 0.0))
    assert (found.xy[:, 1] == 0).all()


@pytest.mark.skipif(has_umap(), reason="umap-learn is installed")
def test_umap_without_its_package_is_refused() -> None:
    with pytest.raises(ValueError, match="umap-learn is not installed: pip install"):
        map_embedding(np.eye(5), np.zeros(5, dtype=np.int64), method="umap")
