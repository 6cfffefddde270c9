"""An experiment from tiles to report: the straight line, each step cached and safe to repeat."""

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
    report_is_fresh,
    run,
)

__all__ = [
    "QUIET",
    "Console",
    "Finding",
    "compare_arms",
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
    "report_is_fresh",
    "run",
    "write_starter",
]
