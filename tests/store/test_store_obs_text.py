"""The tile table in a store: the same digest and bytes however the table holds its text."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from featurebench.store import obs
from featurebench.store.spec import canonical_json

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = ("x", "y")


def tables(n_rows: int) -> dict[str, pd.DataFrame]:
    """Give one table with its text as Python's strings, as Arrow's, and as categories."""
    rows = range(n_rows)
    plain = pd.DataFrame(
        {
            "tile_id": pd.Series([f"t{row}é" for row in rows], dtype=object),
            "path": pd.Series([f"a folder/{row}\0.png" for row in rows], dtype=object),
            "label": pd.Series([CLASSES[row % 2] for row in rows], dtype=object),
            "site": pd.Series(["", "Basel"][row % 2] for row in rows).astype(object),
            "x": np.arange(n_rows),
            "mpp": np.full(n_rows, 0.25),
        }
    )
    text = dict.fromkeys(["tile_id", "path", "label", "site"])
    arrow = pd.StringDtype("pyarrow", na_value=np.nan)
    return {
        "python": plain,
        "arrow": plain.astype(dict.fromkeys(text, arrow)),
        "categories": plain.astype(dict.fromkeys(text, "category")),
    }


def written(folder: Path, table: pd.DataFrame) -> dict[str, bytes]:
    obs.write_obs(folder, table, CLASSES)
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("chunk", [3, 4, 65_536])
@pytest.mark.parametrize("n_rows", [0, 1, 8, 11])
def test_bytes_do_not_depend_on_how_text_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_rows: int, chunk: int
) -> None:
    monkeypatch.setattr(obs, "CHUNK_ROWS", chunk)
    by_kind = {name: written(tmp_path / name, t) for name, t in tables(n_rows).items()}
    assert by_kind["arrow"] == by_kind["python"]
    assert by_kind["categories"] == by_kind["python"]
    plain = tables(n_rows)["python"]
    for name in ("tile_id", "path", "site"):
        assert obs.read_strings(tmp_path / "arrow" / name) == plain[name].tolist()


@pytest.mark.parametrize("chunk", [3, 65_536])
@pytest.mark.parametrize("n_rows", [0, 1, 11])
def test_the_digest_is_that_of_the_table_in_one(
    monkeypatch: pytest.MonkeyPatch, n_rows: int, chunk: int
) -> None:
    monkeypatch.setattr(obs, "CHUNK_ROWS", chunk)
    by_kind = tables(n_rows)
    rows = pd.util.hash_pandas_object(by_kind["python"], index=False).to_numpy().tobytes()
    head = canonical_json([list(by_kind["python"].columns), list(CLASSES)]).encode()
    expected = hashlib.sha256(head + rows).hexdigest()
    assert {obs.obs_digest(table, CLASSES) for table in by_kind.values()} == {expected}
