"""Embeddings made elsewhere, brought into a store: CLAM, TRIDENT, STAMP, eva, or a plain matrix."""

from featurebench.extraction.foreign.importing import ForeignImport, import_embeddings
from featurebench.extraction.foreign.sources import FORMATS, SourceFile

__all__ = ["FORMATS", "ForeignImport", "SourceFile", "import_embeddings"]
