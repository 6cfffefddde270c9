"""A model's name as the user wrote it becomes timm's canonical architecture and tag."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

import timm
import timm.models

from featurebench.errors import WeightsError


@dataclass(frozen=True)
class Architecture:
    """An architecture that timm knows, and which of its pretrained configurations is meant.

    Parameters
    ----------
    name
        Canonical name without tag, such as ``resnet50``.
    tag
        timm's name of the pretrained weights, such as ``a1_in1k``; empty where timm has none.
    """

    name: str
    tag: str

    @property
    def full_name(self) -> str:
        """Name with tag, as `timm.create_model` takes it."""
        return f"{self.name}.{self.tag}" if self.tag else self.name

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """Preprocessing, classifier and weight source that timm has for this tag."""
        cfg = timm.get_pretrained_cfg(self.full_name)
        return {} if cfg is None else dict(cfg.to_dict())


def find_architecture(model: str) -> Architecture:
    """Resolve a timm name, with or without tag; a deprecated name becomes its successor.

    Parameters
    ----------
    model
        Such as ``resnet50``, ``resnet50.a1_in1k`` or the deprecated ``xception``.

    Raises
    ------
    WeightsError
        If timm has no such model or tag; the nearest names are given.
    """
    name, tag = timm.models.split_model_name_tag(model)
    deprecated = timm.models.get_deprecated_models()
    if name in deprecated:
        name, successor_tag = _successor(name, deprecated[name])
        tag = tag or successor_tag
    known = timm.list_models()
    if name not in known:
        nearest = _nearest(name, known)
        raise WeightsError(f"unknown model {model!r}{nearest}; see timm.list_models()")
    return Architecture(name, _checked_tag(name, tag) if tag else _default_tag(name))


def _successor(name: str, successor: str | None) -> tuple[str, str]:
    if successor is None:
        raise WeightsError(f"model {name!r} was removed from timm without a successor; use another")
    current, tag = timm.models.split_model_name_tag(successor)
    return current, tag


def _nearest(name: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f", did you mean {', '.join(nearest)}?" if nearest else ""


def _default_tag(name: str) -> str:
    cfg = timm.get_pretrained_cfg(name)
    return (cfg.tag or "") if cfg is not None else ""


def _checked_tag(name: str, tag: str) -> str:
    full_names = timm.models.get_arch_pretrained_cfgs(name)
    if f"{name}.{tag}" not in full_names:
        tags = ", ".join(timm.models.split_model_name_tag(full)[1] for full in full_names) or "none"
        raise WeightsError(f"model {name!r} has no pretrained tag {tag!r}; it has: {tags}")
    return tag
