"""The audit beside the comparison: leakage, near-duplicates, shortcuts, and frozen networks."""

from featurebench.audit.duplicates import Duplicates, Pair, find_duplicates, seconds_needed
from featurebench.audit.embedding_map import EmbeddingMap, map_embedding
from featurebench.audit.frozen import FrozenProof, frozen_proofs
from featurebench.audit.likeness import ALIKE, likeness
from featurebench.audit.separation import Separation, separations
from featurebench.audit.shortcut import Shortcut, find_shortcuts, untestable

__all__ = [
    "ALIKE",
    "Duplicates",
    "EmbeddingMap",
    "FrozenProof",
    "Pair",
    "Separation",
    "Shortcut",
    "find_duplicates",
    "find_shortcuts",
    "frozen_proofs",
    "likeness",
    "map_embedding",
    "seconds_needed",
    "separations",
    "untestable",
]
