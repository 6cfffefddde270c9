"""What tells a synthetic cohort's classes apart: alike where promised, and different there only."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from featurebench.errors import ConfigError, ManifestError
from featurebench.tiles import Cohort, write_cohort
from featurebench.tiles.marks import draw_relief
from featurebench.tiles.staining import site_stain, tinted

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

# SHA-256 of two tiles of each of six patients, as they were when nuclei were the only effect.
DRAWN = [
    ({}, "ef6805099e07a313292a5601802bf831a2065e394571fbc602bd40563e588056"),
    (
        {"classes": 3, "sites": 2, "class_effect": 2.0, "seed": 5},
        "6a8fc393e5bc5d0e59fba6fcb4ec056dc0783b470d5dfa2a928871cfa41f2153",
    ),
    (
        {"size": 48, "site_effect": 0.0, "seed": 1},
        "b64ca9e63ec69e1857ac9c8da3f075998ce5c24742515e8ced48191aaf787bc7",
    ),
]


def both_classes(effect: str, n: int = 40, **settings: Any) -> npt.NDArray[np.float64]:
    """The same tissue as either class: shape (2, n, size, size, 3)."""
    cohort = Cohort(patients=n, effect=effect, sites=1, size=60, site_effect=0.0, **settings)
    return np.array([[cohort.draw(p, 0, label) for p in range(n)] for label in (0, 1)], float)


def spectrum(tiles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean power of the grey value's frequencies but the lowest."""
    grey = tiles.mean(-1)
    power = np.abs(np.fft.rfft2(grey - grey.mean((1, 2), keepdims=True))) ** 2
    return np.asarray(power.mean(0)).ravel()[1:]


@pytest.mark.parametrize(("settings", "digest"), DRAWN)
def test_the_default_cohort_is_as_ever_bit_for_bit(settings: dict[str, Any], digest: str) -> None:
    cohort = Cohort(**settings)
    drawn = hashlib.sha256()
    for patient in range(6):
        for tile in range(2):
            drawn.update(cohort.draw(patient, tile).tobytes())
    assert drawn.hexdigest() == digest


@pytest.mark.parametrize("effect", ["nuclei", "colour", "texture"])
def test_without_an_effect_the_classes_are_the_same_pixels(effect: str) -> None:
    benign, malignant = both_classes(effect, n=2, class_effect=0.0)
    np.testing.assert_array_equal(benign, malignant)


def test_marks_are_each_others_negative_with_equal_moments() -> None:
    light, dark = (
        draw_relief(60, contrast, np.random.default_rng(3)).astype(float) for contrast in (-1, 1)
    )
    np.testing.assert_allclose(light + dark, 2.0, atol=1e-6)
    for each in (light, dark):
        deviation = each - each.mean()
        assert each.mean() == pytest.approx(1.0, abs=1e-5)
        assert (deviation**3).mean() == pytest.approx(0.0, abs=1e-6)
    assert dark.max() > 1.5
    assert light.min() < 0.5
    assert (draw_relief(60, 5.0, np.random.default_rng(3)) >= 0).all()


def test_a_mark_looks_the_same_turned_and_mirrored() -> None:
    relief = draw_relief(60, 1.0, np.random.default_rng(0))
    row, column = np.unravel_index(relief[5:40, 5:40].argmax(), (35, 35))
    mark = relief[row + 3 : row + 8, column + 3 : column + 8]
    for turns in range(4):
        np.testing.assert_array_equal(np.rot90(mark, turns), mark)
        np.testing.assert_array_equal(np.rot90(mark.T, turns), mark)


def test_texture_leaves_mean_colour_and_spectrum_alike_but_not_the_sign_of_the_marks() -> None:
    light, dark = both_classes("texture")
    np.testing.assert_allclose(light.mean((0, 1, 2)), dark.mean((0, 1, 2)), atol=0.1)
    np.testing.assert_allclose(light.std((0, 1, 2)), dark.std((0, 1, 2)), rtol=0.02)
    powers = [spectrum(tiles) for tiles in (light, dark)]
    plain = spectrum(both_classes("texture", class_effect=0.0)[0])
    assert np.corrcoef(np.log(powers))[0, 1] > 0.98
    strong = powers[0] > 5 * plain
    assert strong.sum() > 10
    np.testing.assert_allclose(powers[0][strong].sum(), powers[1][strong].sum(), rtol=0.1)
    difference = (light - dark).mean(-1)
    assert np.abs(difference).mean() > 5


def test_colour_turns_the_hue_and_leaves_the_tissue() -> None:
    first, second = both_classes("colour", class_effect=2.0)
    shift = (second - first).mean((0, 1, 2))
    assert shift[1] > 3
    assert shift[2] < -3
    red = [tiles[..., 0].ravel() for tiles in (first, second)]
    assert np.corrcoef(red)[0, 1] > 0.98


def test_colour_varies_between_and_within_patients() -> None:
    cohort = Cohort(patients=60, effect="colour", site_effect=0.0)
    z = np.array([[cohort._colour(p, t, 0) for t in range(20)] for p in range(60)])
    assert z.var(ddof=1) == pytest.approx(1.0, abs=0.2)
    assert z.mean(1).var(ddof=1) == pytest.approx(0.35 + 0.65 / 20, abs=0.15)
    assert cohort._colour(0, 0, 1) - cohort._colour(0, 0, 0) == pytest.approx(2.437, abs=0.001)


def test_a_tinted_stain_is_as_strong_as_before() -> None:
    stain = site_stain(np.random.default_rng(0), 1.0)
    turned = tinted(stain, 0.2)
    np.testing.assert_allclose(np.linalg.norm(turned.vectors, axis=1), 1.0)
    assert (turned.vectors[:, 1] < stain.vectors[:, 1]).all()
    assert (turned.vectors[:, 2] > stain.vectors[:, 2]).all()
    np.testing.assert_allclose(tinted(stain, 0.0).vectors, stain.vectors)


@pytest.mark.parametrize("effect", ["colour", "texture"])
def test_other_effects_leave_the_nuclei_alike(effect: str) -> None:
    cohort = Cohort(effect=effect, class_effect=3.0)
    np.testing.assert_array_equal(cohort.latents(0, 0, 0), cohort.latents(0, 0, 1))


def test_an_effect_is_part_of_the_cohort_on_disk(tmp_path: Path) -> None:
    small: dict[str, Any] = {"patients": 2, "tiles_per_patient": 1, "sites": 1, "size": 32}
    write_cohort(tmp_path, **small)
    file = tmp_path / "cohort.json"
    assert json.loads(file.read_text())["effect"] == "nuclei"
    with pytest.raises(ManifestError, match="holds a cohort with effect 'nuclei', not 'texture'"):
        write_cohort(tmp_path, **small, effect="texture")
    # As written when there was one effect only.
    parameters = json.loads(file.read_text())
    del parameters["effect"]
    file.write_text(json.dumps(parameters))
    assert len(write_cohort(tmp_path, **small)) == 2


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"effect": "shape"}, "effect is 'shape': give one of nuclei, colour, texture"),
        (
            {"effect": "texture", "classes": 3},
            "effect 'texture' is for 2 classes: classes is 3",
        ),
    ],
)
def test_effects_are_checked(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        Cohort(**wrong)
    assert str(error.value) == told
