"""Published and synthetic reference cases; ``reference_cases.json`` cites each one's source."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def read_cases() -> dict[str, dict[str, Any]]:
    """All cases by name."""
    file = Path(__file__).with_name("reference_cases.json")
    cases = json.loads(file.read_text(encoding="utf-8"))["cases"]
    return {case["name"]: case for case in cases}
