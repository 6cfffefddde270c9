"""Embeddings made elsewhere: brought into an experiment's store, and found there by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurebench.config import FOREIGN
from featurebench.errors import ConfigError
from featurebench.experiment.console import QUIET, Console

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from featurebench.config import ExperimentConfig
    from featurebench.store import EmbeddingSpec, FeatureStore


def import_foreign(
    config: ExperimentConfig,
    console: Console = QUIET,
    *,
    sources: Sequence[Path],
    name: str,
    layout: str = "auto",
) -> EmbeddingSpec:
    """Import files of embeddings for the experiment's tiles; see `featurebench.extraction.foreign`.

    Parameters
    ----------
    sources
        Files or folders.
    name
        Of the network that made them; ``{model: NAME, weights: foreign}`` then stands for it in
        the experiment file.
    layout
        How the sources are laid out; ``auto`` looks at them.
    """
    from featurebench.experiment.embedding import open_store
    from featurebench.experiment.study import load_tiles
    from featurebench.extraction.foreign import import_embeddings

    tiles = load_tiles(config, console)
    store = open_store(config, tiles)
    with console.track(f"importing {name}", len(tiles)) as advance:
        done = import_embeddings(
            tiles,
            store,
            sources,
            format=layout,
            name=name,
            max_bad_tiles=config.data.max_bad_tiles,
            progress=advance,
        )
    console.say(
        "imported",
        f"{done.spec.name}: {done.n_rows:,} of {len(tiles):,} tiles x {done.spec.dim}, foreign",
    )
    return done.spec


def find_foreign(store: FeatureStore | None, model: str) -> list[EmbeddingSpec]:
    """Find the imported embedding of this name.

    Raises
    ------
    ConfigError
        If there is none, or several.
    """
    specs = [] if store is None else store.embeddings()
    found = [spec for spec in specs if (spec.model, spec.tag) == (model, FOREIGN)]
    if len(found) != 1:
        count = "no" if not found else str(len(found))
        raise ConfigError(
            f"{count} imported embeddings are called {model!r}: import one with 'featurebench "
            "store import', under a name of its own"
        )
    return found
