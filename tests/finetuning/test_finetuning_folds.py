"""Finished folds on disk: bound to their recipe, whole or absent, free of pickle."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from featurebench.finetuning.folds import FoldOutcome, fold_key, load_fold, save_fold
from featurebench.results import Cost

if TYPE_CHECKING:
    from pathlib import Path

OUTCOME = FoldOutcome(
    repeat=2,
    fold=1,
    test=np.array([3, 5, 8]),
    y_prob=np.array([[0.25, 0.75], [1, 0], [0.5, 0.5]], dtype=np.float32),
    cost=Cost(1.5, 2.5, 0.0, 300.0),
    details={"epochs": 3, "validation_loss": [0.5, 0.25, 0.3]},
)


def test_fold_comes_back_as_it_was(tmp_path: Path) -> None:
    file = save_fold(OUTCOME, tmp_path / "new", "k")
    assert file.name == "fold_r2_f1.npz"
    assert [f.name for f in file.parent.iterdir()] == [file.name]
    loaded = load_fold(file.parent, 2, 1, "k")
    assert loaded is not None
    np.testing.assert_array_equal(loaded.test, OUTCOME.test)
    np.testing.assert_array_equal(loaded.y_prob, OUTCOME.y_prob)
    assert loaded.y_prob.dtype == np.float32
    assert (loaded.cost, loaded.details) == (OUTCOME.cost, OUTCOME.details)
    with np.load(file, allow_pickle=False) as arrays:
        assert sorted(arrays) == ["header", "test", "y_prob"]


@pytest.mark.parametrize("damage", ["absent", "empty", "cut", "flipped", "recipe"])
def test_fold_that_cannot_be_used_is_none(tmp_path: Path, damage: str) -> None:
    file = save_fold(OUTCOME, tmp_path, "other recipe" if damage == "recipe" else "k")
    content = bytearray(file.read_bytes())
    if damage == "absent":
        file.unlink()
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[content.find(OUTCOME.y_prob.tobytes())] ^= 1
        file.write_bytes(content)
    assert load_fold(tmp_path, 2, 1, "k") is None


def test_later_save_replaces_the_fold(tmp_path: Path) -> None:
    save_fold(OUTCOME, tmp_path, "old")
    save_fold(dataclasses.replace(OUTCOME, cost=Cost(9.0)), tmp_path, "new")
    assert load_fold(tmp_path, 2, 1, "old") is None
    loaded = load_fold(tmp_path, 2, 1, "new")
    assert loaded is not None
    assert loaded.cost == Cost(9.0)


def test_key_depends_on_every_part() -> None:
    parts = [{"a": 1, "b": 2}, "fingerprint", np.array([0, 1]), None]
    keys = {
        fold_key(*parts),
        fold_key({"a": 1, "b": 3}, *parts[1:]),
        fold_key(parts[0], "other", *parts[2:]),
        fold_key(*parts[:2], np.array([1, 0]), None),
        fold_key(*parts[:2], np.array([0, 1], dtype=np.int32), None),
        fold_key(*parts[:3], np.array([0, 1])),
    }
    assert len(keys) == 6
    assert fold_key({"b": 2, "a": 1}, *parts[1:]) == fold_key(*parts)


def test_features_come_back_where_there_are_some(tmp_path: Path) -> None:
    features = np.arange(6, dtype=np.float16).reshape(3, 2)
    save_fold(dataclasses.replace(OUTCOME, features=features), tmp_path, "k")
    loaded = load_fold(tmp_path, 2, 1, "k")
    assert loaded is not None
    np.testing.assert_array_equal(loaded.features, features)
    assert OUTCOME.features is None
