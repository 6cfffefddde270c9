"""Where work runs: this process, a share of it, local processes, or a Dask cluster."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurebench.scaling.dask_cluster import deal
    from featurebench.scaling.pool import deal_locally
    from featurebench.scaling.processes import run_ranks
    from featurebench.scaling.ranks import Rank, rank_from_environment
    from featurebench.scaling.share import Share, parse_share

# most commands run in one process and need none of this
_HOMES = {
    "Rank": "ranks",
    "Share": "share",
    "deal": "dask_cluster",
    "deal_locally": "pool",
    "parse_share": "share",
    "rank_from_environment": "ranks",
    "run_ranks": "processes",
}

__all__ = [
    "Rank",
    "Share",
    "deal",
    "deal_locally",
    "parse_share",
    "rank_from_environment",
    "run_ranks",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the module that holds ``name`` when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return __all__
