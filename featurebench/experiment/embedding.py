"""The embeddings of an experiment: make what is pending in one pass, find what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurebench.config import FOREIGN
from featurebench.errors import MissingRowsError, StoreMismatchError
from featurebench.experiment.foreign import find_foreign
from featurebench.experiment.networks import (
    check_choice,
    load_and_remember,
    recall,
    recognise,
    resolve_threads,
    spec_of,
    use_threads,
)
from featurebench.experiment.study import BadTile
from featurebench.store import EmbeddingSpec, FeatureStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from featurebench.backbones import Backbone
    from featurebench.config import BackboneConfig, ExperimentConfig
    from featurebench.experiment.console import Console
    from featurebench.extraction import ExtractionReport
    from featurebench.tiles import TileManifest


def embed(
    config: ExperimentConfig,
    tiles: TileManifest,
    console: Console,
    *,
    only: str | None = None,
    blocks: Callable[[int], bool] | None = None,
    wait: bool = True,
) -> list[EmbeddingSpec]:
    """Embed the pending blocks of every backbone in one pass; only of one model where asked.

    Parameters
    ----------
    only
        Model name of the entries to embed; all if None.
    blocks, wait
        As in `featurebench.extraction.Settings`.

    Returns
    -------
    list of EmbeddingSpec
        All embeddings of the chosen entries, in the order of the experiment file.
    """
    store = open_store(config, tiles)
    specs: list[EmbeddingSpec] = []
    pending: list[Backbone] = []
    for wanted in check_choice(config, only):
        made, lacking = _sort_out(config, wanted, store)
        specs += made
        pending += lacking
    waiting = {spec_of(backbone) for backbone in pending}
    for spec in specs:
        if spec not in waiting:
            console.say("embedding", f"{spec.name}: cached ({len(tiles):,} tiles x {spec.dim})")
    if pending:
        _extract(config, pending, tiles, store, console, blocks=blocks, wait=wait)
    return specs


def stored_specs(config: ExperimentConfig, tiles: TileManifest) -> list[EmbeddingSpec]:
    """Find every backbone's embeddings, without embedding anything.

    Raises
    ------
    MissingRowsError
        If tiles are still to be embedded.
    """
    if not config.backbones:
        return []
    has_store = (config.store / "store.json").is_file()
    store = open_store(config, tiles) if has_store else None
    specs = [
        spec
        for wanted in config.backbones
        for spec in _made_by(config, wanted, store, remember=has_store)
    ]
    for spec in specs:
        n_pending = _n_pending(store, spec, len(tiles))
        if n_pending:
            raise MissingRowsError(
                f"{spec.name}: {n_pending:,} of {len(tiles):,} tiles are still to be embedded: "
                "run 'featurebench extract' first"
            )
    return specs


def foresee(
    config: ExperimentConfig, tiles: TileManifest, console: Console
) -> tuple[list[EmbeddingSpec], bool]:
    """Say of every embedding how many tiles are pending; also gives whether none is."""
    store = open_store(config, tiles) if (config.store / "store.json").is_file() else None
    specs = [spec for wanted in config.backbones for spec in _made_by(config, wanted, store)]
    pending = [_n_pending(store, spec, len(tiles)) for spec in specs]
    for spec, n_pending in zip(specs, pending, strict=True):
        state = f"would embed {n_pending:,} of {len(tiles):,} tiles" if n_pending else "cached"
        console.say("embedding", f"{spec.name}: {state}")
    return specs, not any(pending)


def open_store(config: ExperimentConfig, tiles: TileManifest) -> FeatureStore:
    """Open the experiment's store, or create it; its tiles must be the manifest's.

    Raises
    ------
    StoreMismatchError
        If the store was made from other tiles.
    """
    if not (config.store / "store.json").is_file():
        return FeatureStore.create(
            config.store,
            tiles.table,
            dataset=config.name,
            classes=tiles.classes,
            manifest_sha256=tiles.sha256,
        )
    store = FeatureStore.open(config.store)
    if store.manifest_sha256 != tiles.sha256:
        raise StoreMismatchError(
            f"{config.store.name} holds {store.n_tiles} other tiles than the {len(tiles)} of the "
            "manifest: name another store in the experiment file, or delete this one"
        )
    # Labels and other annotations may have changed since; the store keeps a copy for AnnData.
    store.update_obs(tiles.table, tiles.classes)
    return store


def pending_blocks(store: FeatureStore, specs: Iterable[EmbeddingSpec]) -> dict[int, int]:
    """Count the tiles of each block that one of the embeddings lacks, by the block's number."""
    lacking = {block.index: len(block) for spec in specs for block in store.pending(spec)}
    return dict(sorted(lacking.items()))


