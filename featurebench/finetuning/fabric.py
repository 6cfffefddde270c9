"""Lightning Fabric as fine-tuning uses it: one device or several processes, and a precision."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy
from timm.layers import convert_sync_batchnorm
from torch.nn.modules.batchnorm import _BatchNorm

from featurebench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

    from featurebench.finetuning.feed import Rows

_NAMES: Final[dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]]] = {
    "float32": "32-true",
    "bfloat16": "bf16-mixed",
    "float16": "16-mixed",
}


class _Processes(DDPStrategy):
    """Processes that do not announce themselves."""

    def setup_environment(self) -> None:
        """Join the others; what is logged of it would run into the progress shown."""
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        super().setup_environment()


def make_fabric(device: torch.device, precision: str, *, processes: int = 1) -> Fabric:
    """Set up Fabric for a device, or for several processes that train one network.

    Parameters
    ----------
    device
        Where to compute. Several processes take the first GPUs, one each, or the processor.
    precision
        ``float32``, ``bfloat16`` or ``float16``, as `precision_on` gives it.
    processes
        More than 1 are started by the fabric's ``launch``.
    """
    # Where a cluster's scheduler started us, Fabric would take its tasks for processes of ours.
    plugins = LightningEnvironment()
    if processes > 1:
        return Fabric(
            accelerator=device.type,
            devices=processes,
            strategy=_Processes(start_method="spawn"),
            precision=_NAMES[precision],
            plugins=plugins,
        )
    several = device.type == "cuda"
    devices = [device.index or 0] if several else 1
    return Fabric(
        accelerator=device.type, devices=devices, precision=_NAMES[precision], plugins=plugins
    )


def precision_on(device: torch.device, precision: str = "auto") -> str:
    """Return the number format in which training multiplies on a device.

    Raises
    ------
    ConfigError
        If the device does not have the one asked for.
    """
    has_bfloat16 = device.type == "cpu" or (
        device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    if precision == "auto":
        return "bfloat16" if device.type == "cuda" and has_bfloat16 else "float32"
    if precision == "float16" and device.type != "cuda":
        raise ConfigError(f"precision 'float16' cannot be used on {device.type}: use float32")
    if precision == "bfloat16" and not has_bfloat16:
        raise ConfigError(f"precision 'bfloat16' cannot be used on this {device}: use float32")
    return precision


@contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Leave the caller's random state as it was, and let cuDNN choose repeatable algorithms."""
    devices = [device] if device.type == "cuda" else []
    deterministic = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    with torch.random.fork_rng(devices=devices), deterministic:
        yield


def synchronised(network: nn.Module, fabric: Fabric) -> nn.Module:
    """Let batch normalisation see whole batches where several processes share them.

    Raises
    ------
    ConfigError
        If they cannot, since they are on the processor.
    """
    normalises = any(isinstance(module, _BatchNorm) for module in network.modules())
    if fabric.world_size == 1 or not normalises:
        return network
    if fabric.device.type == "cpu":
        raise ConfigError(
            f"data_parallel {fabric.world_size} cannot be used on cpu: the network has batch "
            "normalisation, which only GPUs share; use data_parallel 1"
        )
    converted: nn.Module = convert_sync_batchnorm(network)
    return converted


def share_of(fabric: Fabric, batches: Sequence[Rows]) -> list[Rows]:
    """Take this process's part of every batch.

    Raises
    ------
    ConfigError
        If a batch has fewer rows than there are processes.
    """
    n = fabric.world_size
    smallest = min(map(len, batches))
    if smallest < n:
        raise ConfigError(
            f"data_parallel {n} cannot be used: a batch has {smallest} tiles; use fewer processes"
        )
    return [part[fabric.global_rank :: n] for part in batches]
