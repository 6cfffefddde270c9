"""The report: summarize a comparison as a plain dict, then write it as HTML, Markdown and CSV."""

from __future__ import annotations

from featurebench.reporting.checksums import edited_files
from featurebench.reporting.render import write_report
from featurebench.reporting.summary import summarize

__all__ = ["edited_files", "summarize", "write_report"]
