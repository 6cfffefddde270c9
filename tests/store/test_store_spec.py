from __future__ import annotations

import json
import string
import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_cases import SPEC

from featurebench.errors import StoreError
from featurebench.store import EmbeddingSpec

TEXT = st.text(string.ascii_letters + string.digits + "._-/:é", min_size=1, max_size=12)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.floats(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
MAPPINGS = st.dictionaries(TEXT, JSON_VALUES, max_size=4)
SPECS = st.builds(
    EmbeddingSpec,
    model=TEXT,
    tag=TEXT,
    dim=st.integers(1, 4096),
    weights_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    preprocessing=MAPPINGS,
    layer=TEXT,
    pool=st.sampled_from(["avg", "max", "cls"]),
    view=st.sampled_from(["clean", "flip", "rot90"]),
    dtype=st.sampled_from(["float16", "float32"]),
    model_args=MAPPINGS,
    precision=st.sampled_from(["float32", "bfloat16"]),
)
FIELDS = [field.name for field in fields(EmbeddingSpec)]


@given(SPECS, SPECS, st.sampled_from(FIELDS))
def test_fingerprint_changes_exactly_with_the_recipe(
    spec: EmbeddingSpec, other: EmbeddingSpec, field: str
) -> None:
    changed = replace(spec, **{field: getattr(other, field)})
    before, after = (json.dumps(getattr(s, field), sort_keys=True) for s in (spec, changed))
    same_recipe = field == "tag" or before == after
    assert (changed.fingerprint == spec.fingerprint) == same_recipe


@given(SPECS)
def test_fingerprint_ignores_the_order_of_keys(spec: EmbeddingSpec) -> None:
    def reverse(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: reverse(value[k]) for k in reversed(value)}
        return [reverse(v) for v in value] if isinstance(value, list) else value

    assert EmbeddingSpec.from_dict(reverse(spec.to_dict())).fingerprint == spec.fingerprint


@given(SPECS)
def test_spec_survives_json(spec: EmbeddingSpec) -> None:
    copy = EmbeddingSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert copy == spec
    assert hash(copy) == hash(spec)
    assert copy.name == spec.name


@given(SPECS)
def test_name_may_stand_in_a_path(spec: EmbeddingSpec) -> None:
    assert set(spec.name) <= set(string.ascii_letters + string.digits + "._-@")
    assert spec.name[0] not in "._"
    assert f"@{spec.fingerprint[:8]}" in spec.name


def test_name_tells_model_tag_recipe_and_view() -> None:
    assert SPEC.name == f"resnet18.a1_in1k@{SPEC.fingerprint[:8]}"
    view = replace(SPEC, view="flip")
    assert view.name == f"resnet18.a1_in1k@{view.fingerprint[:8]}.flip"
    hub = replace(SPEC, model="hf-hub:lab/uni", tag="")
    assert hub.name == f"hf-hub-lab-uni@{hub.fingerprint[:8]}"


def test_tuples_are_what_json_makes_of_them() -> None:
    assert replace(SPEC, preprocessing={"size": (3, 4)}) == replace(
        SPEC, preprocessing={"size": [3, 4]}
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 0}, "at least one column, not 0"),
        ({"dtype": "int8"}, "'int8' is not stored"),
        ({"model": ""}, "needs a model"),
        ({"preprocessing": {"mean": float("nan")}}, "preprocessing cannot be written as JSON"),
        ({"model_args": {"act": object()}}, "model_args cannot be written as JSON"),
    ],
)
def test_specs_that_cannot_be_stored_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        replace(SPEC, **change)


def test_from_dict_names_the_wrong_fields() -> None:
    values = SPEC.to_dict()
    values["colour"] = values.pop("pool")
    with pytest.raises(StoreError, match=r"\['colour', 'pool'\]"):
        EmbeddingSpec.from_dict(values)


def test_importing_a_spec_is_cheap() -> None:
    code = (
        "import sys; from featurebench.store import EmbeddingSpec; "
        "print(sorted({'zarr', 'pandas', 'numpy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
