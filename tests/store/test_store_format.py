"""A store written from docs/store-format.md alone, with zarr and json, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import zarr
from store_cases import (
    CLASSES,
    SPEC,
    flip_bit,
    make_obs,
    make_store,
    record_file,
    shard_path,
    write_all,
)
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from featurebench.errors import MissingRowsError, StoreCorruptError, StoreError
from featurebench.store import EmbeddingSpec, FeatureStore
from featurebench.store.encoding import encode_shard
from featurebench.store.layout import read_layout

if TYPE_CHECKING:
    from pathlib import Path

N, DIM, BLOCK = 50, 4, 20
TILE_IDS, PATHS = [f"x{k}" for k in range(N)], [f"tiles/µ{k}.png" for k in range(N)]


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def with_digest(body: dict[str, Any]) -> bytes:
    return canonical({**body, "digest": hashlib.sha256(canonical(body)).hexdigest()})


def foreign_spec() -> dict[str, Any]:
    return {
        "model": "lab/UNI",
        "tag": "v1",
        "dim": DIM,
        "weights_sha256": "ef" * 32,
        "preprocessing": {"mean": [0.5, 0.5, 0.5], "note": "µ"},
        "model_args": {},
        "layer": "final",
        "pool": "cls",
        "view": "clean",
        "dtype": "float16",
        "precision": "float32",
    }


def seal_nodes(folder: Path) -> None:
    for path in folder.rglob("zarr.json"):
        path.write_bytes(sealed(json.loads(path.read_bytes())))


def sealed(meta: dict[str, Any]) -> bytes:
    meta.setdefault("attributes", {}).pop("featurebench_digest", None)
    digest = hashlib.sha256(canonical(meta)).hexdigest()
    meta["attributes"]["featurebench_digest"] = digest
    return canonical(meta)


def write_header(root: Path, version: str, manifest_sha256: str) -> None:
    header: dict[str, Any] = {
        "format": "featurebench.store",
        "version": version,
        "dataset": "foreign",
    }
    header |= {"classes": ["a", "b"], "manifest_sha256": manifest_sha256, "n_tiles": N}
    header |= {"later": 1}
    (root / "store.json").write_bytes(with_digest(header))


def write_groups(root: Path, version: str) -> None:
    """Write what stands beside the embeddings, which 1.0 does not ask for."""

    def attributes(kind: str, number: str, **more: Any) -> dict[str, Any]:
        return {"encoding-type": kind, "encoding-version": number, **more}

    group = zarr.create_group(root / "embeddings.zarr", attributes=attributes("anndata", "0.1.0"))
    group.create_group("obsm", attributes=attributes("dict", "0.1.0"))
    if version == "1.0":
        return
    for name in ("uns", "uns/featurebench"):
        group.create_group(name, attributes=attributes("dict", "0.1.0"))
    tables: dict[str, dict[str, list[str]]] = {
        "obs": {"tile_id": TILE_IDS, "path": PATHS},
        "var": {"_index": []},
    }
    for name, columns in tables.items():
        index, *others = columns
        more = {"_index": index, "column-order": others}
        group.create_group(name, attributes=attributes("dataframe", "0.2.0", **more))
        for column, texts in columns.items():
            zarr.create_array(
                root / "embeddings.zarr",
                name=f"{name}/{column}",
                data=np.array(texts, dtype=np.dtypes.StringDType()),
                compressors=(Crc32cCodec(),),
                attributes=attributes("string-array", "0.2.0"),
                config={"write_empty_chunks": True},
            )


def write_from_document(
    root: Path, compressors: tuple[Any, ...] = (Crc32cCodec(),), *, version: str = "1.4"
) -> Any:
    """Write blocks 0 and 2 of three, with row 41 refused; return rows, name and array."""
    root.mkdir()
    tiles = "\n".join(f"{t}\0{path}" for t, path in zip(TILE_IDS, PATHS, strict=True))
    opaque = version == "1.0"
    write_header(root, version, "00" if opaque else hashlib.sha256(tiles.encode()).hexdigest())
    write_groups(root, version)

    spec = foreign_spec()
    recipe = {key: value for key, value in spec.items() if key != "tag"}
    fingerprint = hashlib.sha256(canonical(recipe)).hexdigest()
    name = f"lab-UNI.v1@{fingerprint[:8]}"
    array = zarr.create_array(
        root / "embeddings.zarr",
        name=f"obsm/{name}",
        shape=(N, DIM),
        chunks=(5, DIM),
        shards=(BLOCK, DIM),
        dtype="float16",
        compressors=compressors,
        fill_value=np.nan,
        attributes={
            "encoding-type": "array",
            "encoding-version": "0.2.0",
            "featurebench": {"spec": spec, "fingerprint": fingerprint},
        },
    )
    rows = np.linspace(-3, 3, N * DIM).reshape(N, DIM).astype("<f2")
    rows[41] = np.nan
    commits = root / "commits" / name
    commits.mkdir(parents=True)
    for block, start, stop in ((0, 0, 20), (2, 40, 50)):
        array[start:stop] = rows[start:stop]
        refused = [{"row": 41, "tile_id": "x41", "reason": "blank"}] if block == 2 else []
        record: dict[str, Any] = {
            "format": "featurebench.commit",
            "version": version,
            "embedding": name,
        }
        record |= {"fingerprint": fingerprint, "block": block}
        record |= {"start": start, "stop": stop}
        record |= {"sha256": hashlib.sha256(rows[start:stop].tobytes()).hexdigest()}
        record |= {"refused": refused, "cost": {"wall_s": 0.1}}
        (commits / f"{block}.json").write_bytes(with_digest(record))
    if not opaque:
        seal_nodes(root)
    return rows, name, array


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.4"])
@pytest.mark.parametrize(
    "compressors",
    [
        (Crc32cCodec(),),
        (ZstdCodec(level=1), Crc32cCodec()),
        (BloscCodec(cname="lz4", typesize=2), Crc32cCodec()),
    ],
)
def test_a_store_written_from_the_document_is_read(
    tmp_path: Path, compressors: tuple[Any, ...], version: str
) -> None:
    rows, name, _ = write_from_document(tmp_path / "f.store", compressors, version=version)
    store = FeatureStore.open(tmp_path / "f.store")
    (spec,) = store.embeddings()
    assert (spec.name, spec.to_dict(), store.dataset) == (name, foreign_spec(), "foreign")
    assert [block.index for block in store.pending(spec)] == [1]
    asked = np.array([49, 0, 19, 40, 42])
    np.testing.assert_array_equal(store.load(spec, asked), rows[asked])
    for missing in ([20], [41]):
        with pytest.raises(MissingRowsError):
            store.load(spec, np.array(missing))
    assert [refusal.row for refusal in store.refused(spec)] == [41]
    assert store.verify() == []

    assert store.write(spec, store.pending(spec)[0], np.ones((20, DIM)))
    assert (store.load(spec, np.arange(20, 40)) == 1).all()
    assert store.verify() == []


def test_a_store_of_version_1_0_grows_and_stays_of_that_version(tmp_path: Path) -> None:
    rows, name, _ = write_from_document(tmp_path / "f.store", version="1.0")
    store = FeatureStore.open(tmp_path / "f.store")
    store.add(SPEC, block_rows=16)
    other = write_all(store)
    store.update_obs(make_obs(N), CLASSES)
    again = FeatureStore.open(tmp_path / "f.store")
    assert json.loads((again.path / "store.json").read_bytes())["version"] == "1.0"
    assert again.verify() == []
    foreign = next(spec for spec in again.embeddings() if spec.name == name)
    np.testing.assert_array_equal(again.load(foreign, np.arange(20)), rows[:20])
    np.testing.assert_array_equal(again.load(SPEC), other)
    flip_bit(again.path / "embeddings.zarr" / "obsm" / SPEC.name / "zarr.json", 100)
    assert again.repair(again.verify()) == 1
    assert [spec.name for spec in again.embeddings()] == [name]


def test_compressed_shards_are_checked_as_well(tmp_path: Path) -> None:
    write_from_document(tmp_path / "f.store", (ZstdCodec(level=1), Crc32cCodec()))
    store = FeatureStore.open(tmp_path / "f.store")
    (spec,) = store.embeddings()
    path = shard_path(store, store.blocks(spec)[0], spec)
    whole = path.read_bytes()
    for offset in range(len(whole)):
        damaged = bytearray(whole)
        damaged[offset] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(StoreCorruptError, match="block 0"):
            store.load(spec, np.arange(20))
    for size in (0, 10, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(StoreCorruptError, match="block 0"):
            store.load(spec, np.arange(20))


def test_chunks_in_another_order_are_read(tmp_path: Path) -> None:
    rows, name, _ = write_from_document(tmp_path / "f.store")
    path = tmp_path / "f.store" / "embeddings.zarr" / "obsm" / name / "c" / "0" / "0"
    content = path.read_bytes()
    index = np.frombuffer(content[-68:-4], dtype="<u8").reshape(4, 2)
    chunks = [content[offset : offset + length] for offset, length in index.tolist()]
    for gap in (b"", b"gap"):
        reordered, entries = gap, np.empty((4, 2), dtype="<u8")
        for k in (2, 0, 3, 1):
            entries[k] = len(reordered), len(chunks[k])
            reordered += chunks[k]
        crc = crc32c(entries.tobytes())
        path.write_bytes(reordered + entries.tobytes() + crc)
        store = FeatureStore.open(tmp_path / "f.store")
        loaded = store.load(store.embeddings()[0], np.arange(20))
        np.testing.assert_array_equal(loaded, rows[:20])


def crc32c(data: bytes) -> bytes:
    """CRC-32C by its definition, bit by bit."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return (state ^ 0xFFFFFFFF).to_bytes(4, "little")


