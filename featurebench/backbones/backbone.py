"""A frozen network that turns tiles into embeddings, and all that fixes them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch

from featurebench.backbones.names import find_architecture
from featurebench.backbones.network import (
    load_network,
    reset_classifier,
    state_sha256,
    with_image_size,
)
from featurebench.backbones.preprocessing import make_transform, resolve_preprocessing
from featurebench.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import PIL.Image

PRECISION = "float32"


class Backbone:
    """A frozen timm network without its classification layer.

    Made by `Backbone.load`. The network is in evaluation mode, no parameter needs a gradient, and
    `state_sha256` proves at any time that nothing moved.

    Attributes
    ----------
    model
        Canonical timm name without tag.
    tag
        timm's tag for weights of the hub, else ``package``, ``file`` or ``random``.
    dim
        Length of an embedding.
    preprocessing
        ``input_size``, ``interpolation``, ``mean``, ``std``, ``crop_pct`` and ``crop_mode``.
    transform
        Image (RGB) to float tensor (3, height, width); can be sent to worker processes.
    recipe
        All that fixes an embedding: ``model``, ``tag``, ``dim``, ``weights_sha256``,
        ``preprocessing``, ``layer``, ``pool``, ``model_args`` and ``precision``. JSON-ready.
    network
        The timm network itself, with no classes.
    device
        Where the network computes.

    Examples
    --------
    >>> backbone = Backbone.load("resnet18", weights="random")
    >>> backbone.dim, backbone.preprocessing["input_size"]
    (512, [3, 224, 224])
    >>> backbone.embed(torch.zeros(2, 3, 224, 224)).shape
    (2, 512)
    """

    def __init__(
        self,
        network: torch.nn.Module,
        *,
        model: str,
        tag: str,
        preprocessing: Mapping[str, Any],
        model_args: Mapping[str, Any],
        device: str,
    ) -> None:
        frozen = network.eval().requires_grad_(requires_grad=False)
        # Convolutions run about 1.5 times faster so, on processors as on GPUs.
        self.network = frozen.to(device).to(memory_format=torch.channels_last)
        self.model = model
        self.tag = tag
        self.device = device
        self.preprocessing = dict(preprocessing)
        self.transform: Callable[[PIL.Image.Image], torch.Tensor] = make_transform(preprocessing)
        self.dim = self._probed_dim()
        self.recipe: dict[str, Any] = {
            "model": model,
            "tag": tag,
            "dim": self.dim,
            "weights_sha256": self.state_sha256(),
            "preprocessing": self.preprocessing,
            "layer": "final",
            "pool": pool_name(network),
            "model_args": dict(model_args),
            "precision": PRECISION,
        }

    @classmethod
    def load(
        cls,
        model: str,
        *,
        weights: str = "hub",
        model_args: Mapping[str, Any] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        device: str = "cpu",
        base_dir: Path | None = None,
    ) -> Backbone:
        """Load a network by its timm name, with the weights that were asked for and no others.

        Parameters
        ----------
        model
            timm name with or without tag, such as ``resnet50`` or ``resnet50.a1_in1k``.
        weights
            ``hub`` (timm's download and its cache), ``package`` (a package of the Python index,
            see `PACKAGES`), ``random`` (a fixed seed; for tests) or the path of a
            ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file in timm's or torchvision's layout.
        model_args
            Further arguments of `timm.create_model`, such as ``{"pad_type": "same"}``.
        preprocessing
            Overrides of timm's own configuration: ``mean``, ``std``, ``input_size``,
            ``interpolation``, ``crop_pct``.
        device
            Such as ``cpu``, ``cuda`` or ``cuda:1``.
        base_dir
            Folder that a relative path of `weights` is relative to; default the current one.

        Raises
        ------
        WeightsError
            If the name is unknown, the weights are missing or do not fit, an argument is refused,
            or the device is not there.
        """
        _check_device(device)
        architecture = find_architecture(model)
        config = resolve_preprocessing(architecture, with_image_size(preprocessing, model_args))
        network = load_network(
            architecture,
            weights=weights,
            model_args=model_args,
            input_size=config["input_size"],
            base_dir=base_dir,
        )
        reset_classifier(network, 0)
        return cls(
            network,
            model=architecture.name,
            tag=_tag(weights, architecture.tag),
            preprocessing=config,
            model_args=model_args or {},
            device=device,
        )

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits over the recipe without its tag: equal when embeddings are."""
        fixed = {key: value for key, value in self.recipe.items() if key != "tag"}
        text = json.dumps(fixed, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def embed(self, batch: torch.Tensor) -> npt.NDArray[np.float32]:
        """Embed transformed tiles.

        Parameters
        ----------
        batch
            Float, shape (n, 3, height, width), as `transform` makes them.

        Returns
        -------
        ndarray of float32, shape (n, dim)
        """
        with torch.inference_mode(), _exact():
            placed = batch.to(self.device, non_blocking=True, memory_format=torch.channels_last)
            features = self.network(placed)
            array: npt.NDArray[np.float32] = features.float().cpu().numpy()
        return array

    def state_sha256(self) -> str:
        """Hash of the network's parameters and buffers; see `state_sha256` of the package."""
        return state_sha256(self.network)

    def _probed_dim(self) -> int:
        """Ask the network itself: timm's ``num_features`` is not what every one returns."""
        size = self.preprocessing["input_size"]
        try:
            with torch.inference_mode():
                features = self.network(torch.zeros(1, *size, device=self.device))
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0][:160]
            raise WeightsError(
                f"{self.model!r} cannot take input_size {size}: {reason}; use its own size"
            ) from error
        if not isinstance(features, torch.Tensor) or features.ndim != 2:
            raise WeightsError(
                f"{self.model!r} does not return one vector per tile with these model_args; "
                "leave global_pool as timm has it"
            )
        return int(features.shape[1])


def pool_name(network: torch.nn.Module) -> str:
    """Name how the network's own features were pooled.

    Parameters
    ----------
    network
        A timm network.

    Returns
    -------
    str
        ``pre_logits`` where layers follow the pooling (VGG, MobileNet v3), ``cls`` for a class
        token, else timm's pool type such as ``avg``; ``native`` where the network does not say.
    """
    width = getattr(network, "head_hidden_size", None)
    if width is not None and width != getattr(network, "num_features", width):
        return "pre_logits"
    for owner in (network, getattr(network, "head", None)):
        pool = getattr(owner, "global_pool", None)
        kind = pool if isinstance(pool, str) else getattr(pool, "pool_type", None)
        if kind:
            return "cls" if kind == "token" else str(kind)
    return "native"


def _exact() -> AbstractContextManager[None]:
    """On a GPU: no TF32, which is not float32, and the same algorithms in every run."""
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


def _tag(weights: str, hub_tag: str) -> str:
    if weights == "hub":
        return hub_tag or "hub"
    return weights if weights in {"package", "random"} else "file"


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise WeightsError(
            f"device {device!r} cannot be used here ({type(error).__name__}); use 'cpu'"
        ) from error
