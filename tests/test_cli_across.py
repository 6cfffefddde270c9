"""Several experiment files in one command: a report over data sets, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from featurebench.cli import main

if TYPE_CHECKING:
    from pathlib import Path


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def two(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two experiment files whose tiles are different files."""
    root = tmp_path_factory.mktemp("across")
    first = shutil.copytree(finished, root / "first") / "small.yaml"
    second = shutil.copytree(finished, root / "second") / "small.yaml"
    second.write_text(rename(second.read_text(encoding="utf-8"), "other"), encoding="utf-8")
    return first, second


def rename(text: str, name: str) -> str:
    """Give an experiment another name, its folders staying as they are."""
    places = "store: stores/small.store\noutput: {results: results/small, reports: reports/small}\n"
    return text.replace("name: small\n", f"name: {name}\n{places}")


def test_report_over_data_sets_links_to_their_own(two: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "over all"
    status, _, err = invoke("report", *two, "--output", output, "--check")
    assert status == 2
    assert "the report is stale: other: its settings differ" in err
    status, out, _ = invoke("report", *two, "--output", output)
    assert status == 0
    assert "across.html" in out
    assert "Over 2 data sets" in out
    html = (output / "across.html").read_text(encoding="utf-8")
    links = set(re.findall(r'href="([^"#]+/report\.html)"', html))
    assert len(links) == 2
    assert all((output / link).is_file() for link in links)
    made = json.loads((output / "across.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in made["data_sets"]] == ["small", "other"]
    assert made["mean"]["k"] == 2
    assert any("12 patient ids in common" in note for note in made["notes"])
    assert invoke("report", *two, "--output", output, "--check")[0] == 0
    before = (output / "across.html").stat().st_mtime_ns
    assert invoke("report", *two, "--output", output)[0] == 0
    assert (output / "across.html").stat().st_mtime_ns == before
    (output / "across.json").write_text("{}", encoding="utf-8")
    status, _, err = invoke("report", *two, "--output", output, "--check")
    assert status == 2
    assert "over data sets is absent or was made of others" in err


def test_compare_prints_effects_mean_and_verdict(two: tuple[Path, Path]) -> None:
    status, out, _ = invoke("compare", *two)
    assert status == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["data", "small", "other", "mean"]
    assert "Over 2 data sets" in out
    status, out, _ = invoke("compare", *two, "--json")
    assert status == 0
    assert json.loads(out)["metric"]["name"] == "balanced_accuracy"


def test_one_file_is_still_one_experiment(two: tuple[Path, Path], tmp_path: Path) -> None:
    status, out, _ = invoke("compare", two[0])
    assert status == 0
    assert "data sets" not in out.splitlines()[0]
    status, _, err = invoke("report", two[0], "--output", tmp_path / "x")
    assert status == 2
    assert "--output is for several experiments" in err


def test_several_need_a_folder(two: tuple[Path, Path]) -> None:
    status, _, err = invoke("report", *two)
    assert status == 2
    assert "several experiments need --output" in err


def test_same_tiles_are_no_two_data_sets(two: tuple[Path, Path], tmp_path: Path) -> None:
    again = two[0].with_name("again.yaml")
    again.write_text(rename(two[0].read_text(encoding="utf-8"), "again"), encoding="utf-8")
    status, _, err = invoke("report", two[0], again, "--output", tmp_path / "x")
    assert status == 2
    assert "small and again have 48 tiles in common" in err
    assert not (tmp_path / "x").exists()


def test_same_name_twice_is_refused(two: tuple[Path, Path]) -> None:
    status, _, err = invoke("compare", two[0], two[0])
    assert status == 2
    assert "'small' names two experiments" in err


def test_different_questions_are_refused(two: tuple[Path, Path]) -> None:
    text = two[1].read_text(encoding="utf-8")
    other = two[1].with_name("margin.yaml")
    other.write_text(text.replace("compare: {", "compare: {margin: 0.2, "), encoding="utf-8")
    status, _, err = invoke("compare", two[0], other)
    assert status == 2
    assert "small declares compare.margin none and other 0.2" in err


def test_splits_of_the_same_tiles_are_one_data_set(two: tuple[Path, Path]) -> None:
    file = two[0].with_name("ways.yaml")
    text = two[0].read_text(encoding="utf-8")
    ways = "splits: {a: {folds: 3, group: patient_id}, b: {folds: 2, group: patient_id}}"
    file.write_text(re.sub(r"splits: .*", ways, text), encoding="utf-8")
    status, _, err = invoke("compare", file, two[1])
    assert status == 2
    assert "ways.yaml splits the same tiles in 2 ways, which are one data set" in err
    assert "--splits one of a, b" in err
    status, _, err = invoke("compare", file, two[1], "--splits", "c")
    assert status == 2
    assert "choose by --splits" in err
    # The way that was named is taken, and was never run.
    status, _, err = invoke("compare", file, two[1], "--splits", "a")
    assert status == 2
    assert "featurebench run" in err
