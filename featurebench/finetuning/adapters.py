"""What is put into a network before it learns: low-rank adapters, another head, the probe."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from featurebench.backbones.network import reset_classifier
from featurebench.errors import ConfigError
from featurebench.finetuning.stages import classifier_modules

if TYPE_CHECKING:
    import numpy.typing as npt

HEADS = ("linear", "dense")


def add_lora(
    network: nn.Module, rank: int, alpha: float | None = None, *, seed: int = 0
) -> nn.Module:
    """Put a low-rank adapter beside each layer of `lora_targets` (Hu et al. 2022, LoRA).

    A layer W x becomes W x + (alpha / rank) B A x, where B starts as zero: until the first step
    the network is what it was.

    Parameters
    ----------
    network
        Changed in place; on any device.
    rank
        Rows of A, at least 1.
    alpha
        Scale of the adapter; None takes ``rank``, a factor of 1.
    seed
        Of A.

    Returns
    -------
    torch.nn.Module
        The same network.

    Raises
    ------
    ConfigError
        If peft is not installed, the rank is below 1, or no layer can take an adapter.
    """
    peft = _import_peft()
    if rank < 1:
        raise ConfigError(f"rank {rank} cannot be used: it must be at least 1")
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,
        # names in a list would match every layer whose name ends so, the classifier's too
        target_modules="|".join(re.escape(name) for name in lora_targets(network)),
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        adapted: nn.Module = peft.inject_adapter_in_model(config, network)
    return adapted


def lora_targets(network: nn.Module) -> list[str]:
    """Name the layers that can take an adapter: linear ones and 1 x 1 convolutions.

    The classifier is none of them; neither are grouped convolutions, nor layers whose weights
    are changed or read by the module around them, beside which an adapter would do nothing.

    Raises
    ------
    ConfigError
        If there are none.
    """
    heads = tuple(f"{name}." for name in classifier_modules(network))
    found = [
        name
        for name, module in network.named_modules()
        if not f"{name}.".startswith(heads)
        and _takes_adapter(module)
        and not _read_from_outside(network, name)
    ]
    if not found:
        raise ConfigError(
            f"strategy 'lora' does not apply to {_architecture(network)!r}: before its classifier "
            "it has no linear layer and no 1 x 1 convolution; use 'last:1' or 'full'"
        )
    return found


def merge_lora(network: nn.Module) -> nn.Module:
    """Fold the adapters into the weights beside them, so that the original layers remain.

    Parameters
    ----------
    network
        From `add_lora`; changed in place. Names and shapes become the original's, predictions
        stay the same up to rounding.

    Returns
    -------
    torch.nn.Module
        The same network.

    Raises
    ------
    ConfigError
        If peft is not installed.
    """
    _import_peft()
    from peft.tuners.lora import LoraLayer

    adapted = {
        name: module for name, module in network.named_modules() if isinstance(module, LoraLayer)
    }
    for name, module in adapted.items():
        module.merge()
        network.set_submodule(name, module.get_base_layer())
    if hasattr(network, "peft_config"):
        del network.peft_config
    return network


def replace_classifier(
    network: nn.Module,
    num_classes: int,
    *,
    head: str = "linear",
    hidden: int = 256,
    dropout: float = 0.5,
    seed: int = 0,
) -> None:
    """Give a network new classes in place, drawn from `seed`.

    Parameters
    ----------
    network
        Of timm.
    num_classes
        Outputs.
    head
        ``linear``: one layer. ``dense``: a hidden layer, ReLU and dropout before it.
    hidden, dropout
        Width of the hidden layer and the share of it dropped in training.
    seed
        Of all new weights.

    Raises
    ------
    ConfigError
        If there is no such head, or for ``dense`` the classifier is not a linear layer.
    """
    if head not in HEADS:
        raise ConfigError(f"head {head!r} does not exist: use {' or '.join(HEADS)}")
    reset_classifier(network, num_classes, seed=seed)
    if head == "linear":
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for name, classifier in linear_classifiers(network, "head 'dense'").items():
            dense = _dense(classifier.in_features, hidden, num_classes, dropout)
            network.set_submodule(name, dense.to(classifier.weight).train(network.training))


def start_from_probe(
    network: nn.Module, coef: npt.NDArray[np.floating], intercept: npt.NDArray[np.floating]
) -> None:
    """Write a logistic regression's solution into the classifier (Kumar et al. 2022, LP-FT).

    The network's softmax is then the probe's ``predict_proba`` on the features that
    `pre_logits` gives.

    Parameters
    ----------
    network
        With a linear classifier; changed in place.
    coef
        Shape (n_classes, dim), or (1, dim) of two classes, whose logits become plus and minus
        half the decision value. Of features as they are: a probe that scales them must fold its
        scaling in first.
    intercept
        Shape (n_classes,), or (1,).

    Raises
    ------
    ConfigError
        If the classifier is not a linear layer with a bias, or of another shape.
    """
    weight, bias = np.atleast_2d(coef), np.atleast_1d(intercept)
    if len(weight) == 1:
        weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    for layer in linear_classifiers(network, "strategy 'lp-ft'").values():
        if tuple(layer.weight.shape) != weight.shape or layer.bias is None:
            raise ConfigError(
                f"a probe of shape {weight.shape} does not fit the classifier of "
                f"{_architecture(network)!r}, shape {tuple(layer.weight.shape)}: "
                "fit it on the features of pre_logits()"
            )
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))


def pre_logits(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Compute the features that the classifier sees, in the network's present mode.

    Parameters
    ----------
    network
        With a classification layer; in inference mode, or dropout before it takes part.
    images
        Shape (n, 3, height, width), normalised.

    Returns
    -------
    torch.Tensor
        Shape (n, dim). Of two classifiers, whose logits are averaged, the mean of what they see.

    Raises
    ------
    ConfigError
        If the classifier works on more than one vector per image.
    """
    seen: list[torch.Tensor] = []

    def catch(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(inputs[0])

    hooks = [
        module.register_forward_pre_hook(catch) for module in classifier_modules(network).values()
    ]
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen or any(features[0].numel() != features.shape[1] for features in seen):
        raise ConfigError(
            f"the classifier of {_architecture(network)!r} does not see one vector per image: "
            "use another model or strategy 'full'"
        )
    return torch.stack([features.flatten(1) for features in seen]).mean(dim=0)


def linear_classifiers(network: nn.Module, wanted_by: str) -> dict[str, nn.Linear]:
    """Find the classifier's layers by name, usually one.

    Raises
    ------
    ConfigError
        If one is not linear, naming the setting that wants it so.
    """
    found: dict[str, nn.Linear] = {}
    for name, module in classifier_modules(network).items():
        if not isinstance(module, nn.Linear):
            raise ConfigError(
                f"{wanted_by} does not apply to {_architecture(network)!r}: its classifier "
                f"{name!r} is {type(module).__name__}, not one linear layer"
            )
        found[name] = module
    return found


def _dense(dim: int, hidden: int, num_classes: int, dropout: float) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        hidden=nn.Linear(dim, hidden),
        act=nn.ReLU(),
        drop=nn.Dropout(dropout),
        out=nn.Linear(hidden, num_classes),
    )
    return nn.Sequential(layers)


def _takes_adapter(module: nn.Module) -> bool:
    # subclasses change the weight before they use it, as weight standardisation does
    if type(module) is nn.Conv2d:
        return module.kernel_size == (1, 1) and module.groups == 1
    return type(module) is nn.Linear


def _read_from_outside(network: nn.Module, name: str) -> bool:
    """Tell whether the module around a layer takes its weight instead of calling it.

    So do torch's own attention, and timm's BEiT, EVA and Swin v2 where they add the bias of
    queries and values themselves.
    """
    parent_name, _, leaf = name.rpartition(".")
    parent = network.get_submodule(parent_name)
    if isinstance(parent, nn.MultiheadAttention):
        return True
    return leaf == "qkv" and getattr(parent, "q_bias", None) is not None


def _architecture(network: nn.Module) -> str:
    config: Any = getattr(network, "pretrained_cfg", None) or {}
    return str(config.get("architecture") or type(network).__name__)


def _import_peft() -> Any:  # noqa: ANN401
    try:
        import peft
    except ImportError as error:
        raise ConfigError(
            "strategy 'lora' needs peft, which is not installed; run: "
            "pip install 'featurebench[lora]'"
        ) from error
    return peft
