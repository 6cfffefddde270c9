"""The command line, ``featurebench``: thin verbs over the library."""

from featurebench.cli import experiment, store
from featurebench.cli.main import main

__all__ = ["experiment", "main", "store"]
