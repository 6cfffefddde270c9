"""The kNN probe votes as scikit-learn's does, and folds searched together as folds alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.metrics.pairwise import cosine_distances, euclidean_distances
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from featurebench.heads import nearest
from featurebench.heads.candidates import Points, search
from featurebench.heads.folds import Fold
from featurebench.heads.manyfold import Job
from featurebench.heads.neighbours import KnnProbe
from featurebench.heads.rows import RowSource
from featurebench.splits import SplitPlan

Rows = npt.NDArray[np.int64]
Cohort = tuple[npt.NDArray[np.float32], Rows, Rows]
METRICS = ["cosine", "euclidean"]


def draw(n: int, d: int, patient_effect: float = 1.0, seed: int = 0) -> Cohort:
    """Pooled ReLU features, kept as float16 in a store: all positive, close within a patient."""
    rng = np.random.default_rng(seed)
    patient = np.sort(np.arange(n) % 30)
    y = rng.integers(0, 4, n)
    hidden = rng.normal(size=(n, 8)) + rng.normal(size=(4, 8))[y]
    hidden += patient_effect * rng.normal(size=(30, 8))[patient]
    X = np.maximum(hidden @ rng.normal(size=(8, d)), 0) + 0.1 * rng.random((n, d))
    return X.astype(np.float16).astype(np.float32), y, patient


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return draw(900, 48)


def plan(y: Rows, patient: Rows, repeats: int, *, inner: int = 0) -> list[Fold]:
    folds = []
    for train, test in SplitPlan.draw(y, patient, folds=5, repeats=repeats):
        pairs: tuple[tuple[Rows, Rows], ...] = ()
        if inner:
            inside = SplitPlan.draw(y[train], patient[train], folds=inner)
            pairs = tuple((train[a], train[b]) for a, b in inside)
        folds.append(Fold(train, test, pairs))
    return folds


def reference(X: npt.NDArray[Any], y: Rows, fold: Fold, k: int, **params: str) -> npt.NDArray[Any]:
    model = KNeighborsClassifier(k, algorithm="brute", **params)
    # In float64, so that the reference itself is not subject to the rounding of close distances.
    X = X.astype(np.float64)
    probability: npt.NDArray[Any] = model.fit(X[fold.train], y[fold.train]).predict_proba(
        X[fold.test]
    )
    return probability


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("k", [1, 7, 20])
def test_fit_votes_as_scikit_learn(cohort: Cohort, metric: str, weights: str, k: int) -> None:
    X, y, _ = cohort
    names = np.array(["a", "b", "c", "d"])[y]
    head = KnnProbe(k, metric=metric, weights=weights).fit(X[:600], names[:600])  # type: ignore[arg-type]
    model = KNeighborsClassifier(k, metric=metric, weights=weights, algorithm="brute")
    model.fit(X[:600].astype(np.float64), names[:600])
    p = model.predict_proba(X[600:].astype(np.float64))
    np.testing.assert_allclose(head.predict_proba(X[600:]), p, atol=1e-5)
    np.testing.assert_array_equal(head.predict(X[600:]), model.classes_[p.argmax(axis=1)])
    assert head.choices_ == {"k": k}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("repeats", [1, 5])
def test_folds_together_vote_as_scikit_learn(
    cohort: Cohort, metric: str, weights: str, repeats: int
) -> None:
    X, y, patient = cohort
    folds = plan(y, patient, repeats)
    done: list[int] = []
    head = KnnProbe(metric=metric, weights=weights)  # type: ignore[arg-type]
    found = head.predict_folds(X.astype(np.float16), y, folds, n_classes=4, progress=done.append)
    assert sum(done) == len(folds)
    for fold, prediction in zip(folds, found, strict=True):
        p = reference(X, y, fold, 20, metric=metric, weights=weights)
        np.testing.assert_allclose(prediction.y_prob, p, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_neighbours_are_exact_where_lists_run_out(
    metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Patients so far apart that the nearest rows outside are those of a few other patients, of
    # which a fold may take all; and lists without reserve.
    monkeypatch.setattr(nearest, "LENGTHEN", 1.2)
    X, y, patient = draw(900, 32, patient_effect=6.0)
    jobs = [Job(fold.train, fold.test, (20,)) for fold in plan(y, patient, 5)]
    points = Points.read(RowSource(X), metric)  # type: ignore[arg-type]
    searched: list[int] = []

    def count(points: Points, rows: Rows, *args: Any, **kwargs: Any) -> Any:
        searched.append(len(rows))
        return search(points, rows, *args, **kwargs)

    monkeypatch.setattr(nearest, "search", count)
    distances = {"cosine": cosine_distances, "euclidean": euclidean_distances}[metric]
    apart = distances(X.astype(np.float64))
    for job, found in zip(jobs, nearest.nearest_rows(points, jobs, [20]), strict=True):
        among = apart[np.ix_(job.test, job.train)]
        expected = np.sort(job.train[np.argsort(among, axis=1)[:, :20]], axis=1)
        np.testing.assert_array_equal(np.sort(found, axis=1), expected)
    # One search over all rows, then searches for a few of the 5 x 900 tests.
    assert searched[0] == 900
    assert 0 < sum(searched[1:]) < 1500


def test_one_search_serves_inner_folds_and_all_k(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y, patient = cohort
    folds = plan(y, patient, 3, inner=4)
    searched: list[int] = []

    def count(points: Points, rows: Rows, *args: Any, **kwargs: Any) -> Any:
        searched.append(len(rows))
        return search(points, rows, *args, **kwargs)

    monkeypatch.setattr(nearest, "search", count)
    ks = [1, 3, 10, 40]
    found = KnnProbe(ks).predict_folds(X, y, folds, n_classes=4)
    n_tests = sum(len(f.test) + sum(len(b) for _, b in f.inner) for f in folds)
    assert searched[0] == 900
    assert sum(searched) - 900 < 0.1 * n_tests
    for fold, prediction in zip(folds, found, strict=True):
        losses = np.zeros(len(ks))
        for train, test in fold.inner:
            for i, k in enumerate(ks):
                p = reference(X, y, Fold(train, test), k, metric="cosine")
                losses[i] -= np.log(np.maximum(p[np.arange(len(test)), y[test]], 1e-7)).mean()
        best = ks[int(np.argmin(losses))]
        assert prediction.choices == {"k": best}
        np.testing.assert_allclose(
            prediction.y_prob, reference(X, y, fold, best, metric="cosine"), atol=1e-6
        )


@pytest.mark.parametrize("params", [{"k": 15}, {"k": [3, 15, 30], "weights": "distance"}])
@pytest.mark.parametrize("features", [(), "l2", "standardise", "pca:8"])
def test_folds_together_equal_folds_alone(
    cohort: Cohort, params: dict[str, Any], features: Any
) -> None:
    X, y, patient = cohort
    folds = plan(y, patient, 1, inner=3)
    head = KnnProbe(metric="euclidean", class_weight="balanced", features=features, **params)
    found = head.predict_folds(X, y, folds, n_classes=4)
    for fold, prediction in zip(folds, found, strict=True):
        place = np.full(len(X), -1)
        place[fold.train] = np.arange(len(fold.train))
        cv = [(place[a], place[b]) for a, b in fold.inner]
        alone = clone(head).set_params(cv=cv).fit(X[fold.train], y[fold.train])
        assert prediction.choices == alone.choices_
        np.testing.assert_allclose(prediction.y_prob, alone.predict_proba(X[fold.test]), atol=1e-5)


def test_standardised_inside_the_fold(cohort: Cohort) -> None:
    X, y, patient = cohort
    fold = plan(y, patient, 1)[0]
    head = KnnProbe(9, metric="euclidean", features="standardise")
    (found,) = head.predict_folds(X, y, [fold], n_classes=4)
    scaled = StandardScaler().fit(X[fold.train].astype(np.float64)).transform(X.astype(np.float64))
    expected = reference(scaled, y, fold, 9, metric="euclidean")
    np.testing.assert_allclose(found.y_prob, expected, atol=1e-6)


@pytest.mark.parametrize("repeats", [1, 5])
def test_threads_change_nothing(repeats: int) -> None:
    X, y, patient = draw(1500, 16)
    folds = plan(y, patient, repeats)
    one, three = (
        KnnProbe(n_jobs=n_jobs, weights="distance").predict_folds(X, y, folds, n_classes=4)
        for n_jobs in (1, 3)
    )
    for a, b in zip(one, three, strict=True):
        np.testing.assert_array_equal(a.y_prob, b.y_prob)


def test_long_lists_of_columns_lose_nothing() -> None:
    # More rows than a block of scores has columns, and many more than a list keeps.
    rng = np.random.default_rng(1)
    X = rng.normal(size=(18_000, 3)).astype(np.float32)
    y = rng.integers(0, 3, 18_000)
    head = KnnProbe(5, metric="euclidean").fit(X[:17_500], y[:17_500])
    model = KNeighborsClassifier(5, algorithm="kd_tree").fit(X[:17_500], y[:17_500])
    np.testing.assert_allclose(
        head.predict_proba(X[17_500:]), model.predict_proba(X[17_500:]), atol=1e-6
    )


@pytest.mark.parametrize("metric", METRICS)
def test_of_equal_rows_the_first_are_nearer(metric: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.random((40, 33), dtype=np.float32)[np.arange(1200) % 40]
    # Of each row's 29 copies in train, the first have class 0, then 1, then 2.
    y = np.repeat([0, 1, 2], 400)
    train, test = np.arange(1160), np.arange(1160, 1200)
    jobs = [Job(train, test, (13,))]
    points = Points.read(RowSource(X), metric)  # type: ignore[arg-type]
    (found,) = nearest.nearest_rows(points, jobs, [13])
    expected = np.arange(13) * 40 + np.arange(40)[:, None]
    np.testing.assert_array_equal(np.sort(found, axis=1), expected)
    head = KnnProbe(13, metric=metric, weights="distance").fit(X[train], y[train])  # type: ignore[arg-type]
    np.testing.assert_allclose(head.predict_proba(X[test]), [[10 / 13, 3 / 13, 0]] * 40, atol=1e-6)


def test_differences_below_the_rounding_of_products_count() -> None:
    rng = np.random.default_rng(0)
    # Whole steps of 2^-14 from one place, with an outlier to keep the mean away from it: the
    # products of the shifted rows are rounded to more than the squares of the steps.
    steps = rng.integers(-20, 21, size=(402, 64))
    X = (80 + steps * 2.0**-14).astype(np.float32)
    X[0] += 10_000
    y = rng.integers(0, 2, 402)
    fold = Fold(np.arange(300), np.arange(300, 402))
    (found,) = KnnProbe(1, metric="euclidean").predict_folds(X, y, [fold], n_classes=2)
    apart = ((steps[fold.test, None] - steps[fold.train]) ** 2).sum(axis=2)
    apart[:, 0] = np.iinfo(np.int64).max
    np.testing.assert_array_equal(found.y_prob.argmax(axis=1), y[apart.argmin(axis=1)])


def test_rows_of_zeros_have_no_direction() -> None:
    X, y, _ = draw(200, 16)
    X[[0, 3, 150, 199]] = 0
    X[10] = -X[150 + 1]
    fold = Fold(np.arange(150), np.arange(150, 200))
    (found,) = KnnProbe(150, weights="distance").predict_folds(X, y, [fold], n_classes=4)
    expected = reference(X, y, fold, 150, metric="cosine", weights="distance")
    np.testing.assert_allclose(found.y_prob, expected, atol=1e-5)
    (nearest_few,) = KnnProbe(5).predict_folds(X, y, [fold], n_classes=4)
    # All are at distance 1 from a row of zeros, so that the first are the nearest.
    np.testing.assert_allclose(nearest_few.y_prob[0], np.bincount(y[:5], minlength=4) / 5)


def test_few_label_episodes_are_searched_on_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, _ = draw(900, 48)
    rng = np.random.default_rng(0)
    folds = []
    for n in (8, 16, 30) * 4:
        order = rng.permutation(900)
        folds.append(Fold(np.sort(order[:n]), np.sort(order[n:])))
    searched: list[int] = []

    def count(points: Points, rows: Rows, tested: Any, trained: Any, **kwargs: Any) -> Any:
        searched.append(int(np.count_nonzero(trained)))
        return search(points, rows, tested, trained, **kwargs)

    monkeypatch.setattr(nearest, "search", count)
    found = KnnProbe(10).predict_folds(X, y, folds, n_classes=4)
    # No search over more than the rows of one episode; k is lowered to 8 where there are no more.
    assert set(searched) == {8, 16, 30}
    for fold, prediction in zip(folds, found, strict=True):
        k = min(10, len(fold.train))
        p = np.zeros((len(fold.test), 4))
        p[:, np.unique(y[fold.train])] = reference(X, y, fold, k, metric="cosine")
        np.testing.assert_allclose(prediction.y_prob, p, atol=1e-6)


def test_class_weights_multiply_the_votes() -> None:
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    rows = np.r_[0:50, 50:80, 100:110]
    votes = 10 * KnnProbe(10).fit(X[rows], names[rows]).predict_proba(X)
    cases: list[tuple[Any, list[float]]] = [
        ({"virginica": 3.0}, [1, 1, 3]),
        ("balanced", [90 / (3 * 50), 90 / (3 * 30), 90 / (3 * 10)]),
    ]
    for weight, factors in cases:
        head = KnnProbe(10, class_weight=weight).fit(X[rows], names[rows])
        expected = votes * np.array(factors)
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(head.predict_proba(X), expected, atol=1e-6)
    codes = KnnProbe(10, class_weight={2: 3.0}).fit(X[rows], y[rows])
    (folded,) = codes.predict_folds(X, y, [Fold(rows, np.arange(150))], n_classes=3)
    np.testing.assert_array_equal(folded.y_prob, codes.predict_proba(X))


def test_a_class_absent_from_training_has_probability_zero(cohort: Cohort) -> None:
    X, y, _ = cohort
    train, test = np.flatnonzero(y[:600] != 2), np.arange(600, 900)
    for weight in (None, "balanced", {2: 5.0}):
        head = KnnProbe(12, class_weight=weight)
        (found,) = head.predict_folds(X, y, [Fold(train, test)], n_classes=4)
        assert not found.y_prob[:, 2].any()
        np.testing.assert_allclose(found.y_prob.sum(axis=1), 1, atol=1e-5)
    assert KnnProbe(12).fit(X[train], y[train]).classes_.tolist() == [0, 1, 3]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("n", [4, 600])
def test_constant_features(metric: str, weights: str, n: int) -> None:
    X = np.full((n + 3, 5), 0.1)
    y = np.arange(n + 3) % 2
    head = KnnProbe(3, metric=metric, weights=weights).fit(X[:n], y[:n])  # type: ignore[arg-type]
    np.testing.assert_allclose(head.predict_proba(X[n:]), [[2 / 3, 1 / 3]] * 3, atol=1e-6)


def test_a_fold_without_tests(cohort: Cohort) -> None:
    X, y, patient = cohort
    folds = plan(y, patient, 3)
    empty = Fold(folds[0].train, np.arange(0))
    found = KnnProbe().predict_folds(X, y, [*folds, empty], n_classes=4)
    assert found[-1].y_prob.shape == (0, 4)
    (found_alone,) = KnnProbe().predict_folds(X, y, [empty], n_classes=4)
    assert found_alone.y_prob.shape == (0, 4)


def test_memory_maps_are_read(cohort: Cohort, tmp_path: Any) -> None:
    X, y, patient = cohort
    np.save(tmp_path / "X.npy", X.astype(np.float16))
    folds = plan(y, patient, 1)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    for a, b in zip(
        KnnProbe().predict_folds(mapped, y, folds, n_classes=4),
        KnnProbe().predict_folds(X, y, folds, n_classes=4),
        strict=True,
    ):
        np.testing.assert_array_equal(a.y_prob, b.y_prob)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"k": 0}, "k=0: give a number of neighbours"),
        ({"k": []}, "give a number of neighbours"),
        ({"k": 2.5}, "k=2.5"),
        ({"metric": "manhattan"}, "metric='manhattan' is unknown: use one of cosine"),
        ({"weights": "rank"}, "weights='rank' is unknown"),
        ({"class_weight": "even"}, "class_weight='even' is unknown"),
        ({"class_weight": {0: 0.0}}, "weights above 0"),
        ({"class_weight": {"a": 2.0}}, "give labels of"),
        ({"k": [1, 2]}, "no inner folds"),
    ],
)
def test_what_cannot_be_done_is_refused(
    cohort: Cohort, params: dict[str, Any], message: str
) -> None:
    X, y, patient = cohort
    head = KnnProbe(**params)
    with pytest.raises(ValueError, match=message):
        head.fit(X, y)
    with pytest.raises(ValueError, match=message):
        head.predict_folds(X, y, plan(y, patient, 1), n_classes=4)


def test_bad_rows_are_refused(cohort: Cohort) -> None:
    X, y, patient = cohort
    folds = plan(y, patient, 1)
    broken = X.copy()
    broken[7, 3] = np.nan
    with pytest.raises(ValueError, match="row 7 of X is NaN"):
        KnnProbe().predict_folds(broken, y, folds, n_classes=4)
    with pytest.raises(ValueError, match="NaN"):
        KnnProbe().fit(broken, y)
    with pytest.raises(ValueError, match="one class only"):
        KnnProbe().fit(X, np.zeros(900))
    twice = Fold(np.repeat(folds[0].train, 2), folds[0].test)
    with pytest.raises(ValueError, match="more than once"):
        KnnProbe().predict_folds(X, y, [twice], n_classes=4)
