"""Handcrafted descriptors: each group against an independent reference, and at the extremes."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage, stats
from skimage import color, feature

from featurebench.backbones.handcrafted import (
    GROUPS,
    MIN_SIDE,
    Descriptors,
    descriptors,
    gabor,
    haralick,
    hog,
    lbp,
)
from featurebench.errors import TileError, WeightsError

Pixels = npt.NDArray[np.uint8]

EMPTY = ("upper_left", "lower_right")
# The example of Haralick's paper, figure 3: 4 levels, distance 1, horizontal.
PAPER = np.array([[4, 2, 1, 0], [2, 4, 0, 0], [1, 0, 6, 1], [0, 0, 1, 2]]) / 24


def noise(*shape: int, seed: int = 0) -> Pixels:
    pixels: Pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return pixels


def texture(scale: float, seed: int, side: int = 96) -> Pixels:
    """Isotropic texture with the same grey levels whatever its scale."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal((side, side)), scale, mode="wrap")
    ranks = stats.rankdata(field).reshape(field.shape) / field.size
    levels: Pixels = (40 + 180 * ranks).astype(np.uint8)
    return levels


def wave(cycles: tuple[int, int], side: int = 80, amplitude: float = 0.3) -> Pixels:
    """Sine wave with whole numbers of cycles downwards and to the right."""
    rows, columns = np.indices((side, side)) / side
    phase = 2 * math.pi * (cycles[0] * rows + cycles[1] * columns)
    levels: Pixels = np.rint(255 * (0.5 + amplitude * np.sin(phase))).astype(np.uint8)
    return levels


def picture(pixels: Pixels) -> PIL.Image.Image:
    rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    return PIL.Image.fromarray(rgb)


def described(pixels: Pixels, *groups: str) -> dict[str, float]:
    made = Descriptors(groups or GROUPS)
    return dict(zip(made.names, made(picture(pixels)).tolist(), strict=True))


def vector(pixels: Pixels, group: str) -> npt.NDArray[np.float32]:
    return Descriptors((group,))(picture(pixels))


class TestVector:
    @pytest.mark.parametrize(
        "shape", [(16, 16), (16, 300), (17, 23), (64, 64), (101, 97), (224, 224), (512, 512)]
    )
    def test_the_length_does_not_depend_on_the_size(self, shape: tuple[int, int]) -> None:
        made = Descriptors()
        values = made(picture(noise(*shape, 3)))
        assert values.shape == made.shape == (made.dim,) == (476,)
        assert str(values.dtype) == made.dtype == "float32"
        assert np.isfinite(values).all()

    @pytest.mark.parametrize("colour", ["black", "white", "grey", "red", "plum", "#010101"])
    @pytest.mark.parametrize("size", [(16, 16), (33, 50), (224, 224)])
    def test_one_colour_is_described(self, colour: str, size: tuple[int, int]) -> None:
        values = Descriptors()(PIL.Image.new("RGB", size, colour))
        assert np.isfinite(values).all()
        named = dict(zip(Descriptors().names, values.tolist(), strict=True))
        assert named["haralick.grey.d1.entropy.mean"] == 0.0
        assert named["haralick.grey.d1.correlation.mean"] == 1.0
        assert named["lbp.grey.r1.bin8"] == named["lbp.haematoxylin.r2.bin16"] == 1.0
        assert all(named[name] < 1e-6 for name in named if name.startswith(("gabor", "hog")))
        assert all(named[f"colour.{name}.sd"] < 1e-6 for name in ("red", "hue", "eosin"))

    @settings(max_examples=40, deadline=None)
    @given(hnp.arrays(np.uint8, st.tuples(st.integers(16, 40), st.integers(16, 40), st.just(3))))
    def test_every_tile_fits_float16(self, pixels: Pixels) -> None:
        assert np.abs(Descriptors()(picture(pixels))).max() < 100

    def test_one_odd_pixel_in_a_large_tile_fits_float16(self) -> None:
        pixels = np.full((512, 512, 3), 255, dtype=np.uint8)
        pixels[200, 300] = 0
        assert np.abs(Descriptors()(picture(pixels))).max() < 100

    def test_the_same_tile_has_the_same_numbers(self) -> None:
        image = picture(noise(50, 60, 3))
        np.testing.assert_array_equal(Descriptors()(image), Descriptors()(image))

    def test_groups_are_parts_of_the_whole(self) -> None:
        pixels = noise(40, 40, 3)
        parts = [vector(pixels, group) for group in GROUPS]
        np.testing.assert_array_equal(np.concatenate(parts), Descriptors()(picture(pixels)))

    def test_names_are_unique_and_begin_with_their_group(self) -> None:
        names = Descriptors().names
        assert len(set(names)) == len(names)
        assert {name.partition(".")[0] for name in names} == set(GROUPS)

    def test_small_tiles_are_refused(self) -> None:
        with pytest.raises(TileError, match=f"90 x 15 pixels .* at least {MIN_SIDE}"):
            Descriptors()(PIL.Image.new("RGB", (90, 15)))


