"""The report: summarize a comparison as a plain dict, then write it as HTML, Markdown and CSV."""

from __future__ import annotations

from featurebench.reporting.render import write_report
from featurebench.reporting.summary import summarize

__all__ = ["summarize", "write_report"]
