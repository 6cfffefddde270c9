"""EmbeddingSpec and the small records around it: what fixes an embedding, and its rows."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from featurebench.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

DTYPES = ("float16", "float32")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def canonical_json(value: object) -> str:
    """Write a JSON value in the one form that is hashed: sorted keys, no spaces, ASCII."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def sha256_hex(text: str) -> str:
    """Hash a text as UTF-8; 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class EmbeddingSpec:
    """All that fixes an embedding: two equal specs give the same numbers for the same tile.

    Parameters
    ----------
    model
        Architecture, e.g. a timm model name.
    tag
        Where the weights came from, for people; the only field that the fingerprint leaves out.
    dim
        Columns of the matrix.
    weights_sha256
        Hash of the weights.
    preprocessing, model_args
        How a tile becomes the network's input, and the network's own arguments; JSON-ready.
    layer, pool
        Which output is kept, and how it is pooled over positions.
    view
        ``clean``, or the name of the augmented view.
    dtype
        Of the stored rows: ``float16`` or ``float32``.
    precision
        In which the network computes.

    Raises
    ------
    StoreError
        If a value cannot be stored: no columns, another dtype, something that JSON cannot hold.

    Examples
    --------
    >>> spec = EmbeddingSpec("resnet50", "a1_in1k", 2048, "ab" * 32, {"input_size": [3, 224, 224]})
    >>> spec.name
    'resnet50.a1_in1k@2f4e8333'
    """

    model: str
    tag: str
    dim: int
    weights_sha256: str
    preprocessing: Mapping[str, Any]
    layer: str = "final"
    pool: str = "avg"
    view: str = "clean"
    dtype: str = "float16"
    model_args: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "float32"

    def __post_init__(self) -> None:
        """Refuse what cannot be stored, and give the mappings the form that JSON returns."""
        if not self.model or not self.view:
            raise StoreError("an embedding needs a model and a view; give both a name")
        if self.dim < 1:
            raise StoreError(f"an embedding has at least one column, not {self.dim}")
        if self.dtype not in DTYPES:
            raise StoreError(f"dtype {self.dtype!r} is not stored; choose one of {DTYPES}")
        for name in ("preprocessing", "model_args"):
            object.__setattr__(self, name, _as_json(name, getattr(self, name)))

    def __hash__(self) -> int:
        """Hash the canonical form, since the mappings have no hash of their own."""
        return hash((self.fingerprint, self.tag))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of every field but ``tag``, 64 hexadecimal digits."""
        recipe = self.to_dict()
        del recipe["tag"]
        return sha256_hex(canonical_json(recipe))

    @property
    def name(self) -> str:
        """Name of the array: model, tag, the fingerprint's first 8 digits, the view if not clean.

        Characters that a file name may not hold everywhere become ``-``.
        """
        parts = [self.model, *([self.tag] if self.tag else [])]
        label = ".".join(_UNSAFE.sub("-", part) for part in parts).lstrip("._")
        view = "" if self.view == "clean" else "." + _UNSAFE.sub("-", self.view)
        return f"{label}@{self.fingerprint[:8]}{view}"

    def to_dict(self) -> dict[str, Any]:
        """Return every field as a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EmbeddingSpec:
        """Build the spec that `to_dict` wrote.

        Raises
        ------
        StoreError
            If a field is missing or unknown; the fields are named.
        """
        known = {f.name for f in fields(cls)}
        if wrong := sorted(known ^ set(values)):
            raise StoreError(f"the embedding's fields {wrong} are missing or unknown")
        return cls(**values)


@dataclass(frozen=True)
class Block:
    """Rows ``start`` to ``stop`` (left out) of an embedding: the unit of work."""

    index: int
    start: int
    stop: int

    def __len__(self) -> int:
        """Count the rows."""
        return self.stop - self.start


@dataclass(frozen=True)
class Refusal:
    """A tile without an embedding, and why; ``row`` counts from the manifest's first."""

    row: int
    tile_id: str
    reason: str


@dataclass(frozen=True)
class Problem:
    """Something in a store that is not as it was committed.

    ``embedding`` is empty and ``block`` -1 where the problem lies outside of an embedding's blocks;
    ``start`` to ``stop`` are the rows to embed again, none if they are equal. ``path`` is the file
    or folder that is damaged, relative to the store.
    """

    embedding: str
    block: int
    start: int
    stop: int
    what: str
    path: str = ""


def _as_json(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    try:
        copy = json.loads(canonical_json(dict(value)))
    except (TypeError, ValueError) as error:
        raise StoreError(f"the embedding's {name} cannot be written as JSON: {error}") from error
    return dict(copy)
