"""A planted shortcut is named; a cohort without one is not accused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from featurebench.audit import find_shortcuts, untestable
from featurebench.audit.association import Association
from featurebench.audit.robustness import RobustnessCurve
from featurebench.audit.shortcut import Shortcut, entanglement, finding_of
from featurebench.audit.telling import (
    Predictability,
    balanced,
    balanced_within,
    first_repeat,
    held_out_calls,
)
from featurebench.splits import SplitPlan

if TYPE_CHECKING:
    import numpy.typing as npt

    Codes = npt.NDArray[np.int64]

N_PATIENTS, TILES = 60, 8


def _cohort(
    agreement: float, *, site_effect: float, class_effect: float = 0.5, seed: int = 0
) -> tuple[npt.NDArray[np.float32], Codes, Codes, Codes]:
    """Embeddings, labels, sites and patients; ``agreement``: share of patients whose class is
    their site's."""
    rng = np.random.default_rng(seed)
    site = np.arange(N_PATIENTS) % 2
    follows = rng.permutation(N_PATIENTS) < agreement * N_PATIENTS
    label = np.where(follows, site, rng.integers(0, 2, N_PATIENTS))
    patients = np.repeat(np.arange(N_PATIENTS), TILES)
    X = 0.5 * rng.normal(size=(N_PATIENTS, 24))[patients] + rng.normal(size=(len(patients), 24))
    X[:, 0] += class_effect * label[patients]
    X[:, 1:4] += site_effect * site[patients][:, None]
    return X.astype(np.float32), label[patients], site[patients], patients


def _find(X: npt.NDArray[np.float32], labels: Codes, sites: Codes, patients: Codes) -> Shortcut:
    return _find_named(X, labels, np.array(["north", "south"])[sites], patients)


def _find_named(
    X: npt.NDArray[Any], labels: Codes, names: npt.NDArray[Any], patients: Codes
) -> Shortcut:
    plan = SplitPlan.draw(labels, patients, folds=5, repeats=2, seed=0)
    (found,) = find_shortcuts(
        {"net": X}, "site", names, labels=labels, plan=plan, patients=patients
    )
    return found


def test_class_that_follows_the_site_is_named() -> None:
    found = _find(*_cohort(0.6, site_effect=2.0))
    assert found.finding == "shortcut suspected"
    assert found.site is not None
    assert found.label is not None
    assert found.site.accuracy > 0.9
    assert found.site.above_chance
    assert found.within is not None
    assert found.within.above_chance
    assert found.association.v > 0.4
    assert found.index < 0.45


def test_class_that_is_the_site_cannot_be_told_from_it() -> None:
    found = _find(*_cohort(1.0, site_effect=2.0))
    assert (found.finding, found.robustness, found.k) == ("cannot be told apart", None, 0)
    assert found.entangled == "every site has tiles of one class only"
    assert found.within is None
    assert np.isnan(found.index)
    assert found.association.v == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(4))
def test_sites_without_effect_accuse_nobody(seed: int) -> None:
    found = _find(*_cohort(0.0, site_effect=0.0, seed=seed))
    assert found.finding == "none"
    assert found.site is not None
    assert not found.site.above_chance
    assert found.association.p_value > 0.01


