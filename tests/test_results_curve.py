"""Curves on disk: what is written comes back, what is damaged or foreign is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from featurebench.errors import ResultsError
from featurebench.results import (
    Cost,
    CurvePoint,
    LearningCurve,
    LeftOut,
    curve_folder,
    curve_id,
    is_complete_curve,
    load_curve,
    save_curve,
)

if TYPE_CHECKING:
    from pathlib import Path


def make_curve(**changes: object) -> LearningCurve:
    rng = np.random.default_rng(0)
    points = tuple(
        CurvePoint(
            kind,
            size,
            draw,
            repeat,
            fold,
            10 * size + fold,
            None if kind == "tiles" else size,
            "fixed" if size == 4 and draw == 0 else "groups",
            {"accuracy": float(rng.random()), "roc_auc": float(rng.random())},
        )
        for draw, repeat, fold, (kind, size) in product(
            range(3), range(2), range(2), (("patients", 8), ("patients", 4), ("tiles", 20))
        )
    )
    curve = LearningCurve(
        arm="net.package+logistic",
        embedding="net.package@00000000",
        head="logistic",
        params={"head": "logistic", "Cs": [0.1, 1.0]},
        fingerprint="f" * 64,
        plan_id="0123456789abcdef",
        seed=3,
        classes=("benign", "malignant"),
        settings={"patients": [4, 8], "tiles": [20], "draws": 3, "seed": 0},
        metrics=("accuracy", "roc_auc"),
        points=points,
        left_out=(LeftOut("patients", 99, "the smallest training side has 31 patients"),),
        full_tiles=410.5,
        full_patients=32.0,
        cost=Cost(1.5, 2.5, 0.0, 100.0),
        provenance={"versions": {"numpy": "2"}},
    )
    return replace(curve, **changes)  # type: ignore[arg-type]


def test_curve_comes_back_as_it_was(tmp_path: Path) -> None:
    curve = make_curve()
    folder = save_curve(curve, tmp_path)
    assert folder == curve_folder(tmp_path, curve.arm, curve.curve_id)
    assert folder.name == f"net.package+logistic__{curve.curve_id[:8]}"
    assert is_complete_curve(folder)
    assert load_curve(folder) == curve
    assert {file.name for file in folder.iterdir()} == {"curve.csv", "curve.json"}


def test_undefined_values_are_empty_cells(tmp_path: Path) -> None:
    curve = make_curve()
    nan = replace(curve.points[0], values={"accuracy": 0.5, "roc_auc": float("nan")})
    folder = save_curve(replace(curve, points=(nan, *curve.points[1:])), tmp_path)
    row = (folder / "curve.csv").read_text(encoding="utf-8").splitlines()[1]
    assert row == "patients,8,0,0,0,80,8,groups,0.5,"
    assert np.isnan(load_curve(folder).points[0].values["roc_auc"])


def test_table_can_be_summed_up_elsewhere(tmp_path: Path) -> None:
    curve = make_curve()
    table = pd.read_csv(save_curve(curve, tmp_path) / "curve.csv")
    assert len(table) == len(curve.points)
    of_repeats = table.groupby(["kind", "size", "repeat"])["accuracy"].mean()
    expected = of_repeats.groupby(["kind", "size"]).mean()
    of_draws = table.groupby(["kind", "size", "repeat", "draw"])["accuracy"].mean()
    found = curve.by_size("accuracy")
    assert [(each.kind, each.size) for each in found] == [
        ("patients", 4), ("patients", 8), ("tiles", 20),
    ]  # fmt: skip
    for each in found:
        assert each.value == pytest.approx(expected[each.kind, each.size])
        draws = of_draws[each.kind, each.size]
        assert each.spread_low == pytest.approx(draws.quantile(0.1))
        assert each.spread_high == pytest.approx(draws.quantile(0.9))
        assert each.n_draws == len(draws) == 6
        assert each.n_tiles == 10 * each.size + 0.5
        assert each.n_fits == 12
    assert [each.n_fixed for each in found] == [4, 0, 0]
    assert [each.n_patients for each in found] == [4.0, 8.0, None]


def test_a_fold_without_a_value_does_not_count() -> None:
    first, second, *_ = make_curve().points[::3]
    assert (first.size, second.size, first.repeat, second.repeat) == (8, 8, 0, 0)
    known = replace(first, values={"accuracy": 0.75, "roc_auc": float("nan")})
    unknown = replace(second, values={"accuracy": float("nan"), "roc_auc": float("nan")})
    curve = make_curve(points=(known, unknown))
    assert curve.by_size("accuracy")[0].value == 0.75
    assert np.isnan(curve.by_size("roc_auc")[0].value)
    assert np.isnan(curve.by_size("roc_auc")[0].spread_low)
    with pytest.raises(ResultsError, match="no 'f1'"):
        curve.by_size("f1")


@pytest.mark.parametrize(
    "change",
    [
        {"arm": "other"},
        {"params": {"head": "logistic"}},
        {"settings": {"patients": [4]}},
        {"fingerprint": "0" * 64},
        {"plan_id": "f" * 16},
        {"seed": 4},
    ],
    ids=lambda change: next(iter(change)),
)
def test_identity_is_of_what_changes_the_numbers(change: dict[str, object]) -> None:
    curve = make_curve()
    assert make_curve(**change).curve_id != curve.curve_id
    assert make_curve(cost=Cost(9.0), points=()).curve_id == curve.curve_id
    assert curve.curve_id == curve_id(
        curve.arm, curve.params, curve.settings, curve.fingerprint, curve.plan_id, curve.seed
    )


class TestRefused:
    def test_unfinished(self, tmp_path: Path) -> None:
        folder = save_curve(make_curve(), tmp_path)
        (folder / "curve.json").unlink()
        assert not is_complete_curve(folder)
        with pytest.raises(ResultsError, match="cannot be read"):
            load_curve(folder)

    @pytest.mark.parametrize(
        ("file", "content"),
        [
            ("curve.json", b"{"),
            ("curve.json", b"[]"),
            ("curve.json", b"{}"),
            ("curve.csv", b"kind,size\npatients,4\n"),
            ("curve.csv", b"\xff\xfe"),
        ],
    )
    def test_damaged(self, file: str, content: bytes, tmp_path: Path) -> None:
        folder = save_curve(make_curve(), tmp_path)
        (folder / file).write_bytes(content)
        with pytest.raises(ResultsError, match="delete its folder"):
            load_curve(folder)

    def test_cut_short(self, tmp_path: Path) -> None:
        folder = save_curve(make_curve(), tmp_path)
        text = (folder / "curve.csv").read_text(encoding="utf-8")
        (folder / "curve.csv").write_text(
            text[: len(text) // 2].rpartition("\n")[0] + "\n", "utf-8"
        )
        with pytest.raises(ResultsError, match="cannot be read"):
            load_curve(folder)

    def test_newer_or_another(self, tmp_path: Path) -> None:
        folder = save_curve(make_curve(), tmp_path)
        header = json.loads((folder / "curve.json").read_text(encoding="utf-8"))
        (folder / "curve.json").write_text(json.dumps(header | {"curve_id": "0" * 16}), "utf-8")
        with pytest.raises(ResultsError, match="another curve"):
            load_curve(folder)
        (folder / "curve.json").write_text(json.dumps(header | {"schema_version": 9}), "utf-8")
        with pytest.raises(ResultsError, match="newer"):
            load_curve(folder)
