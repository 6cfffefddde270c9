"""What the README shows is what happens."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from featurebench.cli import main
from featurebench.config import load_config
from featurebench.tiles import write_cohort

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cohort(tmp_path / "tiles", patients=10, tiles_per_patient=3, size=32, class_effect=3.0)
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    scope: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), scope)
    out = capsys.readouterr().out
    assert "balanced accuracy" in out
    assert scope["results"].plan_id == scope["plan"].id


def test_experiment_file_is_valid(tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    config = load_config(file)
    assert [entry.model for entry in config.backbones][1] == "resnet50.a1_in1k"


def test_commands_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    lines = "".join(blocks("console")).splitlines()
    assert len(lines) == 13
    for line in lines:
        words = shlex.split(line.removeprefix("$ "))
        if words[0] == "make":
            assert f"\n{words[1]}:" in makefile
        else:
            assert words[0] == "featurebench"
            assert words[1] in main.commands


def test_listed_verbs_are_those_there_are() -> None:
    listed = re.findall(r"^    featurebench (\w+)", README, flags=re.MULTILINE)
    assert listed == list(main.commands)
    assert CliRunner().invoke(main, ["store", "--help"]).exit_code == 0


@pytest.mark.parametrize("link", re.findall(r"\]\((docs/[^)]+)\)|`(docs/[^`]+)`", README))
def test_links_lead_somewhere(link: tuple[str, str]) -> None:
    assert (REPOSITORY / (link[0] or link[1])).is_file()