def test_the_writer_follows_the_document(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=40)
    store.add(SPEC, block_rows=16)
    rows = write_all(store)
    for path in [store.path / "store.json", record_file(store, store.blocks(SPEC)[1])]:
        body = json.loads(path.read_bytes())
        digest = body.pop("digest")
        assert digest == hashlib.sha256(canonical(body)).hexdigest()
        assert path.read_bytes() == with_digest(body)
    assert body["sha256"] == hashlib.sha256(rows[16:32].astype("<f2").tobytes()).hexdigest()
    assert (body["block"], body["start"], body["stop"]) == (1, 16, 32)
    assert body["staged"].startswith(f"{SPEC.name}.1.")
    meta = json.loads(
        (store.path / "embeddings.zarr" / "obsm" / SPEC.name / "zarr.json").read_bytes()
    )
    recipe = {key: value for key, value in SPEC.to_dict().items() if key != "tag"}
    ours = meta["attributes"]["featurebench"]
    assert ours["fingerprint"] == hashlib.sha256(canonical(recipe)).hexdigest()
    assert ours["spec"] == SPEC.to_dict()
    assert (meta["fill_value"], meta["data_type"]) == ("NaN", "float16")


def test_every_node_is_sealed_and_every_chunk_is_there(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=40)
    store.update_obs(make_obs(40).assign(zero=0, empty=""), CLASSES)
    store.add(SPEC, block_rows=16)
    root = store.path / "embeddings.zarr"
    documents = sorted(root.rglob("zarr.json"))
    assert len(documents) == 25
    for path in documents:
        meta = json.loads(path.read_bytes())
        assert path.read_bytes() == sealed(meta)
        if meta["node_type"] == "array" and "obsm" not in path.parts and 0 not in meta["shape"]:
            (chunk,) = (
                found for found in path.parent.rglob("*") if found.is_file() and found != path
            )
            assert meta["codecs"][-1]["name"] == "crc32c"
            content = chunk.read_bytes()
            assert content[-4:] == crc32c(content[:-4])
    layout = json.loads(read_text(root / "uns" / "featurebench" / SPEC.name / "layout"))
    assert layout == {"block_rows": 16, "chunk_rows": 16, "compression": "none"}