def test_sites_that_are_seen_but_not_associated_are_no_shortcut() -> None:
    X, labels, sites, patients = _cohort(0.0, site_effect=0.7, class_effect=3.0)
    # Every class as often at every site.
    labels = (patients // 2) % 2
    X[:, 0] += 3.0 * labels
    found = _find(X, labels, sites, patients)
    assert found.site is not None
    assert found.site.above_chance
    assert found.association.v == 0.0
    assert found.finding == "site is told"


@pytest.mark.parametrize("class_effect", [0.0, 4.0])
def test_site_that_is_told_by_the_class_alone_is_no_shortcut(class_effect: float) -> None:
    found = _find(*_cohort(0.6, site_effect=0.0, class_effect=class_effect))
    assert found.association.p_value < 0.05
    assert found.site is not None
    assert found.site.above_chance == (class_effect > 0)
    assert found.within is not None
    assert not found.within.above_chance
    assert found.finding == "none"


def _rule(
    site: Predictability | None,
    association: Association,
    robustness: RobustnessCurve | None,
    *,
    within: Predictability | None = None,
    k: int = 3,
) -> str:
    return finding_of(site, within, association, robustness=robustness, k=k)


def test_rule() -> None:
    told = Predictability(0.9, 0.85, 0.95, 0.5, 2, 100, 20)
    slight = replace(told, accuracy=0.6, ci_low=0.55, ci_high=0.65)
    at_chance = replace(told, accuracy=0.52, ci_low=0.45, ci_high=0.6)
    wide = replace(told, accuracy=0.6, ci_low=0.3, ci_high=0.9)
    without = replace(told, ci_low=float("nan"), ci_high=float("nan"))
    related, apart = Association(0.8, 0.001, 20), Association(0.0, 0.9, 20)
    trifling = Association(0.05, 0.001, 20_000)
    low = RobustnessCurve((1, 3), (0.2, 0.3), (0.6, 0.7), 0.5, 80, 1)
    high = replace(low, index=(0.7, 0.8))
    assert _rule(told, related, high, within=told) == "shortcut suspected"
    assert _rule(slight, related, high, within=slight) == "shortcut suspected"
    assert _rule(None, related, low) == "shortcut suspected"
    assert _rule(told, apart, low) == "site dominates"
    assert _rule(None, apart, low) == "site dominates"
    assert _rule(told, apart, high, within=told) == "site is told"
    assert _rule(told, trifling, None, within=told) == "site is told"
    assert _rule(at_chance, related, high) == "none"
    # A site that is told only from class to class is not told.
    assert _rule(told, related, high, within=at_chance) == "none"
    # What has no interval, or a wide one, is not cleared.
    for open_one in (None, without, wide):
        assert _rule(open_one, related, high) == "not tested"
        assert _rule(told, related, high, within=open_one) == "not tested"
    # Nine tenths of 0.5 is the bound, at the nearest number of neighbours.
    assert _rule(at_chance, apart, replace(low, index=(0.2, 0.46))) == "none"
    assert _rule(at_chance, apart, replace(low, index=(0.2, 0.46)), k=1) == "site dominates"
    entangled = finding_of(
        told, told, related, robustness=low, k=3, entangled="every site has one class"
    )
    assert entangled == "cannot be told apart"


@pytest.mark.parametrize("site_effect", [0.0, 1.0])
def test_many_sites_of_one_class_each_are_never_cleared(site_effect: float) -> None:
    rng = np.random.default_rng(3)
    n_patients, n_sites = 63, 21
    site = np.arange(n_patients) % n_sites
    patients = np.repeat(np.arange(n_patients), 6)
    labels = (site % 2)[patients]
    X = rng.normal(size=(len(patients), 24)) + 0.3 * rng.normal(size=(n_patients, 24))[patients]
    X += site_effect * rng.normal(size=(n_sites, 24))[site[patients]]
    found = _find_named(X, labels, np.array([f"s{k:02d}" for k in site])[patients], patients)
    assert found.finding == "cannot be told apart"
    assert found.site is not None
    assert found.site.above_chance == (site_effect > 0)


def test_a_few_stray_tiles_do_not_tell_class_and_site_apart() -> None:
    labels, sites = np.repeat([0, 1], 40), np.repeat([0, 1], 40)
    assert entanglement("site", labels, sites) == "every site has tiles of one class only"
    labels[:3] = 1
    assert entanglement("site", labels, sites) == ("no site has 10 tiles of each of two classes")
    labels[:10] = 1
    # Site 0 has both classes; class 1 has both sites.
    assert entanglement("site", labels, sites) == ""
    # One class at one site only, the other at one site only, which both share.
    assert entanglement("site", np.array([0, 1, 2]), np.array([0, 0, 1])) == (
        "every class is of one site only"
    )


def test_few_patients_are_not_tested_and_not_cleared() -> None:
    patients = np.repeat(np.arange(8), 12)
    rng = np.random.default_rng(0)
    X = 3.0 * rng.normal(size=(8, 6))[patients] + rng.normal(size=(len(patients), 6))
    labels, sites = patients // 2 % 2, np.array(["north", "south"])[patients % 2]
    plan = SplitPlan.draw(labels, patients, folds=2)
    (found,) = find_shortcuts(
        {"net": X}, "site", sites, labels=labels, plan=plan, patients=patients
    )
    assert found.site is not None
    # Half as wide as what lies between chance and certainty, and below chance by luck.
    assert found.site.ci_high - found.site.accuracy > 0.25
    assert found.site.ci_high < 0.75
    assert found.robustness is None or found.index > 0.45
    assert found.finding == "not tested"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (None, "the tiles have no column site"),
        (np.array(["", ""]), "the tiles have no value of it"),
        (np.array(["a", "", "a"]), "the tiles have one value of it"),
        (np.arange(51), "it has 51 values, more than 50"),
        (np.array(["a", "b"]), ""),
    ],
)
def test_why_a_column_cannot_be_looked_at(values: Any, reason: str) -> None:
    assert untestable("site", values) == reason


