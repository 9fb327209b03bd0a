"""Augmentation on the device: the host's distributions, and the host's pixels for the same draw."""

import dataclasses
import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hrnet_jax.data.device_augment import (
    PixelDraw,
    apply_pixels,
    draw_sample,
    reach,
)
from hrnet_jax.images.augment import RECIPES, Augmentation

COUNT, SIZE = 3000, 48
OFF = Augmentation(scale=0, rotation=0, flip_probability=0)
KEYS = jax.random.split(jax.random.key(0), COUNT)
SHIFTED = Augmentation(
    translation=0.1, translation_probability=0.7, scale=0.1, rotation_probability=0.3
)
PIXELS = dataclasses.replace(
    OFF,
    **{"brightness": 0.2, "contrast": 0.3, "colour": 0.1},
    **{"grey_probability": 0.2, "blur_probability": 0.4, "occlusion_probability": 0.6},
)


@functools.cache
def draws(recipe):
    """(Draw as a dictionary, PixelDraw) of every key, as NumPy arrays."""

    def one(key):
        geometry, pixels = draw_sample(recipe, key, SIZE)
        return vars(geometry), pixels

    return jax.device_get(jax.jit(jax.vmap(one))(KEYS))


def geometry_draws(recipe):
    return draws(recipe)[0]


def pixel_draws(recipe):
    return draws(recipe)[1]


def same_distribution(ours, theirs):
    """Two-sample Kolmogorov-Smirnov; the seeds are fixed, so this passes always or never."""
    assert stats.ks_2samp(np.ravel(ours), np.ravel(theirs)).pvalue > 0.01


@pytest.mark.parametrize("name", [*RECIPES, "shifted"])
def test_geometry_is_drawn_as_on_the_host(name):
    recipe = RECIPES.get(name, SHIFTED)
    ours = geometry_draws(recipe)
    rng = np.random.default_rng(1)
    theirs = [recipe.draw(rng) for _ in range(COUNT)]
    for key in ("scale", "rotation", "translation"):
        left, right = ours[key], np.array([getattr(draw, key) for draw in theirs])
        same_distribution(left, right)
        rest = 1.0 if key == "scale" else 0.0  # what a probability leaves unchanged
        still = (left == rest).mean(), (right == rest).mean()
        assert still[0] == pytest.approx(still[1], abs=0.03)
        assert np.quantile(left, [0.1, 0.5, 0.9]) == pytest.approx(
            np.quantile(right, [0.1, 0.5, 0.9]), abs=0.05 * max(np.ptp(right), 1e-9)
        )
    flips = np.mean([draw.flip for draw in theirs])
    assert np.mean(ours["flip"]) == pytest.approx(flips, abs=0.03)


def test_draws_are_independent_of_each_other():
    draws = geometry_draws(SHIFTED) | pixel_draws(PIXELS)._asdict()
    # A rectangle's corners go together.
    columns = [np.reshape(v, (COUNT, -1)) for name, v in draws.items() if name != "rectangle"]
    correlation = np.corrcoef(np.concatenate(columns, axis=1).T.astype(float))
    assert np.abs(correlation - np.eye(len(correlation))).max() < 0.07


def host_rectangle(augmentation, rng):
    """x0, y0, x1, y1 of what the host hides of a crop; zeros where nothing is."""
    black = np.zeros((SIZE, SIZE, 3), np.uint8)
    rows, columns = np.nonzero(augmentation.apply_pixels(black, rng).any(axis=-1))
    if not len(rows):
        return [0, 0, 0, 0]
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("inside", [False, True])
def test_rectangles_are_drawn_as_on_the_host(inside):
    augmentation = dataclasses.replace(
        OFF, occlusion_probability=0.6, occlusion_inside=inside, occlusion_size=(0.1, 0.4)
    )
    rng = np.random.default_rng(2)
    theirs = np.array([host_rectangle(augmentation, rng) for _ in range(COUNT)])
    ours = pixel_draws(augmentation)
    same = np.clip(ours.rectangle, 0, SIZE)
    for corner in range(4):
        same_distribution(same[:, corner], theirs[:, corner])
    same_distribution(*((r[:, 2:] - r[:, :2]).prod(axis=1) for r in (same, theirs)))
    same_distribution(ours.paint, rng.integers(0, 256, (COUNT, 3)))


