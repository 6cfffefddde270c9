"""timm's hub of pretrained weights: told quickly and in one line when it cannot be reached."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import huggingface_hub

from featurebench.backbones.weights import PACKAGES
from featurebench.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from featurebench.backbones.names import Architecture

HUB_TIMEOUT_S = 10.0


def check_hub(architecture: Architecture) -> None:
    """Make sure that the hub can give these weights before a download is tried.

    A download that cannot reach its host is retried for most of a minute; one question with a
    short deadline, which also honours the proxy settings, tells as much at once.

    Raises
    ------
    WeightsError
        If timm lists no weights, or they are not cached and the hub cannot be reached.
    """
    cfg = architecture.pretrained_cfg
    if not any(cfg.get(source) for source in ("hf_hub_id", "url", "file")):
        raise WeightsError(
            f"timm has no pretrained weights for {architecture.full_name!r}; "
            "give a file, another tag, or say weights 'random'"
        )
    if not cfg.get("hf_hub_id") or _is_cached(cfg):
        return
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise hub_error(architecture, "HF_HUB_OFFLINE is set and they are not in its cache")
    if not _answers(huggingface_hub.constants.ENDPOINT):
        raise hub_error(architecture, f"{huggingface_hub.constants.ENDPOINT} cannot be reached")


def hub_error(architecture: Architecture, reason: str) -> WeightsError:
    """One line: why the weights are not here and what else can be given."""
    remedy = "give a file (.safetensors or .pth)"
    if architecture.name in PACKAGES:
        remedy += " or say weights 'package'"
    return WeightsError(f"no weights for {architecture.full_name!r}: {reason}; {remedy}")


def _is_cached(cfg: Mapping[str, Any]) -> bool:
    repository, _, revision = str(cfg["hf_hub_id"]).partition("@")
    names = (cfg.get("hf_hub_filename"), "model.safetensors", "pytorch_model.bin")
    return any(
        isinstance(
            huggingface_hub.try_to_load_from_cache(repository, name, revision=revision or None), str
        )
        for name in names
        if name
    )


def _answers(url: str) -> bool:
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=HUB_TIMEOUT_S):
            return True
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False
