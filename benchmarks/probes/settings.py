"""Settings of a run, read from the command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.probes.cohort import Shape
from benchmarks.surroundings import usable_cores

if TYPE_CHECKING:
    from collections.abc import Sequence

SECTIONS = ("useful", "grid", "ridge", "knn", "lightgbm", "efficiency", "curve", "memory")
_DEFAULTS: dict[str, Any] = {
    "rows": 20_000,
    "columns": 1024,
    "trees": 100,
    "tree_folds": 2,
    "product": 3000,
    "curve_rows": [5_000, 20_000, 50_000, 100_000, 200_000],
    "curve_folds": [1, 5, 25, 50],
    "memory_rows": 1_000_000,
}
QUICK: dict[str, Any] = {
    "rows": 4_000,
    "columns": 256,
    "peer_folds": 5,
    "trees": 20,
    "tree_folds": 1,
    "product": 1000,
    "curve_rows": [2_000, 4_000],
    "curve_folds": [1, 5],
    "memory_rows": 20_000,
}


@dataclass(frozen=True)
class Settings:
    """What is measured; each is an option of the command line."""

    only: list[str]
    rows: int
    columns: int
    patients: int
    seed: int
    threads: int
    rounds: int
    peer_folds: int | None
    trees: int
    tree_folds: int
    tree_threads: int
    product: int
    curve_rows: list[int]
    curve_folds: list[int]
    memory_rows: int
    keep_bytes: int
    scratch: Path | None
    check: bool
    profile: int
    quick: bool
    json: Path | None

    @property
    def shape(self) -> Shape:
        """Of the cohort in memory."""
        return Shape(self.rows, self.columns, patients=self.patients)


def read_options(arguments: Sequence[str] | None = None, *, about: str | None = None) -> Settings:
    """Read the command line; ``--quick`` changes defaults, not what is given."""
    parser = _make_parser(about)
    if parser.parse_known_args(arguments)[0].quick:
        parser.set_defaults(**QUICK)
    return Settings(**vars(parser.parse_args(arguments)))


def _make_parser(about: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="few rows, columns and folds")
    parser.add_argument("--rows", type=_count, help="tiles")
    parser.add_argument("--columns", type=_count, help="features")
    parser.add_argument("--patients", type=_count, default=86)
    parser.add_argument("--seed", type=int, default=0, help="of features and folds")
    parser.add_argument("--threads", type=_count, default=usable_cores(), help="of both sides")
    parser.add_argument("--rounds", type=_count, default=1, help="that count")
    parser.add_argument(
        "--peer-folds", type=_count, help="time the linear peers on so many folds and scale"
    )
    parser.add_argument("--trees", type=_count, help="rounds of boosting")
    parser.add_argument("--tree-folds", type=_count, help="folds of boosted trees")
    parser.add_argument("--tree-threads", type=_count, default=1, help="of both sides' trees")
    parser.add_argument("--product", type=_count, help="size of the square matrix product")
    parser.add_argument("--curve-rows", type=_count, nargs="+")
    parser.add_argument("--curve-folds", type=_count, nargs="+", help="1, or a multiple of 5")
    parser.add_argument("--memory-rows", type=_count, help="rows of the file on disk")
    parser.add_argument(
        "--keep-bytes", type=int, default=2**26, help="that the solver may copy, memory only"
    )
    parser.add_argument(
        "--scratch", type=Path, help="folder for that file; default: a temporary one on a disk"
    )
    parser.add_argument(
        "--no-check", dest="check", action="store_false", help="leave out the comparison of optima"
    )
    parser.add_argument(
        "--profile", type=int, default=0, metavar="N", help="functions to list, efficiency only"
    )
    parser.add_argument("--json", "--output", type=Path, help="file for every figure")
    parser.set_defaults(**_DEFAULTS)
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value
