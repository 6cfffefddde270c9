"""Augmentation: each transform against an independent reference, the draws, the settings."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from timm.data.mixup import Mixup

from featurebench.errors import ConfigError
from featurebench.finetuning.augmentation import Augmentation, augment, mix
from featurebench.finetuning.augmentation.colour import jitter, restain
from featurebench.finetuning.augmentation.draws import Draws
from featurebench.finetuning.augmentation.geometry import turn, warp

OFF = Augmentation.none()
ALL = Augmentation(rotation=30, zoom=0.2, color_jitter=0.2, stain=0.1)
# Ruifrok and Johnston's haematoxylin and eosin as ImageJ has them, typed anew.
HAEMATOXYLIN = np.array([0.644211, 0.716556, 0.266844])
EOSIN = np.array([0.092789, 0.954111, 0.283111])


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _noise(n: int, size: int = 8, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=_seeded(99), dtype=dtype)


def _smooth(size: int = 48) -> torch.Tensor:
    """Waves long enough that linear interpolation is true to a hundredth; shape (1, 3, s, s)."""
    down, across = torch.meshgrid(*[torch.linspace(0, 1, size)] * 2, indexing="ij")
    planes = [torch.sin(5 * down + 2 * across), torch.cos(4 * across), torch.sin(3 * down - 1)]
    return 0.5 + 0.4 * torch.stack(planes)[None]


def _symmetries(image: torch.Tensor) -> list[torch.Tensor]:
    """Turns of the image, then of its mirror image."""
    return [torch.rot90(side, k, (-2, -1)) for side in (image, image.flip(-1)) for k in range(4)]


def test_turn_gives_each_symmetry_of_the_square_once() -> None:
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    switches = torch.tensor([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)]).bool().T
    turned = turn(image.expand(8, 1, 3, 3), switches)
    expected = {tuple(side.flatten().tolist()) for side in _symmetries(image[0, 0])}
    assert {tuple(tile.flatten().tolist()) for tile in turned} == expected
    assert torch.equal(turned[0], image[0])


@pytest.mark.parametrize(
    ("flips", "quarter_turns", "reached"),
    [
        (True, True, range(8)),
        (False, True, range(4)),
        # Half a turn is both mirrorings; of the mirrored ones, those without a transposition.
        (True, False, (0, 2, 4, 6)),
    ],
)
def test_symmetries_of_the_square_are_equally_likely(
    flips: bool, quarter_turns: bool, reached: range | tuple[int, ...]
) -> None:
    image = torch.arange(27.0).reshape(3, 3, 3) / 27
    settings = Augmentation(flips=flips, quarter_turns=quarter_turns, color_jitter=0)
    n = 8000
    turned = augment(image.expand(n, 3, 3, 3), _seeded(), settings)
    hits = torch.stack([(turned == side).flatten(1).all(1) for side in _symmetries(image)])
    counts = hits.sum(dim=1).tolist()
    assert sum(counts) == n
    for symmetry, count in enumerate(counts):
        share = 1 / len(reached) if symmetry in reached else 0.0
        # Five standard deviations of a binomial count.
        assert abs(count - n * share) <= 5 * math.sqrt(n * share * (1 - share))


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, 3), (0, 0)])
def test_quarter_turns_by_resampling_are_rot90(degrees: int, turns: int) -> None:
    image = _noise(1, 16)
    warped = warp(image, torch.tensor([float(degrees)]), torch.ones(1))
    torch.testing.assert_close(warped, torch.rot90(image, turns, (-2, -1)), atol=1e-4, rtol=0)


def test_free_rotation_agrees_with_pillow() -> None:
    image = (255 * _smooth()).round()
    picture = Image.fromarray(image[0].permute(1, 2, 0).byte().numpy())
    expected = np.asarray(picture.rotate(20, Image.Resampling.BILINEAR), dtype=np.float32)
    warped = 255 * warp(image / 255, torch.tensor([20.0]), torch.ones(1))[0].permute(1, 2, 0)
    # The corners show what lies outside: reflected here, black there.
    inner = slice(10, -10)
    np.testing.assert_allclose(warped[inner, inner], expected[inner, inner], atol=1.5)


@pytest.mark.parametrize("scale", [1.25, 0.8])
def test_zoom_agrees_with_pillow(scale: float) -> None:
    image = (255 * _smooth()).round()
    margin = 12
    padded = np.pad(image[0].numpy(), ((0, 0), (margin, margin), (margin, margin)), "symmetric")
    left = margin + 24 - 24 / scale
    window = (left, left, left + 48 / scale, left + 48 / scale)
    expected = [
        np.asarray(Image.fromarray(plane).resize((48, 48), Image.Resampling.BILINEAR, box=window))
        for plane in padded
    ]
    warped = 255 * warp(image / 255, torch.zeros(1), torch.tensor([scale]))[0]
    # Pillow's kernel widens where it shrinks, which smooths the kink at a reflected border.
    np.testing.assert_allclose(warped[:, 6:-6, 6:-6], np.array(expected)[:, 6:-6, 6:-6], atol=1.5)


def test_outside_is_reflected_at_the_border() -> None:
    image = _noise(1, 16)
    halved = warp(image, torch.zeros(1), torch.tensor([0.5]))
    padded = np.pad(image[0].numpy(), ((0, 0), (8, 8), (8, 8)), "symmetric")
    # At half the scale each pixel falls between four.
    expected = padded.reshape(3, 16, 2, 16, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(halved[0], expected, atol=1e-5)


def test_zoom_is_drawn_between_its_limits() -> None:
    # A ramp through the centre: zooming divides its slope.
    size = 65
    ramp = torch.linspace(-0.2, 0.2, size) + 0.5
    images = ramp.expand(2000, 3, size, size)
    settings = Augmentation(flips=False, quarter_turns=False, color_jitter=0, zoom=0.5)
    zoomed = augment(images, _seeded(), settings)
    middle = zoomed[:, 0, 32, 31:34]
    logs = torch.log((ramp[33] - ramp[31]) / (middle[:, 2] - middle[:, 0])) / math.log(1.5)
    assert -1.01 < logs.min() < -0.98
    assert 0.98 < logs.max() < 1.01
    # Uniform: mean 0 and variance 1/3, within five standard errors.
    assert abs(logs.mean()) < 5 * math.sqrt(1 / 3 / 2000)
    assert abs(logs.var() - 1 / 3) < 5 * math.sqrt(4 / 45 / 2000)


def test_without_rotation_and_zoom_nothing_is_resampled() -> None:
    images = _noise(16)
    turned = augment(images, _seeded(), Augmentation(color_jitter=0))
    assert torch.equal(turned.flatten(1).sort().values, images.flatten(1).sort().values)
    assert not torch.equal(turned, images)
    assert torch.equal(augment(images, _seeded(), OFF), images)


def test_jitter_agrees_with_pillow() -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(60, 190, (16, 16, 3), dtype=np.uint8)
    image = Image.fromarray(array)
    batch = torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255
    for position, enhancer in enumerate(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    ):
        factors = torch.ones(3, 1)
        factors[position] = 1.2
        expected = torch.from_numpy(np.array(enhancer(image).enhance(1.2)))
        ours = jitter(batch, factors)[0].permute(1, 2, 0) * 255
        torch.testing.assert_close(ours, expected.float(), atol=1.5, rtol=0)


def test_jitter_is_its_three_steps_one_after_the_other() -> None:
    images = 0.3 + 0.4 * _noise(5).double()
    factors = 1 + 0.2 * (torch.rand(3, 5, generator=_seeded()).double() - 0.5)
    luma = np.array([0.299, 0.587, 0.114])
    expected = []
    for image, (brightness, contrast, saturation) in zip(
        images.permute(0, 2, 3, 1).numpy(), factors.T.numpy(), strict=True
    ):
        bright = image * brightness
        mean_grey = (bright @ luma).mean()
        contrasted = mean_grey + contrast * (bright - mean_grey)
        grey = (contrasted @ luma)[..., None]
        expected.append(grey + saturation * (contrasted - grey))
    np.testing.assert_allclose(
        jitter(images, factors).permute(0, 2, 3, 1), np.array(expected), atol=1e-12
    )


def test_color_jitter_stands_for_what_is_not_given_alone() -> None:
    images = _noise(6)
    grey_images = images.mean(1, keepdim=True).expand_as(images)
    only_saturation = Augmentation(
        flips=False, quarter_turns=False, brightness=0, contrast=0, saturation=0.5
    )
    assert not torch.allclose(augment(images, _seeded(), only_saturation), images)
    torch.testing.assert_close(augment(grey_images, _seeded(), only_saturation), grey_images)
    assert Augmentation(color_jitter=0.3, contrast=0.1).color_limits == {
        "brightness": 0.3,
        "contrast": 0.1,
        "saturation": 0.3,
    }


def _amounts(images: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Solve for haematoxylin, eosin and the rest of each pixel; shape (n, pixels, 3)."""
    rest = np.cross(HAEMATOXYLIN, EOSIN)
    basis = np.column_stack([HAEMATOXYLIN, EOSIN, rest / np.sqrt(rest @ rest)])
    light = (255 * images.double().numpy() + 1) / 256
    density = -np.log10(light).reshape(len(images), 3, -1)
    return np.stack([np.linalg.solve(basis, tile).T for tile in density])


