"""Where features leave a network, and how they are pooled over positions to one vector per tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from featurebench.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FINAL = "final"
POOLS = ("avg", "max", "gem", "cls", "pre_logits")
GEM_POWER = 3.0
GEM_FLOOR = 1e-6


@dataclass(frozen=True)
class Tap:
    """One embedding's place in a network.

    Parameters
    ----------
    layer
        ``final`` or the name of a stage (any module of the network) such as ``layer3``; of a
        module that runs several times the last output counts.
    pool
        ``avg``, ``max``, ``gem`` (generalised mean with power 3; Radenovic et al. 2018), ``cls``
        (the class token) or, for ``final``, ``native``: what the network's own classifier sees.
    """

    layer: str = FINAL
    pool: str = "native"


def resolve_tap(network: torch.nn.Module, layer: str, pool: str | None) -> Tap:
    """Check a layer's and a pooling's name against a network, and give each thing one name.

    Parameters
    ----------
    network
        A timm network without classes.
    layer
        ``final`` or a module's name.
    pool
        One of `POOLS`; None for the network's own.

    Returns
    -------
    Tap
        With pool ``native`` wherever the network's own pooling is meant.

    Raises
    ------
    WeightsError
        Naming the stages or poolings that there are.
    """
    if pool is not None and pool not in POOLS:
        raise WeightsError(f"pool {pool!r} is not known; give one of {', '.join(POOLS)}")
    if layer == FINAL:
        own = pool_name(network)
        meant = own if pool == "pre_logits" and not _has_hidden_layer(network) else pool
        return Tap(FINAL, "native" if meant in {None, own} else str(meant))
    if not layer or layer not in dict(network.named_modules()):
        stages = ", ".join(stage_names(network)) or "the names of named_modules()"
        raise WeightsError(
            f"layer {layer!r} is not in this network; give 'final' or one of {stages}"
        )
    if pool == "pre_logits":
        raise WeightsError(f"pool 'pre_logits' goes with layer 'final' only, not with {layer!r}")
    return Tap(layer, pool or "avg")


def pool_name(network: torch.nn.Module) -> str:
    """Name how the network's own features are pooled.

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
    if _has_hidden_layer(network):
        return "pre_logits"
    for owner in (network, getattr(network, "head", None)):
        pool = getattr(owner, "global_pool", None)
        kind = pool if isinstance(pool, str) else getattr(pool, "pool_type", None)
        if kind:
            return "cls" if kind == "token" else str(kind)
    return "native"


def stage_names(network: torch.nn.Module) -> list[str]:
    """List the stages that timm names in ``feature_info``, first to last; may be empty."""
    info: Any = getattr(network, "feature_info", None)
    entries = info.get_dicts() if hasattr(info, "get_dicts") else info
    return [str(entry["module"]) for entry in entries or []]


class TappedNetwork(torch.nn.Module):
    """A network whose forward pass gives the features of several taps at once.

    Several of these may stand on one network: only the one that runs listens to its layers.

    Parameters
    ----------
    network
        A timm network without classes.
    taps
        From `resolve_tap`.

    Raises
    ------
    WeightsError
        In the forward pass: if a layer is not run, or its output cannot be pooled so.
    """

    def __init__(self, network: torch.nn.Module, taps: Sequence[Tap]) -> None:
        super().__init__()
        self.network = network
        self.taps = tuple(taps)
        self._listens = False
        self._pooled: dict[Tap, torch.Tensor] = {}
        for layer in {tap.layer for tap in taps} - {FINAL}:
            network.get_submodule(layer).register_forward_hook(self._hook(layer))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Give one tensor (n, dim) per tap."""
        self._listens = True
        try:
            features = {**self._final(images), **self._pooled}
        finally:
            self._listens = False
            self._pooled.clear()
        for tap in self.taps:
            if tap not in features:
                raise WeightsError(
                    f"layer {tap.layer!r} is not run in the forward pass; give another"
                )
        return tuple(features[tap] for tap in self.taps)

    def _final(self, images: torch.Tensor) -> dict[Tap, torch.Tensor]:
        wanted = [tap for tap in self.taps if tap.layer == FINAL]
        if all(tap.pool == "native" for tap in wanted):
            return dict.fromkeys(wanted, self.network(images))
        features = self.network.forward_features(images)  # type: ignore[operator]
        found = {
            tap: pool_positions(features, tap.pool, self.network)
            for tap in wanted
            if tap.pool != "native"
        }
        if len(found) < len(self.taps):
            # a tapped layer may also stand in the network's head
            whole = self.network.forward_head(features)  # type: ignore[operator]
            found |= {tap: whole for tap in wanted if tap.pool == "native"}
        return found

    def _hook(self, layer: str) -> Any:  # noqa: ANN401
        taps = [tap for tap in self.taps if tap.layer == layer]

        def pool_output(_module: object, _inputs: object, output: torch.Tensor) -> None:
            if self._listens:
                # at once, because the next layer may work in place
                for tap in taps:
                    self._pooled[tap] = pool_positions(output, tap.pool, self.network)

        return pool_output


def pool_positions(features: torch.Tensor, pool: str, network: torch.nn.Module) -> torch.Tensor:
    """Pool a feature map or a row of tokens over its positions.

    Parameters
    ----------
    features
        Shape (n, channels, height, width), (n, height, width, channels) for networks that say so,
        or (n, tokens, channels).
    pool
        ``avg``, ``max``, ``gem`` or ``cls``. A class token is no position: the others leave it out.
    network
        Tells its layout and its number of leading tokens.

    Returns
    -------
    torch.Tensor
        Shape (n, channels); shares no memory with `features`. Means are taken in float32.

    Raises
    ------
    WeightsError
        If this output cannot be pooled so.
    """
    if not isinstance(features, torch.Tensor):
        raise WeightsError(
            f"an output of type {type(features).__name__} cannot be pooled; choose another layer"
        )
    if features.ndim == 2 and pool != "cls":
        return features.clone()
    n_prefix = int(getattr(network, "num_prefix_tokens", 0) or 0)
    if features.ndim == 3:
        if pool == "cls" and n_prefix:
            return features[:, 0].clone()
        positions = features[:, n_prefix:]
    elif features.ndim == 4:
        last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        positions = features.flatten(1, 2) if last else features.flatten(2).transpose(1, 2)
    else:
        raise WeightsError(
            f"an output of shape {tuple(features.shape)} cannot be pooled; choose another layer"
        )
    if pool == "cls":
        raise WeightsError("pool 'cls' needs a network with a class token; give 'avg'")
    return _POOL[pool](positions)


def _gem(positions: torch.Tensor) -> torch.Tensor:
    powers = positions.float().clamp(min=GEM_FLOOR).pow(GEM_POWER)
    return powers.mean(dim=1).pow(1 / GEM_POWER)


_POOL: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "avg": lambda positions: positions.mean(dim=1, dtype=torch.float32),
    "max": lambda positions: positions.amax(dim=1),
    "gem": _gem,
}


def _has_hidden_layer(network: torch.nn.Module) -> bool:
    width = getattr(network, "head_hidden_size", None)
    return width is not None and width != getattr(network, "num_features", width)
