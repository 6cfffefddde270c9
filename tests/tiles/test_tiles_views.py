"""Views of a tile: their names, the symmetries of the square, and jitter that repeats itself."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from featurebench.errors import ConfigError
from featurebench.tiles import (
    CLEAN,
    View,
    jitter_tile,
    make_views,
    needs_square,
    parse_view,
    turn_pixels,
)
from featurebench.tiles.jitter import ZOOM_LIMIT
from featurebench.tiles.staining import EOSIN, HAEMATOXYLIN

NOISE = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), dtype=np.uint8)
OBLONG = np.random.default_rng(1).integers(0, 256, (2, 4, 7, 3), dtype=np.uint8)
QUARTERS = ["clean", "rot90", "rot180", "rot270"]
STAIN = [View(jitter="stain", draw=draw) for draw in range(4)]
ZOOM = [View(jitter="zoom", draw=draw) for draw in range(40)]

DIGESTS = """
import hashlib, json, sys
import numpy as np
from PIL import Image
from featurebench.tiles import jitter_tile, parse_view
pixels = (np.indices((20, 24)).sum(axis=0)[..., None] * np.array([3, 5, 2]) % 256).astype(np.uint8)
asked = json.loads(sys.argv[1])
made = [jitter_tile(Image.fromarray(pixels), parse_view(view), tile) for view, tile in asked]
print(json.dumps([hashlib.sha256(image.tobytes()).hexdigest() for image in made]))
"""


def tissue(side: int = 96) -> Image.Image:
    """Nuclei on stroma, by the Beer-Lambert law."""
    rng = np.random.default_rng(7)
    nuclei = ndimage.gaussian_filter(rng.random((side, side)), 3)
    nuclei = np.where(nuclei > np.quantile(nuclei, 0.8), 0.8, 0.1)
    stroma = 0.3 + 0.1 * ndimage.gaussian_filter(rng.standard_normal((side, side)), 2)
    density = nuclei[..., None] * HAEMATOXYLIN + stroma[..., None] * EOSIN
    return Image.fromarray(np.rint(245 * 10**-density).astype(np.uint8))


def grey(image: Image.Image) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.asarray(image.convert("L"), dtype=np.float64)


def message(views: Any) -> str:
    with pytest.raises(ConfigError) as error:
        make_views(views)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (1, ["clean"]),
        (2, ["clean", "flip"]),
        (4, QUARTERS),
        (
            8,
            [*QUARTERS, "flip", "flip_rot90", "flip_rot180", "flip_rot270"],
        ),
        ({}, ["clean"]),
        (
            {"stain": 2, "zoom": 1, "seed": 5},
            ["clean", "stain0-seed5", "stain1-seed5", "zoom0-seed5"],
        ),
        ({"zoom": 1, "dihedral": 2}, ["clean", "flip", "zoom0-seed0"]),
    ],
)
def test_views_have_the_names_of_the_store(asked: Any, names: list[str]) -> None:
    views = make_views(asked)
    assert [view.name for view in views] == names
    assert views[0] == CLEAN
    assert len(set(views)) == len(views)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "dihedral": st.sampled_from([1, 2, 4, 8]),
            "stain": st.integers(0, 5),
            "zoom": st.integers(0, 5),
            "seed": st.integers(0, 999_999_999),
        },
    )
)
def test_names_round_trip(asked: dict[str, int]) -> None:
    views = make_views(asked)
    assert tuple(parse_view(view.name) for view in views) == views
    count = asked.get("dihedral", 1) + asked.get("stain", 0) + asked.get("zoom", 0)
    assert len({view.name for view in views}) == count


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (3, "3"),
        (0, "0"),
        (True, "True"),
        ("8", "'8'"),
        ({"dihedral": 6}, "6"),
        ({"stain": -1}, "stain -1"),
        ({"stain": 101}, "stain 101"),
        ({"zoom": 1.5}, "zoom 1.5"),
        ({"stain": 1, "seed": 10**9}, "seed 1000000000"),
        ({"stian": 2}, "did you mean 'stain'"),
        ({"blur": 2}, "use dihedral, stain, zoom, seed"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_value(asked: Any, told: str) -> None:
    assert told in message(asked)


@pytest.mark.parametrize(
    "name",
    [
        *("", "Clean", "rot45", "flip_flip", "stain", "stain1", "stain01-seed0", "stain0-seed00"),
        *(
            "zoom-1-seed0",
            "zoom0-seed0 ",
            "zoom0-seed0\n",
            "zoom1-seed٣",
            "zoom0-seed" + "9" * 5000,
        ),
    ],
)
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown view") as error:
        parse_view(name)
    assert "\n" not in str(error.value)
    assert "zoom0-seed0" in str(error.value)


@pytest.mark.parametrize("symmetry", [-1, 8])
def test_there_are_eight_symmetries(symmetry: int) -> None:
    with pytest.raises(ConfigError, match=str(symmetry)):
        View(symmetry)


def test_a_view_does_not_turn_and_jitter_at_once() -> None:
    with pytest.raises(ConfigError, match="make two views"):
        View(3, "stain")


def test_the_tile_itself_is_only_jittered() -> None:
    assert {view.tile_view for view in make_views(8)} == {CLEAN}
    assert STAIN[1].tile_view == STAIN[1]


def test_the_symmetries_are_the_group_of_the_square() -> None:
    turned = {turn_pixels(NOISE, k).tobytes(): k for k in range(8)}
    assert len(turned) == 8
    assert turn_pixels(NOISE, 0).tobytes() == NOISE.tobytes()
    for first, second in product(range(8), repeat=2):
        assert turn_pixels(turn_pixels(NOISE, first), second).tobytes() in turned


@pytest.mark.parametrize("symmetry", range(8))
def test_turning_agrees_with_torch_and_pillow(symmetry: int) -> None:
    tensor = torch.from_numpy(OBLONG)
    tensor = torch.flip(tensor, dims=(2,)) if symmetry >= 4 else tensor
    expected = torch.rot90(tensor, symmetry % 4, dims=(1, 2)).numpy()
    np.testing.assert_array_equal(turn_pixels(OBLONG, symmetry), expected)
    image = Image.fromarray(OBLONG[0])
    if symmetry >= 4:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = image.rotate(90 * (symmetry % 4), expand=True)
    np.testing.assert_array_equal(turn_pixels(OBLONG, symmetry)[0], np.asarray(image))


def test_only_odd_quarter_turns_need_a_square() -> None:
    for view in make_views(8):
        kept = turn_pixels(OBLONG, view.symmetry).shape == OBLONG.shape
        assert needs_square(view) != kept
    assert not any(map(needs_square, STAIN + ZOOM))


def test_no_jitter_leaves_the_very_image() -> None:
    image = tissue()
    assert all(jitter_tile(image, view, "a") is image for view in make_views(8))


@pytest.mark.parametrize("size", [(64, 64), (40, 90), (1, 1), (3, 200)])
@pytest.mark.parametrize("view", [STAIN[0], ZOOM[0], ZOOM[1]])
def test_jitter_keeps_mode_and_size(view: View, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    jittered = jitter_tile(Image.fromarray(pixels), view, "a")
    assert (jittered.mode, jittered.size) == ("RGB", size)


def test_jitter_is_the_same_in_every_process_and_order() -> None:
    asked = [(view.name, tile) for view in (*STAIN[:2], *ZOOM[:2]) for tile in ("a", "b", "ü/1")]
    there = _digests(asked)
    back = _digests(asked[::-1])
    assert there == back[::-1]
    assert len(set(there)) == len(asked)


def test_the_seed_and_the_kind_change_the_draw() -> None:
    image = tissue()
    seeds = [jitter_tile(image, View(jitter="stain", seed=seed), "a").tobytes() for seed in (0, 1)]
    assert seeds[0] != seeds[1]


@pytest.mark.parametrize("view", STAIN)
def test_stain_jitter_changes_colour_and_keeps_structure(view: View) -> None:
    image = tissue()
    jittered = jitter_tile(image, view, "a")
    shift = np.asarray(jittered, dtype=float).mean((0, 1)) - np.asarray(image).mean((0, 1))
    assert 1.0 < np.abs(shift).max() < 40.0
    assert np.corrcoef(grey(image).ravel(), grey(jittered).ravel())[0, 1] > 0.98


def test_stain_jitter_is_affine_in_each_stains_amount() -> None:
    # Amounts measured by Ruifrok's and Johnston's formula, on tissue dark enough for fine steps.
    rest = np.cross(HAEMATOXYLIN, EOSIN)
    vectors = np.array([HAEMATOXYLIN, EOSIN, rest / np.linalg.norm(rest)])
    image = tissue()
    jittered = jitter_tile(image, STAIN[0], "a")
    before, after = (
        (-np.log10((np.asarray(i).reshape(-1, 3) + 1.0) / 256) @ np.linalg.inv(vectors)).T
        for i in (image, jittered)
    )
    for old, new in zip(before[:2], after[:2], strict=True):
        slope, offset = np.polyfit(old, new, 1)
        assert 0.94 < slope < 1.06
        assert abs(offset) < 0.06
        assert np.abs(new - slope * old - offset).max() < 0.02


def test_black_and_white_stay_in_range() -> None:
    ends = np.repeat(np.array([0, 255], dtype=np.uint8), 48).reshape(2, 16, 3)
    for view in STAIN:
        dark, light = np.asarray(jitter_tile(Image.fromarray(ends), view, "a"))
        assert dark.max() < 5
        assert light.min() > 180


def test_zoom_magnifies_about_the_centre() -> None:
    radius, side = 30, 128
    rows, columns = np.indices((side, side)) - (side - 1) / 2
    disc = np.where(np.hypot(rows, columns) < radius, 0, 255).astype(np.uint8)
    image = Image.fromarray(np.repeat(disc[..., None], 3, axis=2))
    factors = []
    for view in ZOOM:
        dark = grey(jitter_tile(image, view, "a")) < 128
        factors.append(np.sqrt(dark.sum() / np.pi) / radius)
        assert np.abs(np.argwhere(dark).mean(axis=0) - (side - 1) / 2).max() < 0.2
    logs = np.log(factors) / np.log(ZOOM_LIMIT)
    assert np.abs(logs).max() < 1.02
    assert logs.min() < -0.8
    assert logs.max() > 0.8
    # A uniform draw on (-1, 1) has standard deviation 0.58; its mean over 40 draws one of 0.09.
    assert abs(logs.mean()) < 0.3
    assert 0.45 < logs.std() < 0.7


def test_zooming_out_mirrors_at_the_border() -> None:
    ramp = np.repeat(np.linspace(40, 200, 100).astype(np.uint8)[None, :, None], 100, axis=0)
    image = Image.fromarray(np.repeat(ramp, 3, axis=2))
    rows = [grey(jitter_tile(image, view, "a"))[50] for view in ZOOM]
    turned = [row for row in rows if row.argmin() > 3]
    assert len(turned) > 5
    for row in turned:
        assert row.max() - row.min() > 150
        # The ramp runs backwards outside the tile, so that its ends are met again.
        assert row[0] > row.min() + 4
        assert row[-1] < row.max() - 4


def _digests(asked: list[tuple[str, str]]) -> list[str]:
    command = [sys.executable, "-c", DIGESTS, json.dumps(asked)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    digests: list[str] = json.loads(done.stdout)
    return digests
