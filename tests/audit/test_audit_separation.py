"""Values on both sides of a fold are counted, and the worst are named."""

from __future__ import annotations

import numpy as np

from featurebench.audit import separations
from featurebench.audit.separation import crossing
from featurebench.splits import SplitPlan


def test_grouped_folds_tear_no_patient() -> None:
    patients = np.repeat([f"p{k}" for k in range(12)], 5)
    labels = np.repeat(np.arange(12) % 2, 5)
    plan = SplitPlan.draw(labels, patients, folds=3, repeats=2)
    found = separations({"patient_id": patients}, plan.test_fold)
    assert [(each.repeat, each.n_values, each.n_torn, each.n_tiles) for each in found] == [
        (0, 12, 0, 0),
        (1, 12, 0, 0),
    ]
    assert found[0].worst == ()


def test_ungrouped_folds_tear_patients_and_the_largest_is_named_first() -> None:
    patients = np.array(["small"] * 2 + ["large"] * 6 + ["whole"] * 3)
    folds = np.array([[0, 1, 0, 0, 1, 1, 2, 2, 1, 1, 1]], dtype=np.int16)
    (found,) = separations({"patient_id": patients}, folds)
    assert (found.n_values, found.n_torn, found.n_tiles) == (3, 2, 8)
    assert [(torn.value, torn.n_tiles, torn.n_folds) for torn in found.worst] == [
        ("large", 6, 3),
        ("small", 2, 2),
    ]


def test_sites_are_information_and_patients_are_leakage() -> None:
    values = np.array(["a", "a", "b", "b"])
    folds = np.array([[0, 1, 0, 1]], dtype=np.int16)
    found = separations({"site": values, "slide_id": values, "patient_id": values}, folds)
    assert {each.column: (each.leaks, each.n_torn) for each in found} == {
        "site": (False, 2),
        "slide_id": (True, 2),
        "patient_id": (True, 2),
    }


def test_at_most_five_are_named() -> None:
    values = np.repeat([f"v{k}" for k in range(9)], 2)
    folds = np.tile([0, 1], 9).astype(np.int16)[None]
    (found,) = separations({"patient_id": values}, folds)
    assert found.n_torn == 9
    assert len(found.worst) == 5


def test_what_is_trained_on_and_tested_is_torn_in_a_holdout() -> None:
    values = np.array(["train and test", "train and test", "unseen", "unseen", "ok"])
    folds = np.array([[-1, 0, -1, -2, 0]], dtype=np.int16)
    (found,) = separations({"patient_id": values}, folds)
    # A value in training and validation alone is tested nowhere.
    assert [torn.value for torn in found.worst] == ["train and test"]


def test_tiles_without_a_value_are_left_out() -> None:
    values = np.array(["", "", "a", "a"])
    (found,) = separations({"slide_id": values}, np.array([[0, 1, 0, 0]], dtype=np.int16))
    assert (found.n_values, found.n_torn) == (1, 0)


def test_pairs_cross_in_any_repeat_where_one_of_them_is_tested() -> None:
    folds = np.array([[0, 0, 1, -1, -2], [0, 1, 1, -1, -2]], dtype=np.int16)
    a, b = np.array([0, 1, 0, 3, 3]), np.array([1, 2, 2, 4, 0])
    # Same fold once only; same fold at first; never the same; never tested; trained on and tested.
    assert crossing(folds, a, b).tolist() == [True, True, True, False, True]
    assert crossing(folds[1:], a, b).tolist() == [True, False, True, False, True]