class TestIdentity:
    def test_equal_whatever_the_order_and_across_pickle(self) -> None:
        made = Descriptors(("lbp", "colour"))
        assert made == Descriptors(("colour", "lbp"))
        assert made.groups == ("colour", "lbp")
        back = pickle.loads(pickle.dumps(made))
        assert back == made
        assert hash(back) == hash(made)
        assert len({made, back, Descriptors()}) == 2
        assert made.min_side is None

    def test_the_hash_tells_the_groups_apart(self) -> None:
        some = [Descriptors((group,)) for group in GROUPS]
        assert len({made.sha256 for made in (*some, Descriptors())}) == len(GROUPS) + 1

    def test_the_hash_follows_parameters_and_version(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before, other = Descriptors(("hog",)).sha256, Descriptors(("lbp",)).sha256
        monkeypatch.setitem(hog.PARAMETERS, "clip", 0.3)
        assert Descriptors(("hog",)).sha256 != before
        assert Descriptors(("lbp",)).sha256 == other
        monkeypatch.setattr(descriptors, "VERSION", descriptors.VERSION + 1)
        assert Descriptors(("lbp",)).sha256 != other

    def test_the_hash_is_the_same_in_every_process_and_skimage_is_not_imported(self) -> None:
        code = (
            "import json, sys; from featurebench.backbones.handcrafted import Descriptors; "
            "print(json.dumps([Descriptors().sha256, 'skimage' in sys.modules]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=200
        )
        assert json.loads(done.stdout) == [Descriptors().sha256, False]

    @pytest.mark.parametrize(
        ("groups", "told"),
        [(("glcm",), "'glcm'"), ((), r"\[\]"), (("lbp", "lbp"), "lbp.* once"), (("Hog",), "use ")],
    )
    def test_other_groups_are_refused(self, groups: tuple[str, ...], told: str) -> None:
        with pytest.raises(WeightsError, match=told) as error:
            Descriptors(groups)
        assert "\n" not in str(error.value)


class TestColour:
    PIXELS = noise(40, 50, 3, seed=3) // 2 + 100

    @pytest.mark.parametrize("channel", ["red", "green", "blue"])
    def test_histogram_and_moments_of_rgb(self, channel: str) -> None:
        found = described(self.PIXELS, "colour")
        values = self.PIXELS[..., ["red", "green", "blue"].index(channel)].ravel() / 255.0
        expected, _ = np.histogram(values * 255, bins=np.arange(0, 257, 16))
        histogram = [found[f"colour.{channel}.bin{i}"] for i in range(16)]
        np.testing.assert_allclose(histogram, expected / values.size, atol=1e-7)
        spread = values.std()
        assert found[f"colour.{channel}.mean"] == pytest.approx(values.mean())
        assert found[f"colour.{channel}.sd"] == pytest.approx(spread)
        skewness = np.cbrt(stats.skew(values)) * spread
        assert found[f"colour.{channel}.skewness"] == pytest.approx(skewness, abs=1e-5)
        kurtosis = stats.kurtosis(values, fisher=False) ** 0.25 * spread
        assert found[f"colour.{channel}.kurtosis"] == pytest.approx(kurtosis)

    def test_hsv_agrees_with_scikit_image(self) -> None:
        found = described(self.PIXELS, "colour")
        hue, saturation, value = np.moveaxis(color.rgb2hsv(self.PIXELS), -1, 0)
        # The circle of hues begins at green, a third of the way round.
        shifted = (hue - 1 / 3) % 1.0
        assert found["colour.hue.mean"] == pytest.approx(shifted.mean(), abs=0.004)
        assert found["colour.saturation.sd"] == pytest.approx(saturation.std(), abs=0.004)
        assert found["colour.value.mean"] == pytest.approx(value.mean(), abs=0.004)

    def test_reds_on_both_sides_of_the_circles_end_are_neighbours(self) -> None:
        rosy = [[[200, 60, 66]], [[200, 66, 60]]]
        found = described(np.array(rosy, dtype=np.uint8).repeat(20, axis=0).repeat(40, axis=1))
        assert found["colour.hue.sd"] < 0.02

    def test_stains_agree_with_scikit_image(self) -> None:
        found = described(self.PIXELS, "colour")
        # There in units of six decades of optical density, and of levels without the one added.
        amounts = np.clip(6 * color.rgb2hed(self.PIXELS), 0, 1)
        for i, stain in enumerate(("haematoxylin", "eosin", "residual")):
            assert found[f"colour.{stain}.mean"] == pytest.approx(amounts[..., i].mean(), abs=0.01)
            assert found[f"colour.{stain}.sd"] == pytest.approx(amounts[..., i].std(), abs=0.01)

    @pytest.mark.parametrize("stain", ["haematoxylin", "eosin"])
    def test_pure_stain_is_told_from_the_other(self, stain: str) -> None:
        dyes = {"haematoxylin": (0.65, 0.70, 0.29), "eosin": (0.07, 0.99, 0.11)}
        shade = tuple(int(256 * 10 ** (-0.4 * part)) for part in dyes[stain])
        found = described(np.full((20, 20, 3), shade, dtype=np.uint8), "colour")
        for name in dyes:
            expected = 0.4 if name == stain else 0.0
            assert found[f"colour.{name}.mean"] == pytest.approx(expected, abs=0.01)


class TestHaralick:
    def reference(self, matrix: npt.NDArray[np.float64]) -> dict[str, float]:
        """Formulas of the paper's appendix as they stand there, one term after the other."""
        count = len(matrix)
        pairs = [
            (i / (count - 1), j / (count - 1), matrix[i, j])
            for i in range(count)
            for j in range(count)
        ]
        margin = matrix.sum(axis=1)
        mean = sum(i * p for i, _, p in pairs)
        variance = sum((i - mean) ** 2 * p for i, _, p in pairs)
        sums: dict[float, float] = {}
        differences: dict[float, float] = {}
        for i, j, p in pairs:
            for table, key in ((sums, round(i + j, 9)), (differences, round(abs(i - j), 9))):
                table[key] = table.get(key, 0.0) + p
        hx = -sum(p * math.log(p) for p in margin if p)
        hxy = -sum(p * math.log(p) for _, _, p in pairs if p)
        product = np.outer(margin, margin)
        safe = np.log(np.where(product > 0, product, 1.0))
        hxy1, hxy2 = -np.sum(matrix * safe), -np.sum(product * safe)
        sum_average = sum(k * p for k, p in sums.items())
        difference_average = sum(k * p for k, p in differences.items())
        return {
            "angular_second_moment": sum(p * p for _, _, p in pairs),
            "contrast": sum((i - j) ** 2 * p for i, j, p in pairs),
            "correlation": sum((i - mean) * (j - mean) * p for i, j, p in pairs) / variance,
            "variance": variance,
            "inverse_difference_moment": sum(
                p / (1 + ((count - 1) * (i - j)) ** 2) for i, j, p in pairs
            ),
            "sum_average": sum_average,
            "sum_variance": sum((k - sum_average) ** 2 * p for k, p in sums.items()),
            "sum_entropy": -sum(p * math.log(p) for p in sums.values() if p),
            "entropy": hxy,
            "difference_variance": sum(
                (k - difference_average) ** 2 * p for k, p in differences.items()
            ),
            "difference_entropy": -sum(p * math.log(p) for p in differences.values() if p),
            "information_1": (hxy - hxy1) / hx,
            "information_2": math.sqrt(1 - math.exp(-2 * (hxy2 - hxy))),
        }

    @pytest.mark.parametrize("seed", [None, 0, 1])
    def test_statistics_are_those_of_the_paper(self, seed: int | None) -> None:
        matrix = PAPER
        if seed is not None:
            matrix = np.random.default_rng(seed).random((7, 7)) ** 3
            matrix = (matrix + matrix.T) / (2 * matrix.sum())
        found = dict(zip(haralick.STATISTICS, haralick.statistics(matrix).tolist(), strict=True))
        assert found == pytest.approx(self.reference(matrix))

    def test_statistics_agree_with_scikit_image(self) -> None:
        pixels = texture(1.5, 4, side=48)
        coarse = pixels // 8
        expected = feature.graycomatrix(  # type: ignore[no-untyped-call]
            coarse, [3], [0, math.pi / 4, math.pi / 2, 3 * math.pi / 4], 32, True, True
        )
        found = described(pixels, "haralick")
        for name, theirs, unit in (
            ("contrast", "contrast", 31**2),
            ("correlation", "correlation", 1),
            ("angular_second_moment", "ASM", 1),
            ("inverse_difference_moment", "homogeneity", 1),
        ):
            angles = feature.graycoprops(expected, theirs)  # type: ignore[no-untyped-call]
            angles = angles / unit
            named = f"haralick.grey.d3.{name}"
            assert found[f"{named}.mean"] == pytest.approx(angles.mean(), rel=1e-5)
            assert found[f"{named}.range"] == pytest.approx(np.ptp(angles), rel=1e-4)

    def test_stripes_differ_by_direction(self) -> None:
        stripes = np.tile(np.array([0, 255], dtype=np.uint8), (32, 16))
        found = described(stripes, "haralick")
        # Every pair but the vertical ones is black and white.
        assert found["haralick.grey.d1.contrast.mean"] == pytest.approx(0.75)
        assert found["haralick.grey.d1.contrast.range"] == pytest.approx(1.0)
        assert found["haralick.grey.d1.information_2.mean"] == pytest.approx(math.sqrt(0.75))

    @pytest.mark.parametrize("group", ["haralick", "lbp"])
    @pytest.mark.parametrize("turns", [1, 2, 3])
    def test_a_quarter_turn_changes_nothing(self, group: str, turns: int) -> None:
        pixels = noise(40, 56, 3, seed=8)
        pixels[:20] //= 3
        turned = np.ascontiguousarray(np.rot90(pixels, turns))
        np.testing.assert_allclose(vector(turned, group), vector(pixels, group), atol=2e-6)


class TestPatterns:
    @pytest.mark.parametrize(("points", "radius"), lbp.CIRCLES)
    def test_patterns_agree_with_scikit_image(self, points: int, radius: int) -> None:
        plane = texture(1.0, 2)
        theirs = feature.local_binary_pattern(  # type: ignore[no-untyped-call]
            plane, points, radius, "uniform"
        )
        inner = theirs[radius:-radius, radius:-radius]
        # Where a value between pixels equals the middle one, rounding decides there.
        assert np.mean(lbp.patterns(plane, points, radius) == inner) > 0.995

    def test_hand_made_patterns(self) -> None:
        edge = np.zeros((3, 3), dtype=np.uint8)
        edge[:, 1:] = 9
        spot = np.zeros((3, 3), dtype=np.uint8)
        spot[1, 1] = 9
        cross = np.array([[0, 9, 0], [9, 5, 9], [0, 9, 0]], dtype=np.uint8)
        # As bright as the middle: above, below and the three to the right.
        assert lbp.patterns(edge, 8, 1).tolist() == [[5]]
        assert lbp.patterns(spot, 8, 1).tolist() == [[0]]
        assert lbp.patterns(spot.max() - spot, 8, 1).tolist() == [[8]]
        assert lbp.patterns(cross, 8, 1).tolist() == [[9]]

    def test_brightness_and_contrast_change_nothing(self) -> None:
        plane = texture(1.0, 3) // 2
        np.testing.assert_array_equal(lbp.patterns(plane + 10, 8, 1), lbp.patterns(plane, 8, 1))
        np.testing.assert_array_equal(lbp.patterns(2 * plane, 8, 1), lbp.patterns(plane, 8, 1))

    def test_histograms_are_fractions(self) -> None:
        found = vector(noise(30, 40, 3), "lbp")
        sums = np.add.reduceat(found, [0, 10, 28, 38])
        np.testing.assert_allclose(sums, 1.0, rtol=1e-6)


class TestGabor:
    @pytest.mark.parametrize(
        ("cycles", "name"),
        [
            ((0, 4), "f0.05.deg0"),
            ((0, 16), "f0.2.deg0"),
            ((8, 0), "f0.1.deg90"),
            # Rows run downwards: crests that climb to the left are crossed at 60 degrees upwards.
            ((-14, 8), "f0.2.deg60"),
            ((14, 8), "f0.2.deg120"),
        ],
    )
    def test_a_wave_is_met_by_its_filter(self, cycles: tuple[int, int], name: str) -> None:
        found = described(wave(cycles), "gabor")
        means = {key: value for key, value in found.items() if key.endswith("mean")}
        assert max(means, key=lambda key: means[key]) == f"gabor.{name}.mean"
        assert found[f"gabor.{name}.mean"] == pytest.approx(0.15, rel=0.03)
        assert found[f"gabor.{name}.sd"] < 0.01

    def test_amplitudes_agree_with_filtering_the_whole_tile(self) -> None:
        plane = texture(1.0, 5, side=64)
        # Mirrored on both sides it is periodic, so nothing is taken off for its border.
        whole = np.block([[plane, plane[:, ::-1]], [plane[::-1], plane[::-1, ::-1]]])
        spectrum = np.fft.fft2(whole / 255.0)
        spectrum[0, 0] = 0
        down, right = np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)
        found = described(whole, "gabor")
        for frequency in gabor.FREQUENCIES:
            for degrees in range(0, 180, 30):
                angle = math.radians(degrees)
                along = right * math.cos(angle) - down * math.sin(angle) - frequency
                across = right * math.sin(angle) + down * math.cos(angle)
                half = math.sqrt(2 * math.log(2))
                widths = frequency / 3 / half, frequency * math.tan(math.pi / 12) / half
                response = np.exp(-((along / widths[0]) ** 2 + (across / widths[1]) ** 2) / 2)
                amplitude = np.abs(np.fft.ifft2(spectrum * response))
                name = f"gabor.f{frequency}.deg{degrees}"
                assert found[f"{name}.mean"] == pytest.approx(amplitude.mean(), rel=0.02)
                assert found[f"{name}.sd"] == pytest.approx(amplitude.std(), rel=0.04)

    def test_the_border_of_a_tile_is_no_edge(self) -> None:
        ramp = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (96, 1))
        jump = np.tile(np.repeat(np.array([0, 255], dtype=np.uint8), 48), (96, 1))
        found, edge = described(ramp, "gabor"), described(jump, "gabor")
        assert found["gabor.f0.1.deg0.mean"] < 0.03 * edge["gabor.f0.1.deg0.mean"]


