"""A frozen network that turns tiles into embeddings, and all that fixes them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch

from featurebench.backbones.frozen import FrozenNetwork, check_execution
from featurebench.backbones.handcrafted import Descriptors
from featurebench.backbones.names import find_architecture
from featurebench.backbones.network import load_network, reset_classifier, with_image_size
from featurebench.backbones.preprocessing import Prepare, resolve_preprocessing
from featurebench.backbones.taps import FINAL, Tap, pool_name, resolve_tap
from featurebench.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from featurebench.backbones.protocols import Frozen, Preparation

HANDCRAFTED = "handcrafted"


class Backbone:
    """One embedding: a frozen network, the place where features leave it, a view of the tiles.

    Made by `Backbone.load`; `variant` gives another embedding of the same network, which is then
    run once for both. The network is in evaluation mode, no parameter needs a gradient, and
    `state_sha256` proves at any time that nothing moved.

    Attributes
    ----------
    model
        Canonical timm name without tag, or ``handcrafted``.
    tag
        timm's tag for weights of the hub, else ``package``, ``file`` or ``random``.
    dim
        Length of an embedding.
    preprocessing
        ``input_size``, ``interpolation``, ``mean``, ``std``, ``crop_pct`` and ``crop_mode``.
    prepare
        Image (RGB) to the input: uint8 pixels (height, width, 3) for a network, the descriptors
        themselves for ``handcrafted``. Can be sent to other processes.
    view
        Name of the view of the tiles that is embedded; ``clean`` is the tiles as they are.
    tap
        Layer and pooling.
    recipe
        All that fixes an embedding: ``model``, ``tag``, ``dim``, ``weights_sha256``,
        ``preprocessing``, ``layer``, ``pool``, ``view``, ``model_args`` and ``precision``.
        JSON-ready.
    frozen
        The network on its device; the same object in all variants.

    Examples
    --------
    >>> backbone = Backbone.load("resnet18", weights="random")
    >>> backbone.dim, backbone.preprocessing["input_size"]
    (512, [3, 224, 224])
    >>> backbone.embed(torch.zeros(2, 224, 224, 3, dtype=torch.uint8)).shape
    (2, 512)
    >>> backbone.variant(layer="layer3").dim
    256
    """

    def __init__(
        self,
        frozen: Frozen,
        *,
        tap: Tap,
        dim: int,
        prepare: Preparation,
        recipe: Mapping[str, Any],
    ) -> None:
        self.frozen = frozen
        self.tap = tap
        self.dim = dim
        self.prepare = prepare
        self.recipe: dict[str, Any] = dict(recipe)
        self.model: str = self.recipe["model"]
        self.tag: str = self.recipe["tag"]
        self.preprocessing: dict[str, Any] = self.recipe["preprocessing"]
        self.view: str = self.recipe["view"]

    @classmethod
    def load(
        cls,
        model: str,
        *,
        weights: str = "hub",
        model_args: Mapping[str, Any] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        layer: str = FINAL,
        pool: str | None = None,
        precision: str = "float32",
        engine: str = "eager",
        device: str = "cpu",
        base_dir: Path | None = None,
    ) -> Backbone:
        """Load a network by its timm name, with the weights that were asked for and no others.

        Parameters
        ----------
        model
            timm name with or without tag, such as ``resnet50`` or ``resnet50.a1_in1k``; or
            ``handcrafted`` for descriptors without a network (see `Descriptors`), which takes
            ``{"groups": [...]}`` as model_args and ignores what concerns networks.
        weights
            ``hub`` (timm's download and its cache), ``package`` (a package of the Python index,
            see `PACKAGES`), ``random`` (a fixed seed; for tests) or the path of a
            ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file in timm's or torchvision's layout.
        model_args
            Further arguments of `timm.create_model`, such as ``{"pad_type": "same"}``.
        preprocessing
            Overrides of timm's own configuration: ``mean``, ``std``, ``input_size``,
            ``interpolation``, ``crop_pct``; and ``reduced_decoding``.
        layer
            ``final`` or a stage's name such as ``layer3``.
        pool
            ``avg``, ``max``, ``gem``, ``cls`` or ``pre_logits``; the network's own if None.
        precision
            ``float32``, ``bfloat16`` or, on a GPU, ``float16``.
        engine
            ``eager``, ``compile`` (torch.compile) or ``openvino`` (on processors).
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
        if model == HANDCRAFTED:
            return cls._handcrafted(model_args or {}, preprocessing or {}, layer, pool)
        check_execution(device, precision, engine)
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
        tap = resolve_tap(network, layer, pool)
        frozen = FrozenNetwork(network, config, device=device, precision=precision, engine=engine)
        recipe = {
            "model": architecture.name,
            "tag": _tag(weights, architecture.tag),
            "dim": 0,
            "weights_sha256": frozen.loaded_sha256,
            "preprocessing": config,
            "layer": tap.layer,
            "pool": "",
            "view": "clean",
            "model_args": dict(model_args or {}),
            "precision": precision if engine == "eager" else f"{precision} {engine}",
        }
        return _tapped(frozen, tap, recipe)

    @classmethod
    def _handcrafted(
        cls,
        model_args: Mapping[str, Any],
        preprocessing: Mapping[str, Any],
        layer: str,
        pool: str | None,
    ) -> Backbone:
        if preprocessing or layer != FINAL or pool is not None or set(model_args) - {"groups"}:
            raise WeightsError(
                "'handcrafted' takes model_args {groups: [...]} only; leave the network's keys out"
            )
        descriptors = Descriptors(**{key: tuple(value) for key, value in model_args.items()})
        recipe = {
            "model": HANDCRAFTED,
            "tag": "v1",
            "dim": descriptors.dim,
            "weights_sha256": descriptors.sha256,
            "preprocessing": {},
            "layer": FINAL,
            "pool": "none",
            "view": "clean",
            "model_args": {"groups": list(descriptors.groups)},
            "precision": "float32",
        }
        frozen = _Descriptors(descriptors.sha256)
        return cls(frozen, tap=Tap(), dim=descriptors.dim, prepare=descriptors, recipe=recipe)

    @property
    def network(self) -> torch.nn.Module:
        """The timm network itself, with no classes.

        Raises
        ------
        WeightsError
            If there is none: ``handcrafted``.
        """
        if not isinstance(self.frozen, FrozenNetwork):
            raise WeightsError(f"{self.model!r} is no network; use embed")
        return self.frozen.network

    @property
    def device(self) -> str:
        """Where the network computes."""
        return self.frozen.device

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits over the recipe without its tag: equal when embeddings are."""
        fixed = {key: value for key, value in self.recipe.items() if key != "tag"}
        text = json.dumps(fixed, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def variant(
        self, *, layer: str | None = None, pool: str | None = None, view: str | None = None
    ) -> Backbone:
        """Give another embedding of the same network; one forward pass serves both.

        Parameters
        ----------
        layer, pool
            As in `load`; both as they are if both are None, and the layer as it is if only
            `pool` is given.
        view
            Name of a view of the tiles; as it is if None.

        Raises
        ------
        WeightsError
            If the network has no such layer, or cannot be pooled so.
        """
        recipe = {**self.recipe, "view": self.view if view is None else view}
        if layer is None and pool is None:
            return Backbone(
                self.frozen, tap=self.tap, dim=self.dim, prepare=self.prepare, recipe=recipe
            )
        if not isinstance(self.frozen, FrozenNetwork):
            raise WeightsError(f"{self.model!r} has no layers; leave layer and pool out")
        tap = resolve_tap(self.network, self.tap.layer if layer is None else layer, pool)
        return _tapped(self.frozen, tap, recipe)

    def embed(self, batch: torch.Tensor) -> npt.NDArray[np.float32]:
        """Embed prepared tiles.

        Parameters
        ----------
        batch
            Shape (n, ...), of what `prepare` gives.

        Returns
        -------
        ndarray of float32, shape (n, dim)
        """
        array: npt.NDArray[np.float32] = self.frozen.run(batch, [self.tap])[0].cpu().numpy()
        return array

    def state_sha256(self) -> str:
        """Hash of the network's parameters and buffers; see `state_sha256` of the package."""
        return self.frozen.state_sha256()


