"""Augmentation keeps landmarks on the picture: crosses drawn on them are found in the crops.

A cross is found by its colour and its centre by its pixels; no formula of the crop is used.
"""

import dataclasses

import numpy as np
import pytest

from hrnet_jax.codecs import DarkCodec, MsraCodec
from hrnet_jax.images.augment import RECIPES, Augmentation
from hrnet_jax.protocols import STRIDE, float_protocol, hih, mmpose, official

PROTOCOLS = {
    "float": float_protocol(),
    "mmpose": mmpose(MsraCodec(2.0)),
    "mmpose dark": mmpose(DarkCodec(2.0, 11)),
    "hih": hih(),
    "official": official("wflw"),
}
TONES = Augmentation(
    scale=0.4,
    rotation=180.0,
    rotation_probability=1.0,
    translation=0.1,
    brightness=0.1,
    contrast=0.3,
    colour=0.2,
    blur_probability=0.5,
    grey_probability=0.0,
)
ALL_RECIPES = RECIPES | {"tones and any angle": TONES}
SHAPE = (300, 420)
PIXELS = {"red": 0, "green": 1}


def draw_cross(picture, colour, center):
    """A cross of bars 4 by 20 pixels, to 1/16 pixel; `center` (x, y) counts from pixel corners."""
    fine = (np.arange(16 * 24) + 0.5) / 16 - 12  # about the whole pixel next to the centre
    whole = np.floor(center).astype(int)
    x, y = np.abs(fine - (center[0] - whole[0])), np.abs(fine - (center[1] - whole[1]))
    long, thin = 10, 2
    upright = np.outer(y < long, x < thin)
    ink = (upright | np.outer(y < thin, x < long)).reshape(24, 16, 24, 16).mean((1, 3))
    rows, columns = slice(whole[1] - 12, whole[1] + 12), slice(whole[0] - 12, whole[0] + 12)
    picture[rows, columns, PIXELS[colour]] = np.rint(200 * ink)


def find_cross(crop, colour):
    """(x, y) of the cross's centre of mass, counted from pixel corners."""
    light = crop[..., PIXELS[colour]].astype(float)
    light -= np.median(light)
    light[light < 0.1 * light.max()] = 0
    y, x = np.mgrid[: len(light), : len(light)] + 0.5
    return np.array([(x * light).sum(), (y * light).sum()]) / light.sum()


def sample_of(protocol, recipe, seed):
    """A sample of a face with two landmarks that are a mirror pair, and where its crosses are.

    The landmark of the red cross has index 0, after a flip index 1.
    """
    rng = np.random.default_rng(seed)
    center = rng.uniform([180, 130], [240, 170])
    side = 200 * rng.uniform(0.35, 1.2)  # 256 px are 90 to 300 of the picture
    reach = 0.3 * side
    crosses = center + reach * np.array([[-1, 0.1], [0.8, -0.5]]) * rng.uniform(0.4, 1, (2, 2))
    picture = np.zeros((*SHAPE, 3), np.uint8)
    for colour, cross in zip(PIXELS, crosses, strict=True):
        draw_cross(picture, colour, cross)
    points = crosses - protocol.index_offset  # as the protocol's data sets are annotated
    recipe = dataclasses.replace(
        recipe,
        flip_offset=-2 * protocol.index_offset,  # belongs to the annotation, not to the recipe
        occlusion_probability=0.0,  # would hide crosses: see the next test
    )
    arguments = (picture, points, center - protocol.index_offset, side, recipe, [1, 0])
    sample = protocol.sample(*arguments, np.random.default_rng(seed))
    flipped = recipe.draw(np.random.default_rng(seed)).flip
    found = np.stack([find_cross(sample["image"], colour) for colour in PIXELS])
    return sample, found[::-1] if flipped else found, flipped


@pytest.mark.parametrize("recipe", ALL_RECIPES.values(), ids=ALL_RECIPES)
@pytest.mark.parametrize("name", PROTOCOLS)
def test_crosses_stay_on_their_landmarks(name, recipe):
    protocol, errors, flips = PROTOCOLS[name], [], 0
    seeds = 64 if name == "official" else 16  # for the median of crops in whole pixels
    for seed in range(seeds):
        sample, found, flipped = sample_of(protocol, recipe, seed)
        errors.append(found - protocol.to_crop(sample["points"]))
        flips += flipped
    errors = np.abs(errors)
    assert 0 < flips < seeds
    if name == "official":
        # By its definition a landmark is a cell of 4 pixels: its middle is up to 2 away. And the
        # picture is cut at whole pixels, 3 of the crop's for the smallest face.
        assert errors.max() < STRIDE / 2 + 1.5 and np.median(errors) < 1.2
    else:
        assert errors.max() < 0.25


def test_occlusion_moves_nothing():
    recipe = dataclasses.replace(
        RECIPES["hih"], occlusion_probability=1.0, occlusion_size=(0.1, 0.4)
    )
    image = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)
    points = np.array([[180.0, 140.0], [240.0, 150.0]])
    for seed in range(8):
        plain, occluded = (
            hih().sample(
                image, points, (210, 150), 160, change, [1, 0], np.random.default_rng(seed)
            )
            for change in (dataclasses.replace(recipe, occlusion_probability=0.0), recipe)
        )
        np.testing.assert_array_equal(plain["points"], occluded["points"])
        hidden = (plain["image"] != occluded["image"]).any(axis=-1)
        rows, columns = np.flatnonzero(hidden.any(axis=1)), np.flatnonzero(hidden.any(axis=0))
        inside = hidden[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert inside.mean() > 0.9  # one rectangle; some of its pixels had its colour already
