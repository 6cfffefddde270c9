"""The frozen networks of an experiment file: load them, or recognise them without loading."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from featurebench.errors import ConfigError
from featurebench.experiment.recognition import Recognition
from featurebench.store import EmbeddingSpec
from featurebench.tiles import make_views

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from featurebench.backbones import Backbone
    from featurebench.config import BackboneConfig, ExperimentConfig


def recognise(
    config: ExperimentConfig, wanted: BackboneConfig, *, remember: bool = False
) -> list[EmbeddingSpec]:
    """Tell which embeddings an entry makes; loads the network only if it never was before.

    Parameters
    ----------
    remember
        Whether a network that had to be loaded is noted beside the results.
    """
    known = recall(config, wanted)
    if known is not None:
        return known
    if remember:
        return [spec_of(backbone) for backbone in load_and_remember(config, wanted)]
    return [
        spec_of(backbone)
        for backbone in load_backbones(wanted, resolve_device(config.compute.device))
    ]


def recall(config: ExperimentConfig, wanted: BackboneConfig) -> list[EmbeddingSpec] | None:
    """Remember which embeddings an entry makes; None if its network was never loaded so."""
    answer = Recognition(config.output.results).recall(wanted.model_dump())
    if answer is None or not isinstance(answer.get("recipes"), list):
        return None
    return [EmbeddingSpec(**recipe) for recipe in answer["recipes"]]


def load_and_remember(config: ExperimentConfig, wanted: BackboneConfig) -> list[Backbone]:
    """Load an entry's network where it will compute, and note what it turned out to be."""
    backbones = load_backbones(wanted, resolve_device(config.compute.device))
    answer: Mapping[str, Any] = {"recipes": [backbone.recipe for backbone in backbones]}
    Recognition(config.output.results).remember(wanted.model_dump(), answer)
    return backbones


def load_backbones(wanted: BackboneConfig, device: str) -> list[Backbone]:
    """Load one network; give a backbone for each of its layers and views, the clean ones first."""
    from featurebench.backbones import Backbone

    first, *more = [wanted.layer] if isinstance(wanted.layer, str) else wanted.layer
    loaded = Backbone.load(
        wanted.model,
        weights=wanted.weights,
        model_args=wanted.model_args,
        preprocessing=wanted.preprocessing,
        layer=first,
        pool=wanted.pool,
        precision=wanted.precision,
        engine=wanted.engine,
        device=device,
    )
    layers = [loaded, *(loaded.variant(layer=layer, pool=wanted.pool) for layer in more)]
    views = make_views(wanted.views)
    return [layer.variant(view=view.name) for view in views for layer in layers]


def spec_of(backbone: Backbone) -> EmbeddingSpec:
    """Give the recipe under which a backbone's embedding is stored."""
    return EmbeddingSpec(**backbone.recipe)


def check_choice(config: ExperimentConfig, only: str | None) -> list[BackboneConfig]:
    """Choose the entries of one model, or all.

    Raises
    ------
    ConfigError
        If no entry has that model.
    """
    chosen = [b for b in config.backbones if only is None or b.model == only]
    if not chosen and only is not None:
        known = ", ".join(b.model for b in config.backbones) or "none"
        raise ConfigError(f"--backbone {only!r} is not in the experiment file; it has {known}")
    return chosen


def resolve_device(name: str) -> str:
    """Take ``auto`` for a GPU where there is one, else for the processor.

    Of several GPUs, a process that was started as one of many takes the one of its own number.
    """
    if name != "auto":
        return name
    if not _has_driver():  # torch takes seconds to load
        return "cpu"
    import torch

    from featurebench.scaling import rank_from_environment

    if not torch.cuda.is_available():
        return "cpu"
    rank = rank_from_environment(os.environ)
    return "cuda" if rank is None else f"cuda:{rank.local_index % torch.cuda.device_count()}"


def _has_driver() -> bool:
    """Tell whether there is a driver of a GPU that torch could use."""
    if sys.platform != "linux" or Path("/dev/kfd").exists():
        return True
    with contextlib.suppress(OSError):
        ctypes.CDLL("libcuda.so.1")
        return True
    return False


def resolve_threads(threads: int | None) -> int:
    """Give the number of processor threads: as configured, else all that this process may use.

    ``OMP_NUM_THREADS`` limits them, which is how several processes of a machine share it.
    """
    cores = len(os.sched_getaffinity(0))
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return threads or (min(cores, int(limit)) if limit.isdecimal() and int(limit) else cores)


def use_threads(threads: int) -> None:
    """Set the threads of the network's own kernels."""
    import torch

    torch.set_num_threads(threads)
