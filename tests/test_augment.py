"""Augmentation: the official distributions and order, and pixels that stay what they should."""

import dataclasses
import json

import numpy as np
import pytest

from hrnet_jax.errors import HRNetError
from hrnet_jax.images.augment import RECIPES, Augmentation, Draw

OFF = Augmentation(scale=0, rotation=0, flip_probability=0)
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)


def test_everything_off_takes_no_number_and_leaves_the_image():
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    assert OFF.draw(rng) == Draw()
    assert OFF.apply_pixels(IMAGE, rng) is IMAGE
    assert Augmentation().apply_pixels(IMAGE, rng) is IMAGE  # official: geometry only
    assert rng.bit_generator.state == before


def test_official_distributions():
    rng = np.random.default_rng(0)
    draws = [Augmentation().draw(rng) for _ in range(4000)]
    scales, rotations = (
        np.array([getattr(d, key) for d in draws]) for key in ("scale", "rotation")
    )
    assert 0.75 <= scales.min() < 0.76 and 1.24 < scales.max() <= 1.25
    assert scales.mean() == pytest.approx(1, abs=0.01)
    assert -30 <= rotations.min() < -29 and 29 < rotations.max() <= 30
    assert (rotations != 0).mean() == pytest.approx(0.6, abs=0.03)
    assert np.mean([d.flip for d in draws]) == pytest.approx(0.5, abs=0.03)
    assert all(d.translation == (0.0, 0.0) for d in draws)


def test_official_draw_order():
    """Scale, whether to rotate, the angle only if so, whether to flip."""
    for seed in range(20):
        draw = Augmentation().draw(np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        scale = rng.uniform(0.75, 1.25)
        rotation = rng.uniform(-30, 30) if rng.random() <= 0.6 else 0.0
        assert draw == Draw(scale, rotation, rng.random() <= 0.5)


def test_translation_stays_in_its_range():
    rng = np.random.default_rng(0)
    shifts = np.array([Augmentation(translation=0.1).draw(rng).translation for _ in range(500)])
    assert shifts.shape == (500, 2) and 0.09 < np.abs(shifts).max() <= 0.1


def test_mmpose_distributions():
    rng = np.random.default_rng(0)
    for name, scale_std, rotation_std, limit in (
        # Of clipped normal variables: at one standard deviation 0.718, at two 0.959.
        ("mmpose0", 0.25 * 0.718, 30 * 0.959, 60),
        ("mmpose1", 0.25 * 0.54, 60 * 0.54, 60),
    ):
        draws = [RECIPES[name].draw(rng) for _ in range(4000)]
        scales, rotations = (
            np.array([getattr(d, key) for d in draws]) for key in ("scale", "rotation")
        )
        assert np.abs(scales - 1).max() <= 0.25 and np.abs(rotations).max() <= limit
        assert (rotations != 0).mean() == pytest.approx(0.6, abs=0.03)
        assert scales.mean() == pytest.approx(1, abs=0.01)
        assert scales.std() == pytest.approx(scale_std, rel=0.05)
        assert rotations[rotations != 0].std() == pytest.approx(rotation_std, rel=0.05)
    at_the_limit = np.mean([RECIPES["mmpose0"].draw(rng).scale == 1.25 for _ in range(2000)])
    assert at_the_limit == pytest.approx(0.159, abs=0.03)


def test_hih_recipe():
    """Half of the faces each: moved by up to 30 of 256 px, mirrored, turned, occluded; 0.3 blurred.

    A box of side 1 is padded to 1.2 and 256 px.
    """
    rng = np.random.default_rng(0)
    recipe = RECIPES["hih"]
    draws = [recipe.draw(rng) for _ in range(3000)]
    assert all(d.scale == 1 for d in draws)
    shifts = np.array([d.translation for d in draws]) * 256 / 1.2
    assert (shifts != 0).any(axis=1).mean() == pytest.approx(0.5, abs=0.03)
    assert 29 < np.abs(shifts).max() <= 30
    assert np.mean([d.flip for d in draws]) == pytest.approx(0.5, abs=0.03)
    rotations = np.array([d.rotation for d in draws])
    assert (rotations != 0).mean() == pytest.approx(0.5, abs=0.03)
    assert 29 < np.abs(rotations).max() <= 30

    flat = np.full((40, 40, 3), 255, np.uint8)  # not a colour that every blur and rectangle keeps
    hidden = [(recipe.apply_pixels(flat, rng) != 255).any(axis=-1) for _ in range(600)]
    areas = np.array([h.sum() for h in hidden])
    assert (areas > 0).mean() == pytest.approx(0.47, abs=0.06)  # some rectangles have no pixel
    assert areas.max() <= 17**2
    for h in hidden:
        rows, columns = np.flatnonzero(h.any(axis=1)), np.flatnonzero(h.any(axis=0))
        assert h.sum() == len(rows) * len(columns)


def test_a_recipe_survives_json():
    for recipe in RECIPES.values():
        assert Augmentation(**json.loads(json.dumps(dataclasses.asdict(recipe)))) == recipe


PIXELS = ["brightness", "contrast", "colour", "grey", "blur", "occlusion"]


def _only(kind):
    key = kind if kind in PIXELS[:3] else f"{kind}_probability"
    return dataclasses.replace(OFF, **{key: 0.4 if kind in PIXELS[:3] else 1.0})


@pytest.mark.parametrize("kind", PIXELS)
def test_each_pixel_change_alone(kind):
    original = IMAGE.copy()
    changed = _only(kind).apply_pixels(IMAGE, np.random.default_rng(3))
    np.testing.assert_array_equal(IMAGE, original)
    assert changed.shape == IMAGE.shape and changed.dtype == np.uint8
    assert (changed != IMAGE).any()
    again = _only(kind).apply_pixels(IMAGE, np.random.default_rng(3))
    np.testing.assert_array_equal(changed, again)


def test_what_the_pixel_changes_mean():
    rng = np.random.default_rng(5)
    flat = np.full((48, 48, 3), 100, np.uint8)
    np.testing.assert_array_equal(_only("contrast").apply_pixels(flat, rng), flat)
    np.testing.assert_array_equal(_only("blur").apply_pixels(flat, rng), flat)
    brighter = _only("brightness").apply_pixels(flat, rng)
    assert len(np.unique(brighter)) == 1 and abs(int(brighter[0, 0, 0]) - 100) <= 0.4 * 255
    gains = _only("colour").apply_pixels(flat, rng)[0, 0] / 100
    assert len(set(gains)) == 3 and (gains >= 0.59).all() and (gains <= 1.41).all()
    grey = _only("grey").apply_pixels(IMAGE, rng)
    assert (grey == grey[..., :1]).all()
    for _ in range(50):
        occluded = (_only("occlusion").apply_pixels(flat, rng) != flat).any(axis=-1)
        assert occluded.sum() <= (0.4 * 48 + 1) ** 2
        rows, columns = occluded.any(axis=1), occluded.any(axis=0)
        assert occluded.sum() == rows.sum() * columns.sum()  # a full rectangle


@pytest.mark.parametrize(
    "setting",
    [
        {"scale": 1.0},
        {"rotation": -1},
        {"flip_probability": 1.5},
        {"blur_probability": np.nan},
        {"blur_sigma": (2.0, 0.5)},
        {"occlusion_size": (0.1,)},
        {"distribution": "normal"},
    ],
)
def test_settings_out_of_range(setting):
    with pytest.raises(HRNetError, match=next(iter(setting))):
        Augmentation(**setting)
