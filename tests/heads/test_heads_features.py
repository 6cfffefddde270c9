"""Feature steps: how they are written, and that they are scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from featurebench.errors import ConfigError
from featurebench.heads import make_features, parse_features
from featurebench.heads.features import l2_normalise, split_features
from featurebench.heads.rows import RowSource

Floats = npt.NDArray[np.float64]


@pytest.fixture
def X() -> Floats:
    rng = np.random.default_rng(0)
    found: Floats = rng.normal(size=(30, 6)) @ rng.normal(size=(6, 6)) + 3
    return found


@pytest.mark.parametrize(
    ("written", "parsed"),
    [
        (None, ()),
        ("none", ()),
        ([], ()),
        ("l2", ("l2",)),
        ("standardise", ("standardise",)),
        ("pca:8", ("pca:8",)),
        ({"pca": 8}, ("pca:8",)),
        (["l2", {"pca": 64}, "standardise"], ("l2", "pca:64", "standardise")),
        (("l2", "l2"), ("l2", "l2")),
    ],
)
def test_one_written_form(written: object, parsed: tuple[str, ...]) -> None:
    assert parse_features(written) == parsed
    assert parse_features(parsed) == parsed


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("standardize", "unknown step 'standardize': did you mean 'standardise'"),
        (["L2"], "unknown step 'L2'"),
        ("whiten", "use standardise, l2 or pca: k"),
        ("pca", "'pca' needs a number of components, such as pca: 64"),
        ("pca:0", "'pca:0' needs a number of components"),
        ("pca:-3", "'pca:-3' needs a number of components"),
        ({"pca": 1.5}, "'pca:1.5' needs a number of components"),
        ({"pca": None}, "'pca:None' needs a number of components"),
        ([{"pca": 4, "l2": 1}], "unknown step"),
        (7, "7 is no list of steps"),
        ([None], "unknown step 'None'"),
    ],
)
def test_other_forms_are_refused(written: object, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_features(written)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("steps", "reference"),
    [
        ((), "passthrough"),
        (("l2",), Normalizer()),
        (("standardise",), StandardScaler()),
        (("pca:3",), PCA(3)),
        (("l2", "standardise", "pca:2"), make_pipeline(Normalizer(), StandardScaler(), PCA(2))),
        (("standardise", "l2"), make_pipeline(StandardScaler(), Normalizer())),
    ],
    ids=str,
)
def test_steps_are_scikit_learns(X: Floats, steps: tuple[str, ...], reference: Any) -> None:
    expected = make_pipeline(reference).fit(X[:20]).transform(X[20:])
    found = make_features(steps).fit(X[:20]).transform(X[20:])
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_components_are_as_many_as_there_are(X: Floats) -> None:
    assert make_features(("pca:64",)).fit(X).transform(X).shape == (30, 6)
    assert make_features(("pca:64",)).fit(X[:4]).transform(X).shape == (30, 4)


def test_components_are_the_same_every_time() -> None:
    """On a shape for which scikit-learn draws random vectors."""
    X = np.random.default_rng(0).normal(size=(600, 600)).astype(np.float32)
    first, second = (make_features(("pca:5",)).fit(X).transform(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((), (False, ())),
        (("l2",), (True, ())),
        (("l2", "l2", "standardise"), (True, ("standardise",))),
        (("standardise", "l2"), (False, ("standardise", "l2"))),
    ],
)
def test_leading_l2_needs_no_fold(
    steps: tuple[str, ...], expected: tuple[bool, tuple[str, ...]]
) -> None:
    assert split_features(steps) == expected


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_are_brought_to_length_one(X: Floats, dtype: Any) -> None:
    X[3] = 0
    rows = X.astype(dtype)
    found = l2_normalise(rows)
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found, Normalizer().fit_transform(rows.astype(np.float64)), rtol=3 * np.finfo(dtype).eps
    )
    # squares of these are no float32
    large = np.array([[3e30, 4e30], [3e-30, 4e-30]], dtype=np.float32)
    np.testing.assert_allclose(l2_normalise(large), [[0.6, 0.8]] * 2, rtol=1e-6)


@pytest.mark.parametrize("l2", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_are_read_as_float32(X: Floats, dtype: Any, l2: bool) -> None:
    rows = X.astype(dtype)
    source = RowSource(rows, l2)
    assert source.shape == (30, 6)
    expected = rows.astype(np.float32)
    if l2:
        expected = Normalizer().fit_transform(expected)
    blocks = list(source.blocks(7))
    assert [part for part, _ in blocks] == [slice(i, min(i + 7, 30)) for i in range(0, 30, 7)]
    together = np.concatenate([block for _, block in blocks])
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, expected, rtol=1e-6)
    some = np.array([5, 2, 2, 29])
    np.testing.assert_array_equal(source.read(some), together[some])
    assert source.read(slice(0, 0)).shape == (0, 6)
