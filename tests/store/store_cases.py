"""Small stores, and the rows that belong in them, for the tests of the feature store."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from featurebench.store import Block, EmbeddingSpec, FeatureStore

if TYPE_CHECKING:
    from pathlib import Path

DIM = 6
CLASSES = ("stroma", "tumour")
SPEC = EmbeddingSpec(
    "resnet18", "a1_in1k", DIM, "ab" * 32, {"input_size": [3, 64, 64], "crop_pct": 0.875}
)


def make_obs(n: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "tile_id": [f"t{i:05d}" for i in range(n)],
            "path": [f"p/{i}.png" for i in range(n)],
            "label": [CLASSES[i % 2] for i in range(n)],
            "patient_id": [f"Q{i // 7}" for i in range(n)],
            "x": np.arange(n) * 64,
            "mpp": np.full(n, 0.5),
        }
    )


def manifest_sha256(obs: pd.DataFrame) -> str:
    pairs = zip(obs["tile_id"], obs["path"], strict=True)
    return hashlib.sha256("\n".join(f"{t}\0{path}" for t, path in pairs).encode()).hexdigest()


def create(path: Path, n: int, dataset: str = "toy") -> FeatureStore:
    obs = make_obs(n)
    return FeatureStore.create(
        path, obs, dataset=dataset, classes=CLASSES, manifest_sha256=manifest_sha256(obs)
    )


def make_store(folder: Path, *, n: int = 100, name: str = "toy.store") -> FeatureStore:
    return create(folder / name, n)


def true_rows(n: int, dim: int = DIM, *, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def write_all(store: FeatureStore, spec: EmbeddingSpec = SPEC) -> npt.NDArray[np.float16]:
    rows = true_rows(store.n_tiles, spec.dim)
    for block in store.pending(spec):
        store.write(spec, block, rows[block.start : block.stop], cost={"wall_s": 2.0})
    return rows.astype(np.float16)


def shard_path(store: FeatureStore, block: Block, spec: EmbeddingSpec = SPEC) -> Path:
    return store.path / "embeddings.zarr" / "obsm" / spec.name / "c" / str(block.index) / "0"


def record_file(store: FeatureStore, block: Block, spec: EmbeddingSpec = SPEC) -> Path:
    return store.path / "commits" / spec.name / f"{block.index}.json"


def flip_bit(path: Path, offset: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << bit
    path.write_bytes(content)
