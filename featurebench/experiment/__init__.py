"""An experiment from tiles to report: the straight line, each step cached and safe to repeat."""

from featurebench.experiment.console import QUIET, Console
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
    "compare_arms",
    "embed_tiles",
    "fine_tune_arms",
    "outlook",
    "probe_arms",
    "report",
    "report_is_fresh",
    "run",
    "write_starter",
]