class TestGradients:
    def test_cells_and_blocks_agree_with_scikit_image(self) -> None:
        plane = noise(43, 50, seed=6)
        blocks = feature.hog(plane, 9, (8, 8), (2, 2), "L2-Hys", feature_vector=False)
        sums, counts = np.zeros((5, 6, 9)), np.zeros((5, 6, 1))
        for row, column in np.ndindex(*blocks.shape[:2]):
            sums[row : row + 2, column : column + 2] += blocks[row, column]
            counts[row : row + 2, column : column + 2] += 1
        cells = hog.normalised(hog.cell_histograms(plane))
        np.testing.assert_allclose(cells, sums / counts, atol=1e-6)

    @pytest.mark.parametrize("backwards", [False, True])
    def test_edges_are_found_in_their_quarter_and_direction(self, *, backwards: bool) -> None:
        stripes = np.tile(np.repeat(np.array([0, 200], dtype=np.uint8), 4), (16, 2))
        pixels = np.zeros((64, 64), dtype=np.uint8)
        pixels[8:24, 40:56] = stripes
        pixels[40:56, 8:24] = stripes.T
        found = described(255 - pixels if backwards else pixels, "hog")
        strong = {name.removeprefix("hog.") for name, value in found.items() if value > 0.2}
        assert strong == {"upper_right.deg0", "lower_left.deg80"}
        empty = [found[f"hog.{part}.deg{20 * i}"] for part in EMPTY for i in range(9)]
        assert max(empty) == 0.0

    def test_contrast_changes_nothing(self) -> None:
        dim = noise(48, 48, seed=9) // 4
        np.testing.assert_allclose(vector(4 * dim, "hog"), vector(dim, "hog"), atol=1e-5)


@pytest.mark.parametrize("group", ["haralick", "lbp", "gabor"])
def test_textures_of_different_scale_separate(group: str) -> None:
    tiles = {scale: [vector(texture(scale, seed), group) for seed in range(8)] for scale in (1, 3)}
    fine, coarse = (np.stack(tiles[scale]) for scale in (1, 3))
    centres = fine[:4].mean(axis=0), coarse[:4].mean(axis=0)
    for kind, rest in enumerate((fine[4:], coarse[4:])):
        distances: Any = [np.linalg.norm(rest - centre, axis=1) for centre in centres]
        assert (distances[kind] * 3 < distances[1 - kind]).all()