def test_restaining_changes_each_amount_by_its_own_factor_and_offset() -> None:
    images = 0.3 + 0.4 * _noise(4, dtype=torch.float64)
    rng = np.random.default_rng(1)
    factors, offsets = rng.uniform(0.95, 1.05, (4, 3)), rng.uniform(-0.05, 0.05, (4, 3))
    restained = restain(images, torch.from_numpy(factors), torch.from_numpy(offsets))
    expected = factors[:, None] * _amounts(images) + offsets[:, None]
    np.testing.assert_allclose(_amounts(restained), expected, atol=1e-10)


@pytest.mark.parametrize("stain", [0, 1])
def test_restaining_one_stain_moves_along_its_vector_alone(stain: int) -> None:
    images = 0.3 + 0.4 * _noise(3, dtype=torch.float64)
    offsets = torch.zeros(3, 3, dtype=torch.float64)
    offsets[:, stain] = 0.05
    restained = restain(images, torch.ones(3, 3, dtype=torch.float64), offsets)
    moved = np.log10((255 * images.numpy() + 1) / (255 * restained.numpy() + 1))
    vector = (HAEMATOXYLIN, EOSIN)[stain]
    np.testing.assert_allclose(moved, np.broadcast_to(0.05 * vector[:, None, None], moved.shape))


