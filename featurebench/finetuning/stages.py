"""A network's parameters as stages of depth, from its input to its classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featurebench.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn

CLASSIFIER = "classifier"

# Second classifiers, as of Inception v3 and VOLO: they hang on the network but are no part of it.
_AUXILIARY = ("AuxLogits.", "aux_head.")


@dataclass(frozen=True)
class Stage:
    """One step of depth.

    Parameters
    ----------
    name
        The module that the stage is or begins with, such as ``layer4`` or ``blocks.6``; the last
        stage is ``classifier`` whatever the network calls it.
    parameters
        Names as in ``network.named_parameters()``, in that order.
    """

    name: str
    parameters: tuple[str, ...]


def stages_of(network: nn.Module) -> tuple[Stage, ...]:
    """List the stages of a network; every parameter stands in exactly one.

    The steps are those of timm's coarse ``group_matcher``, or the network's children where it
    has none. What holds only scales and shifts, such as a last normalisation, belongs to the
    stage before it.

    Parameters
    ----------
    network
        With a classification layer.

    Returns
    -------
    tuple of Stage
        Input first, classifier last; names are unique.

    Raises
    ------
    WeightsError
        If the network has no classification layer.
    """
    # it takes seconds, and strategies are read from experiment files without a network
    from featurebench.backbones.network import parameter_groups

    classifier = _classifier_parameters(network)
    if not classifier:
        raise WeightsError(
            f"the network {type(network).__name__!r} has no classification layer: give it classes"
        )
    order = {name: place for place, (name, _) in enumerate(network.named_parameters())}
    groups = [
        sorted(set(group) - classifier, key=order.__getitem__)
        for group in parameter_groups(network)
    ]
    joined = _joined([group for group in groups if group], network)
    last = Stage(CLASSIFIER, tuple(sorted(classifier, key=order.__getitem__)))
    return (*(Stage(_name(group, order), tuple(group)) for group in joined), last)


def classifier_modules(network: nn.Module) -> dict[str, nn.Module]:
    """Find the modules that give the logits, by name.

    Parameters
    ----------
    network
        Of timm (its ``get_classifier()``), or any other: its last child with parameters.

    Returns
    -------
    dict
        Usually one entry; two for distilled transformers; none for a network without classes.
    """
    if not hasattr(network, "get_classifier"):
        children = [child for child in network.named_children() if _has_parameters(child[1])]
        return dict(children[-1:])
    found: Any = network.get_classifier()  # type: ignore[operator]
    several = found if isinstance(found, tuple | list) else (found,)
    places = {id(module): name for name, module in network.named_modules()}
    return {places[id(module)]: module for module in several if id(module) in places}


def _classifier_parameters(network: nn.Module) -> set[str]:
    heads = [name for name, head in classifier_modules(network).items() if _has_parameters(head)]
    if not heads:
        return set()
    prefixes = (*(f"{name}." for name in heads), *_AUXILIARY)
    return {name for name, _ in network.named_parameters() if name.startswith(prefixes)}


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _joined(groups: Sequence[list[str]], network: nn.Module) -> list[list[str]]:
    """Append every group without a single matrix or kernel to the one before it."""
    tensors = dict(network.named_parameters())
    joined: list[list[str]] = []
    for group in groups:
        if joined and all(tensors[name].ndim < 2 for name in group):
            joined[-1] += group
        else:
            joined.append(list(group))
    return joined


def _name(group: Sequence[str], everything: Iterable[str]) -> str:
    """Find the shallowest module that holds parameters of this stage only."""
    elsewhere = set(everything) - set(group)
    taken = {prefix for name in elsewhere for prefix in _modules_above(name)}
    for name in group:
        for prefix in _modules_above(name):
            if prefix not in taken:
                return prefix
    return group[0]


def _modules_above(parameter: str) -> list[str]:
    """List the modules that a parameter is in, the outermost first."""
    parts = parameter.split(".")[:-1]
    return [".".join(parts[: depth + 1]) for depth in range(len(parts))]
