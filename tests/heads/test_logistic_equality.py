"""The linear probe solves scikit-learn's problem, at every penalty, to a millionth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from featurebench.heads.logistic import LogisticProbe
from featurebench.heads.logistic.probe import DEFAULT_CS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Floats = npt.NDArray[np.floating[Any]]
    Ints = npt.NDArray[np.int64]
    Draw = Callable[..., tuple[npt.NDArray[np.float32], Ints]]
    Objective = Callable[..., float]

GAP = 1e-6
# A gap of a millionth leaves the probabilities of some hundred rows open by about its root.
CLOSE = 1e-2
# What is left of that when solved to the last digits; closer than that either label will do.
PRECISE = 1e-4
RARE = (100, 1)
UNEVEN = (100, 100, 50, 20, 10, 5, 2, 1, 1)


class Case(NamedTuple):
    """How rows are drawn: number of rows, features and classes, and the classes' shares."""

    n: int
    d: int
    k: int
    shares: tuple[int, ...] | None = None


class Way(NamedTuple):
    """How they are fitted."""

    standardise: bool
    weights: str | None


CASES = {
    "two classes": Case(500, 60, 2),
    "nine classes": Case(500, 60, 9),
    "two classes, wide": Case(80, 200, 2),
    "nine classes, wide": Case(110, 200, 9),
    "1:100": Case(1000, 48, 2, RARE),
    "nine uneven classes": Case(900, 40, 9, UNEVEN),
}
LARGE = {
    "two classes": Case(4000, 256, 2),
    "nine classes": Case(2500, 128, 9),
    "nine classes, wide": Case(300, 512, 9),
    "1:100": Case(4000, 128, 2, RARE),
    "nine uneven classes": Case(2500, 100, 9, UNEVEN),
}
QUICK_WAYS = (Way(True, None), Way(False, "class"), Way(True, "sample"))
OTHER_WAYS = tuple(
    way
    for way in (Way(s, w) for s in (True, False) for w in (None, "class", "sample", "both"))
    if way not in QUICK_WAYS
)


def way_name(way: Way) -> str:
    features = "standardised" if way.standardise else "as they are"
    return f"{features}, {'no' if way.weights is None else way.weights} weights"


