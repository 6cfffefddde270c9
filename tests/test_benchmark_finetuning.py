"""The benchmark of training steps runs, and both of its loops do the same work."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.finetuning import Report, Tiles, format_report, main, measure, read_options

if TYPE_CHECKING:
    from pathlib import Path

TINY = [
    *("--model", "test_resnet", "--batch-size", "4", "--steps", "3"),
    *("--rounds", "2", "--image-size", "32"),
]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_both_loops_learn_the_same(precision: str) -> None:
    settings, _ = read_options([*TINY, "--precision", precision])
    report = measure(settings)
    assert set(report.seconds) == {"featurebench", "plain"}
    assert {len(times) for times in report.seconds.values()} == {2}
    # timm's warm-up starts a fraction of a step earlier
    tolerance = 0.02 if precision == "float32" else 0.1
    assert report.loss["featurebench"] == pytest.approx(report.loss["plain"], rel=tolerance)


def test_ratio_is_that_of_the_medians() -> None:
    report = Report({"featurebench": [3.0, 1.0, 2.0], "plain": [4.0, 4.0, 9.0]}, {}, "float32")
    assert report.ratio == 0.5


def test_tiles_are_those_of_their_rows() -> None:
    tiles = Tiles(10, 8)
    (batch,) = tiles.batches([np.array([7, 2])])
    assert batch.shape == (2, 3, 8, 8)
    np.testing.assert_array_equal(batch[1].permute(1, 2, 0).numpy(), tiles.pixels[2])
    bright, dark = (tiles.pixels[tiles.labels == c].mean() for c in (1, 0))
    assert bright > dark + 30


@pytest.mark.parametrize("option", [["--steps", "0"], ["--batch-size", "1"]])
def test_wrong_options_are_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_options(option)
    assert f"{option[0]} {option[1]} is too small" in capsys.readouterr().err


def test_report_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "finetuning.json"
    main([*TINY, "--json", str(target)])
    document = json.loads(target.read_text())
    report = Report(document["seconds"], document["loss"], document["precision"])
    assert document["ratio"] == pytest.approx(report.ratio)
    assert document["settings"]["model"] == "test_resnet"
    assert "lightning-fabric" in document["machine"]["libraries"]
    settings, _ = read_options(TINY)
    assert "\n".join(format_report(report, settings)) in capsys.readouterr().out