def test_probe_is_held_out_and_scored_as_scikit_learn_scores() -> None:
    rng = np.random.default_rng(0)
    truth, called = rng.integers(0, 3, 300), rng.integers(0, 3, 300)
    found = balanced(truth, called, np.repeat(np.arange(60), 5))
    assert found is not None
    assert found.accuracy == pytest.approx(balanced_accuracy_score(truth, called))
    assert found.chance == pytest.approx(1 / 3)
    assert found.ci_low < found.accuracy < found.ci_high


def test_interval_is_over_patients_and_as_wide_as_a_bootstrap() -> None:
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(80), 6)
    truth = patients % 2
    right = rng.random(80)[patients] > 0.35
    called = np.where(right, truth, 1 - truth)
    found = balanced(truth, called, patients)
    assert found is not None
    values = []
    for _ in range(600):
        drawn = rng.integers(0, 80, 80)
        rows = np.concatenate([np.flatnonzero(patients == p) for p in drawn])
        values.append(balanced_accuracy_score(truth[rows], called[rows]))
    half = (found.ci_high - found.ci_low) / 2
    assert half == pytest.approx(1.99 * np.std(values), rel=0.12)
    by_tiles = balanced(truth, called, np.arange(len(truth)))
    assert by_tiles is not None
    assert half > 1.8 * (by_tiles.ci_high - by_tiles.ci_low) / 2


def test_value_of_one_fold_cannot_be_called_and_is_left_out() -> None:
    X, labels, _, patients = _cohort(0.0, site_effect=0.0)
    values = np.where(patients == 7, "rare", np.where(patients % 2, "odd", "even"))
    plan = SplitPlan.draw(patients % 2, patients, folds=5)
    (found,) = find_shortcuts(
        {"net": X}, "site", values, labels=labels, plan=plan, patients=patients
    )
    assert found.site is not None
    assert (found.site.n_values, found.site.chance) == (2, 0.5)
    assert found.site.n_tiles == len(labels) - TILES


def test_holdout_is_told_on_its_test_side() -> None:
    X, labels, sites, patients = _cohort(0.0, site_effect=2.0)
    plan = SplitPlan.holdout(labels, patients, fractions=(0.6, 0.2, 0.2))
    called = held_out_calls(X, sites, first_repeat(plan))
    tested = plan.test_fold[0] == 0
    assert (called[tested] >= 0).all()
    assert (called[~tested] == -1).all()
    assert (called[tested] == sites[tested]).mean() > 0.9


def test_chance_within_classes_is_that_of_a_caller_who_knows_the_class() -> None:
    """Class 0 has three sites and class 1 two: the best call by class alone is right in 2 of 5."""
    labels = np.repeat([0, 0, 0, 1, 1, 2], 20)
    sites = np.repeat([0, 1, 2, 0, 1, 2], 20)
    by_class = np.array([0, 1, 2])[labels]
    found = balanced_within(sites, by_class, np.arange(120), labels)
    assert found is not None
    assert found.chance == found.accuracy == pytest.approx(2 / 5)
    assert found.n_tiles == 100
    right = balanced_within(sites, sites, np.arange(120), labels)
    assert right is not None
    assert right.accuracy == 1.0
    assert balanced_within(labels, labels, None, labels) is None


@pytest.mark.parametrize("n_values", [1, 51])
def test_columns_with_one_value_or_very_many_are_not_looked_at(n_values: int) -> None:
    X, labels, _, patients = _cohort(0.0, site_effect=0.0)
    plan = SplitPlan.draw(labels, patients, folds=5)
    values = np.array([f"s{k % n_values}" for k in range(len(labels))])
    assert not find_shortcuts({"net": X}, "site", values, labels=labels, plan=plan)


def test_tiles_without_a_value_are_left_out() -> None:
    X, labels, sites, patients = _cohort(0.8, site_effect=2.0)
    plan = SplitPlan.draw(labels, patients, folds=5)
    names = np.array(["north", "south"])[sites].astype(object)
    names[patients < 6] = ""
    (found,) = find_shortcuts(
        {"net": X}, "site", names, labels=labels, plan=plan, patients=patients
    )
    assert found.association.n_units == N_PATIENTS - 6
    assert found.finding == "shortcut suspected"


def test_embeddings_are_read_at_the_median_of_their_best_neighbours() -> None:
    X, labels, sites, patients = _cohort(0.5, site_effect=1.0)
    rng = np.random.default_rng(0)
    plan = SplitPlan.draw(labels, patients, folds=5)
    found = find_shortcuts(
        {"a": X, "b": rng.permutation(X), "c": X[:, :4]},
        "site",
        sites.astype(str),
        labels=labels,
        plan=plan,
        patients=patients,
    )
    best = [each.robustness.best_k for each in found if each.robustness is not None]
    assert {each.k for each in found} == {int(np.median(best))}
    assert [each.embedding for each in found] == ["a", "b", "c"]