def test_restaining_by_nothing_is_the_identity() -> None:
    images = _noise(3)
    images[0, :, 0, 0], images[0, :, 0, 1] = 0.0, 1.0
    same = restain(images, torch.ones(3, 3).double(), torch.zeros(3, 3).double())
    torch.testing.assert_close(same, images, atol=2e-6, rtol=0)


def test_stain_jitter_draws_within_sigma_for_each_image_and_stain() -> None:
    sigma = 0.1
    images = (0.4 + 0.2 * _noise(1, 2, torch.float64)).expand(1000, 3, 2, 2)
    settings = Augmentation(flips=False, quarter_turns=False, color_jitter=0, stain=sigma)
    before, after = _amounts(images), _amounts(augment(images, _seeded(), settings))
    factors = (after[:, 1] - after[:, 0]) / (before[:, 1] - before[:, 0])
    offsets = after[:, 0] - factors * before[:, 0]
    for values in (factors - 1, offsets):
        assert 0.98 * sigma < np.abs(values).max() <= sigma * (1 + 1e-9)
        # Uniform: mean 0 and variance sigma^2 / 3, within five standard errors.
        assert np.abs(values.mean(axis=0)).max() < 5 * sigma / math.sqrt(3 * 1000)
    correlation = np.corrcoef(np.hstack([factors, offsets]).T)
    assert np.abs(correlation - np.eye(6)).max() < 5 / math.sqrt(1000)


def test_all_together_is_seeded_stays_in_range_and_leaves_its_input() -> None:
    images = _noise(16)
    images[0], images[1] = 0.0, 1.0
    kept = images.clone()
    strong = Augmentation(rotation=180, zoom=1, color_jitter=0.9, stain=0.9)
    for settings in (ALL, strong):
        first, again, other = (augment(images, _seeded(seed), settings) for seed in (1, 1, 2))
        assert torch.equal(images, kept)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert first.isfinite().all()
        assert first.min() >= 0
        assert first.max() <= 1
        assert first.shape == images.shape


def test_default_is_mild() -> None:
    images = _noise(16)
    plain = augment(images, _seeded(), Augmentation(color_jitter=0))
    tinted = augment(images, _seeded(), Augmentation())
    assert 0 < (tinted - plain).abs().mean() < 0.1


def _devices() -> list[str]:
    return ["cpu", *["cuda"] * torch.cuda.is_available()]


@pytest.mark.parametrize("device", _devices())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_depend_on_neither_device_nor_number_format(device: str, dtype: torch.dtype) -> None:
    images = _smooth(24).expand(8, 3, 24, 24).double()
    settings = Augmentation(rotation=30, zoom=0.2, stain=0.1, mixup=1, cutmix=1)
    codes = torch.arange(8) % 3
    results = []
    for batch, targets in ((images, codes), (images.to(device, dtype), codes.to(device))):
        generator = _seeded()
        mixed = mix(augment(batch, generator, settings), targets, 3, generator, settings)
        results.append([part.double().cpu() for part in mixed])
    for reference, other in zip(*results, strict=True):
        torch.testing.assert_close(other, reference, atol=1e-4, rtol=0)


