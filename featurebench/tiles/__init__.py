"""Where tiles come from: folder, table, medmnist file or synthetic cohort, as one TileManifest."""

from featurebench.tiles.jitter import jitter_tile
from featurebench.tiles.layout import (
    find_manifest,
    guess_columns,
    suggest_patient_regex,
    unused_ids,
)
from featurebench.tiles.manifest import TileManifest
from featurebench.tiles.medmnist import unpack_medmnist
from featurebench.tiles.pixels import MAX_PIXELS, read_tile, tile_size
from featurebench.tiles.synthetic import Cohort, oracle_auc, write_cohort
from featurebench.tiles.views import (
    CLEAN,
    View,
    make_views,
    needs_square,
    parse_view,
    turn_pixels,
)

__all__ = [
    "CLEAN",
    "MAX_PIXELS",
    "Cohort",
    "TileManifest",
    "View",
    "find_manifest",
    "guess_columns",
    "jitter_tile",
    "make_views",
    "needs_square",
    "oracle_auc",
    "parse_view",
    "read_tile",
    "suggest_patient_regex",
    "tile_size",
    "turn_pixels",
    "unpack_medmnist",
    "unused_ids",
    "write_cohort",
]
