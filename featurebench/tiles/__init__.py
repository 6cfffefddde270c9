"""Where tiles come from: a folder, a table or the synthetic cohort, always as one TileManifest."""

from featurebench.tiles.layout import find_manifest, guess_columns, suggest_patient_regex
from featurebench.tiles.manifest import TileManifest
from featurebench.tiles.pixels import MAX_PIXELS, read_tile
from featurebench.tiles.synthetic import Cohort, oracle_auc, write_cohort

__all__ = [
    "MAX_PIXELS",
    "Cohort",
    "TileManifest",
    "find_manifest",
    "guess_columns",
    "oracle_auc",
    "read_tile",
    "suggest_patient_regex",
    "write_cohort",
]