def test_memory_layout_changes_nothing() -> None:
    images = _noise(4)
    across = augment(images.contiguous(memory_format=torch.channels_last), _seeded(), ALL)
    torch.testing.assert_close(across, augment(images, _seeded(), ALL), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "extra",
    [
        {"flips": True},
        {"quarter_turns": True},
        {"rotation": 1e-9},
        {"zoom": 1e-12},
        {"brightness": 1e-12},
        {"saturation": 1e-12},
        {"stain": 1e-12},
        {"mixup": 1.0, "cutmix": 1.0},
    ],
)
def test_another_transform_leaves_the_draws_of_the_others(extra: dict[str, Any]) -> None:
    # The same in all its symmetries, so that turning it shows nothing.
    ring = torch.linspace(-1, 1, 9).square()
    images = (0.2 + 0.2 * (ring[:, None] + ring)).expand(6, 3, 9, 9)
    images = images * torch.tensor([1.0, 0.8, 0.9])[:, None, None]
    base = {"flips": False, "quarter_turns": False, "color_jitter": 0.0, "contrast": 0.5}
    generator, other_generator = _seeded(), _seeded()
    for _ in range(2):
        alone = augment(images, generator, Augmentation.of(base))
        mix(images, torch.zeros(6, dtype=torch.int64), 2, generator, Augmentation.of(base))
        both = Augmentation.of(base | extra)
        together = augment(images, other_generator, both)
        mix(images, torch.zeros(6, dtype=torch.int64), 2, other_generator, both)
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert (alone - images).abs().max() > 0.01


def test_streams_are_apart() -> None:
    draws = Draws.of(_seeded())
    first, other = draws.uniform("rotation", 1.0, 500), draws.uniform("zoom", 1.0, 500)
    assert abs(np.corrcoef(first, other)[0, 1]) < 5 / math.sqrt(500)
    assert torch.equal(first, Draws.of(_seeded()).uniform("rotation", 1.0, 500))
    assert Draws.of(_seeded(1)) != draws