def test_pixel_changes_are_drawn_in_their_ranges():
    draws = pixel_draws(PIXELS)
    uniform = {"contrast": (0.7, 1.3), "brightness": (-51, 51), "colour": (0.9, 1.1)}
    for key, (low, high) in uniform.items():
        values = np.ravel(getattr(draws, key))
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 0.01
    assert (draws.blur > 0).mean() == pytest.approx(0.4, abs=0.03)
    assert stats.kstest(draws.blur[draws.blur > 0], stats.uniform(0.5, 1.5).cdf).pvalue > 0.01
    assert np.mean(draws.grey) == pytest.approx(0.2, abs=0.03)


class Scripted:
    """Stands for a NumPy generator that draws what the device drew, in the host's order."""

    def __init__(self, draw: PixelDraw):
        x0, y0, x1, y1 = draw.rectangle.astype(float)
        half = np.array([x1 - x0, y1 - y0]) / 2
        uniforms = [draw.contrast, draw.brightness / 255, draw.colour]
        uniforms += [float(draw.blur)] if draw.blur > 0 else []
        # In units of the crop, as the host draws them.
        self.uniforms = [*uniforms, half / SIZE, (np.array([x0, y0]) + half) / SIZE]
        self.randoms = [0.0 if on else 1.0 for on in (draw.grey, draw.blur > 0, x1 > x0)]
        self.paint = draw.paint

    def uniform(self, *limits):
        return self.uniforms.pop(0)

    def random(self):
        return self.randoms.pop(0)

    def integers(self, *limits):
        return self.paint


def test_the_same_draw_gives_the_host_s_pixels():
    rng = np.random.default_rng(3)
    image = cv2.GaussianBlur(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8), (0, 0), 1.5)
    apply = jax.jit(apply_pixels)
    for k in range(60):
        draw = jax.tree.map(lambda values, k=k: values[k], pixel_draws(PIXELS))
        host = PIXELS.apply_pixels(image, Scripted(draw)).astype(int)
        difference = np.abs(np.asarray(apply(image, draw)) - host)
        assert difference.max() <= 3 and (difference > 1).mean() < 0.01  # roundings in a row


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.5, 1.0, 2.0, 5.0])
def test_blur_is_opencv_s(sigma):
    image = np.random.default_rng(4).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    draw = PixelDraw(*[None] * 4, blur=jnp.float32(sigma), rectangle=None, paint=None)
    blurred = np.asarray(jax.jit(apply_pixels)(image, draw)).astype(int)
    assert np.abs(blurred - cv2.GaussianBlur(image, (0, 0), sigma)).max() <= 1


def test_what_is_off_leaves_the_pixels():
    image = np.random.default_rng(5).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    draw = pixel_draws(OFF)
    assert all(value is None for value in draw)
    np.testing.assert_array_equal(jax.jit(apply_pixels)(image, draw), image)
    geometry = geometry_draws(OFF)
    assert (geometry["scale"] == 1).all()
    assert not any(geometry[name].any() for name in ("rotation", "flip", "translation"))


@pytest.mark.parametrize("name", RECIPES)
def test_no_draw_reaches_beyond_its_reach(name):
    recipe, padding = RECIPES[name], 1.25
    draws = geometry_draws(recipe)
    angle = np.deg2rad(draws["rotation"])
    turned = draws["scale"] * (np.abs(np.cos(angle)) + np.abs(np.sin(angle))) / 2
    farthest = turned + np.abs(draws["translation"]).max(axis=1) / padding
    limit = reach(recipe, padding) / 2
    assert 0.9 * limit < farthest.max() <= limit + 1e-6
