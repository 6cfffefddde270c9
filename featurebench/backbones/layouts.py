"""Checkpoints name their tensors in several ways; all become timm's names, then load strictly."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING

import timm.models

from featurebench.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import torch

    from featurebench.backbones.names import Architecture
    from featurebench.backbones.weights import StateDict

# timm calls the converter of a model family by one of these names.
_CONVERTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")
# Families that timm builds tensor by tensor as torchvision does, under other names.
SAME_ORDER_AS_TORCHVISION = frozenset({"mobilenetv2_100", "efficientnet_b0", "mnasnet_100"})
# Classifiers that only training uses; torchvision's Inception v3 files carry one.
_TRAINING_ONLY = ("AuxLogits.", "aux1.", "aux2.")


def load_checkpoint(
    network: torch.nn.Module, state: StateDict, architecture: Architecture, source: str
) -> None:
    """Load a checkpoint in timm's or torchvision's layout, every tensor of the features or none.

    The classification layer may be absent or of another size; it is then left as it is.

    Parameters
    ----------
    network
        Of this architecture; changed in place.
    state
        Names and tensors as read from the file.
    architecture
        Decides which of timm's converters applies.
    source
        What error messages call the checkpoint.

    Raises
    ------
    WeightsError
        If a tensor is missing, left over or of another shape.
    """
    own = network.state_dict()
    head = _head_tensors(architecture)
    converted = {
        name: tensor
        for name, tensor in _to_timm_names(state, network, architecture, source).items()
        if not name.startswith(_TRAINING_ONLY)
        if name not in head or _fits(own, name, tensor)
    }
    _refuse_differences(own, converted, head, source)
    network.load_state_dict(converted, strict=False)


def load_in_order(network: torch.nn.Module, state: StateDict, source: str) -> None:
    """Load tensors one to one in order, whatever their names.

    Raises
    ------
    WeightsError
        If number, shapes or the last part of the names are not the network's own.
    """
    renamed = _renamed_in_order(state, network.state_dict())
    if renamed is None:
        raise WeightsError(f"{source}: its tensors are not those of this network, one to one")
    network.load_state_dict(renamed, strict=True)


def _to_timm_names(
    state: StateDict, network: torch.nn.Module, architecture: Architecture, source: str
) -> StateDict:
    own = network.state_dict()
    if architecture.name in SAME_ORDER_AS_TORCHVISION and not set(state) & set(own):
        return _renamed_in_order(state, own) or state
    converter = _converter(architecture)
    if converter is None:
        return state
    try:
        return _convert(converter, dict(state), network)
    except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{source}: timm cannot convert its tensors to {architecture.name!r} "
            f"({type(error).__name__}); give a checkpoint of this network"
        ) from error


def _converter(architecture: Architecture) -> Callable[..., StateDict] | None:
    module = sys.modules[timm.models.model_entrypoint(architecture.name).__module__]
    found = (getattr(module, name, None) for name in _CONVERTERS)
    return next((converter for converter in found if converter is not None), None)


def _convert(
    converter: Callable[..., StateDict], state: StateDict, network: torch.nn.Module
) -> StateDict:
    """Call timm's converter; those of older families take the tensors alone."""
    takes_network = len(inspect.signature(converter).parameters) > 1
    return converter(state, network) if takes_network else converter(state)


def _renamed_in_order(state: StateDict, own: StateDict) -> StateDict | None:
    pairs = list(zip(own.items(), state.items(), strict=False))
    matches = len(own) == len(state) and all(
        mine.shape == theirs.shape and _leaf(my_name) == _leaf(their_name)
        for (my_name, mine), (their_name, theirs) in pairs
    )
    return {my_name: theirs for (my_name, _), (_, theirs) in pairs} if matches else None


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _head_tensors(architecture: Architecture) -> frozenset[str]:
    layers = architecture.pretrained_cfg.get("classifier") or ()
    layers = (layers,) if isinstance(layers, str) else layers
    return frozenset(f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias"))


def _fits(own: StateDict, name: str, tensor: torch.Tensor) -> bool:
    return name in own and own[name].shape == tensor.shape


def _refuse_differences(
    own: StateDict, converted: StateDict, head: frozenset[str], source: str
) -> None:
    optional = {name for name in own if name.endswith("num_batches_tracked")} | head
    missing = [name for name in own if name not in converted and name not in optional]
    surplus = [name for name in converted if name not in own]
    reshaped = [
        f"{name} {tuple(converted[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in converted and own[name].shape != converted[name].shape
    ]
    found = [
        f"{len(names)} {kind} ({_first(names)})"
        for kind, names in (("missing", missing), ("left over", surplus), ("reshaped", reshaped))
        if names
    ]
    if found:
        raise WeightsError(
            f"{source}: tensors do not fit the network: {', '.join(found)}; "
            "give a checkpoint of this network, or the model_args that it was trained with"
        )


def _first(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:2]) + (", ..." if len(listed) > 2 else "")