def _mixed(
    n: int, seed: int = 0, size: int = 8, *, mixup: float = 0.0, cutmix: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix images that are constant, each with its own place, and one class an image."""
    images = torch.arange(float(n)).reshape(n, 1, 1, 1).expand(n, 3, size, size)
    settings = Augmentation(mixup=mixup, cutmix=cutmix)
    return mix(images, torch.arange(n), n, _seeded(seed), settings)


@pytest.mark.parametrize("n", [2, 3, 8, 9])
def test_mixup_is_the_convex_combination_that_its_targets_tell(n: int) -> None:
    images = _noise(n)
    kept = images.clone()
    mixed, targets = mix(images, torch.arange(n), n, _seeded(), Augmentation(mixup=1.0))
    assert torch.equal(images, kept)
    assert mixed.shape == images.shape
    np.testing.assert_allclose(targets.sum(dim=1), 1, atol=1e-6)
    assert targets.min() >= 0
    # One class an image: a row of the targets is what each image gave.
    expected = np.einsum("ij,jchw->ichw", targets.numpy(), images.numpy())
    np.testing.assert_allclose(mixed, expected, atol=1e-5)
    assert (targets.diagonal() < 1).all()


@pytest.mark.parametrize("n", [8, 9])
def test_cutmix_pastes_a_square_whose_area_is_the_share(n: int) -> None:
    size = 20
    mixed, targets = _mixed(n, size=size, cutmix=1.0)
    pasted = 0
    for place, (image, row) in enumerate(zip(mixed, targets, strict=True)):
        assert len(np.unique(image)) <= 2
        for source in range(n):
            area = (image[0] == source).float().mean()
            assert area == pytest.approx(float(row[source]), abs=1e-6)
        rows, columns = torch.nonzero(image[0] != place, as_tuple=True)
        if len(rows):
            box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
            assert int(box) == len(rows)
            pasted += 1
    assert pasted > n / 2


def test_mixing_shares_follow_the_beta_distribution_for_each_image() -> None:
    targets = _mixed(1000, size=1, mixup=0.4)[1]
    own = targets.diagonal()
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
    variance = 1 / (4 * 1.8)
    assert abs(own.mean() - 0.5) < 5 * math.sqrt(variance / 1000)
    assert own.var() == pytest.approx(variance, rel=0.15)
    assert len(np.unique(own)) > 900


def test_mixup_and_cutmix_take_half_of_the_images_each() -> None:
    n = 2000
    mixed = _mixed(n, size=16, mixup=1.0, cutmix=1.0)[0]
    # MixUp of constants is constant, CutMix has two levels.
    cut = sum(len(np.unique(image)) > 1 for image in mixed)
    # A square of less than a pixel looks constant: fewer than one in a hundred.
    spread = 5 * math.sqrt(n / 4)
    assert 0.49 * n - spread < cut < 0.5 * n + spread


def test_mixing_repeats_with_its_seed_whatever_numpys_global_state() -> None:
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    first = _mixed(9, mixup=1.0, cutmix=1.0)
    after = np.random.get_state(legacy=False)  # noqa: NPY002
    np.testing.assert_equal(after, before)
    np.random.seed(4)  # noqa: NPY002
    again, other = (_mixed(9, seed, mixup=1.0, cutmix=1.0) for seed in (0, 1))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


def test_numpys_global_state_comes_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def fail(*_: Any) -> None:
        drawn.append(np.random.rand())  # noqa: NPY002
        raise RuntimeError("no memory")

    monkeypatch.setattr(Mixup, "__call__", fail)
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    with pytest.raises(RuntimeError, match="no memory"):
        _mixed(4, mixup=1.0)
    assert drawn
    np.testing.assert_equal(np.random.get_state(legacy=False), before)  # noqa: NPY002


def test_targets_may_be_shares_already() -> None:
    images, codes = _noise(5), torch.tensor([0, 1, 2, 1, 0])
    settings = Augmentation(mixup=0.5)
    by_code = mix(images, codes, 3, _seeded(), settings)
    by_share = mix(images, torch.eye(3)[codes], 3, _seeded(), settings)
    assert torch.equal(by_code[0], by_share[0])
    assert torch.equal(by_code[1], by_share[1])


def test_without_mixing_targets_are_one_hot_and_a_lone_tile_stays() -> None:
    images, codes = _noise(3), torch.tensor([2, 0, 1])
    same, targets = mix(images, codes, 3, _seeded(), OFF)
    assert torch.equal(same, images)
    assert torch.equal(targets, torch.eye(3)[codes])
    lone, targets = mix(images[:1], codes[:1], 3, _seeded(), Augmentation(mixup=1, cutmix=1))
    torch.testing.assert_close(lone, images[:1])
    torch.testing.assert_close(targets, torch.eye(3)[codes[:1]])


@pytest.mark.parametrize(
    ("name", "value", "demand"),
    [
        ("flips", 1, "true or false"),
        ("quarter_turns", "yes", "true or false"),
        ("rotation", 181, "from 0 to 180 degrees"),
        ("rotation", True, "from 0 to 180 degrees"),
        ("rotation", None, "from 0 to 180 degrees"),
        ("zoom", 1.5, "from 0 to 1"),
        ("color_jitter", 1.0, "at least 0 and below 1"),
        ("color_jitter", None, "at least 0 and below 1"),
        ("brightness", -0.1, "at least 0 and below 1"),
        ("contrast", "0.1", "at least 0 and below 1"),
        ("saturation", math.nan, "at least 0 and below 1"),
        ("stain", 1, "at least 0 and below 1"),
        ("mixup", -0.2, "0 or more"),
        ("cutmix", math.inf, "0 or more"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: Any, demand: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Augmentation.of({name: value})
    assert str(caught.value) == f"{name} {value!r} cannot be used: it must be {demand}"


def test_settings_from_a_mapping() -> None:
    assert Augmentation.of({}) == Augmentation()
    assert Augmentation.of({"rotation": 15}) == Augmentation(rotation=15.0)
    assert repr(Augmentation(rotation=15)) == repr(Augmentation(rotation=15.0))
    assert Augmentation.of({"mixup": 0.2}).mixes
    assert not Augmentation().mixes
    with pytest.raises(ConfigError, match="unknown key 'rotaton': did you mean 'rotation'"):
        Augmentation.of({"rotaton": 15})
    known = ", ".join(field.name for field in fields(Augmentation))
    with pytest.raises(ConfigError, match=f"unknown key 'xyz': use {known}"):
        Augmentation.of({"xyz": 1})
    with pytest.raises(ConfigError, match="augmentation 'strong' is not a mapping: give one such"):
        Augmentation.of("strong")  # type: ignore[arg-type]
