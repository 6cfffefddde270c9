"""Build timm networks with the weights that were asked for, and hash what they hold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
from timm.models import group_parameters

from featurebench.backbones.hub import check_hub, hub_error
from featurebench.backbones.layouts import load_checkpoint, load_in_order
from featurebench.backbones.names import Architecture, find_architecture
from featurebench.backbones.preprocessing import resolve_preprocessing
from featurebench.backbones.weights import package_file, read_state
from featurebench.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Decided by the package itself; given in model_args they would contradict it.
RESERVED_ARGS = frozenset(
    {
        "cache_dir",
        "checkpoint_path",
        "features_only",
        "in_chans",
        "num_classes",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
    }
)


def create_network(
    model: str,
    *,
    num_classes: int,
    weights: str = "hub",
    model_args: Mapping[str, Any] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    base_dir: Path | None = None,
    seed: int = 0,
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Build a network for fine-tuning: the weights asked for under a new classification layer.

    Parameters
    ----------
    model, weights, model_args, preprocessing, base_dir
        As in `Backbone.load`.
    num_classes
        Outputs of the new classification layer, which is drawn from `seed`.
    seed
        Of the new layer, and of the whole network where `weights` is ``random``.

    Returns
    -------
    torch.nn.Module
        On the CPU, in training mode, every parameter trainable.
    dict
        The resolved preprocessing, for `Prepare.of` and `normalise`.

    Raises
    ------
    WeightsError
        As in `Backbone.load`.
    """
    architecture = find_architecture(model)
    config = resolve_preprocessing(architecture, with_image_size(preprocessing, model_args))
    network = load_network(
        architecture,
        weights=weights,
        model_args=model_args,
        input_size=config["input_size"],
        base_dir=base_dir,
        seed=seed,
    )
    reset_classifier(network, num_classes, seed=seed)
    return network, config


def load_network(
    architecture: Architecture,
    *,
    weights: str,
    input_size: list[int],
    model_args: Mapping[str, Any] | None = None,
    base_dir: Path | None = None,
    seed: int = 0,
) -> torch.nn.Module:
    """Build a network with its original classes and the weights asked for, on the CPU.

    Parameters
    ----------
    architecture
        From `find_architecture`.
    weights
        ``hub``, ``package``, ``random`` or the path of a file.
    input_size
        [3, height, width]; networks that are built for one size are built for this one.
    model_args
        Further arguments of `timm.create_model`.
    base_dir
        Folder that a relative path is relative to.
    seed
        Of all that the weights do not fix.

    Raises
    ------
    WeightsError
        If the weights are not there or do not fit, or timm refuses the arguments.
    """
    arguments = _checked_args(architecture, model_args or {}, input_size)
    if weights == "hub":
        return _from_hub(architecture, arguments, seed)
    network = _build(architecture, arguments, seed)
    if weights == "package":
        path = package_file(architecture)
        load_in_order(network, read_state(path), f"package file {path.name!r}")
    elif weights != "random":
        path = Path(base_dir or ".") / Path(weights).expanduser()
        load_checkpoint(network, read_state(path), architecture, f"weights file {path.name!r}")
    return network


def reset_classifier(network: torch.nn.Module, num_classes: int, *, seed: int = 0) -> None:
    """Replace the classification layer, drawn from `seed`; 0 classes leave the features."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network.reset_classifier(num_classes)  # type: ignore[operator]


def parameter_groups(network: torch.nn.Module) -> list[list[str]]:
    """Group the names of a network's parameters by depth as timm does, coarsely.

    Parameters
    ----------
    network
        Of timm; of another, or one that timm does not group, each child is a group, and of a child
        that is a sequence each of its own. What no child holds goes with the first.

    Returns
    -------
    list of list of str
        From input to output; every parameter stands in exactly one group.
    """
    if hasattr(network, "group_matcher"):
        try:
            matcher = network.group_matcher(coarse=True)  # type: ignore[operator]
        except AssertionError:  # as timm says that this architecture has no coarse groups
            matcher = network.group_matcher(coarse=False)  # type: ignore[operator]
        return list(group_parameters(network, matcher).values())
    groups: dict[str, list[str]] = {}
    for name, _ in network.named_parameters():
        groups.setdefault(_child_of(name, network), []).append(name)
    loose = groups.pop("", [])
    first, *others = groups.values() or [[]]
    return [loose + first, *others]


def with_image_size(
    preprocessing: Mapping[str, Any] | None, model_args: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Take ``img_size`` of the model's arguments for the input size, unless that is given too."""
    given = dict(preprocessing or {})
    if model_args and "img_size" in model_args:
        given.setdefault("input_size", model_args["img_size"])
    return given


def state_sha256(network: torch.nn.Module) -> str:
    """Hash a network's parameters and buffers: sorted names, types, shapes and bytes.

    Parameters
    ----------
    network
        On any device.

    Returns
    -------
    str
        64 hexadecimal digits; equal exactly when every stored tensor is equal bit for bit.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _child_of(parameter: str, network: torch.nn.Module) -> str:
    child, _, rest = parameter.rpartition(".")[0].partition(".")
    if isinstance(getattr(network, child, None), torch.nn.Sequential | torch.nn.ModuleList):
        return f"{child}.{rest.partition('.')[0]}"
    return child


def _checked_args(
    architecture: Architecture, model_args: Mapping[str, Any], input_size: list[int]
) -> dict[str, Any]:
    reserved = sorted(RESERVED_ARGS & set(model_args))
    if reserved:
        raise WeightsError(
            f"model_args of {architecture.name!r} may not hold {reserved[0]!r}; remove it"
        )
    try:
        json.dumps(dict(model_args))
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"model_args of {architecture.name!r} must be plain JSON values; {error}"
        ) from error
    fixed = architecture.pretrained_cfg.get("fixed_input_size", False)
    return {"img_size": tuple(input_size[1:]), **model_args} if fixed else dict(model_args)


def _from_hub(architecture: Architecture, arguments: dict[str, Any], seed: int) -> torch.nn.Module:
    check_hub(architecture)
    try:
        return _build(architecture, arguments, seed, pretrained=True)
    except OSError as error:
        raise hub_error(architecture, f"the download failed ({type(error).__name__})") from error


def _build(
    architecture: Architecture, arguments: dict[str, Any], seed: int, *, pretrained: bool = False
) -> torch.nn.Module:
    """Build without touching the caller's random state, so that a seed means one network."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            network: torch.nn.Module = timm.create_model(
                architecture.full_name, pretrained=pretrained, **arguments
            )
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            reason = str(error).strip().partition("\n")[0][:160]
            raise WeightsError(
                f"timm cannot build {architecture.full_name!r} with {arguments}: {reason}; "
                "change model_args or the weights"
            ) from error
    return network
