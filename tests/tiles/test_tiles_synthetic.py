"""The synthetic cohort: balance, determinism, known difficulty, and what is on disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from featurebench.errors import ConfigError, ManifestError
from featurebench.tiles import Cohort, TileManifest, oracle_auc, write_cohort
from featurebench.tiles import synthetic as module
from featurebench.tiles.staining import EOSIN, HAEMATOXYLIN, Stain, expose, site_stain
from featurebench.tiles.tissue import Morphology, draw_tile

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

SMALL: dict[str, Any] = {"patients": 6, "tiles_per_patient": 3, "size": 32}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Tiles drawn during the test, as patient and tile."""
    calls: list[tuple[int, int]] = []
    original = Cohort.draw

    def draw(
        self: Cohort, patient: int, tile: int, label: int | None = None
    ) -> npt.NDArray[np.uint8]:
        calls.append((patient, tile))
        return original(self, patient, tile, label)

    monkeypatch.setattr(Cohort, "draw", draw)
    return calls


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("classes", "sites", "patients"), [(2, 3, 24), (3, 2, 18), (4, 1, 8)])
def test_class_and_site_are_balanced_and_independent(
    classes: int, sites: int, patients: int
) -> None:
    cohort = Cohort(patients=patients, classes=classes, sites=sites)
    table = np.zeros((classes, sites), dtype=int)
    for patient in range(patients):
        table[cohort.class_of(patient), cohort.site_of(patient)] += 1
    assert (table == patients // (classes * sites)).all()


def test_a_cohort_is_deterministic_by_its_seed() -> None:
    first, again = Cohort(seed=3).draw(4, 2), Cohort(seed=3).draw(4, 2)
    np.testing.assert_array_equal(first, again)
    assert first.shape == (96, 96, 3)
    assert first.dtype == np.uint8
    assert (first != Cohort(seed=4).draw(4, 2)).mean() > 0.9
    assert (first != Cohort(seed=3).draw(4, 3)).mean() > 0.9


def test_a_tile_does_not_depend_on_how_many_others_there_are() -> None:
    few, many = Cohort(patients=6, tiles_per_patient=2), Cohort(patients=60, tiles_per_patient=90)
    np.testing.assert_array_equal(few.draw(5, 1), many.draw(5, 1))


def test_without_effect_no_pixel_knows_the_class() -> None:
    cohort = Cohort(class_effect=0.0, classes=3, size=48)
    for patient, tile in ((0, 0), (1, 4), (7, 2)):
        tiles = [cohort.draw(patient, tile, label) for label in range(3)]
        np.testing.assert_array_equal(tiles[0], tiles[1])
        np.testing.assert_array_equal(tiles[0], tiles[2])
    assert (Cohort(size=48).draw(0, 0, 0) != Cohort(size=48).draw(0, 0, 1)).any()


def test_latents_have_the_promised_mean_variance_and_patient_share() -> None:
    cohort = Cohort(patients=400, tiles_per_patient=20, class_effect=0.5)
    z = np.array([[cohort.latents(p, t) for t in range(20)] for p in range(400)])
    shift = z[1::2].mean((0, 1)) - z[::2].mean((0, 1))
    np.testing.assert_allclose(shift, 0.5 * np.array(module.CLASS_SHIFT), atol=0.2)
    within = z - np.where(np.arange(400) % 2, 0.25, -0.25)[:, None, None] * module.CLASS_SHIFT
    np.testing.assert_allclose(within.var((0, 1)), 1.0, atol=0.1)
    between = within.mean(1).var(0) - within.var(1, ddof=1).mean(0) / 20
    np.testing.assert_allclose(between, module.PATIENT_SHARE, atol=0.08)
    correlations = np.corrcoef(within.reshape(-1, 3).T)
    np.testing.assert_allclose(correlations, np.eye(3), atol=0.08)


@pytest.mark.parametrize("effect", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("tiles", [1, 5])
def test_the_oracle_reaches_its_closed_form(effect: float, tiles: int) -> None:
    """Simulate latents and rank pairs of a malignant and a benign patient."""
    cohort = Cohort(patients=2000, tiles_per_patient=tiles, class_effect=effect, seed=1)
    z = np.array([[cohort.latents(p, t) for t in range(tiles)] for p in range(2000)]).mean(1)
    score = z @ np.array(module.CLASS_SHIFT)
    benign, malignant = score[::2], score[1::2]
    auc = (malignant[:, None] > benign[None, :]).mean()
    assert oracle_auc(effect, tiles=tiles) == pytest.approx(auc, abs=0.03)


def test_the_oracle_knows_its_limits() -> None:
    assert oracle_auc(0.0) == 0.5
    assert oracle_auc(1.0) == pytest.approx(0.958, abs=0.001)
    assert oracle_auc(1.0, tiles=20) > oracle_auc(1.0) > oracle_auc(0.5)


def dark_share(tile: npt.NDArray[np.uint8]) -> float:
    """Share of pixels of nuclei: little red light passes haematoxylin, much passes eosin."""
    return float((tile[:, :, 0] < 140).mean())


@pytest.mark.parametrize("factor", ["size", "density"])
def test_nuclear_factors_change_the_nuclear_area(factor: str) -> None:
    stain = site_stain(np.random.default_rng(0), 0.0)
    shares = [
        np.mean(
            [
                dark_share(
                    draw_tile(Morphology(**{factor: z}), stain, 96, np.random.default_rng(seed))
                )
                for seed in range(20)
            ]
        )
        for z in (-2.0, 0.0, 2.0)
    ]
    assert shares[0] < 0.9 * shares[1] < 0.81 * shares[2]


def test_pleomorphism_changes_nuclei() -> None:
    stain = site_stain(np.random.default_rng(0), 0.0)
    spread = []
    for z in (-2.0, 2.0):
        tiles = [
            draw_tile(Morphology(pleomorphism=z), stain, 96, np.random.default_rng(seed))
            for seed in range(20)
        ]
        red = np.concatenate([tile[tile[:, :, 0] < 140, 0] for tile in tiles])
        spread.append(red.std())
    assert spread[1] > 1.2 * spread[0]


def test_tiles_are_pink_purple_and_white() -> None:
    pixels = np.concatenate([Cohort(site_effect=0).draw(p, 0).reshape(-1, 3) for p in range(10)])
    red, green, blue = pixels.astype(int).T
    white = (pixels.min(1) > 215).mean()
    pink = ((red > 180) & (green < 210) & (red > blue) & (blue > green)).mean()
    purple = ((red < 140) & (blue > red) & (red > green)).mean()
    assert 0.03 < white < 0.4
    assert 0.3 < pink < 0.9
    assert 0.05 < purple < 0.4


def test_colour_follows_the_beer_lambert_law() -> None:
    vectors = np.array([HAEMATOXYLIN, EOSIN])
    stain = Stain(vectors, np.array([1.2, 0.8]), np.array([240.0, 238.0, 236.0]), 0.5)
    haematoxylin = np.full((40, 40), 0.5, np.float32)
    eosin = np.full((40, 40), 0.25, np.float32)
    light = expose(haematoxylin, eosin, stain, np.random.default_rng(0)).mean((0, 1))
    density = -np.log10(light / stain.white)
    amounts = np.linalg.lstsq(vectors.T, density, rcond=None)[0]
    np.testing.assert_allclose(amounts, [0.5 * 1.2, 0.25 * 0.8], atol=0.005)


def test_sites_stain_differently_only_with_a_site_effect() -> None:
    alike = [Cohort(site_effect=0.0).stain_of(site) for site in (0, 1)]
    np.testing.assert_array_equal(alike[0].vectors, alike[1].vectors)
    np.testing.assert_array_equal(alike[0].white, alike[1].white)
    stains = [Cohort(sites=20).stain_of(site) for site in range(20)]
    np.testing.assert_allclose([np.linalg.norm(s.vectors, axis=1) for s in stains], 1.0)
    angles = [np.degrees(np.arccos(s.vectors[1] @ alike[0].vectors[1])) for s in stains]
    assert 2.0 < np.median(angles) < 10.0
    assert np.std([s.strength for s in stains]) == pytest.approx(0.18, abs=0.08)


def test_a_tile_without_any_nucleus_is_drawn() -> None:
    stain = site_stain(np.random.default_rng(0), 1.0)
    tile = draw_tile(Morphology(density=-20.0), stain, 32, np.random.default_rng(0))
    assert tile.shape == (32, 32, 3)


def test_a_written_cohort_is_a_manifest(tmp_path: Path) -> None:
    tiles = write_cohort(tmp_path / "new" / "cohort", **SMALL)
    assert len(tiles) == 18
    assert tiles.classes == ("benign", "malignant")
    assert tiles.warnings == ()
    assert tiles.table["patient_id"].nunique() == 6
    assert tiles.table["slide_id"].nunique() == 12
    assert (tiles.table.groupby("patient_id")["label"].nunique() == 1).all()
    assert (tiles.table.groupby("slide_id")["patient_id"].nunique() == 1).all()
    slides = tiles.table["slide_id"].to_numpy()
    assert (slides[1:] != slides[:-1]).sum() == 11
    assert set(tiles.table["site"]) == {"site_1", "site_2", "site_3"}
    assert len(TileManifest.from_folder(tmp_path / "new" / "cohort")) == 18


def test_file_names_do_not_tell_the_patient(tmp_path: Path) -> None:
    tiles = write_cohort(tmp_path, **SMALL)
    pairs = tiles.table[["path", "patient_id"]].to_numpy().tolist()
    assert not [path for path, patient in pairs if patient in path]


def test_class_names(tmp_path: Path) -> None:
    tiles = write_cohort(tmp_path, classes=3, sites=1, **SMALL)
    assert tiles.classes == ("class_0", "class_1", "class_2")


def test_the_same_cohort_is_not_drawn_again(tmp_path: Path, drawn: list[tuple[int, int]]) -> None:
    first = write_cohort(tmp_path, **SMALL)
    before = contents(tmp_path)
    assert len(drawn) == 18
    again = write_cohort(tmp_path, **SMALL, class_effect=1)
    assert len(drawn) == 18
    assert contents(tmp_path) == before
    assert again.sha256 == first.sha256
    parameters = json.loads((tmp_path / "cohort.json").read_text())
    assert parameters["patients"] == 6
    assert parameters["class_effect"] == 1.0


def test_an_interrupted_cohort_is_completed(
    tmp_path: Path, drawn: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cohort(tmp_path / "whole", **SMALL)
    drawn.clear()
    counting = Cohort.draw

    def stop(self: Cohort, patient: int, tile: int) -> npt.NDArray[np.uint8]:
        if len(drawn) == 7:
            raise KeyboardInterrupt
        return counting(self, patient, tile)

    with monkeypatch.context() as context:
        context.setattr(Cohort, "draw", stop)
        with pytest.raises(KeyboardInterrupt):
            write_cohort(tmp_path / "torn", **SMALL)
    assert not (tmp_path / "torn" / "cohort.json").exists()
    with pytest.raises(ManifestError, match="holds a cohort with seed 0, not 1: use another"):
        write_cohort(tmp_path / "torn", **SMALL, seed=1)
    write_cohort(tmp_path / "torn", **SMALL)
    assert len(drawn) == 18
    assert contents(tmp_path / "torn") == contents(tmp_path / "whole")


def test_a_lost_tile_is_drawn_anew(tmp_path: Path, drawn: list[tuple[int, int]]) -> None:
    tiles = write_cohort(tmp_path, **SMALL)
    before = contents(tmp_path)
    drawn.clear()
    tiles.path_of(5).unlink()
    write_cohort(tmp_path, **SMALL)
    assert len(drawn) == 1
    assert contents(tmp_path) == before


def test_another_cohort_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cohort(tmp_path, **SMALL)
    with pytest.raises(ManifestError) as error:
        write_cohort(tmp_path, **SMALL, class_effect=0.5, seed=2)
    assert str(error.value) == (
        f"folder {tmp_path.name}/ holds a cohort with class_effect 1.0, not 0.5, seed 0, not 2: "
        "use another folder, or remove this one to draw it anew"
    )
    monkeypatch.setattr(module, "DRAWING_VERSION", 99)
    with pytest.raises(ManifestError, match="holds a cohort with version 1, not 99"):
        write_cohort(tmp_path, **SMALL)


def test_other_files_are_not_mixed_with_a_cohort(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(
        ManifestError, match=r"holds files but no cohort\.json: give a new or empty"
    ):
        write_cohort(tmp_path, **SMALL)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("content", ["{", "[]"])
def test_damaged_parameters_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "cohort.json").write_text(content)
    with pytest.raises(ManifestError, match=r"cohort\.json is damaged: remove folder "):
        write_cohort(tmp_path, **SMALL)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"patients": 1}, "patients is 1: give an integer from 2 to 100000"),
        ({"patients": 3, "classes": 4}, "patients is 3: give an integer from 4 to 100000"),
        ({"patients": 40.0}, "patients is 40.0: give an integer from 2 to 100000"),
        ({"tiles_per_patient": 0}, "tiles_per_patient is 0: give an integer from 1 to 100000"),
        ({"classes": 1}, "classes is 1: give an integer from 2 to 100"),
        ({"sites": 0}, "sites is 0: give an integer from 1 to 40"),
        ({"sites": 41}, "sites is 41: give an integer from 1 to 40"),
        ({"class_effect": -1.0}, "class_effect is -1.0: give a number from 0 to 10"),
        ({"class_effect": float("nan")}, "class_effect is nan: give a number from 0 to 10"),
        ({"site_effect": "big"}, "site_effect is 'big': give a number from 0 to 5"),
        ({"size": 31}, "size is 31: give an integer from 32 to 1024"),
        ({"seed": -1}, "seed is -1: give an integer from 0 to 9223372036854775807"),
        ({"seed": True}, "seed is True: give an integer from 0 to 9223372036854775807"),
    ],
)
def test_parameters_are_checked(tmp_path: Path, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        write_cohort(tmp_path / "cohort", **wrong)
    assert str(error.value) == told
    assert not (tmp_path / "cohort").exists()
