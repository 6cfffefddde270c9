"""Extraction killed at random moments: what comes out is what an undisturbed run gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DRIVER = Path(__file__).with_name("fork_cases.py")


def drive(*arguments: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, DRIVER, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def test_kills_at_random_moments_change_no_byte(tmp_path: Path) -> None:
    facts = drive("kill", tmp_path, 1, 50, 1)
    assert facts["kills"] == 50
    assert facts["amid"] > 25
    # claims of the dead were on disk, and no run waited for them
    assert facts["left_claims"] > 10
    assert facts["waited"] == ""


@pytest.mark.slow
def test_kills_of_two_extractors_at_once_change_no_byte(tmp_path: Path) -> None:
    facts = drive("kill", tmp_path, 2, 200, 2)
    assert facts["kills"] >= 200
    assert facts["amid"] > 50
    assert facts["left_claims"] > 40
