"""Every error that a user can mend: one line that names the value and the remedy."""

from __future__ import annotations


class FeatureBenchError(Exception):
    """Base of all errors that the user can mend; the command line exits with status 2."""


class ConfigError(FeatureBenchError, ValueError):
    """The experiment file, or a value given with ``--set``, cannot be used."""


class ManifestError(FeatureBenchError, ValueError):
    """The table or folder of tiles has problems; the message lists all of them."""


class TileError(FeatureBenchError, ValueError):
    """One tile's pixels cannot be used; the message is the reason, without the path."""


class WeightsError(FeatureBenchError, ValueError):
    """A network's weights are missing, of another layout, or not what was asked for."""


class StoreError(FeatureBenchError, RuntimeError):
    """A feature store cannot be used as asked."""


class StoreMismatchError(StoreError):
    """The store was made from other tiles or by another recipe."""


class StoreCorruptError(StoreError):
    """Bytes of the store are not those that were committed."""


class MissingRowsError(StoreError, LookupError):
    """Rows were asked for that no commit record vouches for."""


class ExtractionError(FeatureBenchError, RuntimeError):
    """An extraction stopped; what was committed stays."""


class WorkerError(FeatureBenchError, RuntimeError):
    """Worker processes ended before their work was done; what was finished stays."""


class SplitError(FeatureBenchError, ValueError):
    """The folds asked for cannot be drawn from these tiles."""


class ResultsError(FeatureBenchError, RuntimeError):
    """Runs on disk cannot be read or cannot be compared with each other."""