def refused_tiles(store: FeatureStore, specs: Iterable[EmbeddingSpec]) -> list[BadTile]:
    """List the tiles that lack one of the embeddings, each once, with the first reason."""
    bad: dict[int, BadTile] = {}
    for spec in specs:
        for refusal in store.refused(spec):
            bad.setdefault(refusal.row, BadTile(refusal.row, refusal.tile_id, refusal.reason))
    return list(bad.values())


def _made_by(
    config: ExperimentConfig,
    wanted: BackboneConfig,
    store: FeatureStore | None,
    *,
    remember: bool = False,
) -> list[EmbeddingSpec]:
    if wanted.weights == FOREIGN:
        return find_foreign(store, wanted.model)
    return recognise(config, wanted, remember=remember)


def _sort_out(
    config: ExperimentConfig, wanted: BackboneConfig, store: FeatureStore
) -> tuple[list[EmbeddingSpec], list[Backbone]]:
    """Give the embeddings of an entry, and the backbones of those that are not complete."""
    if wanted.weights == FOREIGN:
        return find_foreign(store, wanted.model), []
    known = recall(config, wanted)
    if known is not None and not any(_n_pending(store, spec, store.n_tiles) for spec in known):
        return known, []
    use_threads(resolve_threads(config.compute.threads))
    backbones = load_and_remember(config, wanted)
    lacking = [b for b in backbones if _n_pending(store, spec_of(b), store.n_tiles)]
    return [spec_of(backbone) for backbone in backbones], lacking


def _extract(
    config: ExperimentConfig,
    backbones: Sequence[Backbone],
    tiles: TileManifest,
    store: FeatureStore,
    console: Console,
    *,
    blocks: Callable[[int], bool] | None,
    wait: bool,
) -> None:
    from featurebench.extraction import Settings, extract

    compute = config.compute
    settings = Settings(
        batch_size=compute.batch_size,
        workers=compute.workers,
        block_rows=compute.block_rows,
        compression=compute.compression,
        blocks=blocks,
        wait=wait,
        max_bad_tiles=config.data.max_bad_tiles,
    )
    n_pending = max(_n_pending(store, spec_of(b), len(tiles)) for b in backbones)
    names = {backbone.model for backbone in backbones}
    label = names.pop() if len(names) == 1 else f"{len(names)} networks"
    with console.track(f"embedding {label}", n_pending) as advance:
        report = extract(
            tiles,
            backbones,
            store,
            settings,
            progress=advance,
            say=lambda line: console.say("notice", line),
        )
    _tell(report, console)


def _tell(report: ExtractionReport, console: Console) -> None:
    from featurebench.extraction import bound_by

    for embedding in report.embeddings:
        spec, refused = embedding.spec, len(embedding.refused)
        note = f", {refused} refused" if refused else ""
        seconds = embedding.cost["wall_s"]
        console.say(
            "embedding", f"{spec.name}: {spec.dim} columns, {seconds:.0f} s of the work{note}"
        )
    rate = report.n_tiles / report.wall_s if report.wall_s else 0.0
    console.say(
        "embedding",
        f"{report.n_tiles:,} tiles read once in {report.wall_s:.0f} s ({rate:.0f} tiles/s), "
        f"{bound_by(report.waited_s)}",
    )


def _n_pending(store: FeatureStore | None, spec: EmbeddingSpec, n_tiles: int) -> int:
    known = [] if store is None else [stored.fingerprint for stored in store.embeddings()]
    if store is None or spec.fingerprint not in known:
        return n_tiles
    return sum(len(block) for block in store.pending(spec))
