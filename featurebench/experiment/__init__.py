"""An experiment from tiles to report: the straight line, each step cached and safe to repeat."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurebench.experiment.across import (
        across_differences,
        compare_experiments,
        report_experiments,
    )
    from featurebench.experiment.console import QUIET, Console
    from featurebench.experiment.doctor import Finding, examine
    from featurebench.experiment.foreign import import_foreign
    from featurebench.experiment.sharing import (
        embed_in_processes,
        embed_on_dask,
        embed_share,
        local_processes,
    )
    from featurebench.experiment.starter import write_starter
    from featurebench.experiment.steps import (
        compare_arms,
        embed_tiles,
        fine_tune_arms,
        outlook,
        probe_arms,
        report,
        report_differences,
        report_is_fresh,
        run,
    )

# a worker needs few of the modules, and there are many workers
_HOMES = {
    "QUIET": "console",
    "Console": "console",
    "Finding": "doctor",
    "across_differences": "across",
    "compare_arms": "steps",
    "compare_experiments": "across",
    "embed_in_processes": "sharing",
    "embed_on_dask": "sharing",
    "embed_share": "sharing",
    "embed_tiles": "steps",
    "examine": "doctor",
    "fine_tune_arms": "steps",
    "import_foreign": "foreign",
    "local_processes": "sharing",
    "outlook": "steps",
    "probe_arms": "steps",
    "report": "steps",
    "report_differences": "steps",
    "report_experiments": "across",
    "report_is_fresh": "steps",
    "run": "steps",
    "write_starter": "starter",
}

__all__ = [
    "QUIET",
    "Console",
    "Finding",
    "across_differences",
    "compare_arms",
    "compare_experiments",
    "embed_in_processes",
    "embed_on_dask",
    "embed_share",
    "embed_tiles",
    "examine",
    "fine_tune_arms",
    "import_foreign",
    "local_processes",
    "outlook",
    "probe_arms",
    "report",
    "report_differences",
    "report_experiments",
    "report_is_fresh",
    "run",
    "write_starter",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the module that holds ``name`` when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return __all__