class Fits(NamedTuple):
    """Training and held-out rows as the probe gets them (X) and as the reference does (Z)."""

    X: npt.NDArray[np.float32]
    Z: Floats
    y: Ints
    test: npt.NDArray[np.bool_]
    params: dict[str, Any]
    sample_weight: Floats | None
    weight: Floats

    @classmethod
    def of(cls, X: npt.NDArray[np.float32], y: Ints, way: Way) -> Fits:
        rng = np.random.default_rng(9)
        test = np.zeros(len(y), dtype=bool)
        test[rng.choice(len(y), len(y) // 5, replace=False)] = True
        drawn = rng.uniform(0.2, 3, len(y))[~test]
        sample_weight = drawn if way.weights in ("sample", "both") else None
        weight = np.ones(len(drawn)) if sample_weight is None else drawn
        balanced = way.weights in ("class", "both")
        if balanced:
            sums = np.bincount(y[~test], weight)
            weight = weight * (sums.sum() / (np.count_nonzero(sums) * sums))[y[~test]]
        Z = X.astype(np.float64)
        if way.standardise:
            Z = StandardScaler().fit(Z[~test]).transform(Z)
        params = {
            "features": ("standardise",) if way.standardise else (),
            "class_weight": "balanced" if balanced else None,
        }
        return cls(X, Z, y, test, params, sample_weight, weight)

    def refer(self, C: float, objective: Objective) -> tuple[float, Floats]:
        """Solve by both of scikit-learn's precise solvers: the lower objective and its model."""
        found = []
        for solver in ("lbfgs", "newton-cg"):
            model = LogisticRegression(C=C, solver=solver, tol=1e-8, max_iter=20_000)
            Z, y = self.Z[~self.test], self.y[~self.test]
            model.fit(Z, y, sample_weight=self.weight)
            total = objective(model.coef_, model.intercept_, Z, y, C, self.weight)
            found.append((total, model.predict_proba(self.Z[self.test])))
        return min(found, key=lambda each: each[0])

    def probe(self, C: float, objective: Objective, **settings: Any) -> tuple[float, Floats]:
        train = ~self.test
        probe = LogisticProbe(C=C, **self.params, **settings)
        probe.fit(self.X[train], self.y[train], sample_weight=self.sample_weight)
        fitted = probe.coef_, probe.intercept_
        total = objective(*fitted, self.Z[train], self.y[train], C, self.weight)
        return total, probe.predict_proba(self.X[self.test])


def check_every_penalty(
    X: npt.NDArray[np.float32], y: Ints, way: Way, objective: Objective
) -> None:
    """Compare objectives as solved by default, and labels as solved to the last digits."""
    fits = Fits.of(X, y, way)
    for C in DEFAULT_CS:
        least, p = fits.refer(C, objective)
        usual, found = fits.probe(C, objective)
        assert usual <= least * (1 + GAP), f"C = {C:g}: {usual / least - 1:.1e}"
        np.testing.assert_allclose(found, p, atol=CLOSE)
        precise, found = fits.probe(C, objective, tol=1e-10, max_iter=20_000)
        assert precise <= least * (1 + GAP / 100), f"C = {C:g}: {precise / least - 1:.1e}"
        np.testing.assert_allclose(found, p, atol=PRECISE)
        first, second = np.sort(p, axis=1)[:, :-3:-1].T
        decided = first - second > PRECISE
        np.testing.assert_array_equal(found.argmax(axis=1)[decided], p.argmax(axis=1)[decided])


@pytest.mark.parametrize("way", QUICK_WAYS, ids=way_name)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_scikit_learn(
    case: Case, way: Way, draw_embeddings: Draw, sum_objective: Objective
) -> None:
    X, y = draw_embeddings(case.n, case.d, case.k, shares=case.shares)
    check_every_penalty(X, y, way, sum_objective)


@pytest.mark.slow
@pytest.mark.parametrize("way", OTHER_WAYS, ids=way_name)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_scikit_learn_in_every_other_way(
    case: Case, way: Way, draw_embeddings: Draw, sum_objective: Objective
) -> None:
    X, y = draw_embeddings(case.n, case.d, case.k, seed=1, shares=case.shares)
    check_every_penalty(X, y, way, sum_objective)


@pytest.mark.slow
@pytest.mark.parametrize("way", [Way(True, None), Way(False, "class")], ids=way_name)
@pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)
def test_equals_scikit_learn_on_many_rows(
    case: Case, way: Way, draw_embeddings: Draw, sum_objective: Objective
) -> None:
    X, y = draw_embeddings(case.n, case.d, case.k, seed=2, shares=case.shares)
    check_every_penalty(X, y, way, sum_objective)


def embed_tiles(shared: Path, every: int) -> tuple[npt.NDArray[np.float32], Ints, Ints]:
    """Embed some of the shared tiles; give their classes and their images' numbers."""
    import torch

    from featurebench.backbones import Backbone
    from featurebench.tiles import TileManifest, read_tile

    folder = shared / "data" / "glas_tiles"
    manifest = TileManifest.from_table(
        folder / "tiles.csv", columns={"patient_id": "patient", "slide_id": "image"}
    )
    backbone = Backbone.load("tf_efficientnet_lite0", weights="package")
    rows = np.arange(0, len(manifest), every)
    tiles = [backbone.prepare(read_tile(manifest.path_of(int(row)))) for row in rows]
    X = backbone.embed(torch.from_numpy(np.stack(tiles)))
    slides = manifest.column("slide_id")
    assert slides is not None
    images = np.unique(slides[rows].astype(str), return_inverse=True)[1]
    return X, manifest.labels[rows].astype(np.int64), images.astype(np.int64)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize(
    "way", [Way(True, None), Way(False, None), Way(True, "class")], ids=way_name
)
@pytest.mark.parametrize("k", [2, 9])
def test_equals_scikit_learn_on_real_embeddings(
    k: int, way: Way, shared: Path, sum_objective: Objective
) -> None:
    """With nine classes the class is the image, taken modulo nine: hardly separable."""
    X, y, images = embed_tiles(shared, every=6)
    check_every_penalty(X, y if k == 2 else images % 9, way, sum_objective)