class _Descriptors:
    """Stands where a network stands for others: descriptors are complete when they come here."""

    device = "cpu"

    def __init__(self, sha256: str) -> None:
        self.loaded_sha256 = sha256

    def run(self, batch: torch.Tensor, taps: Sequence[Tap]) -> list[torch.Tensor]:
        return [batch.clone() for _ in taps]

    def state_sha256(self) -> str:
        return self.loaded_sha256


def _tapped(frozen: FrozenNetwork, tap: Tap, recipe: Mapping[str, Any]) -> Backbone:
    config = recipe["preprocessing"]
    pool = pool_name(frozen.network) if tap.pool == "native" else tap.pool
    dim = _probed_dim(frozen, tap, recipe["model"], config["input_size"])
    complete = {**recipe, "layer": tap.layer, "pool": pool, "dim": dim}
    return Backbone(frozen, tap=tap, dim=dim, prepare=Prepare.of(config), recipe=complete)


def _probed_dim(frozen: FrozenNetwork, tap: Tap, model: str, size: Sequence[int]) -> int:
    """Ask the network itself: timm's ``num_features`` is not what every one returns."""
    blank = torch.zeros(1, *size[1:], 3, dtype=torch.uint8)
    try:
        features = frozen.probe(blank, tap)
    except WeightsError:
        raise
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0][:160]
        raise WeightsError(
            f"{model!r} cannot take input_size {size}: {reason}; use its own size"
        ) from error
    except (AttributeError, TypeError) as error:
        raise WeightsError(
            f"layer {tap.layer!r} of {model!r} with pool {tap.pool!r} gives no features "
            f"({error}); choose another layer or pool"
        ) from error
    if features.ndim != 2 or len(features) != 1:
        remedy = "leave global_pool as timm has it" if tap.layer == FINAL else "choose a stage"
        raise WeightsError(
            f"layer {tap.layer!r} of {model!r} does not give one vector per tile; {remedy}"
        )
    return int(features.shape[1])


def _tag(weights: str, hub_tag: str) -> str:
    if weights == "hub":
        return hub_tag or "hub"
    return weights if weights in {"package", "random"} else "file"
