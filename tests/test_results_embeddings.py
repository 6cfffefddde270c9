"""Embeddings beside a run: what is written comes back, and a run without them stays as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from featurebench.errors import ResultsError
from featurebench.results import (
    Cost,
    RunResult,
    is_complete,
    load_embeddings,
    load_run,
    save_run,
)

if TYPE_CHECKING:
    from pathlib import Path


def make_run(**changes: Any) -> RunResult:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 6, 5)).astype(np.float16)
    features[1, 3:] = np.nan
    result = RunResult(
        arm="net.package+full",
        kind="finetune",
        embedding=None,
        head=None,
        strategy="full",
        params={"epochs": 2},
        fingerprint="f" * 64,
        plan_id="0123456789abcdef",
        seed=3,
        classes=("benign", "malignant"),
        y_prob=rng.dirichlet([1, 1], size=(2, 6)).astype(np.float32),
        scores=(),
        cost=Cost(1.5, 2.5, 0.0, 100.0),
        details={"folds": [{"cka": {"layer2": 1.0, "layer1": None, "final": 0.25}}]},
        features=features,
    )
    return replace(result, **changes)


def test_features_come_back_as_they_were(tmp_path: Path) -> None:
    saved = make_run()
    folder = save_run(saved, tmp_path)
    features = load_embeddings(folder)
    assert features is not None
    assert features.dtype == np.float16
    np.testing.assert_array_equal(features, saved.features)


def test_loaded_run_leaves_them_on_disk(tmp_path: Path) -> None:
    saved = make_run()
    folder = save_run(saved, tmp_path)
    again = load_run(folder)
    assert again.features is None
    assert again.run_id == saved.run_id == make_run(features=None).run_id
    stages = list(again.details["folds"][0]["cka"].items())
    assert stages == [("layer2", 1.0), ("layer1", None), ("final", 0.25)]
    assert "features" not in json.loads((folder / "run.json").read_text("utf-8"))


def test_run_without_features_has_no_file(tmp_path: Path) -> None:
    folder = save_run(make_run(features=None), tmp_path)
    assert load_embeddings(folder) is None
    assert not (folder / "embeddings.npz").exists()


def test_features_of_an_earlier_run_do_not_outlive_it(tmp_path: Path) -> None:
    folder = save_run(make_run(), tmp_path)
    assert (folder / "embeddings.npz").exists()
    save_run(make_run(features=None), tmp_path)
    assert load_embeddings(folder) is None


def test_features_are_there_before_the_run_is_complete(tmp_path: Path) -> None:
    unwritable = make_run(details={"folds": [{"cka": {"final": float("nan")}}]})
    with pytest.raises(ValueError, match="JSON"):
        save_run(unwritable, tmp_path)
    (folder,) = tmp_path.iterdir()
    assert not is_complete(folder)
    with np.load(folder / "embeddings.npz") as arrays:
        np.testing.assert_array_equal(arrays["features"], unwritable.features)


def test_unfinished_run_is_refused(tmp_path: Path) -> None:
    folder = save_run(make_run(), tmp_path)
    (folder / "run.json").unlink()
    with pytest.raises(ResultsError, match="unfinished"):
        load_embeddings(folder)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"not an archive"])
def test_damaged_file_is_named_with_its_run(tmp_path: Path, content: bytes) -> None:
    folder = save_run(make_run(), tmp_path)
    (folder / "embeddings.npz").write_bytes(content)
    with pytest.raises(ResultsError, match=folder.name.replace("+", r"\+")):
        load_embeddings(folder)


def test_archive_without_features_is_refused(tmp_path: Path) -> None:
    folder = save_run(make_run(), tmp_path)
    np.savez(folder / "embeddings.npz", other=np.zeros(3))
    with pytest.raises(ResultsError, match="features"):
        load_embeddings(folder)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    folder = save_run(make_run(), tmp_path)
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(folder / "embeddings.npz", features=objects, allow_pickle=True)
    with pytest.raises(ResultsError, match="cannot be read"):
        load_embeddings(folder)
