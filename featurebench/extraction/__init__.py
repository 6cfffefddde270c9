"""The resumable embedding loop: tiles through a frozen network into a feature store."""

from featurebench.extraction.loop import ExtractionReport, extract

__all__ = ["ExtractionReport", "extract"]