def read_text(folder: Path) -> str:
    return str(zarr.open_array(folder, mode="r")[()])


def test_arrays_of_others_are_left_alone(tmp_path: Path) -> None:
    write_from_document(tmp_path / "f.store")
    umap: npt.NDArray[np.float32] = np.zeros((N, 2), dtype=np.float32)
    zarr.create_array(tmp_path / "f.store" / "embeddings.zarr", name="obsm/X_umap", data=umap)
    store = FeatureStore.open(tmp_path / "f.store")
    assert [spec.model for spec in store.embeddings()] == ["lab/UNI"]
    assert store.verify() == []


def edit_metadata(root: Path, **changes: Any) -> FeatureStore:
    (path,) = (root / "embeddings.zarr" / "obsm").glob("*/zarr.json")
    path.write_bytes(sealed({**json.loads(path.read_text()), **changes}))
    return FeatureStore.open(root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codecs": [{"name": "bytes"}, {"name": "gzip"}]}, r"the codecs \['gzip'\]; only"),
        ({"codecs": [{"name": "bytes"}, {"name": "crc32c"}]}, "is not sharded"),
        ({"zarr_format": 2}, "is Zarr format 2; only 3 is read"),
        ({"shape": [N + 1, DIM]}, r"has shape \[51, 4\], the store \[50, 4\]"),
        ({"data_type": "float32"}, "its recipe is not the one"),
        ({"chunk_grid": {}}, "KeyError"),
        (
            {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [20, 2]}}},
            "splits rows",
        ),
        ({"chunk_key_encoding": {"name": "v2"}}, "chunk keys 'v2'"),
    ],
)
def test_metadata_that_is_not_of_this_format_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_from_document(tmp_path / "f.store")
    store = edit_metadata(tmp_path / "f.store", **changes)
    with pytest.raises(StoreError, match=message):
        store.embeddings()
    (problem,) = store.verify()
    assert (problem.block, problem.stop) == (-1, N)


