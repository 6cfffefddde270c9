"""The frozen networks of an experiment: load each, embed what is pending, find what is stored."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from featurebench.errors import ConfigError, MissingRowsError, StoreMismatchError
from featurebench.experiment.recognition import Recognition
from featurebench.experiment.study import BadTile
from featurebench.store import EmbeddingSpec, FeatureStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from featurebench.backbones import Backbone
    from featurebench.config import BackboneConfig, ExperimentConfig
    from featurebench.experiment.console import Console
    from featurebench.tiles import TileManifest


def embed(
    config: ExperimentConfig,
    tiles: TileManifest,
    console: Console,
    *,
    only: str | None = None,
) -> list[EmbeddingSpec]:
    """Embed the pending blocks of every backbone; only of those of one model where asked.

    Returns
    -------
    list of EmbeddingSpec
        In the order of the experiment file.
    """
    chosen = [b for b in config.backbones if only is None or b.model == only]
    if not chosen and only is not None:
        known = ", ".join(b.model for b in config.backbones) or "none"
        raise ConfigError(f"--backbone {only!r} is not in the experiment file; it has {known}")
    store = open_store(config, tiles)
    return [_embed_one(config, wanted, tiles, store, console) for wanted in chosen]


def stored_specs(config: ExperimentConfig, tiles: TileManifest) -> list[EmbeddingSpec]:
    """Find every backbone's embedding, without embedding anything.

    Raises
    ------
    MissingRowsError
        If tiles are still to be embedded.
    """
    if not config.backbones:
        return []
    specs = [recognise(config, wanted) for wanted in config.backbones]
    has_store = (config.store / "store.json").is_file()
    store = open_store(config, tiles) if has_store else None
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
    """Say of every backbone how many tiles are pending; also gives whether none is."""
    store = open_store(config, tiles) if (config.store / "store.json").is_file() else None
    specs = [recognise(config, wanted) for wanted in config.backbones]
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


def refused_tiles(store: FeatureStore, specs: Iterable[EmbeddingSpec]) -> list[BadTile]:
    """List the tiles that lack one of the embeddings, each once, with the first reason."""
    bad: dict[int, BadTile] = {}
    for spec in specs:
        for refusal in store.refused(spec):
            bad.setdefault(refusal.row, BadTile(refusal.row, refusal.tile_id, refusal.reason))
    return list(bad.values())


def recognise(config: ExperimentConfig, wanted: BackboneConfig) -> EmbeddingSpec:
    """Tell which embedding a backbone makes; loads the network only if it never was before."""
    recipe = Recognition(config.output.results).recall(wanted.model_dump())
    if recipe is None:
        recipe = load_backbone(wanted, "cpu").recipe
    return EmbeddingSpec(**recipe)


def load_backbone(config: BackboneConfig, device: str) -> Backbone:
    """Load a network of the experiment file."""
    from featurebench.backbones import Backbone

    return Backbone.load(
        config.model,
        weights=config.weights,
        model_args=config.model_args,
        preprocessing=config.preprocessing,
        device=device,
    )


def resolve_device(name: str) -> str:
    """Take ``auto`` for the first GPU where there is one, else for the processor."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_threads(threads: int | None) -> int:
    """Give the number of processor threads: as configured, else all that this process may use."""
    return threads or len(os.sched_getaffinity(0))


def use_threads(threads: int) -> None:
    """Set the threads of the network's own kernels."""
    import torch

    torch.set_num_threads(threads)


def _embed_one(
    config: ExperimentConfig,
    wanted: BackboneConfig,
    tiles: TileManifest,
    store: FeatureStore,
    console: Console,
) -> EmbeddingSpec:
    recognition = Recognition(config.output.results)
    recipe = recognition.recall(wanted.model_dump())
    known = None if recipe is None else EmbeddingSpec(**recipe)
    if known is None or _n_pending(store, known, len(tiles)):
        use_threads(resolve_threads(config.compute.threads))
        backbone = load_backbone(wanted, resolve_device(config.compute.device))
        recognition.remember(wanted.model_dump(), backbone.recipe)
        known = EmbeddingSpec(**backbone.recipe)
        if _n_pending(store, known, len(tiles)):
            _extract(config, backbone, tiles, store, console)
            return known
    console.say("embedding", f"{known.name}: cached ({len(tiles):,} tiles x {known.dim})")
    return known


def _extract(
    config: ExperimentConfig,
    backbone: Backbone,
    tiles: TileManifest,
    store: FeatureStore,
    console: Console,
) -> None:
    from featurebench.extraction import extract

    spec = EmbeddingSpec(**backbone.recipe)
    n_pending = _n_pending(store, spec, len(tiles))
    with console.track(f"embedding {spec.name}", n_pending) as advance:
        report = extract(
            tiles,
            backbone,
            store,
            batch_size=config.compute.batch_size,
            workers=config.compute.workers,
            max_bad_tiles=config.data.max_bad_tiles,
            progress=advance,
        )
    seconds = report.cost["wall_s"]
    refused = f", {len(report.refused)} refused" if report.refused else ""
    console.say(
        "embedding",
        f"{spec.name}: {n_pending:,} tiles x {spec.dim} in {seconds:.0f} s "
        f"({n_pending / seconds:.0f} tiles/s){refused}",
    )


def _n_pending(store: FeatureStore | None, spec: EmbeddingSpec, n_tiles: int) -> int:
    known = [] if store is None else [stored.fingerprint for stored in store.embeddings()]
    if store is None or spec.fingerprint not in known:
        return n_tiles
    return sum(len(block) for block in store.pending(spec))