def test_a_codec_within_the_shards_is_refused_before_it_decodes(tmp_path: Path) -> None:
    write_from_document(tmp_path / "gz.store", (GzipCodec(), Crc32cCodec()))
    with pytest.raises(StoreError, match=r"\['gzip'\]"):
        FeatureStore.open(tmp_path / "gz.store").embeddings()
    write_from_document(tmp_path / "no-crc.store", (ZstdCodec(checksum=True),))
    with pytest.raises(StoreError, match="has no checksums"):
        FeatureStore.open(tmp_path / "no-crc.store").embeddings()


def test_a_changed_recipe_is_refused(tmp_path: Path) -> None:
    write_from_document(tmp_path / "f.store")
    ours = {"spec": {**foreign_spec(), "pool": "avg"}, "fingerprint": "00" * 32}
    store = edit_metadata(tmp_path / "f.store", attributes={"featurebench": ours})
    with pytest.raises(StoreCorruptError, match="its recipe is not the one it was made by"):
        store.embeddings()


def test_a_later_version_is_refused_by_its_number(tmp_path: Path) -> None:
    write_from_document(tmp_path / "f.store")
    path = tmp_path / "f.store" / "store.json"
    header = json.loads(path.read_text())
    path.write_text(json.dumps({**header, "version": "2.0"}))
    with pytest.raises(StoreError, match=r"version 2\.0.*reads 1\.1; install.*version 2"):
        FeatureStore.open(tmp_path / "f.store")
    path.write_text(json.dumps({**header, "format": "other"}))
    with pytest.raises(StoreError, match="its format is 'other'"):
        FeatureStore.open(tmp_path / "f.store")
    path.write_text("[1]")
    with pytest.raises(StoreCorruptError, match="not a JSON object"):
        FeatureStore.open(tmp_path / "f.store")


def test_zarr_v2_and_missing_stores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a feature store"):
        FeatureStore.open(tmp_path / "absent.store")
    write_from_document(tmp_path / "f.store")
    root = tmp_path / "f.store" / "embeddings.zarr"
    (root / "zarr.json").unlink()
    (root / ".zgroup").write_text('{"zarr_format": 2}')
    with pytest.raises(StoreError, match="only Zarr v3 is read"):
        FeatureStore.open(tmp_path / "f.store")


def test_a_record_that_names_a_file_outside_of_staging_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=10)
    store.add(SPEC)
    write_all(store)
    path = record_file(store, store.blocks(SPEC)[0])
    body = json.loads(path.read_bytes())
    del body["digest"]
    path.write_bytes(with_digest({**body, "staged": "../../secret"}))
    with pytest.raises(StoreCorruptError, match="outside of the staging folder"):
        store.load(SPEC)


@pytest.mark.parametrize(
    ("n_tiles", "dim", "block_rows", "dtype"),
    [(1000, 7, 512, "float16"), (1000, 7, 512, "float32"), (130, 5, 50, "float16")],
)
def test_shards_are_those_that_zarr_writes(
    tmp_path: Path, n_tiles: int, dim: int, block_rows: int, dtype: str
) -> None:
    names = [str(row) for row in range(n_tiles)]
    table = pd.DataFrame({"tile_id": names, "label": ["x"] * n_tiles})
    store = FeatureStore.create(
        tmp_path / "a.store", table, dataset="toy", classes=["x"], manifest_sha256="00" * 32
    )
    spec = EmbeddingSpec("net", "tag", dim, "00" * 32, {}, dtype=dtype)
    store.add(spec, block_rows=block_rows)
    array = store.path / "embeddings.zarr" / "obsm" / spec.name
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((n_tiles, dim)).astype(dtype)
    layout = read_layout(array, store._header)
    assert layout is not None
    rows[[1, block_rows - 1]] = np.nan
    rows[block_rows : block_rows + layout.chunk_rows] = np.nan
    shutil.copytree(array, tmp_path / "copy")
    zarr.open_array(tmp_path / "copy", mode="r+")[:] = rows
    for block in store.blocks(spec):
        shard = tmp_path / "copy" / layout.shard_key(block)
        ours = bytes(encode_shard(array, layout, block, rows[block.start : block.stop]))
        if shard.exists():
            assert ours == shard.read_bytes()
        else:
            assert ours[:-4] == b"\xff" * 16 * layout.chunks_per_block
